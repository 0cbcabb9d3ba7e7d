"""The config stage: facts of the graph, the tokenizer and the target → ``config.pbtxt`` of the three models."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Final

from builder.artifacts import ModelConfigs, TokenizerFiles
from builder.config import models, tokenize_step
from builder.config.compose import tensor_problems
from builder.config.folder import write, write_config
from builder.config.hardware import instance_count
from builder.config.host import Host
from builder.config.labels import label_files, label_problems, labelled
from builder.config.refuse import refuse_all
from builder.config.rules import problems
from builder.config.rules_ensemble import check_ensemble
from builder.config.shipped import shipped_files
from builder.config.warmup import entries
from builder.core.codec import to_json
from builder.core.digest import describe_folder
from builder.errors import InternalError, ModelError
from builder.tools import triton_proto, wheels

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.artifacts import File, ImageFiles, Json, OnnxModel, Tensor, WarmupData
    from builder.config.host import Keys
    from builder.recipe import Recipe
    from builder.recipe.composed import Composed
    from builder.recipe.document import Node

_SECTION: Final = ("serving",)


@dataclass(frozen=True, slots=True)
class ConfigureInputs:
    """What the stage reads."""

    model: OnnxModel
    tokenizer: TokenizerFiles | ImageFiles  # what turns a request into the model's inputs
    warmup: WarmupData | None = None  # None: the model is not warmed up, or the recipe says with what
    labels: tuple[str, ...] = ()  # the model's, for outputs with a label_filename

    @property
    def text_tokenizer(self) -> TokenizerFiles:
        """The tokenizer.

        Raises:
            InternalError: the model takes images: no recipe that was checked asks for it.
        """
        if not isinstance(self.tokenizer, TokenizerFiles):
            raise InternalError(f"{', '.join(self.tokenizer.input_names)} come from images, not from a tokenizer")
        return self.tokenizer


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: configs by the names of their models, in order; files that are only referred to, by path."""

    configs: Mapping[str, Mapping[str, Json]]
    referred: Mapping[str, File]
    settings: Mapping[str, Json]  # of the tokenizer step


@dataclass(frozen=True, slots=True)
class Configure:
    """Writes the configs of an ensemble. :func:`configure` makes one from a recipe.

    Args:
        model_name: what clients call: the ensemble.
        serving: the recipe's section, as JSON data.
        inputs: the recipe's section, as JSON data.
        max_batch_size: the largest batch that the model is checked at.
        minimum_length: the least number of tokens that it is checked at.
        vcpus: virtual CPUs of the machine that will serve.
        release: the Triton release that will serve, ``25.09``.
        files: what the section names of the user's files, by the paths in the model's folder.
        root: the recipe as written, for the places in errors; no part of the key.
        section: where the serving section stands in it; no part of the key.
        other_model: the folder of the model, where another ensemble has it, too; a pipeline's key follows its steps.
    """

    model_name: str
    serving: Mapping[str, Json]
    inputs: Mapping[str, Json]
    max_batch_size: int
    minimum_length: int
    vcpus: int
    release: str
    files: Mapping[str, File] = field(default_factory=dict)
    root: Node | None = field(default=None, compare=False, repr=False)
    section: Keys = field(default=_SECTION, compare=False)
    other_model: str = field(default="", compare=False)
    name: ClassVar[str] = "config"
    version: ClassVar[int] = 1

    def fingerprint(self, inputs: ConfigureInputs) -> Mapping[str, Json]:
        return {
            "model_name": self.model_name,
            "serving": dict(self.serving),
            "inputs": dict(self.inputs),
            "max_batch_size": self.max_batch_size,
            "minimum_length": self.minimum_length,
            "vcpus": self.vcpus,
            "release": self.release,
            **({"files": {path: file.sha256 for path, file in self.files.items()}} if self.files else {}),
            **({"labels": list(inputs.labels)} if labelled(self.serving) else {}),
            "tensors": [to_json(tensor) for tensor in (*inputs.model.inputs, *inputs.model.outputs)],
            "tokenizer": tokenize_step.facts(inputs.tokenizer),
            "warmup": inputs.warmup and {name: file.sha256 for name, file in inputs.warmup.files.items()},
            "versions": {name: wheels.installed_version(name) for name in ("protobuf", "tritonclient")},
        }

    def requires(self, inputs: ConfigureInputs) -> None:
        self.check()
        taken = [tensor.name for tensor in inputs.model.inputs]
        if set(taken) != set(inputs.tokenizer.input_names):
            made = ", ".join(inputs.tokenizer.input_names)
            raise InternalError(f"the graph takes {', '.join(taken)}, but the tokenizer makes {made}")
        for tensor in (*inputs.model.inputs, *inputs.model.outputs):
            _check_tensor(tensor)

    def reads(self, inputs: ConfigureInputs) -> list[File]:  # noqa: ARG002 - a stage's signature
        """The user's files: of the model, only facts; warm-up data is referred to."""
        return list(self.files.values())

    def check(self) -> None:
        """Checks what the section says together: all that can be known before anything is built.

        Raises:
            UserError: Triton would refuse it.
        """
        facts = self._facts_of((), ())
        known = models.model(facts)
        sizes = {path: file.size for path, file in self.files.items()}
        refuse_all(problems(known, Host(sizes=sizes), tensors=False), self.root, self.section)
        for name, config in models.variants(facts, known).items():
            host = Host(gpu=True, sizes=sizes)
            refuse_all(problems(config, host, tensors=False), self.root, self.section, variant=name)

    def run(self, inputs: ConfigureInputs, out: Path) -> ModelConfigs:
        written = self.write(inputs, out)
        in_order = sorted({**describe_folder(out), **written.referred}.items(), key=lambda item: item[0].split("/"))
        return ModelConfigs(self.model_name, dict(in_order), _record(self._facts(inputs), written))

    def write(self, inputs: ConfigureInputs, out: Path) -> Written:
        """Writes the folders of the ensemble, of its tokenizer step and of its model.

        Raises:
            UserError: Triton would refuse a config.
        """
        facts = self._facts(inputs)
        values = tokenize_step.settings(inputs.text_tokenizer, self.inputs, self.minimum_length)
        config, referred = self.write_model(inputs, out, facts.model_name)
        others = {facts.name: models.ensemble(facts, config), facts.tokenize_name: models.tokenize(facts)}
        configs = {**others, facts.model_name: config}
        check_ensemble(configs[facts.name], configs, self.release)
        for name, one in others.items():
            write_config(one, out / name / "config.pbtxt", self.release)
        write(out / facts.tokenize_name / "1" / "settings.json", tokenize_step.to_json(values))
        return Written(configs, referred, values)

    def write_model(self, inputs: ConfigureInputs, out: Path, name: str) -> tuple[dict[str, Json], dict[str, File]]:
        """Writes the folder of the model alone, under a name of its own.

        Returns:
            Its config, and the files that are only referred to, by their paths.

        Raises:
            UserError: Triton would refuse the config.
        """
        facts = self._facts(inputs)
        warmup = entries(inputs.warmup, facts.max_batch_size) if inputs.warmup else ()
        config = {**models.model(facts, warmup), "name": name}
        variants = models.variants(facts, config)
        made = inputs.warmup.files if inputs.warmup else {}
        warmed = {f"warmup/{data}": file for data, file in made.items()}
        self._check(inputs, config, variants, {**self.files, **warmed})
        write_config(config, out / name / "config.pbtxt", self.release)
        for variant, one in variants.items():
            write_config(one, out / name / "configs" / f"{variant}.pbtxt", self.release)
        # The user's files are copied: they may be gone when the archive is packed.
        copied = {path: file.path.read_bytes() for path, file in self.files.items()}
        for path, content in {**copied, **label_files(self.serving, inputs.labels)}.items():
            write(out / name / path, content)
        return config, {f"{name}/{path}": file for path, file in warmed.items()}

    def _check(
        self,
        inputs: ConfigureInputs,
        config: Mapping[str, Json],
        variants: Mapping[str, Json],
        shipped: Mapping[str, File],
    ) -> None:
        """Checks all that the graph decides.

        Raises:
            UserError: Triton would refuse a config, or the section speaks of what the model does not have.
        """
        facts, outputs = self._facts(inputs), inputs.model.outputs
        host = Host(
            model_files=frozenset(inputs.model.files),
            sizes={path: file.size for path, file in shipped.items()},
        )
        found = [
            *tensor_problems(models.facts_of_model(facts), self.serving),
            *models.tokenizer_problems(facts, config),
            *label_problems(self.serving, inputs.labels, outputs),
        ]
        # What a section says of tensors that there are not would only be found again in the config.
        refuse_all(found or problems(config, host), self.root, self.section)
        host = replace(host, gpu=True)
        for name, other in variants.items():
            refuse_all(problems(other, host), self.root, self.section, variant=name)

    def ensures(self, inputs: ConfigureInputs, output: ModelConfigs) -> None:
        for path in (path for path in output.files if path.endswith(".pbtxt")):
            text = output.files[path].path.read_text(encoding="utf-8")
            message = triton_proto.parse_text(text, place=path)
            if message.name != path.split("/")[0] or triton_proto.to_text(message) != text:
                raise InternalError(f"{path}: does not survive a round trip")
        clients = [tensor["name"] for tensor in output.record["outputs"]]
        if clients != [tensor.name for tensor in inputs.model.outputs]:
            raise InternalError(f"the ensemble's outputs are {clients}, not the graph's")

    def _facts(self, inputs: ConfigureInputs) -> models.Facts:
        order = {tensor.name: tensor for tensor in inputs.model.inputs}
        return self._facts_of(tuple(order[name] for name in inputs.tokenizer.input_names), inputs.model.outputs)

    def _facts_of(self, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> models.Facts:
        return models.Facts(
            name=self.model_name,
            inputs=inputs,
            outputs=outputs,
            text_pair=self.inputs["text_pair"],
            max_batch_size=self.serving["max_batch_size"] or self.max_batch_size,
            vcpus=self.vcpus,
            serving=self.serving,
            other_model=self.other_model,
        )


def configure(recipe: Recipe, target: str, *, section: Keys = _SECTION, vcpus: int | None = None) -> Configure:
    """The stage for one target of a recipe.

    Args:
        recipe: of one model.
        target: its name.
        section: where the model's serving section is written.
        vcpus: the model's share of the target's virtual CPUs; default: all.

    Raises:
        UserError: Triton would refuse what ``serving`` says, or a file that it names cannot be read.
    """
    stage = Configure(
        model_name=recipe.name,
        serving=recipe.serving.model_dump(mode="json"),
        inputs=recipe.inputs.model_dump(mode="json"),
        max_batch_size=recipe.shapes.batch.max,
        minimum_length=tokenize_step.minimum_length(recipe),
        vcpus=vcpus or target_vcpus(recipe, target),
        release=recipe.targets[target].triton,
        files=shipped_files(dict(recipe.serving), recipe.path.parent, recipe.root, section),
        root=recipe.root,
        section=section,
    )
    stage.check()
    return stage


def target_vcpus(recipe: Recipe | Composed, target: str) -> int:
    """Virtual CPUs of the machine that will serve; this one's where the recipe does not say."""
    return recipe.targets[target].hardware.vcpus or len(os.sched_getaffinity(0))


def _check_tensor(tensor: Tensor) -> None:
    """Triton batches along the first axis, of all inputs and all outputs."""
    if not tensor.shape or tensor.shape[0] != -1:
        raise ModelError(
            f"{tensor.name} has the shape {list(tensor.shape)}: its first axis is not a dynamic batch axis"
        )


def _record(facts: models.Facts, written: Written) -> dict[str, Json]:
    configs, values = written.configs, written.settings
    config = configs[facts.model_name]
    return {
        "models": [facts.name, facts.tokenize_name, facts.model_name],
        "inputs": configs[facts.name]["input"],
        "outputs": configs[facts.name]["output"],
        "text_pair": facts.text_pair,
        "max_batch_size": facts.max_batch_size,
        "instances": instance_count(config["instance_group"]),
        "parameters": {key: value.get("string_value") for key, value in config["parameters"].items()},
        "padding": values["padding"],
        "max_length": values["max_length"],
    }

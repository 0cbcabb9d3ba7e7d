"""The config stage: facts of the graph, the tokenizer and the target → ``config.pbtxt`` of the three models."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Final

from builder.artifacts import ModelConfigs, TokenizerFiles, backend_of
from builder.config import engine_warmup, engines, models, tokenize_step
from builder.config.compose import tensor_problems
from builder.config.folder import write, write_config
from builder.config.hardware import gpu_memory, target_vcpus
from builder.config.host import Host
from builder.config.labels import label_files, label_problems, labelled
from builder.config.refuse import refuse_all
from builder.config.rules import problems
from builder.config.rules_ensemble import check_ensemble
from builder.config.shipped import shipped_files
from builder.config.stated import check_served, stated_profiles
from builder.config.warmup import entries
from builder.config.written import Written
from builder.core.codec import to_json
from builder.core.digest import describe_folder
from builder.errors import InternalError
from builder.tools import triton_proto, wheels

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.artifacts import File, Json, Profile, Tensor
    from builder.config.host import Keys
    from builder.config.stage_inputs import ConfigureInputs
    from builder.recipe import Recipe
    from builder.recipe.document import Node

_SECTION: Final = ("serving",)


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
        runtime: of the target.
        profiles: of the engine, as far as the recipe states them; no part of the key, which holds the engine's own.
        memory_mib: of the smallest of the target's GPUs; None: unknown, or it has none.
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
    runtime: str = engines.ONNXRUNTIME
    profiles: tuple[Profile, ...] = ()
    memory_mib: int | None = None
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
            **({"engine": engines.fingerprint(inputs.engine, self.memory_mib)} if inputs.engine else {}),
            "tensors": [to_json(tensor) for tensor in (*inputs.served.inputs, *inputs.served.outputs)],
            "tokenizer": tokenize_step.facts(inputs.tokenizer),
            "warmup": inputs.warmup and {name: file.sha256 for name, file in inputs.warmup.files.items()},
            "versions": {name: wheels.installed_version(name) for name in ("protobuf", "tritonclient")},
        }

    def requires(self, inputs: ConfigureInputs) -> None:
        if (inputs.engine.runtime if inputs.engine else engines.ONNXRUNTIME) != self.runtime:
            raise InternalError(f"no engine of {self.runtime}, which the target is served with")
        self.check()
        inputs.check()

    def reads(self, inputs: ConfigureInputs) -> list[File]:
        """The user's files: of the model, only facts; warm-up data is referred to, but for engines, that pad it."""
        padded = inputs.warmup.files.values() if inputs.warmup and inputs.engine else ()
        return [*self.files.values(), *padded]

    def check(self) -> None:
        """Checks what the section says together: all that can be known before anything is built.

        Raises:
            UserError: Triton would refuse it.
        """
        facts = self._facts_of((), (), self._stated())
        known = models.model(facts)
        sizes = {path: file.size for path, file in self.files.items()}
        host = Host(gpu=facts.engine is not None, sizes=sizes, engine=facts.engine)
        refuse_all(problems(known, host, tensors=False), self.root, self.section)
        for name, config in models.variants(facts, known).items():
            found = problems(config, replace(host, gpu=True), tensors=False)
            refuse_all(found, self.root, self.section, variant=name)

    def run(self, inputs: ConfigureInputs, out: Path) -> ModelConfigs:
        written = self.write(inputs, out)
        in_order = sorted({**describe_folder(out), **written.referred}.items(), key=lambda item: item[0].split("/"))
        return ModelConfigs(self.model_name, dict(in_order), written.record(self._facts(inputs)))

    def write(self, inputs: ConfigureInputs, out: Path) -> Written:
        """Writes the folders of the ensemble, of its tokenizer step and of its model.

        Raises:
            UserError: Triton would refuse a config.
        """
        facts = self._facts(inputs)
        values = self.tokenizer_settings(inputs)
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
        warmed = self._warmed(inputs, facts)
        made = inputs.warmup.files if inputs.warmup and facts.engine is None else {}
        config = {**models.model(facts, warmed.entries), "name": name}
        variants = models.variants(facts, config)
        sizes = {path: file.size for path, file in self.files.items()}
        sizes |= {f"warmup/{data}": file.size for data, file in made.items()}
        sizes |= {f"warmup/{data}": len(content) for data, content in warmed.files.items()}
        self._check(inputs, config, variants, sizes)
        write_config(config, out / name / "config.pbtxt", self.release)
        for variant, one in variants.items():
            write_config(one, out / name / "configs" / f"{variant}.pbtxt", self.release)
        # The user's files are copied: they may be gone when the archive is packed.
        copied = {path: file.path.read_bytes() for path, file in self.files.items()}
        padded = {f"warmup/{data}": content for data, content in warmed.files.items()}
        for path, content in {**copied, **padded, **label_files(self.serving, inputs.labels)}.items():
            write(out / name / path, content)
        return config, {f"{name}/warmup/{data}": file for data, file in made.items()}

    def tokenizer_settings(self, inputs: ConfigureInputs) -> dict[str, Json]:
        """The settings of the step that makes the model's inputs of texts.

        Raises:
            UserError: the buckets do not end at the greatest length.
        """
        gpu = self.runtime != engines.ONNXRUNTIME
        return tokenize_step.settings(inputs.text_tokenizer, self.inputs, self.minimum_length, gpu=gpu)

    def _warmed(self, inputs: ConfigureInputs, facts: models.Facts) -> engine_warmup.Warmed:
        if inputs.warmup is None:
            return engine_warmup.Warmed((), {})
        if facts.engine is None:
            return engine_warmup.Warmed(entries(inputs.warmup, facts.max_batch_size), {})
        return engine_warmup.warmed(inputs.warmup, inputs.text_tokenizer, facts.engine, facts.max_batch_size)

    def _check(
        self,
        inputs: ConfigureInputs,
        config: Mapping[str, Json],
        variants: Mapping[str, Json],
        sizes: Mapping[str, int],
    ) -> None:
        """Checks all that the graph decides.

        Raises:
            UserError: Triton would refuse a config, or the section speaks of what the model does not have.
        """
        facts, outputs = self._facts(inputs), inputs.served.outputs
        host = Host(
            gpu=facts.engine is not None,
            model_files=frozenset(inputs.served.files),
            sizes=sizes,
            engine=facts.engine,
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
        if clients != [tensor.name for tensor in inputs.served.outputs]:
            raise InternalError(f"the ensemble's outputs are {clients}, not the graph's")

    def _facts(self, inputs: ConfigureInputs) -> models.Facts:
        order = {tensor.name: tensor for tensor in inputs.served.inputs}
        tensors = tuple(order[name] for name in inputs.tokenizer.input_names)
        return self._facts_of(tensors, inputs.served.outputs, self._engine(inputs))

    def _facts_of(
        self, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], engine: engines.EngineFacts | None
    ) -> models.Facts:
        most = self.max_batch_size
        if engine is not None and engine.profiles:
            most = max(1, min(most, engine.largest_batch))
        return models.Facts(
            name=self.model_name,
            inputs=inputs,
            outputs=outputs,
            text_pair=self.inputs["text_pair"],
            max_batch_size=self.serving["max_batch_size"] or most,
            vcpus=self.vcpus,
            serving=self.serving,
            engine=engine,
            other_model=self.other_model,
        )

    def _engine(self, inputs: ConfigureInputs) -> engines.EngineFacts | None:
        """The engine, and the shapes that it will get."""
        if inputs.engine is None:
            return None
        texts = isinstance(inputs.tokenizer, TokenizerFiles)
        settings = self.tokenizer_settings(inputs) if texts else None
        return engines.facts_of(inputs.engine, settings, self.release, self.memory_mib)

    def _stated(self) -> engines.EngineFacts | None:
        """What the recipe alone says of the engine and its shapes."""
        if self.runtime == engines.ONNXRUNTIME:
            return None
        lengths = tuple(bucket for bucket in self.inputs["buckets"] or () if bucket >= self.minimum_length)
        return engines.EngineFacts(backend_of(self.runtime), self.profiles, lengths=lengths, release=self.release)


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
    check_served(recipe, target)
    stage = Configure(
        model_name=recipe.name,
        serving=recipe.serving.model_dump(mode="json"),
        inputs=recipe.inputs.model_dump(mode="json"),
        max_batch_size=recipe.shapes.batch.max,
        minimum_length=tokenize_step.minimum_length(recipe),
        vcpus=vcpus or target_vcpus(recipe, target),
        release=recipe.targets[target].triton,
        files=shipped_files(dict(recipe.serving), recipe.path.parent, recipe.root, section),
        runtime=recipe.targets[target].runtime,
        profiles=stated_profiles(recipe) if recipe.targets[target].runs_plans else (),
        memory_mib=gpu_memory(recipe.targets[target].hardware.gpu_names),
        root=recipe.root,
        section=section,
    )
    stage.check()
    return stage

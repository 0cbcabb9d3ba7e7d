"""The config stage: facts of the graph, the tokenizer and the target → ``config.pbtxt`` of the three models."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from builder.artifacts import ModelConfigs
from builder.config import models, tokenize_step
from builder.config.hardware import instance_count
from builder.config.rules import check_ensemble, check_model, check_raw
from builder.config.warmup import entries
from builder.core.codec import to_json
from builder.core.digest import describe_folder
from builder.errors import InternalError, ModelError, UserError
from builder.tools import triton_proto, wheels

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.artifacts import File, Json, OnnxModel, Tensor, TokenizerFiles, WarmupData
    from builder.recipe import Recipe

_PLACE = "serving.config"


@dataclass(frozen=True, slots=True)
class ConfigureInputs:
    """What the stage reads."""

    model: OnnxModel
    tokenizer: TokenizerFiles
    warmup: WarmupData | None = None  # None: the model is not warmed up, or the recipe says with what


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
    """

    model_name: str
    serving: Mapping[str, Json]
    inputs: Mapping[str, Json]
    max_batch_size: int
    minimum_length: int
    vcpus: int
    release: str
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
        """Nothing: of the model, only facts; warm-up data is referred to."""
        return []

    def check(self) -> None:
        """Checks the recipe's raw fields: all that can be known before anything is built.

        Raises:
            UserError: one of them is unknown, newer than the target's Triton, of a wrong type, or derived, or Triton
                would refuse what they say together with the rest of ``serving``.
        """
        raw = self.serving["config"]
        triton_proto.check(raw, release=self.release, place=_PLACE)
        check_raw(raw, _PLACE)
        for entry in raw.get("model_warmup", ()):
            if any("input_data_file" in given for given in entry.get("inputs", {}).values()):
                raise UserError(
                    f"{_PLACE}.model_warmup: input_data_file names a file that is not in the repository",
                    mend="take serving.model_warmup: auto, which ships real samples, or zero_data",
                )
        check_model(self._known(), "serving")

    def _known(self) -> dict[str, Json]:
        """The model's config but for what follows from the graph: its tensors, and warm-up data, which names them."""
        merged = models.model(self._facts_of((), ()))
        return {field: value for field, value in merged.items() if field != "model_warmup"}

    def run(self, inputs: ConfigureInputs, out: Path) -> ModelConfigs:
        facts = self._facts(inputs)
        values = tokenize_step.settings(inputs.tokenizer, self.inputs, self.minimum_length)
        warmed = entries(inputs.warmup, facts.max_batch_size) if inputs.warmup else ()
        configs = {
            facts.name: models.ensemble(facts),
            facts.tokenize_name: models.tokenize(facts),
            facts.model_name: models.model(facts, warmed),
        }
        check_model(configs[facts.model_name], "serving")
        check_ensemble(configs[facts.name], configs)
        for name, config in configs.items():
            message = triton_proto.build(config, release=self.release, place="serving")
            _write(out / name / "config.pbtxt", triton_proto.to_text(message).encode())
        _write(out / facts.tokenize_name / "1" / "settings.json", tokenize_step.to_json(values))
        files = describe_folder(out)
        if inputs.warmup:
            files |= {f"{facts.model_name}/warmup/{name}": file for name, file in inputs.warmup.files.items()}
        in_order = sorted(files.items(), key=lambda item: item[0].split("/"))
        return ModelConfigs(facts.name, dict(in_order), _record(facts, configs, values))

    def ensures(self, inputs: ConfigureInputs, output: ModelConfigs) -> None:
        for name in output.record["models"]:
            path = f"{name}/config.pbtxt"
            text = output.files[path].path.read_text(encoding="utf-8")
            message = triton_proto.parse_text(text, place=path)
            if message.name != name or triton_proto.to_text(message) != text:
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
        )


def configure(recipe: Recipe, target: str) -> Configure:
    """The stage for one target of a recipe.

    Raises:
        UserError: ``serving`` holds what Triton does not know or would refuse, or what the build derives.
    """
    hardware = recipe.targets[target].hardware
    stage = Configure(
        model_name=recipe.name,
        serving=recipe.serving.model_dump(mode="json"),
        inputs=recipe.inputs.model_dump(mode="json"),
        max_batch_size=recipe.shapes.batch.max,
        minimum_length=tokenize_step.minimum_length(recipe),
        vcpus=hardware.vcpus or len(os.sched_getaffinity(0)),
        release=recipe.targets[target].triton,
    )
    stage.check()
    return stage


def _check_tensor(tensor: Tensor) -> None:
    """Triton batches along the first axis, of all inputs and all outputs."""
    if not tensor.shape or tensor.shape[0] != -1:
        raise ModelError(
            f"{tensor.name} has the shape {list(tensor.shape)}: its first axis is not a dynamic batch axis"
        )


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _record(facts: models.Facts, configs: Mapping[str, Json], values: Mapping[str, Json]) -> dict[str, Json]:
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

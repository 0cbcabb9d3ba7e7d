"""The config stage of a pipeline: what the models turned out to be, and named steps → configs and settings of each.

The names of folders: ``<recipe>`` the whole; ``<recipe>-<step>`` each step; a model with its tokenizer is an ensemble
of its own, ``<recipe>-<step>`` or, where a step selects among several, ``<recipe>-<step>-<model>``, with ``…-tokenize``
and ``…-model``. Steps that do the same share the folder of the first: a model is in memory once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Final

from builder.artifacts import ModelConfigs, Tensor, TokenizerFiles
from builder.config import receive, step_settings, tokenize_step
from builder.config.agreement import check_labels, check_tokenizers
from builder.config.compose import ModelFacts, compose, strings, tensor_problems
from builder.config.dag import ensemble_steps
from builder.config.declared import checked_dag, declared_dag, models_at_once
from builder.config.folder import write, write_config
from builder.config.hardware import instance_count, share, target_vcpus
from builder.config.host import Host
from builder.config.ports import ANY, ModelPorts, port, tensors_of
from builder.config.receive import with_receiver
from builder.config.refuse import refuse_all
from builder.config.rules import problems
from builder.config.rules_ensemble import check_ensemble
from builder.config.stage import Configure, configure
from builder.core.digest import describe_folder
from builder.errors import InternalError, RecipeError
from builder.recipe.composed import named_models
from builder.recipe.steps import EnsembleStep, EntitiesStep, ModelStep, PythonStep, SelectStep

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from builder.artifacts import File, Json
    from builder.config.dag import Dag, Port, Step
    from builder.config.stage_inputs import ConfigureInputs
    from builder.recipe.composed import Composed
    from builder.recipe.steps import AnyStep

_OF_THE_WHOLE: Final = ("version_policy", "response_cache")


@dataclass(frozen=True, slots=True)
class ComposeInputs:
    """What the stage reads: of each model, by name."""

    models: Mapping[str, ConfigureInputs]


@dataclass(frozen=True, slots=True)
class Compose:
    """Writes the configs of a pipeline. :func:`compose_pipeline` makes one from a recipe.

    Args:
        recipe: the recipe.
        parts: how each of its models is served, by name.
        vcpus: virtual CPUs of the machine that will serve.
        release: the Triton release that will serve, ``25.09``.
    """

    recipe: Composed = field(repr=False)
    parts: Mapping[str, Configure]
    vcpus: int
    release: str
    name: ClassVar[str] = "config"
    version: ClassVar[int] = 2

    def fingerprint(self, inputs: ComposeInputs) -> Mapping[str, Json]:
        serving = self.recipe.serving.model_dump(mode="json")
        return {
            "model_name": self.recipe.name,
            "pipeline": self.recipe.pipeline.model_dump(mode="json"),
            "max_batch_size": self.recipe.max_batch_size,
            "serving": {key: serving[key] for key in _OF_THE_WHOLE},
            "vcpus": self.vcpus,
            "release": self.release,
            "models": {name: dict(part.fingerprint(inputs.models[name])) for name, part in self.parts.items()},
            "pairs": {name: model.inputs.text_pair for name, model in self.recipe.models.items()},
            "labels": {name: list(made.labels) for name, made in inputs.models.items()},
            "tokenizers": {
                name: {path: file.sha256 for path, file in made.tokenizer.files.items()}
                for name, made in inputs.models.items()
            },
        }

    def requires(self, inputs: ComposeInputs) -> None:
        for name, part in self.parts.items():
            part.requires(inputs.models[name])

    def reads(self, inputs: ComposeInputs) -> list[File]:
        """The user's files, and what is read of the models' own."""
        made = [file for part, model in self._each(inputs) for file in part.reads(model)]
        return [*made, *(file for model in inputs.models.values() for file in model.tokenizer.files.values())]

    def run(self, inputs: ComposeInputs, out: Path) -> ModelConfigs:
        dag = checked_dag(self.recipe, {name: self._ports(name, made) for name, made in inputs.models.items()})
        check_labels(self.recipe, dag, {name: made.labels for name, made in inputs.models.items()})
        texts = {name: made for name, made in inputs.models.items() if isinstance(made.tokenizer, TokenizerFiles)}
        check_tokenizers(self.recipe, dag, {name: made.text_tokenizer for name, made in texts.items()})
        dag, receiver = with_receiver(dag)
        writer = _Writer(self, inputs, dag, out)
        if receiver:
            writer.receive(receiver)
        steps, sections = {step.name: step for step in dag.steps}, self.recipe.pipeline.steps
        # Models first: where an ensemble has one of them, too, it is called after the step that is nothing else.
        for name in sorted(sections, key=lambda name: not isinstance(sections[name], ModelStep)):
            writer.step(steps[name], sections[name])
        whole = writer.whole()
        files = sorted({**describe_folder(out), **writer.referred}.items(), key=lambda item: item[0].split("/"))
        return ModelConfigs(self.recipe.name, dict(files), writer.record(whole))

    def ensures(self, inputs: ComposeInputs, output: ModelConfigs) -> None:  # noqa: ARG002 - a stage's signature
        written = {path.split("/")[0] for path in output.files if path.endswith("/config.pbtxt")}
        if written != set(output.record["models"]):
            raise InternalError(f"configs of {sorted(written)}, not of {sorted(output.record['models'])}")

    def _each(self, inputs: ComposeInputs) -> Iterator[tuple[Configure, ConfigureInputs]]:
        return ((part, inputs.models[name]) for name, part in self.parts.items())

    def _ports(self, name: str, made: ConfigureInputs) -> ModelPorts:
        """A model as its graph states it."""
        by_name = {tensor.name: tensor for tensor in made.served.inputs}
        order = [by_name[tensor] for tensor in made.tokenizer.input_names if tensor in by_name] or by_name.values()
        return ModelPorts(
            takes=tuple(port(tensor) for tensor in order),
            gives=tuple(port(tensor) for tensor in made.served.outputs),
            text_pair=self.recipe.models[name].inputs.text_pair,
            labels=len(made.labels) or ANY,
            unknown_begins=self._gathers_words(name) and step_settings.unknown_begins(made),
        )

    def _gathers_words(self, name: str) -> bool:
        steps = self.recipe.pipeline.steps.values()
        return any(isinstance(one, EntitiesStep) and one.entities == name and one.gathers_words for one in steps)


class _Writer:
    """Writes the folders of one pipeline, and keeps what it wrote."""

    def __init__(self, stage: Compose, inputs: ComposeInputs, dag: Dag, out: Path) -> None:
        self._stage, self._inputs, self._dag, self._out = stage, inputs, dag, out
        self._recipe = stage.recipe
        self.referred: dict[str, File] = {}
        self._configs: dict[str, Mapping[str, Json]] = {}
        self._folders: dict[str, dict[str, str]] = {}  # folder → what it is, for who packs it
        self._called: list[str] = []
        self._made: dict[str, str] = {}  # all that decides what a folder does → the folder
        self._does: dict[str, str] = {}  # step → the folder that does it

    def receive(self, step: Step) -> None:
        """Writes the step that takes the request for all others."""
        name = self._does[step.name] = f"{self._recipe.name}-{step.name}"
        config = receive.config(name, step)
        write_config(config, self._out / name / "config.pbtxt", self._stage.release)
        values = receive.settings(step, self._dag, self._recipe.pipeline.steps)
        write(self._out / name / "1" / "settings.json", tokenize_step.to_json(values))
        self._keep({name: config}, {}, {name: {"kind": "receive", "step": step.name}})

    def step(self, step: Step, section: AnyStep) -> None:
        """Writes what does a step."""
        name = f"{self._recipe.name}-{step.name}"
        match section:
            case ModelStep(model=model):
                self._does[step.name] = self._model(name, model)
            case EnsembleStep(ensemble=model):
                self._does[step.name] = self._ensemble(name, model)
            case SelectStep():
                called = {model: self._ensemble(f"{name}-{model}", model) for model in named_models(section)}
                self._called += called.values()
                self._does[step.name] = self._python(name, step, section, called)
            case _:
                self._does[step.name] = self._python(name, step, section, {})

    def whole(self) -> Mapping[str, Json]:
        """Writes the ensemble that clients call."""
        dag, recipe = self._dag, self._recipe
        outputs = tuple(Tensor(name, port.dtype, (-1, *port.dims)) for name, (_, port) in dag.outputs.items())
        scheduling = {"step": ensemble_steps(dag, self._does)}
        facts = ModelFacts(
            recipe.name, tensors_of(dag.inputs), outputs, dag.max_batch_size, platform="ensemble", scheduling=scheduling
        )
        serving = recipe.serving.model_dump(mode="json")
        config = _optional(compose(facts, {key: serving.get(key) for key in _OF_THE_WHOLE}), dag.inputs)
        check_ensemble(config, self._configs, self._stage.release)
        write_config(config, self._out / recipe.name / "config.pbtxt", self._stage.release)
        self._keep({recipe.name: config}, {}, {recipe.name: {"kind": "pipeline"}})
        return config

    def record(self, whole: Mapping[str, Json]) -> dict[str, Json]:
        """What a manifest tells, and what a server has to load by name."""
        name = self._recipe.name
        counts = {model: instance_count(config.get("instance_group", ())) for model, config in self._configs.items()}
        return {
            "models": [name, *(model for model in self._configs if model != name)],
            "load_models": [name, *dict.fromkeys(self._called)],
            "folders": self._folders,
            "inputs": whole["input"],
            "outputs": whole["output"],
            "text_pair": any(port.name == "TEXT_PAIR" for port in self._dag.inputs),
            "max_batch_size": self._dag.max_batch_size,
            "instances": {model: count for model, count in counts.items() if "backend" in self._configs[model]},
        }

    def _model(self, name: str, model: str) -> str:
        """Writes a model; the folder that has it."""
        found = self._made.setdefault(f"model {model}", name)
        if found == name:
            config, files = self._stage.parts[model].write_model(self._inputs.models[model], self._out, name)
            self._keep({name: config}, files, {name: {"kind": "model", "model": model}})
        return found

    def _ensemble(self, name: str, model: str) -> str:
        """Writes a model with its tokenizer, as a recipe of it alone has it; the ensemble's folder."""
        found = self._made.setdefault(f"ensemble {model}", name)
        if found == name:
            shared = self._made.get(f"model {model}", "")
            part = replace(self._stage.parts[model], model_name=name, other_model=shared)
            written = part.write(self._inputs.models[model], self._out)
            self._made.setdefault(f"model {model}", f"{name}-model")
            kinds = {"ensemble": name, "tokenizer": f"{name}-tokenize"} | ({} if shared else {"model": f"{name}-model"})
            folders = {folder: {"kind": kind, "model": model} for kind, folder in kinds.items()}
            configs = {folder: config for folder, config in written.configs.items() if folder != shared}
            self._keep(configs, {} if shared else written.referred, folders)
        return found

    def _python(self, name: str, step: Step, section: AnyStep, called: Mapping[str, str]) -> str:
        """Writes a step that is Python; the folder that does it."""
        config = self._python_config(name, step, section)
        values = step_settings.settings(section, step, self._facts(section, called))
        model = getattr(section, section.kind) if section.kind not in {"aggregate", "select", "python"} else ""
        own = (section.python, section.requirements, section.environment) if isinstance(section, PythonStep) else ()
        found = self._made.setdefault(f"{section.kind} {model} {own} {values} {config | {'name': ''}}", name)
        if found == name:
            write_config(config, self._out / name / "config.pbtxt", self._stage.release)
            write(self._out / name / "1" / "settings.json", tokenize_step.to_json(values))
            of_it = {"kind": section.kind, "step": step.name, **({"model": model} if model else {})}
            self._keep({name: config}, {}, {name: of_it})
        return found

    def _facts(self, section: AnyStep, called: Mapping[str, str]) -> step_settings.StepFacts:
        """What a step's settings are made of: of the model that it names, and of the ensembles that it calls."""
        model = next(iter(named_models(section)), None)
        return step_settings.StepFacts(
            made=self._inputs.models[model] if model else None,
            part=self._stage.parts[model] if model else None,
            called=called,
        )

    def _python_config(self, name: str, step: Step, section: AnyStep) -> dict[str, Json]:
        facts = ModelFacts(name, tensors_of(step.takes), tensors_of(step.gives), step.max_batch_size, backend="python")
        serving = section.serving.model_dump(mode="json")
        groups = serving["instance_group"] or [{"count": step_settings.copies(section.kind, self._stage.vcpus)}]
        serving["instance_group"] = [{**group, "kind": group.get("kind") or "KIND_CPU"} for group in groups]
        parameters = step_settings.parameters(section, self._stage.vcpus)
        defaults = {"dynamic_batching": {}, **({"parameters": strings(parameters)} if parameters else {})}
        config = _optional(compose(facts, serving, defaults), step.takes)
        place = ("pipeline", "steps", step.name, "serving")
        refuse_all([*tensor_problems(facts, serving)] or problems(config, Host()), self._recipe.root, place)
        return config

    def _keep(
        self, configs: Mapping[str, Mapping[str, Json]], files: Mapping[str, File], folders: dict[str, dict[str, str]]
    ) -> None:
        if twice := configs.keys() & self._configs.keys():
            raise RecipeError(
                f"{self._recipe.path}: two models of the repository would be called {min(twice)!r}",
                mend="give one of the pipeline's steps another name",
            )
        self._configs |= configs
        self.referred |= files
        self._folders |= folders


def compose_pipeline(recipe: Composed, target: str) -> Compose:
    """The stage for one target of a recipe.

    Raises:
        UserError: the pipeline does not fit together, as far as the recipe says what flows in it, or Triton would
            refuse what a ``serving`` section says.
    """
    vcpus = target_vcpus(recipe, target)
    each = share(vcpus, models_at_once(declared_dag(recipe), recipe))
    parts = {
        name: configure(recipe.single(name), target, section=("models", name, "serving"), vcpus=each)
        for name in recipe.models
    }
    return Compose(recipe, parts, vcpus, recipe.targets[target].triton)


def _optional(config: dict[str, Json], ports: tuple[Port, ...]) -> dict[str, Json]:
    """The config, with the inputs marked that a request may leave out."""
    optional = {port.name for port in ports if port.optional}
    inputs = [{**entry, "optional": True} if entry["name"] in optional else entry for entry in config["input"]]
    return {**config, "input": inputs}

"""``settings.json`` of each kind of step: what its template reads beside itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder.config.hardware import default_instances, tokenizer_threads
from builder.config.ports import TOKEN_PLACES
from builder.errors import InternalError
from builder.recipe import steps as kinds
from builder.tools import archive_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import Json
    from builder.config.dag import Step
    from builder.config.stage import Configure
    from builder.config.stage_inputs import ConfigureInputs
    from builder.recipe.steps import AnyStep

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What is known besides the step's section: of the model that it names, and of the models that it calls."""

    made: ConfigureInputs | None
    part: Configure | None
    called: Mapping[str, str]  # model of the recipe → model of the repository


def settings(section: AnyStep, step: Step, facts: StepFacts) -> dict[str, Json]:
    """The content of ``settings.json``.

    Args:
        section: of the recipe.
        step: its tensors.
        facts: what else is known.

    Raises:
        UserError: the tokenizer's buckets do not fit.
    """
    match section:
        case kinds.AggregateStep(aggregate=mode):
            names = {"inputs": [port.name for port in step.takes], "output": step.gives[0].name}
            return {"schema": SCHEMA, "mode": mode, **names}
        case kinds.SelectStep():
            return _select(section, step, facts)
        case kinds.PythonStep():
            return _python(section)
    if facts.made is None or facts.part is None:
        raise InternalError(f"step {step.name}: no model")
    match section:
        case kinds.TokenizerStep():
            return _tokenizer(step, facts.made, facts.part)
        case kinds.LabelsStep(top_k=count):
            return {"schema": SCHEMA, "labels": list(facts.made.labels), "top_k": count}
        case kinds.SpansStep(max_answer_length=longest):
            words = any(port.name == "WORD_IDS" for port in step.takes)
            return {"schema": SCHEMA, "max_answer_length": longest, "align_to_words": words}
        case kinds.EntitiesStep():
            return _entities(section, facts.made)
        case kinds.ImageStep():
            return _image(facts.made)
    raise InternalError(f"no settings for steps of kind {section.kind}")


def parameters(section: AnyStep, vcpus: int) -> dict[str, str]:
    """The ``parameters`` of a step's config."""
    match section:
        case kinds.TokenizerStep():
            return {"tokenizer_threads": str(tokenizer_threads(vcpus))}
        case kinds.PythonStep(environment=environment) if environment:
            return {"EXECUTION_ENV_PATH": f"$$TRITON_MODEL_DIRECTORY/{archive_environment.FILE_NAME}"}
    return {}


def copies(kind: str, vcpus: int) -> int:
    """Instances of a Python step: images take a CPU each; who waits for other models must not hold up the next."""
    if kind == "image":
        return default_instances(vcpus)
    return max(2, default_instances(vcpus)) if kind == "select" else 1


def _tokenizer(step: Step, made: ConfigureInputs, part: Configure) -> dict[str, Json]:
    places = {port.name for port in TOKEN_PLACES}
    extra = [port.name for port in step.gives if port.name in places]
    values = part.tokenizer_settings(made)
    values["text_pair"] = any(port.name == "TEXT_PAIR" for port in step.takes)
    return {**values, "extra_outputs": extra} if extra else values


def _select(section: kinds.SelectStep, step: Step, facts: StepFacts) -> dict[str, Json]:
    select, by = section.select, section.select.by.partition(".")[2]
    return {
        "schema": SCHEMA,
        "by": by,
        "cases": {value: facts.called[model] for value, model in select.cases.items()},
        "default": facts.called[select.default] if select.default else None,
        # A model may take the very tensor that decides.
        "inputs": [port.name for port in step.takes if port.name != by or port.name in {"TEXT", "TEXT_PAIR"}],
        "outputs": [port.name for port in step.gives],
        "max_rows": step.max_batch_size,
    }


def _python(section: kinds.PythonStep) -> dict[str, Json]:
    def plain(tensors: Mapping[str, kinds.TensorSpec]) -> Json:
        return {name: {"dtype": spec.dtype, "dims": list(spec.dims)} for name, spec in tensors.items()}

    return {
        "schema": SCHEMA,
        "file": section.python.name,
        "takes": plain(section.takes),
        "gives": plain(section.gives),
        "parameters": dict(section.parameters),
    }


def _entities(section: kinds.EntitiesStep, made: ConfigureInputs) -> dict[str, Json]:
    strategy = section.aggregation_strategy
    values: dict[str, Json] = {"schema": SCHEMA, "labels": list(made.labels), "aggregation_strategy": strategy}
    model = _tokenizer_model(made)
    if section.gathers_words and not _cuts_words(model):
        values |= {"words": "spaces", "unk_token_id": _unknown(model)}
    return values


def unknown_begins(made: ConfigureInputs) -> bool:
    """Whether words are told by spaces, and each unknown token begins one: then a step has to know the tokens."""
    model = _tokenizer_model(made)
    return not _cuts_words(model) and _unknown(model) is not None


def _tokenizer_model(made: ConfigureInputs) -> Mapping[str, Any]:
    model: Mapping[str, Any] = json.loads(made.text_tokenizer.files["tokenizer.json"].path.read_bytes())["model"]
    return model


def _cuts_words(model: Mapping[str, Any]) -> bool:
    """Whether a tokenizer marks the pieces of a word, as WordPiece does: what transformers goes by."""
    return bool(model.get("continuing_subword_prefix"))


def _unknown(model: Mapping[str, Any]) -> int | None:
    """The token of what is in no vocabulary: Unigram states its number, others its text."""
    if "unk_id" in model:
        number: int | None = model["unk_id"]
    else:
        number = model["vocab"].get(model.get("unk_token"))
    return number


def _image(made: ConfigureInputs) -> dict[str, Json]:
    """As the stage ``processor`` found them to give the pixels of the model's own processor."""
    values: dict[str, Json] = json.loads(made.tokenizer.files["settings.json"].path.read_bytes())
    return values

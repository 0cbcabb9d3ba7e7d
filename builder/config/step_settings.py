"""``settings.json`` of each kind of step: what its template reads beside itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.config import tokenize_step
from builder.config.ports import TOKEN_PLACES
from builder.errors import InternalError, ModelError
from builder.recipe import steps as kinds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import File, Json, Source
    from builder.config.dag import Step
    from builder.config.stage import Configure, ConfigureInputs
    from builder.recipe.steps import AnyStep

SCHEMA: Final = 1
PROCESSOR: Final = "preprocessor_config.json"

_IMAGE_KEYS: Final = (
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor"),
    *("do_normalize", "image_mean", "image_std", "do_convert_rgb"),
)
_IMAGE_DEFAULTS: Final[Mapping[str, Json]] = {
    "do_resize": True,
    "resample": 2,
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}
"""Those of transformers' ViT processor; what a model's file says goes over them."""

_PER_WORD: Final = frozenset({"first", "average", "max"})


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What is known besides the step's section: of the model that it names, and of the models that it calls."""

    made: ConfigureInputs | None
    source: Source | None
    part: Configure | None
    called: Mapping[str, str]  # model of the recipe → model of the repository


def settings(section: AnyStep, step: Step, facts: StepFacts) -> dict[str, Json]:
    """The content of ``settings.json``.

    Args:
        section: of the recipe.
        step: its tensors.
        facts: what else is known.

    Raises:
        ModelError: the model's files do not say how images are to be read.
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
    if facts.made is None or facts.part is None or facts.source is None:
        raise InternalError(f"step {step.name}: no model")
    match section:
        case kinds.TokenizerStep():
            return _tokenizer(step, facts.made, facts.part)
        case kinds.LabelsStep(top_k=count):
            return {"schema": SCHEMA, "labels": list(facts.made.labels), "top_k": count}
        case kinds.SpansStep(max_answer_length=longest):
            words = any(port.name == "WORD_IDS" for port in step.takes)
            return {"schema": SCHEMA, "max_answer_length": longest, "align_to_words": words}
        case kinds.EntitiesStep(aggregation_strategy=strategy):
            return _entities(strategy, facts.made)
        case kinds.ImageStep():
            return _image(facts.source)
    raise InternalError(f"no settings for steps of kind {section.kind}")


def processor_file(source: Source) -> File:
    """The file that says how images become pixels.

    Raises:
        ModelError: the model has none.
    """
    if PROCESSOR not in source.files:
        raise ModelError(f"{PROCESSOR}: the model has no such file: it says how images become pixels")
    return source.files[PROCESSOR]


def read_files(source: Source) -> list[File]:
    """The files of a model that are read here."""
    return [source.files[PROCESSOR]] if PROCESSOR in source.files else []


def _tokenizer(step: Step, made: ConfigureInputs, part: Configure) -> dict[str, Json]:
    places = {port.name for port in TOKEN_PLACES}
    extra = [port.name for port in step.gives if port.name in places]
    values = tokenize_step.settings(made.tokenizer, part.inputs, part.minimum_length)
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


def _entities(strategy: str, made: ConfigureInputs) -> dict[str, Json]:
    values: dict[str, Json] = {"schema": SCHEMA, "labels": list(made.labels), "aggregation_strategy": strategy}
    if strategy in _PER_WORD and not cuts_words(made):
        values["words"] = "spaces"
    return values


def cuts_words(made: ConfigureInputs) -> bool:
    """Whether a tokenizer marks the pieces of a word, as WordPiece does: what transformers goes by."""
    model = json.loads(made.tokenizer.files["tokenizer.json"].path.read_bytes())["model"]
    return bool(model.get("continuing_subword_prefix"))


def _image(source: Source) -> dict[str, Json]:
    file = processor_file(source)
    stated = json.loads(file.path.read_bytes())
    unknown = [key for key, value in stated.items() if key.startswith("do_") and key not in _IMAGE_KEYS and value]
    if unknown:
        raise ModelError(
            f"{PROCESSOR}: {unknown[0]} is {stated[unknown[0]]!r}: the image step does no such thing",
            mend=f"take a model whose images need only: {', '.join(_IMAGE_KEYS)}",
        )
    given = {key: stated[key] for key in _IMAGE_KEYS if stated.get(key) is not None}
    sizes: dict[str, Json] = {key: _sides(given[key]) for key in ("size", "crop_size") if key in given}
    return {"schema": SCHEMA, **_IMAGE_DEFAULTS, **given, **sizes}


def _sides(size: Json) -> Json:
    """A size as files of today write it; older ones have one number for both sides."""
    return {"height": size, "width": size} if isinstance(size, int) else size

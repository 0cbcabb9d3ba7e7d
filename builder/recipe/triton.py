"""Fields of Triton's ModelConfig in a recipe: which the build derives, and which are held against the descriptors.

The daily fields of ``serving`` have types of their own. The deep rest is JSON data here, and is checked against the
protobuf's own descriptors by :mod:`builder.recipe.triton_checks`: importing protobuf takes time, so only a recipe that
uses such a field pays for it.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

if TYPE_CHECKING:
    from builder.artifacts import Json
    from builder.recipe.base import Section
else:
    Json = Any  # pydantic reads signatures; importing all artifacts for a name takes a millisecond

DERIVED: Final = {
    "name": "the recipe's name",
    "platform": "the target's runtime",
    "backend": "the target's runtime",
    "default_model_filename": "the file that the build writes",
    "ensemble_scheduling": "the pipeline",
}
"""Fields that the build derives → from what. A recipe that sets one would contradict its own model."""

DERIVED_RAW: Final = {
    **DERIVED,
    "input": "the graph; what is not a fact of it can be set in serving.input",
    "output": "the graph; what is not a fact of it can be set in serving.output",
    "max_batch_size": "serving.max_batch_size",
}
"""The same below ``config`` and ``configs``, whose fields are merged last."""

FILE_KEYS: Final = ("input_data_file", "data_file")
"""Keys of ``model_warmup`` and ``sequence_batching`` that name files; in a recipe, relative to it."""


def derived(key: str, origin: str) -> str:
    """Why a field cannot be set, and where its value comes from."""
    return f"{key} cannot be set: it follows from {origin}"


class FromTriton:
    """Marks a field that the descriptors check, and gives it their JSON schema when somebody asks for it.

    Args:
        path: names of fields from the root of the ModelConfig.
    """

    def __init__(self, *path: str) -> None:
        self._path: Final = path

    def __call__(self, schema: dict[str, Json]) -> None:
        from builder.tools import triton_proto

        schema.update(triton_proto.json_schema(*self._path))


class WarmupSchema(FromTriton):
    """The words ``auto`` and ``off``, or the list that Triton takes."""

    def __call__(self, schema: dict[str, Json]) -> None:
        entries: dict[str, Json] = {}
        super().__call__(entries)
        schema["anyOf"] = [{"enum": ["auto", "off"]}, entries]


class VariantsSchema(FromTriton):
    """Names → fields of the ModelConfig."""

    def __call__(self, schema: dict[str, Json]) -> None:
        schema.update({"type": "object", "additionalProperties": {"type": "object"}})


def from_triton(*path: str) -> Any:  # noqa: ANN401 - what pydantic takes as a default
    """A field that is left out by default, and then is no part of any key."""
    return Field(default=None, exclude_if=_is_none, json_schema_extra=FromTriton(*path))


def raw_fields(section: type[Section]) -> tuple[str, ...]:
    """The fields of a section that the descriptors check."""
    return tuple(
        name for name, field in section.model_fields.items() if isinstance(field.json_schema_extra, FromTriton)
    )


def names_only(value: Json) -> Json:
    """The data without the places of files: where a file lies is no fact about the model."""
    if isinstance(value, dict):
        return {
            key: PurePath(item).name if key in FILE_KEYS and isinstance(item, str) else names_only(item)
            for key, item in value.items()
        }
    return [names_only(item) for item in value] if isinstance(value, list | tuple) else value


def _is_none(value: Json) -> bool:
    return value is None

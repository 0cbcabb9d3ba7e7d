"""What all sections share: policy, and the types that know how to refuse."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.artifacts import Json

K = TypeVar("K")
V = TypeVar("V")

INT32_MAX: Final = 2**31 - 1  # Triton's ModelConfig holds batch sizes and counts as int32


class Section(BaseModel):
    """A mapping in a recipe: strict, frozen, no other keys.

    An attribute's docstring is its help text in editors: see :mod:`builder.recipe.docstrings`.
    """

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=False,
        regex_engine="rust-regex",
    )


def wrong(message: str, kind: str = "recipe") -> PydanticCustomError:
    """A validation error whose text is ours; braces are not placeholders."""
    return PydanticCustomError(kind, "{text}", {"text": message})


def _refuse_reserved(value: Json) -> None:
    if value is not None:
        raise wrong("not yet supported: the name is reserved; leave it out", "not_yet")


Reserved = Annotated[None, BeforeValidator(_refuse_reserved), WithJsonSchema({"type": "null"})]
"""A key that the design names and that is not built yet."""


def locate(folder: Path, value: str) -> Path:
    """The path that a recipe in a folder means: ``~`` is the user's home, a relative path begins at the recipe.

    Raises:
        RuntimeError: there is no such user.
    """
    return Path(folder, Path(value).expanduser())


def _locate(value: str, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder", Path())
    try:
        return locate(folder, value)
    except RuntimeError as error:
        raise wrong(f"{error}") from error


def _as_path(value: Json, info: ValidationInfo) -> Json:
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise wrong("must name a file or folder, got an empty string")
    return str(_locate(value, info))


RecipePath = Annotated[
    Path,
    BeforeValidator(_as_path),
    PlainSerializer(lambda path: path.name or path.resolve().name, return_type=str),
    WithJsonSchema({"type": "string", "minLength": 1}),
]
"""A path relative to the recipe's folder; absolute once loaded. As data it is a name alone: where a file lies is no
fact about the model, its content is, and that is keyed by the stage that reads it."""


class Frozen(Mapping[K, V]):
    """A mapping that nobody can change. Equal to a dict with the same items."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[K, V] | None = None) -> None:
        self._items: Final = dict(items or {})

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr(self._items)


FrozenMapping = Annotated[Mapping[K, V], AfterValidator(Frozen), PlainSerializer(dict, return_type=dict)]
"""The type of a section's field that holds a :class:`Frozen`."""

Count = Annotated[int, Field(ge=1, le=INT32_MAX)]
"""A whole number of at least 1."""


def unique(what: str) -> AfterValidator:
    """Refuses a list that holds a value twice."""

    def check(values: tuple[V, ...]) -> tuple[V, ...]:
        twice = sorted({str(value) for value in values if values.count(value) > 1})
        if twice:
            raise wrong(f"{what} must differ; {', '.join(twice)} is there twice")
        return values

    return AfterValidator(check)


def ascending(values: tuple[int, ...]) -> tuple[int, ...]:
    """Refuses numbers that are not sorted, or not unique."""
    if list(values) != sorted(set(values)):
        raise wrong(f"must be in ascending order, each once, as {sorted(set(values))}; got {list(values)}")
    return values


def tagged(choose: Callable[[Json], str | None]) -> Callable[[Json], str | None]:
    """Marks the names of a union's members, so that they are told from keys in an error's place: ``<hub>``."""

    def discriminate(value: Json) -> str | None:
        kind = choose(value)
        return None if kind is None else f"<{kind}>"

    return discriminate

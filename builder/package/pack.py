"""The pack stage: a repository → one archive or folder, named by what it holds."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from builder.artifacts import Archive, Folder
from builder.core.digest import digest_tree
from builder.errors import InternalError
from builder.package.formats import TRITON, arrange, named
from builder.tools import wheels
from builder.tools.archive_names import BLOCK_BYTES, LEVEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import File, Json, Packed, Repository

_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Pack:
    """Packs a repository, straight from wherever its files lie.

    Args:
        target: the target's name, a part of the archive's.
        form: the format, of :data:`builder.package.formats.REGISTRY`.
    """

    target: str
    form: str = TRITON
    name: ClassVar[str] = "pack"
    version: ClassVar[int] = 1

    def fingerprint(self, inputs: Repository) -> Mapping[str, Json]:
        return {
            "target": self.target,
            "name": inputs.name,
            "tree": self._digest(inputs),
            **({} if named(self.form).is_folder else {"compression": _compression()}),
            **({} if self.form == TRITON else {"format": self.form}),
        }

    def requires(self, inputs: Repository) -> None:
        if not inputs.files:
            raise InternalError(f"repository {inputs.name} is empty")

    def run(self, inputs: Repository, out: Path) -> Packed:
        digest = self._digest(inputs)
        name = f"{inputs.name}-{self.target}-{digest[:_DIGITS]}{named(self.form).suffix}"
        if named(self.form).is_folder:
            return Folder(arrange(self.form, inputs).tree(out), digest, self.form, name)
        return self._packed(inputs, digest, out / name)

    def _packed(self, inputs: Repository, digest: str, path: Path) -> Archive:
        from builder.tools import archive

        with tempfile.TemporaryDirectory(dir=path.parent, prefix="rewritten-") as folder:
            files = arrange(self.form, inputs).tree(Path(folder))
            packed = archive.pack(files, path)
        return Archive(
            file=packed,
            tree_digest=digest,
            unpacked_size=sum(file.size for file in files.values()),
            format=self.form,
            name=path.name,
        )

    def reads(self, inputs: Repository) -> list[File]:  # noqa: ARG002 - a stage's signature
        """Nothing unseen: every member is hashed while it is packed, or while it is handed out."""
        return []

    def ensures(self, inputs: Repository, output: Packed) -> None:
        whole = (
            digest_tree(output.files) == output.tree_digest
            if isinstance(output, Folder)
            else output.file.path.stat().st_size == output.file.size
        )
        if output.tree_digest != self._digest(inputs) or not whole:
            raise InternalError(f"{output.name}: is not the archive of repository {inputs.name}")

    def _digest(self, inputs: Repository) -> str:
        return digest_tree(arrange(self.form, inputs).members())


def _compression() -> Json:
    return ["isal", wheels.installed_version("isal"), LEVEL, BLOCK_BYTES]

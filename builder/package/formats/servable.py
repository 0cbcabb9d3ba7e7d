"""What is uploaded and loaded as one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder.artifacts import File
from builder.core.digest import describe_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Servable:
    """A tree that a host loads as one model.

    Args:
        name: the model that clients call.
        files: by path; most are those of the repository.
        models: that are in it; empty where the root is the one model itself.
        environment: variables of the container that serves it: for the manifest, never for the tree.
        rewritten: path → text, of configs that differ from the repository's.
    """

    name: str
    files: Mapping[str, File]
    models: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    rewritten: Mapping[str, str] = field(default_factory=dict)

    def members(self) -> dict[str, File]:
        """All files by digest and size; what was rewritten lies nowhere yet, and so its ``path`` says nothing."""
        written = {name: _described(self.files[name].path, text) for name, text in self.rewritten.items()}
        return dict(sorted({**self.files, **written}.items()))

    def tree(self, folder: Path) -> dict[str, File]:
        """All files, those that were rewritten as files below ``folder``."""
        files = dict(self.files)
        for name, text in self.rewritten.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            files[name] = describe_file(path)
        return dict(sorted(files.items()))


def _described(path: Path, text: str) -> File:
    content = text.encode()
    return File(path=path, sha256=hashlib.sha256(content).hexdigest(), size=len(content))

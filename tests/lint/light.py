"""A Python environment in which stubs start five times as fast: most of a start is the import of numpy."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lint.fleet import Case

HEAVY = ("numpy", "onnxruntime")
# What the backend's own triton_python_backend_utils.py takes from numpy while it is imported.
TYPES = (
    "bool_", "bytes_", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "object_", "uint8",
    "uint16", "uint32", "uint64",
)  # fmt: skip
NUMPY_PY = "\n".join(["# Names for an import, and nothing else.", *(f"class {name}: pass" for name in TYPES), ""])


def environment(whole: Path, folder: Path) -> Path:
    """A copy of the stubs' environment with the names of numpy's types in the place of numpy."""
    if not folder.exists():
        shutil.copytree(whole, folder, symlinks=True, ignore=shutil.ignore_patterns(*(f"{one}*" for one in HEAVY)))
        for packages in folder.glob("lib/python*/site-packages"):
            (packages / "numpy.py").write_text(NUMPY_PY)
    return folder


def is_enough(case: Case) -> bool:
    """Whether no tensor is made while the case is loaded: no warm-up, no backend of ours that computes."""
    return not any("warmup" in text or "onnx" in text for text in map(str, (*case.files, *case.files.values())))

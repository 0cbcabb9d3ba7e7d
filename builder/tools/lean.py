"""Importing torch and transformers for what is done here: reading and tracing text models.

Two thirds of the time of a small model's export are imports. A fifth of that is the garbage collector, which walks over
millions of new objects again and again and finds nothing; a tenth are packages that transformers imports because they
happen to be installed, for losses and metrics that only training needs.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

_FOR_TRAINING: Final = ("scipy", "sklearn")
"""Optional packages of transformers: the matching of boxes in object detection, and the metrics of assisted decoding."""


@functools.cache
def transformers() -> ModuleType:
    """The module ``transformers``, with all that any of its models needs imported."""
    with without_garbage_collection(), _hidden(_FOR_TRAINING):
        import transformers
        from transformers import modeling_utils  # noqa: F401 - while those packages are hidden
    return transformers


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Lets nobody look for garbage while a block makes objects that live to its end."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _hidden(packages: tuple[str, ...]) -> Iterator[None]:
    """Makes packages that nobody has imported yet look as if they were not installed.

    None in ``sys.modules`` is Python's own way to say so: https://docs.python.org/3/library/sys.html#sys.modules.
    """
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]

"""Importing torch and transformers for what is done here: reading and tracing text models.

Two thirds of the time of a small model's export are imports. A fifth of that is the garbage collector, which walks over
millions of new objects again and again and finds nothing; a tenth are packages that transformers imports because they
happen to be installed, for losses and metrics that only training needs.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.tools.opaque import HfModule

_FOR_TRAINING: Final = ("scipy", "sklearn", "torch.distributed.fsdp._fully_shard", "torch.distributed.tensor")
"""What transformers and torch import where they find it: to match boxes in object detection, for metrics of assisted
decoding, and to train on several machines."""


_ONE_AT_A_TIME: Final = threading.Lock()


def transformers() -> HfModule:
    """The module ``transformers``, with all that any of its models needs imported.

    Stages run in threads: the second to ask waits, and does not meet a module that is half there.
    """
    with _ONE_AT_A_TIME:
        return _transformers()


@functools.cache
def _transformers() -> HfModule:
    # Where somebody has imported it already, it knows by now what there is.
    with without_garbage_collection(), _hidden(() if "transformers" in sys.modules else _FOR_TRAINING):
        import torch

        with _alone(torch.distributed):
            import transformers
            from transformers import modeling_utils  # noqa: F401 - what all models import
            from transformers.models.auto import modeling_auto, tokenization_auto  # noqa: F401
        gc.freeze()  # modules live to the end of the process
    # At its end Python would look once more for garbage, among all that torch has made: a fifth of an export's time.
    atexit.register(gc.freeze)
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
def _alone(distributed: Any) -> Iterator[None]:  # noqa: ANN401 - a module
    """Makes torch look as if it had been built for one machine, as it is on some platforms."""
    is_available = distributed.is_available
    distributed.is_available = lambda: False
    try:
        yield
    finally:
        distributed.is_available = is_available


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

"""torch.nn.Module → ONNX graph, with dynamic batch and sequence."""

from __future__ import annotations

import contextlib
import gc
import logging
import re
import warnings
from typing import TYPE_CHECKING

from builder.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.tools.opaque import Array, IrModel, TorchModule

_REGISTRATION_LOG = "torch.onnx._internal.exporter._registration"


def export(module: TorchModule, example: Mapping[str, Array], outputs: Sequence[str], opset: int) -> IrModel:
    """Traces a module on fake tensors: the parameters' values are not touched.

    Args:
        module: takes its inputs by position and returns a tensor or a tuple of tensors.
        example: numpy INT64 arrays [batch, sequence], one per input, in order. Batch and sequence must differ, and
            neither may be 0 or 1: the tracer takes these for constants.
        outputs: names of the outputs, in order.
        opset: version of the ONNX operator set.

    Returns:
        An ``onnx_ir.Model``, not optimised, whose initializers hold the module's parameters under their dotted names.

    Raises:
        ModelError: the module cannot be traced with these shapes.
    """
    import torch

    # A tensor of its own for each input: one tensor given twice is taken for one input, silently.
    inputs = tuple(torch.from_numpy(value.copy()) for value in example.values())
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with torch.no_grad(), _quiet(), _without_garbage_collection():
        try:
            traced = torch.export.export(module, inputs, dynamic_shapes=((axes,) * len(inputs),), strict=False)
            program = torch.onnx.export(
                traced,
                dynamo=True,
                optimize=False,
                opset_version=opset,
                input_names=list(example),
                output_names=list(outputs),
                verbose=False,
            )
        except Exception as error:
            raise ModelError(
                f"torch cannot trace the model: {_reason(error)}",
                mend="take another architecture: this one does what torch.export cannot follow",
            ) from error
    return program.model


def _reason(error: BaseException) -> str:
    """The first paragraph of what the exporter stumbled over; its own message around that is advice on torch itself."""
    error = error.__cause__ or error
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().split("\n\n")[0]
    return f"{type(error).__name__}: {' '.join(text.split())[:400]}"


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """A trace makes millions of small objects that live to its end: to look for garbage takes a fifth of its time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    log = logging.getLogger(_REGISTRATION_LOG)
    level = log.level
    with warnings.catch_warnings():
        # torch pickles its own pytree specs while it copies a graph, and warns about a class of its own.
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)", category=FutureWarning)
        log.setLevel(logging.ERROR)  # "torchvision is not installed": its operators are not needed
        try:
            yield
        finally:
            log.setLevel(level)

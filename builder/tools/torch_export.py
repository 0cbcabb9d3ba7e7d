"""torch.nn.Module → ONNX graph, with dynamic batch and sequence."""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from typing import TYPE_CHECKING

from builder.errors import ModelError
from builder.tools import lean, plain_program

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.tools.opaque import Array, IrModel, OnnxProgram, TorchModule, TorchProgram, TorchTensor

log = logging.getLogger(__name__)

_REGISTRATION_LOG = "torch.onnx._internal.exporter._registration"


def export(
    module: TorchModule, example: Mapping[str, Array], outputs: Sequence[str], opset: int, *, shortcut: bool = True
) -> IrModel:
    """Traces a module on fake tensors: the parameters' values are not touched.

    Args:
        module: takes its inputs by position and returns a tensor or a tuple of tensors.
        example: numpy arrays, one per input, in order: INT64 [batch, sequence], or FP32 [batch, channels, H, W]. Batch
            and sequence must differ, and neither may be 0 or 1: the tracer takes these for constants.
        outputs: names of the outputs, in order.
        opset: version of the ONNX operator set.
        shortcut: spares a second trace where it changes nothing; see :mod:`builder.tools.plain_program`.

    Returns:
        An ``onnx_ir.Model``, not optimised, whose initializers hold the module's parameters under their dotted names.

    Raises:
        ModelError: the module cannot be traced with these shapes.
    """
    import torch

    # A tensor of its own for each input: one tensor given twice is taken for one input, silently.
    inputs = tuple(torch.from_numpy(value.copy()) for value in example.values())
    names = {"input_names": list(example), "output_names": list(outputs)}
    with torch.no_grad(), _quiet(), lean.without_garbage_collection():
        try:
            program = trace(module, inputs)
            if shortcut and plain_program.is_plain(program):
                converted = _convert_plain(program, opset, names)
                if converted is not None:
                    return converted.model
                program = trace(module, inputs)
            return _convert(program, opset, names).model
        except Exception as error:
            raise ModelError(
                f"torch cannot trace the model: {_reason(error)}",
                mend="take another architecture: this one does what torch.export cannot follow",
            ) from error


def trace(module: TorchModule, inputs: tuple[TorchTensor, ...]) -> TorchProgram:
    """The program of a module, for any batch, and where its inputs are [batch, sequence], for any sequence."""
    import torch
    import torch._dynamo

    dynamic = torch.export.Dim.DYNAMIC
    axes = tuple(dict.fromkeys(range(2 if one.dim() == 2 else 1), dynamic) for one in inputs)
    # To keep what an operator gave for symbolic shapes, and to find it again, takes longer than to ask it again.
    with torch._dynamo.config.patch(fake_tensor_cache_enabled=False), _no_stack_traces():
        return torch.export.export(module, inputs, dynamic_shapes=(axes,), strict=False)


def _convert(program: TorchProgram, opset: int, names: Mapping[str, list[str]]) -> OnnxProgram:
    import torch

    return torch.onnx.export(program, dynamo=True, optimize=False, opset_version=opset, verbose=False, **names)


def _convert_plain(program: TorchProgram, opset: int, names: Mapping[str, list[str]]) -> OnnxProgram | None:
    """The same in half the time, or None where that does not go. The program is used up."""
    try:
        plain_program.simplify(program)
        with plain_program.as_it_is(program):
            return _convert(program, opset, names)
    except Exception as error:  # an operator without an ONNX function, or an exporter that works in another way
        log.debug("the long way: %s", _reason(error))
        return None


def _reason(error: BaseException) -> str:
    """The first paragraph of what the exporter stumbled over; its own message around that is advice on torch itself."""
    error = error.__cause__ or error
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().split("\n\n")[0]
    return f"{type(error).__name__}: {' '.join(text.split())[:400]}"


@contextlib.contextmanager
def _no_stack_traces() -> Iterator[None]:
    """Lets the tracer not write down which line of Python each node comes from."""
    from torch.fx import config

    before = config.do_not_emit_stack_traces
    config.do_not_emit_stack_traces = True
    try:
        yield
    finally:
        config.do_not_emit_stack_traces = before


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

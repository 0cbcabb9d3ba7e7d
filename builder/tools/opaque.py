"""Names for values of third-party libraries, which are imported late and carry no types that mypy could follow."""

from __future__ import annotations

from typing import Any, TypeAlias

Array: TypeAlias = Any
"""A ``numpy.ndarray``."""

HfConfig: TypeAlias = Any
"""A ``transformers.PretrainedConfig``."""

HfModule: TypeAlias = Any
"""The module ``transformers``."""

HfModel: TypeAlias = Any
"""A ``transformers.PreTrainedModel``."""

HfTokenizer: TypeAlias = Any
"""A ``transformers.PreTrainedTokenizerFast``."""

IrModel: TypeAlias = Any
"""An ``onnx_ir.Model``; likewise ``IrValue`` and ``IrNode``."""

IrValue: TypeAlias = Any
IrNode: TypeAlias = Any

OnnxProgram: TypeAlias = Any
"""What ``torch.onnx.export`` returns."""

TorchModule: TypeAlias = Any
"""A ``torch.nn.Module``."""

TorchProgram: TypeAlias = Any
"""A ``torch.export.ExportedProgram``; ``FxNode`` is a node of its graph."""

FxNode: TypeAlias = Any

TorchTensor: TypeAlias = Any
"""A ``torch.Tensor``, or a tuple of them where a module has several outputs."""

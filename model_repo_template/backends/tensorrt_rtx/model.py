"""A backend for plans of TensorRT for RTX, which NVIDIA has no Triton backend for.

The engine is loaded once for each instance, with an execution context for each profile that the instance group names.
The requests of a batch are written straight into pinned memory and run with one enqueue.
"""

from __future__ import annotations

from tritonsmith_engine_model import EngineModel
from tritonsmith_plans import TENSORRT_RTX


class TritonPythonModel(EngineModel):
    """One instance of one model: one process, one engine."""

    library = TENSORRT_RTX

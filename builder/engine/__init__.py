"""Engines: an ONNX model compiled for GPUs by TensorRT, or TensorRT for RTX."""

from builder.engine.joined import join
from builder.engine.profiles import plan_profiles
from builder.engine.stage import Compile
from builder.tools.tensorrt_build import EngineOptions

__all__ = ["Compile", "EngineOptions", "join", "plan_profiles"]

"""ONNX → ONNX at the target's precision, with a ledger of what each step did to the answers."""

from builder.optimise.able import PRECISIONS, refusal
from builder.optimise.stage import Optimise, OptimiseInputs

__all__ = ["PRECISIONS", "Optimise", "OptimiseInputs", "refusal"]

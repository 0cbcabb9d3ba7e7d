"""What a runtime and a GPU can compute in which precision; asked before anything is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FP32, FP16, BF16, INT8, FP8 = "fp32", "fp16", "bf16", "int8", "fp8"
PRECISIONS: Final = (FP32, FP16, BF16, INT8, FP8)

CPU, TENSORRT, TENSORRT_RTX = "onnxruntime", "tensorrt", "tensorrt-rtx"

_LEAST: Final[Mapping[str, tuple[int, int]]] = {FP16: (5, 3), BF16: (8, 0), INT8: (6, 1), FP8: (8, 9), "tf32": (8, 0)}
"""Compute capability from which on GPUs have it: NVIDIA's support matrix of TensorRT, “hardware and precision”."""


def refusal(precision: str, runtime: str, capabilities: Sequence[str], *, tf32: bool = False) -> str:
    """Why a target cannot be built; empty where it can.

    Args:
        precision: one of :data:`PRECISIONS`.
        runtime: onnxruntime, tensorrt, tensorrt-rtx.
        capabilities: compute capabilities of the target's GPUs (``7.5``); none for a CPU.
        tf32: whether FP32 matrix products may use TF32.
    """
    if precision not in PRECISIONS:
        return f"precision {precision!r}: allowed are {', '.join(PRECISIONS)}"
    if tf32 and precision != FP32:
        return f"tf32: it is a way to compute FP32 matrix products, and the precision is {precision}"
    if runtime == CPU:
        return _on_cpu(precision, capabilities, tf32=tf32)
    wanted = "tf32" if tf32 else precision
    for capability in capabilities:
        if reason := _on_gpu(wanted, runtime, capability):
            return reason
    return ""


def _on_cpu(precision: str, capabilities: Sequence[str], *, tf32: bool) -> str:
    if precision == BF16:
        return "bf16: onnxruntime has no BF16 kernels for the CPU"
    if precision == FP8:
        return "fp8: onnxruntime multiplies no FP8 matrices; for a GPU from 8.9 on take tensorrt or tensorrt-rtx"
    if tf32 and not capabilities:
        return "tf32: only GPUs have it"
    if precision == INT8 and capabilities:
        return "int8: what is made for onnxruntime is made for the CPU; for a GPU take the runtime tensorrt"
    return ""


def _on_gpu(precision: str, runtime: str, capability: str) -> str:
    major, _, minor = capability.partition(".")
    found, least = (int(major), int(minor or 0)), _LEAST.get(precision, (0, 0))
    if found < least:
        return f"{precision}: GPUs have it from compute capability {least[0]}.{least[1]} on, and this is {capability}"
    if precision == FP32 and runtime == TENSORRT_RTX and found < (8, 0):
        return f"fp32: TensorRT for RTX has no FP32 matrix products for compute capability {capability}"
    return ""

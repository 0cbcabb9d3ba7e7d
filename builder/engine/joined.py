"""One engine artifact for several GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.artifacts import Engine
from builder.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Sequence


def join(engines: Sequence[Engine]) -> Engine:
    """The plans of several engines of one model, each for its compute capability: ``sm75.plan``, ``sm86.plan``, ….

    A plan for each, and not one file for all of them, which TensorRT-RTX alone could make: Triton's
    ``cc_model_filenames`` names a file for each, a GPU is added without compiling for the others again, and a host
    reads what is for its GPU alone. (Measured, MiniLM in fp16, two profiles: one plan for four capabilities takes 2.5 s
    of processor time and 55 MB, one for one 2.1 s and 55 MB. Whether it runs as fast takes GPUs to tell.)

    Args:
        engines: at least one, of one capability each; the only one stays as it is.

    Raises:
        InternalError: they differ in more than their plans.
    """
    first = engines[0]
    if len(engines) == 1:
        return first
    same = {(one.runtime, one.inputs, one.outputs, one.profiles) for one in engines}
    plans = {capability: f"sm{capability.replace('.', '')}.plan" for one in engines for capability in one.plans}
    if len(same) > 1 or len(plans) != len(engines):
        raise InternalError("engines of one model must have the same tensors and profiles, and other capabilities")
    files = {plans[capability]: one.files[name] for one in engines for capability, name in one.plans.items()}
    records = {capability: one.record for one in engines for capability in one.plans}
    reproducible = all(one.record["reproducible"] for one in engines)
    return Engine(files, first.runtime, first.inputs, first.outputs, first.profiles, plans,
                  {"reproducible": reproducible, "engines": records})  # fmt: skip

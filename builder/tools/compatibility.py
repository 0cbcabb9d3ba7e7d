"""Whether a Triton release can load a plan: asked before anything is compiled.

Rules of TensorRT (docs.nvidia.com/deeplearning/tensorrt, "Version Compatibility", and its support matrices): a plan is
loaded by the version that made it, to the build number; one that was made *version compatible* also by later ones of
the same major version. A plan of TensorRT for RTX is loaded by a library of its own, which Triton's images do not hold:
a Python-based backend of ours brings it, so no Triton release is in its way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.errors import UserError
from builder.tools import gpus
from builder.tools.releases import RELEASES, Release, inference_amis, least_driver, release

if TYPE_CHECKING:
    from builder.artifacts import Json


TENSORRT_RTX_VERSION: Final = "1.7.1.116"
"""The TensorRT for RTX that compiles plans, and that the backend which loads them has to have: a plan is loaded by the
version that made it."""


_CUDA_BINDINGS: Final = {
    "12": ("cuda-bindings==12.9.4", "cuda-pathfinder==1.9.0"),
    "13": ("cuda-bindings==13.0.3", "cuda-pathfinder==1.9.0"),
}
"""CUDA's Python bindings, by its major version, and what they import."""


def engine_version(triton: str, stated: str | None, *, version_compatible: bool = False) -> str:
    """The TensorRT that a plan for a Triton release is made with.

    Args:
        triton: the release, ``25.09``.
        stated: what the recipe says; None: that of the release.
        version_compatible: whether later versions may load the plan too.

    Raises:
        UserError: the release's TensorRT is unknown and none is stated; or it cannot load a plan of the stated one.
    """
    known = release(triton).tensorrt
    if stated is None and (known is None or known.count(".") < 2):
        about = f"only known to begin with {known}" if known else "not known"
        others = ", ".join(f"{one.name} ({one.tensorrt})" for one in RELEASES if (one.tensorrt or "").count(".") >= 2)
        raise UserError(
            f"the TensorRT of Triton {triton} is {about}: a plan of another one would not load; known: {others}",
            mend=f"state it as engine.tensorrt: dpkg -l | grep libnvinfer, in tritonserver:{triton}-py3; or take a "
            "release whose TensorRT is known",
        )
    version = stated or known or ""
    if known is not None and not loads(known, version, version_compatible=version_compatible):
        raise UserError(_refusal(triton, known, version, version_compatible), mend=_mend(version, version_compatible))
    return version


def loads(serving: str, made_with: str, *, version_compatible: bool) -> bool:
    """Whether a TensorRT loads a plan; versions may be known in part (``10.14``): then as far as they are known."""
    of_server, of_plan = _numbers(serving), _numbers(made_with)
    known = min(len(of_server), len(of_plan))
    if of_server[:known] == of_plan[:known]:
        return True
    return version_compatible and of_server[0] == of_plan[0] and of_server > of_plan


def serving_facts(triton: str, runtime: str) -> dict[str, Json]:
    """What the machine that serves plans of a runtime must have, for a release of Triton; None is unknown.

    ``inference_amis``: SageMaker's machine images whose driver will do.
    """
    one = release(triton)
    library = {"tensorrt": one.tensorrt} if runtime == gpus.TENSORRT else {"tensorrt_rtx": TENSORRT_RTX_VERSION}
    amis = list(inference_amis(one))
    return {"cuda": one.cuda, **library, "least_driver": least_driver(one), "inference_amis": amis}


def serving_libraries(triton: str, runtime: str, version: str) -> tuple[str, ...]:
    """What our Python-based backends import to run plans, for pip: a library, and CUDA's bindings.

    Args:
        triton: the release whose CUDA it is for; where that is unknown, CUDA 13.
        runtime: tensorrt | tensorrt-rtx.
        version: of its library.
    """
    cuda = "12" if (release(triton).cuda or "").startswith("12.") else "13"
    parts = [f"{runtime}-cu{cuda}-{part}=={version}" for part in ("bindings", "libs")]
    return (*parts, *_CUDA_BINDINGS[cuda])


def _refusal(triton: str, known: str, version: str, version_compatible: bool) -> str:
    able = [one for one in RELEASES if _can(one, version, version_compatible)]
    which = ", ".join(f"{one.name} ({one.tensorrt})" for one in able) or "none that is known"
    words = f"Triton {triton} has TensorRT {known}, which cannot load a plan of TensorRT {version}"
    return f"{words}; releases that could: {which}"


def _can(one: Release, version: str, version_compatible: bool) -> bool:
    return one.tensorrt is not None and loads(one.tensorrt, version, version_compatible=version_compatible)


def _mend(version: str, version_compatible: bool) -> str:
    major = version.partition(".")[0]
    newer = f"; or make the plan version_compatible, with a TensorRT {major} that is not newer"
    return f"leave engine.tensorrt out, or take another Triton release{'' if version_compatible else newer}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))

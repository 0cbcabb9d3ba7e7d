"""Plan files: which one is for this GPU, and whether it is one of this runtime at all. No GPU is needed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = {b"ftrt": "tensorrt", b"ptrt": "tensorrt", b"vtrt": "tensorrt_rtx"}  # how plans begin → backend that runs them
_VERSION_AT = 24  # major, minor, patch of the TensorRT that built it: one byte each
_MAJORS = range(8, 20)


@dataclass(frozen=True)
class Runtime:
    """One of the libraries that run plans."""

    backend: str  # as configs name it
    modules: tuple[str, ...]  # the names of its Python module, the usual one first
    title: str


TENSORRT = Runtime("tensorrt", ("tensorrt",), "TensorRT")
TENSORRT_RTX = Runtime("tensorrt_rtx", ("tensorrt_rtx", "tensorrt_rtx_bindings"), "TensorRT for RTX")


def plan_path(folder: Path, config: dict[str, Any], capability: str) -> Path:
    """The plan for a GPU: what ``cc_model_filenames`` says of its compute capability, else the default.

    Args:
        folder: the model's version folder.
        config: the model's config.
        capability: the GPU's compute capability: ``8.9``.

    Raises:
        ValueError: there is no such file.
    """
    plans = config.get("cc_model_filenames", {})
    path = folder / (plans.get(capability) or config.get("default_model_filename") or "model.plan")
    if not path.is_file():
        known = f"; cc_model_filenames has plans for {', '.join(sorted(plans))}" if plans else ""
        raise ValueError(f"no plan '{path}' for this GPU, whose compute capability is {capability}{known}")
    return path


def check_head(path: Path, runtime: Runtime) -> None:
    """Checks by its first bytes that a file is a plan of this runtime.

    Raises:
        ValueError: it is not; says what it is.
    """
    with path.open("rb") as stream:
        magic = stream.read(4)
    found = MAGIC.get(magic)
    if found is None:
        raise ValueError(f"'{path}' is no plan: it begins with {magic!r}")
    if found != runtime.backend:
        raise ValueError(f"'{path}' is a plan of the backend '{found}': this one is '{runtime.backend}'")


def built_by(path: Path) -> str:
    """The version of the TensorRT that built a plan: ``10.13.2``; empty where its head does not say."""
    with path.open("rb") as stream:
        head = stream.read(_VERSION_AT + 3)
    version = head[_VERSION_AT:]
    known = MAGIC.get(head[:4]) == TENSORRT.backend and len(version) == 3 and version[0] in _MAJORS
    return ".".join(map(str, version)) if known else ""


def refused(path: Path, runtime: Runtime, version: str, capability: str, said: list[str]) -> str:
    """Why a plan could not be loaded, for people.

    Args:
        path: the plan.
        runtime: what refused it.
        version: of that.
        capability: the GPU's.
        said: the errors that the library logged.
    """
    by = f", it was built by {built_by(path)}" if built_by(path) else ""
    reasons = "; ".join(said) or "the library does not say why"
    return (
        f"{runtime.title} {version} does not load '{path}'{by}, on a GPU of compute capability {capability}: "
        f"{reasons}. A plan runs only on the version that built it, on the GPUs that it was built for, unless it was "
        "built to be compatible with others: build it again for this target"
    )


def weights_beside(plan: Path) -> Path | None:
    """The ONNX file that a weight-stripped plan takes its weights from: of the plan's name, or ``model.onnx``."""
    candidates = (plan.with_suffix(".onnx"), plan.with_name("model.onnx"))
    return next((path for path in candidates if path.is_file()), None)

"""Which backend a model gets: what Triton's core fills in from file names before it checks a config.

Source: ``AutoCompleteBackendFields`` in ``src/model_config_utils.cc`` of triton-inference-server/core, r24.10. The
core does so in both modes; only a missing config file is refused in strict mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from builder.lint.model import Model

ENSEMBLE: Final = "ensemble"
PYTHON: Final = "python"
TENSORRT_PLATFORM: Final = "tensorrt_plan"

PLATFORMS: Final = {
    "tensorflow": ("tensorflow_graphdef", "tensorflow_savedmodel"),
    "tensorrt": (TENSORRT_PLATFORM,),
    "onnxruntime": ("onnxruntime_onnx",),
    "pytorch": ("pytorch_libtorch",),
}
"""Backends that the core pairs with platforms; to any other one the platform means nothing."""


@dataclass(frozen=True, slots=True)
class Completed:
    """Backend, platform and model file, as the core completes them; ``""`` where it does not."""

    backend: str
    platform: str
    filename: str
    found: bool = True  # False: the core cannot tell the backend, and refuses


def completed(model: Model) -> Completed:
    """The completed fields of a model whose config can be parsed."""
    if "completed" not in model.memo:
        model.memo["completed"] = _complete(model)
    return model.memo["completed"]  # type: ignore[no-any-return]


def is_ensemble(model: Model) -> bool:
    """Whether the core takes a model for an ensemble."""
    return model.config is not None and model.config.HasField("ensemble_scheduling")


def _complete(model: Model) -> Completed:
    config = model.config
    content = _first_folder(model)
    backend, platform, filename = config.backend, config.platform, config.default_model_filename
    if not platform and backend in {"", "tensorflow"}:
        platform = _tensorflow_platform(filename, content)
    if platform in PLATFORMS["tensorflow"]:
        return Completed(backend or "tensorflow", platform, filename or f"model.{platform.removeprefix('tensorflow_')}")
    for known in _ORDER:
        backend = backend or known.infer(platform, filename, content)
        if backend == known.name:
            return Completed(backend, platform or known.platform, filename or known.filename)
    if not (backend or platform or filename):
        custom = model.name.partition(".")[2]
        return Completed(custom, "", f"model.{custom}", found="." in model.name)
    return Completed(backend, platform, filename)


def _tensorflow_platform(filename: str, content: dict[str, bool]) -> str:
    kinds = {"model.savedmodel": True, "model.graphdef": False}  # file name → is it a folder?
    if filename:
        return f"tensorflow_{filename.removeprefix('model.')}" if filename in kinds else ""
    found = [name for name, is_folder in kinds.items() if content.get(name) is is_folder]
    return f"tensorflow_{found[-1].removeprefix('model.')}" if found else ""


@dataclass(frozen=True, slots=True)
class _Known:
    """A backend that the core infers from a platform or a file name."""

    name: str
    platform: str
    filename: str
    as_folder: bool  # whether a folder of that name counts, too

    def infer(self, platform: str, filename: str, content: dict[str, bool]) -> str:
        if (self.platform and platform == self.platform) or filename == self.filename:
            return self.name
        there = self.filename in content and (self.as_folder or not content[self.filename])
        return self.name if there and not platform and not filename else ""


_ORDER: Final = (
    _Known("tensorrt", TENSORRT_PLATFORM, "model.plan", as_folder=False),
    _Known("onnxruntime", "onnxruntime_onnx", "model.onnx", as_folder=True),
    _Known("openvino", "", "model.xml", as_folder=True),
    _Known("pytorch", "pytorch_libtorch", "model.pt", as_folder=False),
    _Known(PYTHON, "", "model.py", as_folder=True),
)


def _first_folder(model: Model) -> dict[str, bool]:
    """What is in the first of the model's folders by name (whichever it is): name → whether it is a folder."""
    if not model.folders:
        return {}
    first = model.path(min(model.folders, key=str.encode))
    return {name: model.tree.is_folder(f"{first}/{name}") for name in model.tree.children(first)}

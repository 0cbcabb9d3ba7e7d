"""What Triton's core refuses in a config: its spelling, its backend, its versions.

Lines are those of triton-inference-server/core, r24.10 (server 2.51), ``src/model_config_utils.cc`` where no file is
named.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from builder.lint import backend
from builder.lint.finding import LOAD_ERROR
from builder.lint.rule import Problem, model_rule
from builder.tools import triton_fields

if TYPE_CHECKING:
    from builder.lint.model import Model, World
    from builder.lint.rule import Problems

CORE: Final = "core/src/model_config_utils.cc"

BACKENDS: Final = (
    "python", "onnxruntime", "tensorrt", "pytorch", "openvino", "tensorflow", "dali", "fil", "vllm", "tensorrtllm",
    "identity", "repeat", "square", "torch_aoti", "tensorrt_rtx",
)  # fmt: skip
"""Backends that NVIDIA builds (server, build.py), and the stand-ins that come with tritonsmith."""


@model_rule(
    "C1",
    LOAD_ERROR,
    "the config is in protobuf's text format, with the fields and values that Triton has",
    why="An unknown field, a lower-case enum value, a field given twice, two schedulers: the server reads none of it.",
    source="core/src/filesystem/api.cc:566; common/protobuf/model_config.proto",
)
def parses(model: Model, _world: World) -> Problems:
    """The config can be parsed."""
    if (problem := model.parse_problem) is not None:
        yield Problem(problem.message, "see model_config.proto for the fields and their spelling", line=problem.line)


@model_rule(
    "C23",
    LOAD_ERROR,
    "every field is known to the release",
    why="A server refuses a config with a field that came after it.",
    source="common/protobuf/model_config.proto, branches r21.05 to r26.07",
)
def fields_are_known(model: Model, _world: World) -> Problems:
    """No field or enum value came after the release."""
    for name, release in triton_fields.FIRST_RELEASE.items():
        word = name.rpartition(".")[2]
        # Looked for in the text first: a field may be there without a value of its own.
        if word in model.text and model.config is not None and _uses(model, word):
            yield Problem(
                f"{word} is known since Triton {release}",
                f"leave it out, or serve with Triton {release} or later",
                model.find_field(word),
                releases=f"<{release}",
            )


def _uses(model: Model, word: str) -> bool:
    return bool(model.find_field(word)) or (word.startswith("TYPE_") and model.mentions(word))


@model_rule(
    "C2",
    LOAD_ERROR,
    "backend and platform say which backend serves the model, and agree",
    why="The core takes the backend from the platform, from default_model_filename or from the files of the first"
    " version; where it cannot, or where both are given and do not belong together, it refuses.",
    source=f"{CORE}:1011,1377-1409; server#6541 #4237 #4200",
)
def has_backend(model: Model, _world: World) -> Problems:
    """The backend is there, and fits the platform."""
    if model.config is None or (not model.config_path and not model.versions):
        return
    found = backend.completed(model)
    pairs = backend.PLATFORMS.get(found.backend)
    if not found.found:
        yield Problem(
            "neither backend nor platform is given, and no file of the first version tells it",
            f"set backend; known ones: {', '.join(BACKENDS)}",
        )
    elif not found.backend and found.platform != backend.ENSEMBLE:
        yield Problem(f"platform {found.platform!r} belongs to no backend", "set backend instead", "platform")
    elif found.backend and found.platform == backend.ENSEMBLE:
        yield Problem(f"an ensemble has no backend, but here it is {found.backend!r}", "leave backend out", "backend")
    elif pairs and found.platform not in pairs:
        yield Problem(
            f"platform {found.platform!r} does not belong to backend {found.backend!r}; allowed: {', '.join(pairs)}",
            "leave platform out",
            "platform",
        )


@model_rule(
    "C24",
    LOAD_ERROR,
    "the backend's name is spelt as Triton spells it",
    why="The server looks for libtriton_<backend>.so, and finds none.",
    source="core/src/backend_model.cc:414",
)
def backend_is_spelt(model: Model, _world: World) -> Problems:
    """The backend is not a misspelt known one."""
    if model.config is None or not (name := model.config.backend) or name in BACKENDS:
        return
    if name == backend.ENSEMBLE:
        yield Problem("there is no backend 'ensemble'", 'write platform: "ensemble" instead', "backend")
        return
    near = difflib.get_close_matches(name.lower(), BACKENDS, n=1, cutoff=0.75)
    if near and not _ships_library(model, name):
        yield Problem(f"no backend is called {name!r}", f"did you mean {near[0]!r}?", "backend")


def _ships_library(model: Model, name: str) -> bool:
    places = ("", *(f"{version}/" for version in model.versions))
    return any(model.tree.is_file(model.path(f"{place}libtriton_{name}.so")) for place in places)


@model_rule(
    "C20",
    LOAD_ERROR,
    "the version policy chooses a version that is there",
    why="Versions that are named but not there are skipped; when none is left, the model is refused.",
    source="core/src/model_repository_manager/model_lifecycle.cc:119-145,455",
)
def policy_chooses(model: Model, _world: World) -> Problems:
    """The policy leaves at least one version."""
    if model.config is not None and model.versions and not model.loaded_versions:
        there = ", ".join(map(str, model.versions))
        yield Problem(
            f"version_policy chooses none of the versions that are there: {there}", "name one of them", "version_policy"
        )


@model_rule(
    "C43",
    LOAD_ERROR,
    "each metric_control names a family and the buckets of its histogram",
    why="The core refuses one without them.",
    source="core r24.11, src/model_config_utils.cc:453",
    releases=">=24.11",
)
def metrics_are_whole(model: Model, _world: World) -> Problems:
    """Each of ``model_metrics.metric_control``."""
    for index, control in enumerate(model.config.model_metrics.metric_control if model.config is not None else ()):
        place = f"model_metrics.metric_control[{index}]"
        if not control.metric_identifier.family:
            yield Problem("a metric_control without metric_identifier.family", "set it", place)
        if not control.histogram_options.buckets:
            yield Problem("a metric_control without histogram_options.buckets", "set them", place)

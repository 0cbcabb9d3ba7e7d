"""The files of an ONNX model: there, whole, and for the onnxruntime of the release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.lint.finding import ADVICE, HOSTING_ERROR, LOAD_ERROR
from builder.lint.graphs import (
    BUILT_IN,
    DEFAULT_FILES,
    ONNXRUNTIME,
    TENSORRT,
    backend,
    graphs,
    headers,
    location,
    model_file,
)
from builder.lint.rule import Problem, model_rule
from builder.lint.rules.hosts import HOSTS
from builder.tools import releases

if TYPE_CHECKING:
    from builder.lint.graphs import Graph
    from builder.lint.model import Model, World
    from builder.lint.rule import Problems
    from builder.tools.onnx_facts import ExternalFile, OnnxHeader

_LIMITS: Final = {"1.19": (21, 10), "1.20": (21, 10), "1.21": (22, 10), "1.22": (22, 10), "1.23": (23, 11),
                  "1.24": (25, 13), "1.27": (26, 13)}  # fmt: skip
"""onnxruntime → the newest opset and IR version that it loads.

Measured on 2026-11-20 with the wheels 1.19.2, 1.20.1, 1.21.0, 1.22.0, 1.23.0, 1.23.2, 1.24.1, 1.24.4 and 1.27.0: a
graph of one Identity, stamped with one opset or IR version after the other.
"""

_STAYS_BESIDE: Final = ">=26.02"
"""Releases whose onnxruntime, 1.24 or later, refuses external data out of the graph's folder.

Measured on 2026-11-20: 1.19.2, 1.21.0, 1.22.0 and 1.23.2 load ``../w.bin`` and absolute paths, 1.24.4 and 1.27.0 refuse
them; all of them refuse a file that is missing or too short, and follow links.
"""


@model_rule(
    "A18",
    LOAD_ERROR,
    "the file that a backend loads is in each version that is served",
    why="the backend answers \"unable to find '…/model.onnx' for model instance\"",
    source="onnxruntime_backend src/onnxruntime.cc:447, tensorrt_backend src/instance_state.cc:169",
)
def file_there(model: Model, _: World) -> Problems:
    if model.config is None or backend(model) not in DEFAULT_FILES or model.config.cc_model_filenames:
        return
    name = model_file(model)
    for version in model.loaded_versions:
        path = model.path(f"{version}/{name}")
        inner = f"{path}/model.onnx" if backend(model) == ONNXRUNTIME and model.tree.is_folder(path) else path
        if not model.tree.is_file(inner):
            there = ", ".join(model.tree.children(model.path(str(version)))) or "nothing"
            yield Problem(
                f"version {version} has no {inner.rpartition(f'{version}/')[2]}; it holds {there}",
                "put the file there, or name it in default_model_filename",
                field="default_model_filename",
            )


@model_rule(
    "A30",
    ADVICE,
    "the plan of each compute capability in cc_model_filenames is in each version that is served",
    why="on a GPU of that compute capability the model does not load; on others nobody notices",
    source="tensorrt_backend src/instance_state.cc:146-169",
)
def plans_there(model: Model, _: World) -> Problems:
    if model.config is None or backend(model) != TENSORRT:
        return
    for version in model.loaded_versions:
        for capability, name in sorted(model.config.cc_model_filenames.items()):
            if not model.tree.is_file(model.path(f"{version}/{name}")):
                yield Problem(
                    f"version {version} has no {name}, the plan for compute capability {capability}",
                    "build it, or remove the entry",
                    "cc_model_filenames",
                )


@model_rule(
    "O6",
    LOAD_ERROR,
    "model.onnx is a whole ONNX file",
    why="onnxruntime refuses it: cut off, a pointer of Git LFS, or another format",
    source="onnxruntime_backend src/onnxruntime.cc:968 (LoadSession)",
)
def readable(model: Model, _: World) -> Problems:
    for graph in graphs(model):
        if graph.problem:
            yield Problem(graph.problem, "export the model again, or fetch the file again", path=graph.path)


@model_rule(
    "O2",
    LOAD_ERROR,
    "the files with a graph's external data are beside it, and whole",
    why="onnxruntime reads them when it loads the graph, but for tensors that nothing uses; since 1.24 it takes no path"
    " out of the graph's folder",
    source="measured with the onnxruntime wheels, see builder/lint/rules/onnx_files.py; server#5388",
)
def external_data(model: Model, _: World) -> Problems:
    for graph, header in headers(model):
        for file in header.external:
            yield from _external(model, graph, file)


def _external(model: Model, graph: Graph, file: ExternalFile) -> Problems:
    path = location(graph.path, file)
    if not _beside(graph, file):
        yield Problem(
            f"{file.tensors} tensors lie in {file.location!r}, out of the graph's folder",
            "export the model again, with its data beside it",
            path=graph.path,
            releases=_STAYS_BESIDE,
        )
    elif not model.tree.is_file(path):
        yield Problem(
            f"{file.tensors} tensors lie in {file.location!r}, which is not beside the graph",
            f"put {path} there",
            path=graph.path,
        )
    elif model.tree.entries[path].size < file.end:
        yield Problem(
            f"{file.location!r} has {model.tree.entries[path].size} bytes, but the graph needs {file.end} of it",
            "fetch the file again: it is cut off, or of another export",
            path=graph.path,
        )


@model_rule(
    "O14",
    HOSTING_ERROR,
    "the files with a graph's external data are in the repository",
    why="the host has nothing but the artifact",
    source="SageMaker developer guide, your-algorithms-inference-code",
    hosts=HOSTS,
)
def external_data_shipped(model: Model, _: World) -> Problems:
    for graph, header in headers(model):
        for file in header.external:
            if not _beside(graph, file) and not model.tree.is_file(location(graph.path, file)):
                yield Problem(
                    f"{file.tensors} tensors lie in {file.location!r}, which the repository does not hold",
                    "export the model again, with its data beside it",
                    path=graph.path,
                )


def _beside(graph: Graph, file: ExternalFile) -> bool:
    inside = location(graph.path, file).startswith(f"{graph.folder}/" if graph.folder else "")
    return bool(file.location) and inside and not file.location.startswith("/")


@model_rule(
    "O3",
    LOAD_ERROR,
    "the release's onnxruntime knows the graph's opset and IR version",
    why="onnxruntime refuses a graph that is stamped with a newer opset or IR version than it was built with",
    source="measured with the onnxruntime wheels, see builder/lint/rules/onnx_files.py; release → onnxruntime: "
    "server docs/introduction/compatibility.md",
)
def known_opset(model: Model, world: World) -> Problems:
    limits = _limits(world.options.release)
    if limits is None:
        return
    runtime, opset_limit, ir_limit = limits
    for graph, header in headers(model):
        opset = header.opsets.get("", 0)
        if opset > opset_limit or header.ir_version > ir_limit:
            first = _first_release(header)
            yield Problem(
                f"the graph has opset {opset} and IR version {header.ir_version}; onnxruntime {runtime} of Triton "
                f"{world.options.release} goes up to {opset_limit} and {ir_limit}",
                f"export for opset {opset_limit} or older"
                + (f", or serve with Triton {first} or later" if first else ""),
                path=graph.path,
                releases=f"<{first}" if first else "",
            )


def _limits(release: str) -> tuple[str, int, int] | None:
    known = next((one for one in releases.RELEASES if one.name == release), None)
    if known is None or known.onnxruntime is None:
        return None
    limits = _LIMITS.get(known.onnxruntime.rpartition(".")[0])
    return (known.onnxruntime, *limits) if limits else None


def _first_release(header: OnnxHeader) -> str:
    """The first release whose onnxruntime loads the graph; empty if none is known."""
    for release in releases.RELEASES:
        limits = _limits(release.name)
        if limits and header.opsets.get("", 0) <= limits[1] and header.ir_version <= limits[2]:
            return release.name
    return ""


@model_rule(
    "O12",
    LOAD_ERROR,
    "operators of other domains come with their library",
    why="onnxruntime refuses a graph with an operator that nobody registered",
    source="onnxruntime_backend src/onnxruntime.cc:935-957 (model_operations.op_library_filename)",
)
def custom_operators(model: Model, _: World) -> Problems:
    if model.config is None or model.config.model_operations.op_library_filename:
        return
    for graph, header in headers(model):
        for domain in sorted(set(header.operators) - BUILT_IN):
            wanted = sorted(header.operators[domain] - header.functions.get(domain, frozenset()))
            if wanted:
                yield Problem(
                    f"the graph uses {', '.join(wanted[:5])} of the domain {domain!r}, which onnxruntime does not have",
                    "ship the library that has them and name it in model_operations.op_library_filename",
                    path=graph.path,
                )

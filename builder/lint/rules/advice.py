"""What loads and yet works badly or by chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.lint.backend import PYTHON, is_ensemble
from builder.lint.finding import ADVICE
from builder.lint.graphs import ONNXRUNTIME, TENSORRT, backend, dtype_name, headers
from builder.lint.python_model import is_python
from builder.lint.rule import Problem, model_rule
from builder.lint.rules.ensemble import needed_models
from builder.lint.rules.ensemble import steps as ensemble_steps
from builder.lint.rules.hosts import composing

if TYPE_CHECKING:
    from builder.lint.model import Model, World
    from builder.lint.rule import Problems
    from builder.tools.triton_ensemble import Message

_BATCHING: Final = (ONNXRUNTIME, TENSORRT)
_SOURCE_BYTES: Final = 4 << 20
_INTEGERS: Final = frozenset({"INT32", "INT64", "UINT32", "UINT64"})


@model_rule(
    "A31",
    ADVICE,
    "a config states the model's name",
    why="a folder is renamed or copied more easily than a config: the server compares them only where both are there",
    source="core src/model_repository_manager.cc:1708",
)
def name_stated(model: Model, _: World) -> Problems:
    if model.config is not None and model.config_path and not model.config.name:
        yield Problem("no name", f'write name: "{model.name}" (--fix does)')


@model_rule(
    "C10",
    ADVICE,
    "inputs of variable length are padded to few lengths, or ragged, where requests are to be batched",
    why="only requests of equal shapes go into one batch: texts of different lengths are run one by one",
    source="server docs/user_guide/batcher.md, ragged_batching.md; server#7271, server#3624",
)
def variable_lengths(model: Model, _: World) -> Problems:
    if model.config is None or backend(model) not in _BATCHING or not model.config.HasField("dynamic_batching"):
        return
    open_inputs = [tensor.name for tensor in model.config.input if -1 in tensor.dims and not tensor.allow_ragged_batch]
    if open_inputs:
        yield Problem(
            f"dynamic_batching batches only requests of one shape, and {', '.join(open_inputs)} may have any",
            "pad to a few lengths before this model, or use allow_ragged_batch",
            "dynamic_batching",
        )


@model_rule(
    "C11",
    ADVICE,
    "a model that batches says so",
    why="auto-complete adds dynamic_batching for some configs and not for others, and a server without it for none",
    source="server docs/user_guide/model_configuration.md; onnxruntime_backend src/onnxruntime.cc:1006-1153; "
    "tensorrt_backend src/model_state.cc:702",
)
def explicit_batching(model: Model, world: World) -> Problems:
    if model.config is None or backend(model) not in _BATCHING or model.config.max_batch_size <= 1:
        return
    if model.config.HasField("dynamic_batching") or model.config.HasField("sequence_batching"):
        return
    added = batching_is_added(model, strict=world.options.strict)
    what = "auto-complete adds dynamic_batching" if added else "no scheduler: requests are never batched"
    yield Problem(
        f"max_batch_size is {model.config.max_batch_size}, and {what}", "write dynamic_batching { }", "max_batch_size"
    )


def batching_is_added(model: Model, *, strict: bool) -> bool:
    """Whether the server adds ``dynamic_batching`` by itself, so that writing it changes nothing."""
    if strict:
        return False
    whole = bool(model.config.input) and bool(model.config.output)
    return backend(model) == TENSORRT or not whole


@model_rule(
    "C50",
    ADVICE,
    "warm-up gives whole numbers that mean something",
    why="random data is random bytes, whatever the type: token ids out of the vocabulary fail in a Gather",
    source="core src/backend_model_instance.cc:425; server#4373",
)
def random_ids(model: Model, _: World) -> Problems:
    if model.config is None:
        return
    for index, sample in enumerate(model.config.model_warmup):
        for name, item in sorted(sample.inputs.items()):
            if item.random_data and dtype_name(model.config, item.data_type) in _INTEGERS:
                yield Problem(
                    f"warm-up {sample.name!r} gives random bytes for {name!r}, which has whole numbers",
                    "use zero_data, or a file of real values",
                    f"model_warmup[{index}].inputs",
                )


@model_rule(
    "C18",
    ADVICE,
    "the checksum agent is for local repositories",
    why="with a repository in a bucket it fails",
    source="server#6420, server#6346",
)
def checksum(model: Model, _: World) -> Problems:
    if model.config is not None and any(
        agent.name == "checksum" for agent in model.config.model_repository_agents.agents
    ):
        yield Problem(
            "has a checksum agent, which a repository in a bucket cannot have",
            "remove it, unless the repository is a folder",
            "model_repository_agents",
        )


@model_rule(
    "C21",
    ADVICE,
    "max_batch_size is written down",
    why="auto-complete cannot tell 0 from nothing: for a graph whose first axes are all dynamic it becomes the "
    "backend's default, 4",
    source="onnxruntime_backend src/onnxruntime.cc:1117; server docs/user_guide/model_configuration.md",
)
def batch_size_stated(model: Model, world: World) -> Problems:
    if world.options.strict or model.config is None or model.config.max_batch_size != 0:
        return
    if model.config.input and model.config.output:
        return  # complete: nothing is added
    for graph, header in headers(model):
        shapes = [tensor.dims or () for tensor in (*header.inputs, *header.outputs)]
        if shapes and all(shape and shape[0] == -1 for shape in shapes):
            yield Problem(
                f"no max_batch_size, and all first axes of {graph.path} are dynamic: auto-complete makes it 4",
                "write max_batch_size, and input and output in full",
            )


@model_rule(
    "E7",
    ADVICE,
    "the Python steps of an ensemble run on the CPU",
    why="an instance on the GPU holds memory there, and tensors are copied to it and back",
    source="server docs/user_guide/ensemble_models.md; python_backend README",
)
def python_on_gpu(model: Model, world: World) -> Problems:
    if model.config is None or backend(model) != PYTHON:
        return
    if model.name not in composing(world):
        return
    for index, group in enumerate(model.config.instance_group):
        if group.kind == group.KIND_GPU:
            yield Problem(
                "a Python step of an ensemble has instances on the GPU",
                "write kind: KIND_CPU",
                f"instance_group[{index}].kind",
            )


@model_rule(
    "E16",
    ADVICE,
    "steps that read one tensor of the request at once cannot refuse it",
    why="When one of them refuses, 2.51 answers the client at once and may use the memory of the request again while"
    " the others still read it: requests of other clients then fail or get wrong answers, and the server may hang. A"
    " step can refuse when a module in its version folder makes a TritonError; what else may fail is not seen here.",
    source="seen on server 2.51 (24.10); docs/how-to/pipelines.md, One request, several readers",
)
def nobody_refuses_what_others_read(model: Model, world: World) -> Problems:
    """Steps without an order between them, one of which is, or calls, a Python model that names ``TritonError``."""
    if not is_ensemble(model):
        return
    all_steps = [step for _, step in ensemble_steps(model)]
    before = _before(all_steps)
    for tensor in sorted({one.name for one in model.config.input}):
        readers = [index for index, step in enumerate(all_steps) if tensor in step.input_map.values()]
        at_once = [
            index
            for index in readers
            if any(one != index and one not in before[index] and index not in before[one] for one in readers)
        ]
        if refusing := [one for one in at_once if _can_refuse(all_steps[one].model_name, world)]:
            names = ", ".join(repr(all_steps[one].model_name) for one in at_once)
            who = ", ".join(repr(all_steps[one].model_name) for one in refusing)
            yield Problem(
                f"{names} read {tensor!r} of the request at once, and {who} can refuse it",
                "let a first step check the request, and the others take what it gives; or run them one by one",
                f"ensemble_scheduling.step[{refusing[0]}]",
            )


def _before(all_steps: list[Message]) -> list[set[int]]:
    """For each step, the steps that are done before it begins."""
    makers = {name: index for index, step in enumerate(all_steps) for name in step.output_map.values()}
    before: list[set[int]] = [set() for _ in all_steps]
    for _ in all_steps:  # as many rounds as the longest chain may need
        for index, step in enumerate(all_steps):
            direct = {makers[name] for name in step.input_map.values() if name in makers}
            before[index] |= direct.union(*(before[one] for one in direct))
    return before


def _can_refuse(name: str, world: World) -> bool:
    """Whether a model, or one that an ensemble needs, makes errors of its own: in a module of a version's folder."""
    model = world.models.get(name)
    names = {name, *needed_models(model, world)}
    return any(_makes_errors(world.models[one]) for one in names if one in world.models)


def _makes_errors(model: Model) -> bool:
    if not is_python(model):
        return False
    folders = [model.path(str(version)) for version in model.loaded_versions]
    modules = [f"{one}/{name}" for one in folders for name in model.tree.children(one) if name.endswith(".py")]
    return any(model.tree.is_file(path) and b"TritonError" in model.tree.head(path, _SOURCE_BYTES) for path in modules)

"""What Triton's Python backend refuses of warm-up requests. Lines of triton-inference-server/python_backend, r24.10."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builder.lint.finding import LOAD_ERROR
from builder.lint.python_model import is_python, outcome
from builder.lint.rule import Problem, model_rule
from builder.lint.rules.instances import is_warmed_up
from builder.lint.rules.python_backend import loaded_modules
from builder.lint.sizes import STRING, size_of

if TYPE_CHECKING:
    from builder.lint.model import Model, World
    from builder.lint.rule import Problems


@model_rule(
    "P17",
    LOAD_ERROR,
    "a Python model that is warmed up has execute",
    why="The server runs the warm-up requests while it loads the model, and refuses it when they fail. 2.51 sometimes"
    " crashes then.",
    source="python_backend/src/pb_stub.cc:672; core/src/backend_model_instance.cc:345-560",
)
def class_can_be_warmed_up(model: Model, world: World) -> Problems:
    """``execute`` is bound in the class of a model that has warm-up requests."""
    if is_warmed_up(model):
        for path, code in loaded_modules(model, world):
            if code.error is None and code.has_execute is False:
                yield Problem(
                    "TritonPythonModel has no execute, which model_warmup calls",
                    "add execute(self, requests)",
                    path=path,
                )


@model_rule(
    "P18",
    LOAD_ERROR,
    "a warm-up of a Python model is a batch that the model takes",
    why="The backend refuses a batch above max_batch_size (of a model that does not batch, more than one request), and,"
    " of a model that batches, a request without inputs. What is no input of the model goes to the stub as it is, and"
    " the stub ends where it makes no tensor of it. 2.51 sometimes crashes then.",
    source="python_backend/src/python_be.cc:65-128; core/src/backend_model_instance.cc:345-560; seen on server 2.51"
    " (24.10)",
)
def warmups_are_batches(model: Model, world: World) -> Problems:
    """``batch_size`` and ``inputs`` of each sample of ``model_warmup``."""
    config = outcome(model, world).config if is_python(model) and is_warmed_up(model) else None
    if config is None:
        return
    for index, sample in enumerate(config.model_warmup):
        limit, place = config.max_batch_size, f"model_warmup[{index}]"
        if sample.batch_size > max(1, limit):
            yield Problem(
                f"warm-up {sample.name!r} has the batch_size {sample.batch_size}; allowed: {max(1, limit)}",
                "lower it, or raise max_batch_size",
                f"{place}.batch_size",
            )
        elif sample.batch_size and limit > 0 and not sample.inputs:
            yield Problem(f"warm-up {sample.name!r} has no inputs", "give it inputs", place)
        strays = sorted(set(sample.inputs) - {tensor.name for tensor in config.input}) if sample.batch_size else []
        for name in strays:
            if words := _not_a_tensor(name, sample.inputs[name]):
                yield Problem(
                    f"warm-up {sample.name!r}, {name!r} is no input of the model and {words}",
                    "leave it out",
                    f"{place}.inputs",
                )


def _not_a_tensor(name: str, given: Any) -> str:  # noqa: ANN401 - a protobuf message
    """Why the stub cannot make a tensor of it; -1 in its dims is refused before."""
    if not name:
        return "has no name"
    if given.data_type != STRING and not size_of(given.data_type):
        return "has no data_type"
    return f"has the dims {list(given.dims)}" if any(dim < -1 for dim in given.dims) else ""

"""What Triton's Python backend refuses of warm-up requests. Lines of triton-inference-server/python_backend, r24.10."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.lint.finding import LOAD_ERROR
from builder.lint.python_model import is_python, outcome
from builder.lint.rule import Problem, model_rule
from builder.lint.rules.instances import is_warmed_up
from builder.lint.rules.python_backend import loaded_modules

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
    " of a model that batches, a request without inputs. 2.51 sometimes crashes then.",
    source="python_backend/src/python_be.cc:65-128; seen on server 2.51 (24.10)",
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

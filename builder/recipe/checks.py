"""What spans several keys. Each check reads values that are fine by themselves, and names both places."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from builder.recipe.document import Problem, dotted, find, place_of
from builder.recipe.serving import Serving
from builder.recipe.suggest import did_you_mean
from builder.recipe.target_checks import check_targets
from builder.recipe.tasks import IMAGE, REQUIRED, TASKS, tolerance_keys
from builder.recipe.triton_checks import check_serving
from builder.recipe.verify import BY_COMPOSITION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.artifacts import Json
    from builder.recipe.document import Keys, Node

_MAX_BATCH: Final = ("serving", "max_batch_size")
_SHAPES: Final = "shapes"
_PARITY: Final = ("verify", "parity")

_DEFAULTS: Final[dict[Keys, int]] = {(_SHAPES, "batch", "min"): 1, (_SHAPES, "batch", "max"): 32}

OF_THE_WHOLE: Final = ("max_batch_size", "response_cache", "version_policy")

_ORDERED: Final[tuple[tuple[Keys, Keys], ...]] = (
    *(
        ((_SHAPES, axis, low), (_SHAPES, axis, high))
        for axis in ("batch", "sequence")
        for low, high in (("min", "opt"), ("opt", "max"), ("min", "max"))
    ),
    (_MAX_BATCH, (_SHAPES, "batch", "max")),
)
"""Pairs of keys: the first must not be more than the second."""


@dataclass(frozen=True, slots=True)
class View:
    """A recipe as written, or one of its models, less what is already known to be wrong.

    Paths begin at ``below``, which is where the model stands.
    """

    root: Node
    data: Json
    bad: frozenset[Keys]
    below: Keys = ()

    def get(self, path: Keys) -> Json:
        """The value at a path, or its default; None where it is wrong or left out."""
        whole = (*self.below, *path)
        if any(whole[: len(wrong)] == wrong for wrong in self.bad):
            return None
        value = self.data
        for part in whole:
            value = _child(value, part)
        return _DEFAULTS.get(path) if value is None else value

    def find(self, path: Keys) -> Node | None:
        """What is written at a path."""
        return find(self.root, (*self.below, *path))

    def named(self, path: Keys) -> str:
        """``shapes.batch.max (recipe.yaml:9:31)``, or that it is the default."""
        node = self.find(path)
        return f"{dotted((*self.below, *path))} ({node.place.text if node else 'the default'})"

    def problem(self, path: Keys, message: str) -> Problem:
        whole = (*self.below, *path)
        return Problem(place_of(self.root, whole), message, whole)

    def key_problem(self, path: Keys, message: str) -> Problem:
        whole = (*self.below, *path)
        return Problem(place_of(self.root, whole, key=True), message, whole)


def _child(value: Json, part: str | int) -> Json:
    if isinstance(value, list):
        return value[part] if isinstance(part, int) and part < len(value) else None
    return value.get(part) if isinstance(value, dict) else None


def check(view: View) -> list[Problem]:
    """All problems that span several keys."""
    models = view.get(("models",))
    if not isinstance(models, dict):
        return [problem for rule in (*_RULES, check_targets, _profiles) for problem in rule(view)]
    views = [replace(view, below=("models", name)) for name, model in models.items() if isinstance(model, dict)]
    return [*(problem for view in views for rule in _RULES for problem in rule(view)), *_composed(view)]


def _composed(view: View) -> Iterator[Problem]:
    """What a recipe of several models says of the whole, and of its steps."""
    yield from check_targets(view, several=True)
    for below in ((), *(("models", name) for name in view.get(("models",)) or ())):
        if replace(view, below=below).find(("serving", "steps")):
            words = "is for pipeline auto: write pipeline.steps.NAME.serving"
            yield view.key_problem((*below, "serving", "steps"), words)
    serving, steps = view.get(("serving",)), view.get(("pipeline", "steps"))
    for key in serving if isinstance(serving, dict) else ():
        if key in Serving.model_fields and key not in (*OF_THE_WHOLE, "steps"):
            words = f"is of each model or step: write models.NAME.serving.{key}, or pipeline.steps.NAME.serving.{key}"
            yield view.key_problem(("serving", key), f"{words}; of the whole: {', '.join(OF_THE_WHOLE)}")
    for name, step in (steps if isinstance(steps, dict) else {}).items():
        if isinstance(step, dict) and "select" in step:
            for form in sorted(one for one in BY_COMPOSITION if one in (view.get(("package", "formats")) or ())):
                words = f"calls models by name, which nobody loads in package.formats {form}: only an ensemble's steps"
                yield view.key_problem(("pipeline", "steps", name, "select"), words)
        if not isinstance(step, dict) or "serving" not in step:
            continue
        here = replace(view, below=("pipeline", "steps", name))
        if (model := step.get("model", step.get("ensemble"))) is not None:
            yield here.key_problem(("serving",), f"write models.{model}.serving: it is the model's")
        yield from (*_batch_axis(here), *check_serving(here))


def _order(view: View) -> Iterator[Problem]:
    for low, high in _ORDERED:
        least, most = view.get(low), view.get(high)
        if least is None or most is None or least <= most:
            continue
        if view.find(low):
            yield view.problem(low, f"{least} is more than {view.named(high)}, which is {most}")
        else:
            yield view.problem(high, f"{most} is less than {view.named(low)}, which is {least}")


def _batch_axis(view: View) -> Iterator[Problem]:
    if view.get(_MAX_BATCH) == 0:
        words = "must be at least 1, got the number 0: 'auto' makes models whose requests have a batch axis"
        yield view.problem(_MAX_BATCH, words)


def _preferred_sizes(view: View) -> Iterator[Problem]:
    path = ("serving", "dynamic_batching", "preferred_batch_size")
    limit_path = _MAX_BATCH if view.get(_MAX_BATCH) is not None else (_SHAPES, "batch", "max")
    limit = view.get(limit_path)
    for index, size in enumerate(view.get(path) or ()):
        if limit is not None and size > limit:
            yield view.problem((*path, index), f"{size} is more than {view.named(limit_path)}, which is {limit}")


def _lengths(view: View) -> Iterator[Problem]:
    limit_path, buckets_path, longest_path = (
        ("inputs", "max_length"),
        ("inputs", "buckets"),
        (_SHAPES, "sequence", "max"),
    )
    limit, buckets, longest = view.get(limit_path), view.get(buckets_path), view.get(longest_path)
    if buckets and view.get(("inputs", "padding")) == "longest":
        yield view.problem(buckets_path, f"of no use with {view.named(('inputs', 'padding'))}, which is 'longest'")
    if limit is None:
        return
    if buckets and buckets[-1] != limit:
        words = f"the last bucket must be {view.named(limit_path)}, which is {limit}; got {buckets[-1]}"
        yield view.problem((*buckets_path, len(buckets) - 1), words)
    if longest is not None and longest != limit:
        yield view.problem(longest_path, f"must be {view.named(limit_path)}, which is {limit}; got {longest}")


def _profiles(view: View) -> Iterator[Problem]:
    """That each profile is in order, and within the shapes."""
    profiles = view.get((_SHAPES, "profiles"))
    for index in range(len(profiles) if isinstance(profiles, list) else 0):
        for axis, limit in (("batch", (_SHAPES, "batch", "max")), ("sequence", _longest(view))):
            place = (_SHAPES, "profiles", index, axis)
            bounds = (*((*place, bound) for bound in ("min", "opt", "max")), limit)
            known = [(path, size) for path in bounds if isinstance(size := view.get(path), int)]
            for (low, least), (high, most) in pairwise(known):
                if least > most:
                    yield view.problem(low, f"{least} is more than {view.named(high)}, which is {most}")


def _longest(view: View) -> Keys:
    """The key that says how long texts may be; where both do, they say the same."""
    stated = (_SHAPES, "sequence", "max")
    return stated if view.get(stated) is not None else ("inputs", "max_length")


def _pairs(view: View) -> Iterator[Problem]:
    task = TASKS.get(view.get(("task",)) or "")
    if task and view.get(("inputs", "text_pair")) and not task.takes_pairs:
        able = ", ".join(name for name, other in TASKS.items() if other.takes_pairs)
        yield view.problem(
            ("inputs", "text_pair"), f"{view.named(('task',))} is {task.name}, which takes one text; pairs: {able}"
        )
    if task and task.pairs == REQUIRED and view.get(("inputs", "text_pair")) is False:
        yield view.problem(("inputs", "text_pair"), f"{view.named(('task',))} is {task.name}, which takes pairs")


def _images(view: View) -> Iterator[Problem]:
    """What is said of text where there is none."""
    task = TASKS.get(view.get(("task",)) or "")
    if task is None or task.takes != IMAGE:
        return
    for path in (("inputs",), (_SHAPES, "sequence")):
        if view.get(path):
            yield view.key_problem(path, f"of no use with {view.named(('task',))} {task.name}, which takes images")


def _made_of(view: View) -> Iterator[Problem]:
    """A model with random weights needs what makes its inputs, and nothing else."""
    task, place = TASKS.get(view.get(("task",)) or ""), ("source", "architecture")
    if task is None or not isinstance(view.get(place), dict):
        return
    needed, other = ("processor", "tokenizer") if task.takes == IMAGE else ("tokenizer", "processor")
    if view.get((*place, other)) is not None:
        words = f"of no use with {view.named(('task',))} {task.name}, which takes {task.takes}s"
        yield view.key_problem((*place, other), words)
    elif needed not in view.get(place):
        yield view.problem((*place, needed), "missing; it has no default")


def _parity(view: View) -> Iterator[Problem]:
    task, given = TASKS.get(view.get(("task",)) or ""), view.get(_PARITY) or {}
    piped = task is None and view.get(("models",)) is not None
    allowed = tolerance_keys(task) if task or piped else ()
    for key, value in given.items():
        path = (*_PARITY, key)
        if allowed and key not in allowed:
            what = f"{view.named(('task',))} {task.name}" if task else "a pipeline"
            words = f"unknown key for {what}; allowed: {', '.join(allowed)}"
            yield view.key_problem(path, f"{words}{did_you_mean(key, allowed)}")
        elif (*view.below, *path) not in view.bad and not 0 <= value <= 1 and key != "max_difference":
            yield view.problem(path, f"must be from 0 to 1, got the number {value}")
        elif (*view.below, *path) not in view.bad and value < 0:
            yield view.problem(path, f"must be at least 0, got the number {value}")


_RULES: Final = (_order, _batch_axis, _preferred_sizes, check_serving, _lengths, _pairs, _images, _made_of, _parity)

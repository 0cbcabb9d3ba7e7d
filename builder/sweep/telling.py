"""What came of a sweep, as the one value that the report, the tuned file and a later baseline are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from builder.sweep import statistics
from builder.sweep.objective import judged
from builder.sweep.reference import AS_IT_IS
from builder.sweep.swept import Aim, Served, Step, Swept, Tried
from builder.tools import hardware

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.sweep.objective import Ranked
    from builder.sweep.point import Point
    from builder.sweep.search.task import Found, Task
    from builder.sweep.subject import Subject
    from builder.sweep.wanted import Wanted


def tell(
    wanted: Wanted,
    subject: Subject,
    task: Task,
    found: Found,
    seen: Sequence[tuple[Point, str]],
    as_it_is: Ranked | None,
) -> Swept:
    """The result of a sweep, but for how long it took.

    Args:
        wanted: what was asked for.
        subject: what was measured.
        task: what was searched.
        found: what the search found.
        seen: all points in the order of measuring, with what the search said of each.
        as_it_is: the subject without changes.
    """

    def tried(one: Ranked, why: str = "") -> Tried:
        return Tried.of(one.point, one.verdict, one.score, why)

    points = [judged(point, task.objective, task.constraints) for point, _ in seen]
    names = dict.fromkeys(knob for setting in task.settings for knob in setting.as_dict())
    values = {knob: dict.fromkeys(one.get(knob) for one in task.settings if knob in one.as_dict()) for knob in names}
    return Swept(
        served=_served(wanted, subject),
        hardware=hardware.detect(),
        versions=_versions(subject),
        method=_method(wanted, task),
        knobs={knob: tuple(tried_values) for knob, tried_values in values.items()},
        aim=Aim(dict(task.objective.terms), task.objective.price_per_hour),
        constraints=task.constraints.limits(),
        tried=tuple(tried(one, why) for one, (_, why) in zip(points, seen, strict=True)),
        ranking=tuple(tried(one) for one in found.ranking),
        as_it_is=None if as_it_is is None else tried(as_it_is, AS_IT_IS),
        ended=found.why,
        candidates=len(task.settings),
    )


def _served(wanted: Wanted, subject: Subject) -> Served:
    kind: Literal["recipe", "archive", "repository"] = "repository" if wanted.path.is_dir() else "archive"
    if subject.recipe is not None:
        kind = "recipe"
    steps = []
    for model in subject.steps:
        if "ensemble_scheduling" in subject.configs[model]:
            continue  # an ensemble within an ensemble: Triton counts the time of its steps as its own, once more
        groups = subject.configs[model].get("instance_group", [])
        name = "" if model == subject.main else model.removeprefix(f"{subject.name}-")
        copies = sum(int(group.get("count", 1)) for group in groups) or 1
        steps.append(Step(name, model, copies, _threads(subject.configs[model])))
    return Served(subject.name, kind, wanted.path.name, subject.digest, subject.target, tuple(steps))


def _threads(config: Mapping[str, Any]) -> int:
    """Of onnxruntime all cores, where its config does not say; of others one, for all that is known."""
    if config.get("backend") != "onnxruntime":
        return 1
    said = str(config.get("parameters", {}).get("intra_op_thread_count", {}).get("string_value", ""))
    return (int(said) if said.isdecimal() else 0) or max(1, int(hardware.detect().usable_cpus))


def _versions(subject: Subject) -> dict[str, str]:
    from builder import __version__
    from builder.tools.releases import release

    serving = subject.record.get("serving", {})
    return {
        "tritonsmith": __version__,
        "Triton": f"{subject.triton} ({release(subject.triton).server_version})",
        "toolchain": str(serving.get("toolchain", "")),
        "onnxruntime": str(serving.get("onnxruntime", "")),
    }


def _method(wanted: Wanted, task: Task) -> dict[str, str]:
    return {
        "search": f"{wanted.search_name}, seed {wanted.seed}"
        if wanted.searches
        else f"none: a {wanted.load.kind} profile",
        "loads": "; ".join(load.label for load in task.loads),
        "measurement": f"{task.seconds:g} s by perf_analyzer, and up to three times as long where windows disagree",
        "windows": f"{statistics.LEAST_WINDOWS} to {statistics.MOST_WINDOWS} of about as many requests each, without "
        "ramp-up and drain",
        "interval": f"{statistics.CONFIDENCE:.0%}, bootstrap over the windows, seeded",
        "stable": f"the throughput is known to ± {statistics.MOST_SPREAD:.0%}, and drifts by no more",
    }

"""The stage ``judge``: figures against tolerances and constraints.

* A figure out of tolerance, however the texts were asked, is a failure. Of embeddings in few bits one figure is of all
  samples together: the share of those that keep their nearest neighbour.
* So is a request that was refused, alone or under load, an answer that cannot be compared, and a text that is not
  UTF-8 but was answered.
* Where everything is within tolerance, the negative controls decide whether that means anything. Held against the same
  tolerances, each of them must be out of tolerance however the texts were asked, and ``shuffled`` in every figure that
  has a tolerance of its own: a classifier that gives one label to every text agrees with its shuffled self. A control
  that is not refused makes the verdict *inconclusive*, which is not a pass. A control that changes no answer (no text
  is long enough to be truncated) cannot show anything and is left out; when that is so for all controls of the
  reference, the verdict is inconclusive.
* A constraint on speed holds if at least one measured concurrency meets all constraints at once: a service is deployed
  to run at one of them. Which ones do is in the figures. Only stable points count; with constraints and no stable
  point, the verdict is inconclusive.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from builder.artifacts import Verdict
from builder.errors import ArchiveError, InternalError
from builder.recipe.tasks import NEIGHBOURS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from builder.artifacts import Json, Measurement
    from builder.parity.compare import Criterion

PASSED: Final = "passed"
FAILED: Final = "failed"
INCONCLUSIVE: Final = "inconclusive"

CONSTRAINTS: Final = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "min_throughput")

_DAMAGED: Final = "the manifest is damaged, or made by another version of tritonsmith: build again"


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges a measurement.

    Args:
        tolerances: by key, as in :func:`builder.recipe.tasks.tolerances`; all keys of the metric.
        constraints: some of ``p50_ms``, ``p90_ms``, ``p95_ms``, ``p99_ms`` (at most) and ``min_throughput`` (at least,
            per second).
    """

    name: ClassVar[str] = "judge"
    version: ClassVar[int] = 1

    tolerances: Mapping[str, float]
    constraints: Mapping[str, float] = field(default_factory=dict)

    def fingerprint(self, inputs: Measurement) -> Mapping[str, Json]:
        """The figures, and what they are held against."""
        return {
            "parity": inputs.parity,
            "perf": list(inputs.perf),
            "tolerances": dict(self.tolerances),
            "constraints": dict(self.constraints),
        }

    def requires(self, inputs: Measurement) -> None:
        """As :meth:`check`, for the metric of the measurement.

        Raises:
            ArchiveError: what is judged by is incomplete.
        """
        self.check(inputs.parity["metric"])

    def check(self, metric: str) -> None:
        """There is a tolerance for every figure of a metric, and every constraint is known.

        A recipe always gives all of them, so it is a manifest that lacks one.

        Raises:
            ArchiveError: the metric or a constraint is unknown, or a tolerance is missing.
        """
        known = _criteria()
        if metric not in known:
            raise ArchiveError(f"gates: unknown metric {metric!r}; known: {', '.join(known)}", mend=_DAMAGED)
        missing = {criterion.tolerance for criterion in known[metric]} - set(self.tolerances)
        if missing:
            raise ArchiveError(f"gates.tolerances: no {', '.join(sorted(missing))}", mend=_DAMAGED)
        unknown = set(self.constraints) - set(CONSTRAINTS)
        if unknown:
            raise ArchiveError(
                f"gates.constraints: unknown {', '.join(sorted(unknown))}; known: {', '.join(CONSTRAINTS)}",
                mend=_DAMAGED,
            )

    def run(self, inputs: Measurement, out: Path) -> Verdict:  # noqa: ARG002 - a stage's signature
        """The verdict, with a reason for each thing that is wrong."""
        return self.judge(inputs)

    def ensures(self, inputs: Measurement, output: Verdict) -> None:  # noqa: ARG002 - a stage's signature
        """A verdict that is not a pass says why."""
        if output.status != PASSED and not output.reasons:
            raise InternalError("judge: a verdict without a reason")

    def judge(self, measured: Measurement) -> Verdict:
        """The verdict on a measurement."""
        parity = measured.parity
        missed = [*self._out_of_tolerance(parity), *self._lost_neighbours(parity)]
        wrong = [*_failures(parity), *missed, *_invalid(parity), *_refused(measured.perf)]
        constraints = self._constraints(measured.perf)
        figures = {
            "tolerances": dict(self.tolerances),
            "limits": {one.figure: one.limit(self.tolerances) for one in _judged(parity)},
            "constraints": dict(self.constraints),
            "concurrency_within_constraints": [
                point["concurrency"] for point in measured.perf if not self._misses(point)
            ],
        }
        failed = [*wrong, *constraints.get(FAILED, ())]
        if failed:
            return Verdict(FAILED, tuple(failed), figures)
        unsure = [*self._controls(parity), *constraints.get(INCONCLUSIVE, ())]
        return Verdict(INCONCLUSIVE if unsure else PASSED, tuple(unsure), figures)

    def _out_of_tolerance(self, parity: Mapping[str, Json]) -> Iterable[str]:
        for way, seen in parity["ways"].items():
            if not seen["failures"]:
                for criterion in _judged(parity):
                    if not criterion.holds(seen["figures"], self.tolerances):
                        yield self._describe(criterion, way, seen)

    def _lost_neighbours(self, parity: Mapping[str, Json]) -> Iterable[str]:
        if NEIGHBOURS not in self.tolerances:
            return
        limit = self.tolerances[NEIGHBOURS]
        for way, seen in parity["ways"].items():
            kept = seen["figures"].get(NEIGHBOURS, 0.0)
            if not seen["failures"] and not kept >= limit:
                yield f"{NEIGHBOURS} {_number(kept)} is below {_number(limit)}, asked {way}"

    def _describe(self, criterion: Criterion, way: str, seen: Mapping[str, Json]) -> str:
        value, worst = seen["figures"][criterion.figure], seen["worst"][criterion.figure]
        relation = "below" if criterion.at_least else "above"
        limit = criterion.limit(self.tolerances)
        return (
            f"{criterion.figure} {_number(value)} is {relation} {_number(limit)}, asked {way}; "
            f"worst is sample {worst['sample'] + 1}, “{worst['text']}”: {_number(worst['value'])}"
        )

    def _controls(self, parity: Mapping[str, Json]) -> Iterable[str]:
        from builder.verify.controls import SHUFFLED as shuffled  # noqa: N811 - a name in a function

        controls = parity["controls"]
        for name, control in controls.items():
            if not control["inapplicable"]:
                yield from self._control(name, control, parity)
        others = {name: control for name, control in controls.items() if name != shuffled}
        if others and all(control["inapplicable"] for control in others.values()):
            yield f"no negative control of the reference changes any answer ({', '.join(others)})"

    def _control(self, name: str, control: Mapping[str, Json], parity: Mapping[str, Json]) -> Iterable[str]:
        """Why a control was not refused, with the ways of asking in which it was not."""
        from builder.verify.controls import SHUFFLED as shuffled  # noqa: N811 - a name in a function

        criteria = _judged(parity)
        kept = {way: self._kept(criteria, _figures(control, way)) for way in parity["ways"]}
        if name == shuffled:
            for one in criteria:
                blind = [way for way in kept if one in kept[way]]
                if blind and one.derive is None and one.figure in parity.get("telling", (one.figure,)):
                    yield _blind(one, blind)
        elif within := [way for way in kept if len(kept[way]) == len(criteria)]:
            yield (
                f"the negative control {name} is within tolerance too, asked {', '.join(within)}: "
                "that mistake would not be noticed"
            )

    def _kept(self, criteria: Iterable[Criterion], figures: Mapping[str, float]) -> list[Criterion]:
        return [one for one in criteria if one.holds(figures, self.tolerances)]

    def _constraints(self, perf: Iterable[Mapping[str, Json]]) -> dict[str, list[str]]:
        if not self.constraints:
            return {}
        points = list(perf)
        stable = [point for point in points if point["status"] == "stable"]
        if not stable:
            seen = f"none of {len(points)} measurements is stable" if points else "nothing was measured"
            return {INCONCLUSIVE: [f"there are constraints on speed, but {seen}"]}
        misses = {point["concurrency"]: self._misses(point) for point in stable}
        if not all(misses.values()):
            return {}
        told = "; ".join(f"concurrency {level}: {', '.join(missed)}" for level, missed in misses.items())
        return {FAILED: [f"no measured concurrency meets all constraints: {told}"]}

    def _misses(self, point: Mapping[str, Json]) -> list[str]:
        """Why a point does not meet the constraints; empty where it does."""
        if point["status"] != "stable":
            return [str(point["status"])]
        missed = []
        for key, limit in self.constraints.items():
            value = point["throughput_per_second" if key == "min_throughput" else key]
            if value < limit if key == "min_throughput" else value > limit:
                missed.append(f"{key} {limit:g}, measured {value:.1f}")
        return missed


def _failures(parity: Mapping[str, Json]) -> Iterable[str]:
    for way, seen in parity["ways"].items():
        for failure in seen["failures"]:
            place = f" (sample {failure['sample'] + 1}, “{failure['text']}”)" if failure["sample"] is not None else ""
            yield f"{failure['name']}, asked {way}{place}: {failure['what']}"


def _invalid(parity: Mapping[str, Json]) -> Iterable[str]:
    invalid = parity["invalid_utf8"]
    if invalid["errors"] < invalid["requests"]:
        answered, what = invalid["requests"] - invalid["errors"], invalid.get("what", "text is not UTF-8")
        yield f"{answered} requests whose {what} were answered, not refused"


def _refused(perf: Iterable[Mapping[str, Json]]) -> Iterable[str]:
    for point in perf:
        if point["status"] == "failed":
            yield f"under load, concurrency {point['concurrency']}: {' '.join(point['detail'].split())}"


def _criteria() -> Mapping[str, tuple[Criterion, ...]]:
    from builder.parity.compare import CRITERIA

    return CRITERIA


def _judged(parity: Mapping[str, Json]) -> tuple[Criterion, ...]:
    """The criteria of a measurement: a pipeline without texts, or without numbers, says which figures it has."""
    criteria = _criteria()[parity["metric"]]
    return tuple(one for one in criteria if "judged" not in parity or one.figure in parity["judged"])


def _figures(control: Mapping[str, Json], way: str) -> Mapping[str, float]:
    # Those of all ways stand in for a way that is not told of: they are the closest to passing.
    figures: Mapping[str, float] = control.get("ways", {}).get(way, control)["figures"]
    return figures


def _blind(criterion: Criterion, ways: Iterable[str]) -> str:
    from builder.verify.controls import SHUFFLED

    return (
        f"the negative control {SHUFFLED} is within tolerance in {criterion.figure}, asked {', '.join(ways)}: "
        "the samples' answers cannot be told apart by it; give samples that the model answers differently"
    )


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 0.1 else f"{value:.9g}"

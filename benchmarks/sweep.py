"""The guided search against every setting, and against Model Analyzer.

`sweep`: all-MiniLM-L6-v2 on the embedded server, short texts, a grid of settings with a bound on p99. Every point goes
into a record below tritonsmith's cache as soon as it is measured: a run that was ended goes on where it was. When all
is done the record is removed. `sweep-peer` is in :mod:`benchmarks.sweep_peer`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks import machine
from benchmarks.paths import RECIPE, scratch
from benchmarks.progress import say
from benchmarks.report import Comparison, Goal, Result
from benchmarks.statistics import interleave
from builder.errors import MachineError
from builder.settings import settings
from builder.sweep import space, statistics
from builder.sweep.bench import Bench
from builder.sweep.lengths import Lengths
from builder.sweep.load import Load
from builder.sweep.objective import Constraints, Objective, together
from builder.sweep.profiles import between
from builder.sweep.record import Record, Recorded
from builder.sweep.search import search
from builder.sweep.search.task import Task
from builder.sweep.subject import Options as SubjectOptions
from builder.sweep.subject import open_subject
from builder.sweep.wanted import facts_of
from builder.tools import toolchain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.options import Options
    from builder.sweep.point import Point
    from builder.sweep.search.task import Found
    from builder.sweep.setting import Setting, Value
    from builder.sweep.subject import Subject

Candidate: TypeAlias = "tuple[Setting, Load]"
ABOUT = (
    "all-MiniLM-L6-v2 with its tokenizer on the embedded tritonserver, texts of 4 to 12 tokens padded to 16, "
    "closed loop. Sought is the greatest throughput with a bound on p99, over instances, threads, batching, batch "
    "sizes, queue delays, preferred sizes and concurrency. *Exhaustive* takes every setting and finds the best "
    "concurrency of each by bisection; *guided* and *random* had the same bench, on the same server, *random* as much "
    "time as *guided*. The winners of all were then measured again, in turn: the throughputs are those. Times are the "
    "sum of all measurements with loading, and the search's own computing."
)
GOAL_QUALITY, GOAL_TIME = Goal("ratio", 0.97), Goal("ratio", 6.67)
P99_MS = 30.0
KNOBS: dict[str, list[Any]] = {
    space.COUNT: [1, 2, 3],
    space.THREADS: [1, 2],
    space.BATCHING: [False, True],
    space.MAX_BATCH_SIZE: [4, 8, 16, 32],
    space.DELAY: [0, 200, 1000, 4000],
    space.PREFERRED: [None, [4]],
}
_FEW: dict[str, list[Any]] = {
    space.COUNT: [1, 2],
    space.THREADS: [1, 2],
    space.BATCHING: [False, True],
    space.MAX_BATCH_SIZE: [8],
    space.DELAY: [0, 2000],
}
_LOADS = tuple(Load(concurrency=each) for each in between((1, 32)))
_SECONDS = 1.5
_SEEDS, _ROUNDS = 5, 5
_OVERRIDES = ("inputs.padding=buckets", "inputs.buckets=[16, 32, 64, 128, 256]")
_EVERYTHING = "exhaustive"


@dataclass(frozen=True, slots=True)
class Run:
    """One search: what it found and what it cost, measurements and thinking."""

    name: str
    found: Found
    seconds: float

    @property
    def candidate(self) -> Candidate | None:
        """The winner's setting and load."""
        best = self.found.winner
        return (best.point.setting, best.point.load) if best else None


def run(name: str, options: Options) -> Result:
    """Searches, and measures the winners again.

    Raises:
        MachineError: the exhaustive search found nothing: the machine is too busy.
    """
    if name == "sweep-peer":
        from benchmarks import sweep_peer

        return sweep_peer.run(name, options)
    facts = machine.describe()
    seeds, rounds = (1, 1) if options.quick else (_SEEDS, options.rounds or _ROUNDS)
    path = settings().cache / "benchmarks" / ("sweep-quick.sqlite" if options.quick else "sweep.sqlite")
    with scratch() as folder, Record.open(path) as record:
        lengths = Lengths("uniform", low=4, high=12)
        subject = open_subject(RECIPE, SubjectOptions(overrides=_OVERRIDES, lengths=lengths, out=folder))
        with Bench(subject) as bench:
            base = task(subject, _FEW if options.quick else KNOBS, _LOADS, Constraints(p99_ms=P99_MS))
            say(f"{len(base.settings)} settings, {len(base.loads)} loads")
            searcher = Searcher(subject, bench, record)
            runs = _searches(searcher, base, seeds)
            again = remeasured(bench, [one.candidate for one in runs if one.candidate], rounds)
    for file in path.parent.glob(path.name + "*"):
        file.unlink()
    facts["versions"] |= {"tritonserver": toolchain.SERVER_VERSION}
    rows = [row for one in runs[1:] for row in _rows(one, runs[0], again)]
    said = _said(base, runs, again, rounds)
    return Result(name, "Guided search", ABOUT, tuple(rows), facts, said, tuple(map(_raw, runs)))


def task(subject: Subject, knobs: dict[str, list[Value]], loads: Sequence[Load], constraints: Constraints) -> Task:
    """Throughput, within constraints."""
    facts = facts_of(subject, 1)
    settings_ = space.parse(knobs, facts).settings()
    return Task(settings_, tuple(loads), Objective.parse("throughput"), constraints, facts, _SECONDS)


@dataclass(frozen=True, slots=True)
class Searcher:
    """Runs searches on one bench; each has points of its own in the record."""

    subject: Subject
    bench: Bench
    record: Record

    def search(self, kind: str, task: Task) -> Run:
        """One search, told of as it goes."""
        name = kind if kind == _EVERYTHING else f"{kind}, seed {task.seed}"
        determines = {"subject": self.subject.digest, "rules": statistics.RULES, "search": name}
        recorded = Recorded(self.record, self.bench.measure, lambda _: determines)
        replayed = [0.0, 0.0]  # seconds of measuring, as the points say and as the clock says
        began = time.monotonic()

        def measure(setting: Setting, load: Load, seconds: float) -> Point:
            before = time.monotonic()
            point = recorded(setting, load, seconds)
            replayed[0] += point.seconds
            replayed[1] += time.monotonic() - before
            return point

        def told(point: Point, best: Point | None, left: float | None, said: str, /) -> None:
            shown = f"{best.figure('throughput'):.1f}/s" if best else "none"
            rest = f", about {left:.0f} s left" if left is not None else ""
            here = f"{point.figure('throughput') or 0:.1f}/s p99 {point.figure('p99_ms') or 0:.1f} ms"
            say(
                f"{name}: {point.setting.label}, {point.load.label}: {point.status} {here}; best {shown}{rest} ({said})"
            )

        found = search(kind, task, measure, told)
        seconds = replayed[0] + time.monotonic() - began - replayed[1]
        say(f"{name}: {len(found.points)} points, {seconds:.0f} s ({recorded.found} from the record): {found.why}")
        return Run(name, found, seconds)


def _searches(searcher: Searcher, base: Task, seeds: int) -> list[Run]:
    """The exhaustive one first; then the others, in turn."""
    runs = [searcher.search(_EVERYTHING, base)]
    if runs[0].candidate is None:
        raise MachineError(
            f"no setting was stable with p99 below {P99_MS:g} ms", mend="end what else runs on this machine"
        )
    for seed in range(seeds):
        guided = searcher.search("guided", replace(base, seed=seed))
        runs += [guided, searcher.search("random", replace(base, seed=seed, budget_seconds=guided.seconds))]
    return runs


def remeasured(bench: Bench, candidates: Sequence[Candidate], rounds: int) -> dict[Candidate, list[Point]]:
    """Each candidate once a round, longer than usual, in turn. Rounds in which one was not stable count for none."""
    unique = list(dict.fromkeys(candidates))
    points: dict[Candidate, list[Point]] = {one: [] for one in unique}
    for number, (setting, load) in interleave(unique, rounds):
        point = bench.measure(setting, load, 2 * _SECONDS)
        points[setting, load].append(point)
        shown = f"{point.figure('throughput') or 0:.1f}/s, p99 {point.figure('p99_ms') or 0:.1f} ms"
        say(f"again, round {number + 1} of {rounds}: {setting.label}, {load.label}: {point.status} {shown}")
    return points


def figures(again: dict[Candidate, list[Point]], sides: Sequence[Candidate], name: str) -> list[tuple[float, ...]]:
    """A figure of both sides, in the rounds in which both were stable."""
    rounds = list(zip(*(again[side] for side in sides), strict=True))
    stable = [points for points in rounds if all(point.status == "stable" for point in points)]
    return [tuple(float(points[place].figure(name) or 0) for points in stable) for place in range(len(sides))]


def _rows(one: Run, everything: Run, again: dict[Candidate, list[Point]]) -> Iterator[Comparison]:
    guided = one.name.startswith("guided")
    if one.candidate and everything.candidate:
        ours, peer = figures(again, (one.candidate, everything.candidate), "throughput")
        dropped = len(again[one.candidate]) - len(ours)
        if ours:
            yield Comparison(
                f"{one.name}: throughput of the winner", "inferences/s", _EVERYTHING, ours, peer,
                larger_is_better=True, goal=GOAL_QUALITY if guided else None, dropped_rounds=dropped,
            )  # fmt: skip
            tails = figures(again, (one.candidate, everything.candidate), "p99_ms")
            yield Comparison(f"{one.name}: p99 of the winner", "ms", _EVERYTHING, *tails, dropped_rounds=dropped)
    goal = GOAL_TIME if guided else None
    yield Comparison(f"{one.name}: time", "s", _EVERYTHING, (one.seconds,), (everything.seconds,), goal=goal)


def _said(base: Task, runs: Sequence[Run], again: dict[Candidate, list[Point]], rounds: int) -> dict[str, Any]:
    said: dict[str, Any] = {
        "settings": len(base.settings),
        "concurrencies": ", ".join(str(load.concurrency) for load in base.loads),
        "p99 at most": f"{P99_MS:g} ms",
        "seconds of a measurement": _SECONDS,
        "rounds": rounds,
    }
    for one in runs:
        said[one.name] = f"{len(one.found.points)} measurements, {one.seconds:.0f} s, winner {_winner(one, again)}"
    return said


def _winner(one: Run, again: dict[Candidate, list[Point]]) -> str:
    if one.candidate is None:
        return "none"
    setting, load = one.candidate
    point = next(iter(together(again[setting, load])), None)
    tails = [tail for each in again[setting, load] if (tail := each.figure("p99_ms")) is not None]
    rate = point.figure("throughput") if point else None
    shown = f"{rate:.1f}/s, p99 {median(tails):.1f} ms" if rate and tails else "not stable"
    return f"{setting.label}, {load.label} ({shown})"


def _raw(one: Run) -> dict[str, Any]:
    """Every point of a search, in the order of measuring; of its windows nothing."""
    kept = ("status", "reason", "seconds", "requests", "client_share")
    points = [
        {
            "setting": point.setting.as_json(),
            "concurrency": point.load.concurrency,
            **{name: getattr(point, name) for name in kept},
            **{name: point.figure(name) for name in ("throughput", "p50_ms", "p99_ms")},
        }
        for point in one.found.points
    ]
    return {"search": one.name, "seconds": one.seconds, "why": one.found.why, "points": points}

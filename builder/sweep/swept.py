"""What a sweep found out: ``results.json``, of which the report is made, and which a later sweep is held against."""

from __future__ import annotations

import typing
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal

from builder.core import codec
from builder.sweep import point as points
from builder.sweep.load import Load  # noqa: TC001 - the codec reads the annotations
from builder.sweep.objective import cost_per_million
from builder.sweep.point import Interval, Point  # noqa: TC001
from builder.sweep.setting import Setting, Value
from builder.tools.hardware import Hardware  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.artifacts import Json

SCHEMA_VERSION: Final = 2
"""Of results.json: another number for each key that comes, goes or means something else."""


@dataclass(frozen=True, slots=True)
class Step:
    """A model that is served, alone or as a part of an ensemble.

    Args:
        name: what its knobs are called by, before the colon; empty for the main model, whose knobs have no prefix.
        model: its name in the repository: what the step times of a point go by.
        instances: how many of it run where a setting does not say.
        threads: how many each of them computes with where a setting does not say.
    """

    name: str
    model: str
    instances: int = 1
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Served:
    """What was measured.

    Args:
        name: the model that clients call.
        kind: what the user gave.
        given: as the user wrote it: never an absolute path of this machine.
        digest: of all that determines its figures but setting and load.
        target: of the recipe, where there is one.
        steps: in the order in which a request passes them.
    """

    name: str
    kind: Literal["recipe", "archive", "repository"]
    given: str
    digest: str
    target: str | None = None
    steps: tuple[Step, ...] = ()

    def step_label(self, model: str) -> str:
        """What a model is called in the report: without the name of the whole before it."""
        return model.removeprefix(f"{self.name}-")


@dataclass(frozen=True, slots=True)
class Aim:
    """What is best.

    Args:
        terms: figure → weight; ``cost`` and every figure but throughput is to be small.
        price_per_hour: of the machine; None: costs are not told.
    """

    terms: dict[str, float]
    price_per_hour: float | None = None

    @property
    def figure(self) -> str | None:
        """The only figure that it is about; None: it is about several."""
        return next(iter(self.terms)) if len(self.terms) == 1 else None


@dataclass(frozen=True, slots=True)
class Tried:
    """A point, and what the search said of it.

    Args:
        point: what was measured.
        verdict: whether it keeps to the constraints; *unsure* where its interval reaches beyond one.
        score: of the objective, larger is better; None where it has none, as for a point that cannot be believed.
        why: why the search measured it: ``calibration``, ``may beat the best by 4 %``.
        quantiles_ms: latency at 0, 1, … 100 % of its requests; empty where the single latencies are gone.
    """

    point: Point
    verdict: Literal["met", "unsure", "missed"]
    score: float | None = None
    why: str = ""
    quantiles_ms: tuple[float, ...] = ()

    @classmethod
    def of(
        cls, point: Point, verdict: Literal["met", "unsure", "missed"], score: float | None = None, why: str = ""
    ) -> Tried:
        """With the quantiles of the latencies that the point's windows hold."""
        latencies = [one for window in point.windows for one in window.latencies_ms]
        return cls(point, verdict, score, why, quantiles(latencies))

    @property
    def what(self) -> tuple[Setting, Load]:
        """What was measured: two with the same one are measurements of the same."""
        return self.point.setting, self.point.load


@dataclass(frozen=True, slots=True)
class Verdict:
    """A figure of the winner held against the baseline's."""

    figure: str  # throughput, p99_ms
    verdict: Literal["better", "worse", "same", "unstable"]
    before: Interval | None = None
    after: Interval | None = None


@dataclass(frozen=True, slots=True)
class Swept:
    """The result of a sweep.

    Args:
        served: what was measured.
        hardware: on which machine.
        versions: of what had a hand in it: ``tritonserver``, ``perf_analyzer``, ``tritonsmith``.
        method: how it was measured, for people: label → sentence, in the order of the report.
        knobs: what was varied, and the values of each, in the order of the search.
        aim: what is best.
        constraints: bounds by figure; ``min_throughput`` is a lower one, all others are upper ones.
        tried: all measurements, in the order in which they were made. A setting may be measured more than once.
        ranking: the stable ones, best first, one for each setting and load (several measurements pooled): those that
            met the constraints, then those of which that is unsure, then those that missed one.
        as_it_is: the subject without changes, under the load of the winner; None: not measured.
        verdicts: against a baseline, where there is one.
        ended: why the search ended, for people.
        candidates: how many settings there were to choose from.
        seconds: wall time of the whole sweep.
        at: when it ended, ISO 8601, UTC.
    """

    served: Served
    hardware: Hardware
    versions: dict[str, str]
    method: dict[str, str]
    knobs: dict[str, tuple[Value, ...]]
    aim: Aim
    constraints: dict[str, float]
    tried: tuple[Tried, ...]
    ranking: tuple[Tried, ...] = ()
    as_it_is: Tried | None = None
    verdicts: tuple[Verdict, ...] = ()
    ended: str = ""
    candidates: int = 0
    seconds: float = 0.0
    at: str = ""

    @property
    def winner(self) -> Tried | None:
        """The best point; None where none is stable and surely keeps to the constraints."""
        return self.ranking[0] if self.ranking and self.ranking[0].verdict == "met" else None

    @property
    def outcomes(self) -> tuple[Tried, ...]:
        """One for each setting and load: the ranking, and then what was never stable, as it was measured last."""
        ranked = {one.what for one in self.ranking}
        others = {one.what: one for one in self.tried if one.what not in ranked}
        return (*self.ranking, *others.values())

    def varies(self, setting: Setting) -> Setting:
        """The part of a setting that tells it from others of this sweep: knobs that have more than one value."""
        return Setting(tuple(pair for pair in setting.values if len(self.knobs.get(pair[0], ())) > 1))

    def cost(self, point: Point) -> float | None:
        """Price of a million inferences; None where no price is known, or nothing was measured."""
        if self.aim.price_per_hour is None or point.throughput is None or point.throughput.value <= 0:
            return None
        return cost_per_million(self.aim.price_per_hour, point.throughput.value)

    def as_json(self) -> dict[str, Json]:
        """The content of results.json."""
        own = {"tried", "ranking", "as_it_is"}
        plain = {name: codec.to_json(getattr(self, name)) for name in _names(Swept) if name not in own}
        return {
            "schema_version": SCHEMA_VERSION,
            **plain,
            "as_it_is": self.as_it_is and _tried_json(self.as_it_is),
            "ranking": [_tried_json(one) for one in self.ranking],
            "tried": [_tried_json(one) for one in self.tried],
        }


def from_json(data: Json) -> Swept:
    """The result that :meth:`Swept.as_json` wrote.

    Raises:
        CodecError: it is no such result, or another version's.
    """
    if not isinstance(data, dict) or data.get("schema_version") != SCHEMA_VERSION:
        found = data.get("schema_version") if isinstance(data, dict) else None
        raise codec.CodecError(f"schema_version is {found!r}; this tritonsmith reads {SCHEMA_VERSION}")
    kinds = typing.get_type_hints(Swept)
    own: dict[str, Callable[[Any], Any]] = {
        "tried": _tried,
        "ranking": _tried,
        "as_it_is": lambda one: None if one is None else _one_tried(**one),
        "knobs": _knobs,
    }
    try:
        values: dict[str, Any] = {
            name: own[name](value) if name in own else codec.from_json(kinds[name], value)
            for name, value in data.items()
            if name != "schema_version"
        }
        return Swept(**values)
    except (TypeError, KeyError, AttributeError) as error:
        raise codec.CodecError(f"no result of a sweep: {error!r}") from error


def quantiles(values: Sequence[float]) -> tuple[float, ...]:
    """The values at 0, 1, … 100 % of them: between two neighbours, in proportion; to 3 decimals. Empty for none."""
    ordered = sorted(values)
    if not ordered:
        return ()
    last = len(ordered) - 1
    places = [divmod(last * percent, 100) for percent in range(101)]
    return tuple(
        round(ordered[at] + (ordered[min(at + 1, last)] - ordered[at]) * hundredths / 100, 3)
        for at, hundredths in places
    )


def _names(kind: type[Swept | Tried]) -> list[str]:
    return [one.name for one in fields(kind)]


def _tried_json(tried: Tried) -> dict[str, Json]:
    plain = {name: codec.to_json(getattr(tried, name)) for name in _names(Tried) if name != "point"}
    return {"point": tried.point.as_json(), **plain}


def _tried(data: list[Json]) -> tuple[Tried, ...]:
    return tuple(_one_tried(**one) for one in data)


def _one_tried(point: Json, **plain: Json) -> Tried:
    kinds = typing.get_type_hints(Tried)
    rest: dict[str, Any] = {name: codec.from_json(kinds[name], value) for name, value in plain.items()}
    return Tried(points.from_json(point), **rest)


def _knobs(data: dict[str, Json]) -> dict[str, tuple[Value, ...]]:
    return {
        knob: tuple(tuple(one) if isinstance(one, list) else one for one in values) for knob, values in data.items()
    }

"""The calibrated model: each parameter comes back from a measurement that was made with it."""

import math

import pytest

from builder.sweep.load import Load
from builder.sweep.point import Interval, Point, StepTimes
from builder.sweep.search.model import Calibrated, Reading, spread_of
from builder.sweep.setting import Setting
from builder.sweep.space import BATCHING, COUNT, DELAY, MAX_BATCH_SIZE, PREFERRED, THREADS, Facts

FACTS = Facts(cores=4, max_batch_sizes={"": 32}, before=("tokenize",))
TRUE = Calibrated(FACTS, {1: 12.0, 4: 4.0}, share=0.6, crowd={1: 1.3}, fight=1.8, overhead_ms=1.2, front_ms=0.5)


def point(model: Calibrated, concurrency: int, **knobs: object) -> Point:
    """What the model says, as if it had been measured."""
    names = {"count": COUNT, "threads": THREADS, "largest": MAX_BATCH_SIZE}
    setting = Setting.of({names[name]: value for name, value in knobs.items()} | {DELAY: 0})  # type: ignore[misc]
    load = Load(concurrency=concurrency)
    outcome = model.predict(setting, load)
    figures = {name: Interval(*[outcome.figure(name)] * 3) for name in ("throughput", "mean_ms", "p50_ms", "p99_ms")}
    steps = {"tokenize": StepTimes(1, 1, 0.0, 0.0, 0.5, 0.0), "model": StepTimes(1, 1, 0.0, 0.0, 9.0, 0.0)}
    return Point(setting, load, "stable", steps=steps, **figures)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("purpose", "off", "knobs", "figure"),
    [
        ("alone", {"alone_ms": {}}, {"count": 1, "threads": 1, "largest": 1}, "alone_ms"),
        ("share", {"share": 0.95}, {"count": 1, "threads": 4, "largest": 32}, "share"),
        ("crowd", {"crowd": {}}, {"count": 4, "threads": 1, "largest": 1}, "crowd"),
        ("fight", {"fight": 1.0}, {"count": 4, "threads": 4, "largest": 1}, "fight"),
    ],
)
def test_a_parameter_comes_back(purpose: str, off: dict, knobs: dict, figure: str) -> None:
    from dataclasses import replace

    measured = point(TRUE, 16, **knobs)
    fitted = getattr(replace(TRUE, **off).fitted(purpose, measured), figure)
    true = getattr(TRUE, figure)
    pairs = [(fitted, true)] if isinstance(true, float) else [(fitted[1], true[1])]
    for one, other in pairs:
        assert one == pytest.approx(other, rel=0.05)


def test_what_is_outside_of_the_model_is_told_from_what_is_before_it() -> None:
    from dataclasses import replace

    measured = point(TRUE, 1, count=1, threads=4, largest=1)
    fitted = replace(TRUE, overhead_ms=5.0, front_ms=0.0).fitted("overhead", measured)
    assert fitted.front_ms == pytest.approx(0.5)
    assert fitted.overhead_ms == pytest.approx(1.2, abs=0.1)


def test_between_threads_in_logarithms() -> None:
    assert TRUE.alone(2) == pytest.approx(math.sqrt(12.0 * 4.0))
    assert TRUE.alone(8) < TRUE.alone(4)
    assert Calibrated(FACTS, {2: 7.0}).alone(4) == 7.0


def test_threads_that_share_cores_lose() -> None:
    assert TRUE.slower(4, 1) == 1.0
    assert TRUE.slower(1, 4) == pytest.approx(1.3)
    assert TRUE.slower(4, 2) > 2.0


def test_a_reading_takes_what_the_setting_leaves_out_from_the_subject() -> None:
    facts = Facts(cores=4, own={COUNT: 3, MAX_BATCH_SIZE: 16, DELAY: 500})
    reading = Reading.of(Setting.of({f"tokenize:{COUNT}": 2}), facts)
    assert (reading.instances, reading.threads, reading.before) == (3, 4, 2)
    assert (reading.scheduler.largest, reading.scheduler.delay_ms) == (16, 0.5)
    alone = Reading.of(Setting.of({BATCHING: False, PREFERRED: (4,), THREADS: 0}), facts)
    assert (alone.scheduler.largest, alone.scheduler.delay_ms, alone.scheduler.preferred) == (1, 0.0, ())


def test_the_spread_of_service_times() -> None:
    marks = {"p50_ms": 10.0, "p90_ms": 12.0, "p95_ms": 15.0, "p99_ms": 30.0}
    measured = Point(
        Setting(),
        Load(concurrency=1),
        "stable",
        **{name: Interval(value, value, value) for name, value in marks.items()},
    )  # type: ignore[arg-type]
    spread = spread_of(measured)
    assert sum(spread) / len(spread) == pytest.approx(1.0)
    assert list(spread) == sorted(spread)
    assert spread[-1] > 1.5
    assert spread_of(Point(Setting(), Load(concurrency=1), "stable")) == (1.0,)

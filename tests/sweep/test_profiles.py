"""Which levels a profile has, and where it stops."""

import pytest

from builder.errors import UserError
from builder.sweep.load import Load
from builder.sweep.point import Interval, Point
from builder.sweep.profiles import between, open_loop, parse
from builder.sweep.setting import Setting


def measure(setting, load, seconds):
    """A server that takes 10 ms for each request in flight, and refuses nothing."""
    latency = 10.0 * (load.concurrency or load.rate / 10)
    return Point(setting, load, "stable", p95_ms=Interval(latency, latency, latency), seconds=seconds)


def levels(points):
    return [(point.load.concurrency or point.load.rate, point.seconds) for point in points]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("closed:1,4,16", [(1, 1.5), (4, 1.5), (16, 1.5)]),
        ("open:50,100.5", [(50, 1.5), (100.5, 1.5)]),
        # One user more each second, for five seconds: five plateaus.
        ("ramp:initial=2,spawn=60,duration=5", [(2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]),
        # One each four seconds.
        ("ramp:initial=1,spawn=15,duration=12", [(1, 4), (2, 4), (3, 4)]),
        # Five a second: those of a second come at once.
        ("ramp:initial=1,spawn=300,duration=3", [(1, 1), (6, 1), (11, 1)]),
        ("ramp:initial=3,spawn=0,duration=2", [(3, 2)]),
    ],
)
def test_levels_come_in_order(text, expected):
    told = []
    points = parse(text).points(measure, Setting(), told=told.append)
    assert levels(points) == expected
    assert tuple(told) == points


def test_batch_protocol_and_arrivals_are_those_of_the_load():
    like = Load(concurrency=1, batch=4, protocol="http", arrivals="constant")
    (point,) = parse("open:5", like).points(measure, Setting())
    assert point.load == Load(rate=5, batch=4, protocol="http", arrivals="constant")


def test_it_stops_at_the_first_level_above_the_threshold():
    assert levels(parse("closed:1,2,4,8@p95_ms<25").points(measure, Setting())) == [(1, 1.5), (2, 1.5), (4, 1.5)]
    assert len(parse("closed:1,2,4,8@p95_ms<80").points(measure, Setting())) == 4


def test_a_setting_that_fails_is_not_tried_any_further():
    points = parse("closed:1,2").points(lambda setting, load, _: Point(setting, load, "refused"), Setting())
    assert len(points) == 1


@pytest.mark.parametrize(
    "text",
    [
        *("", "closed", "closed:", "closed:0", "closed:x", "open:-1", "waves:1", "ramp:initial=1", "closed:1@p95_ms"),
        *("ramp:initial=0,spawn=1,duration=1", "ramp:initial=1,spawn=1,duration=1,more=1", "closed:1@throughput<5"),
        *("closed:1@p95_ms<x", "closed:1@p95_ms<-1"),
        *("open:inf", "open:nan", "closed:1@p95_ms<inf", "closed:1@p95_ms<nan", "ramp:initial=1,spawn=inf,duration=1"),
        *("ramp:initial=1,spawn=nan,duration=1", "ramp:initial=1,spawn=1,duration=inf"),
        "ramp:initial=1,spawn=1,duration=nan",
    ],
)
def test_what_is_no_profile_is_refused(text):
    with pytest.raises(UserError):
        parse(text)


@pytest.mark.parametrize("rate", [float("inf"), float("nan"), 0.0])
def test_a_rate_of_a_recipe_is_a_number(rate):
    with pytest.raises(UserError, match="requests per second; it must be above 0"):
        open_loop([5.0, rate], Load(concurrency=1))


@pytest.mark.parametrize(
    ("said", "tried"),
    [
        ([1, 4, 16], (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)),
        ([2], (2,)),
        ([1, 2, 3], (1, 2, 3)),
        ([3, 64], (3, 4, 5, 6, 8, 11, 14, 18, 23, 30, 38, 50, 64)),
    ],
)
def test_between_concurrencies_there_are_steps(said: list[int], tried: tuple[int, ...]) -> None:
    found = between(said)
    assert set(said) <= set(found)
    assert found == tried

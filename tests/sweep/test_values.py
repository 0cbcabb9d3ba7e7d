"""Settings, loads and points: what they are called, and that they come back from JSON."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import InternalError
from builder.sweep import load as loads
from builder.sweep import point as points
from builder.sweep import setting as settings
from builder.sweep.load import Load
from builder.sweep.point import Interval, Point, StepTimes, Window
from builder.sweep.setting import Setting


def test_a_setting_is_its_values_in_any_order() -> None:
    one = Setting.of({"max_batch_size": 8, "instance_group.count": 2})
    assert one == Setting.of({"instance_group.count": 2, "max_batch_size": 8})
    assert one.digest != one.with_({"max_batch_size": 4}).digest


def test_a_label_tells_knobs_of_other_steps_apart() -> None:
    said = Setting.of({"@precision": "int8", "instance_group.count": 2, "tokenize:instance_group.count": 1}).label
    assert said == "precision int8 · count 2 · tokenize:count 1"
    assert Setting().label == "as it is"


@pytest.mark.parametrize("values", [{}, {"a.b": (1, 2), "c": None, "d": True, "e": "KIND_CPU"}])
def test_settings_come_back(values: dict[str, settings.Value]) -> None:
    assert settings.from_json(Setting.of(values).as_json()) == Setting.of(values)


LOADS = st.builds(
    lambda paced, **said: Load(**paced, **said),
    st.one_of(
        st.builds(dict, concurrency=st.integers(1, 1000)), st.builds(dict, rate=st.floats(0.1, 1e4, allow_nan=False))
    ),
    arrivals=st.sampled_from(["poisson", "constant"]),
    batch=st.integers(1, 64),
    protocol=st.sampled_from(["grpc", "http"]),
    shared_memory=st.booleans(),
)


@given(LOADS)
def test_loads_come_back(load: Load) -> None:
    again = loads.from_json(load.as_json())
    assert again == load
    assert hash(again) == hash(load)
    assert again.as_json() == load.as_json()


def test_of_a_closed_loop_arrivals_say_nothing() -> None:
    assert Load(concurrency=4, arrivals="constant") == Load(concurrency=4)
    assert len({Load(concurrency=4, arrivals="constant"), Load(concurrency=4)}) == 1
    assert Load(rate=4, arrivals="constant") != Load(rate=4)
    assert Load(concurrency=4) != Load(concurrency=4, batch=2)
    assert Load(concurrency=4) != "concurrency 4"


def test_a_load_is_closed_or_open() -> None:
    with pytest.raises(InternalError, match="concurrency or a rate"):
        Load()
    with pytest.raises(InternalError, match="concurrency or a rate"):
        Load(concurrency=1, rate=1.0)


def test_a_points_figures_have_names() -> None:
    point = Point(Setting(), Load(concurrency=1), "stable", p99_ms=Interval(7.0, 6.0, 8.0), requests=3, errors=1)
    assert [point.figure(name) for name in ("p99_ms", "error_rate", "throughput")] == [7.0, 0.25, None]


def test_single_latencies_stay_out_of_json() -> None:
    window = Window(1.0, 2, 2.0, 5.0, (4.0, 6.0))
    written = Point(Setting(), Load(concurrency=1), "stable", windows=(window,)).as_json()
    assert written["windows"] == [{**written["windows"][0], "latencies_ms": []}]


def test_a_point_without_counts_of_the_cache_can_be_read() -> None:
    times = StepTimes(3, 2, 0.1, 0.2, 0.3, 0.4)
    written = Point(Setting(), Load(concurrency=1), "stable", steps={"m": times}).as_json()
    for name in ("cache_hits", "cache_misses"):
        written["steps"]["m"].pop(name)
    assert points.from_json(written).steps == {"m": times}

"""The result of a sweep: what it says of itself, and that it comes back from results.json."""

import json
from dataclasses import replace

import pytest

from builder.core.codec import CodecError
from builder.sweep import swept as results
from builder.sweep.point import Interval, Point, Window
from builder.sweep.setting import Setting
from builder.sweep.swept import Swept, Tried
from tests.sweep import points


@pytest.fixture(scope="module")
def swept() -> Swept:
    return points.swept()


def test_it_comes_back_from_json(swept: Swept) -> None:
    read = results.from_json(json.loads(json.dumps(swept.as_json(), allow_nan=False)))
    assert read.as_json() == swept.as_json()
    assert read.knobs == swept.knobs
    assert read.hardware == swept.hardware
    assert read.as_it_is is not None
    assert [one.point.setting for one in read.tried] == [one.point.setting for one in swept.tried]
    assert read.winner is not None
    assert read.winner.quantiles_ms


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema_version",), 1),
        (("served", "kind"), "zip"),
        (("tried", 0, "point", "status"), "fine"),
        (("tried", 0, "point", "load"), {}),
        (("tried", 0, "score"), "much"),
        (("constraints",), []),
        (("another",), 1),
    ],
)
def test_what_is_no_result_is_refused(swept: Swept, path: tuple[str | int, ...], value: object) -> None:
    data = json.loads(json.dumps(swept.as_json()))
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(CodecError):
        results.from_json(data)


def test_no_document_is_no_result() -> None:
    with pytest.raises(CodecError, match="schema_version is None"):
        results.from_json([])


def test_quantiles_are_of_all_windows() -> None:
    windows = (Window(1.0, 2, 2.0, 5.0, (30.0, 10.0)), Window(1.0, 1, 1.0, 5.0, (20.0,)))
    tried = Tried.of(replace(points.swept().tried[0].point, windows=windows), "met")
    assert [tried.quantiles_ms[percent] for percent in (0, 25, 50, 100)] == [10.0, 15.0, 20.0, 30.0]
    assert len(tried.quantiles_ms) == 101
    assert results.quantiles([]) == ()
    assert set(results.quantiles([4.0])) == {4.0}


def test_a_label_names_only_what_varies(swept: Swept) -> None:
    setting = Setting.of({"max_batch_size": 8, "instance_group.kind": "KIND_CPU"})
    fixed = replace(swept, knobs={"max_batch_size": (4, 8), "instance_group.kind": ("KIND_CPU",)})
    assert fixed.varies(setting).label == "max_batch_size 8"


def test_a_million_inferences_cost_what_the_machine_costs_meanwhile(swept: Swept) -> None:
    point = replace(swept.tried[0].point, throughput=Interval(100.0, 99.0, 101.0))
    priced = replace(swept, aim=replace(swept.aim, price_per_hour=0.36))
    assert priced.cost(point) == pytest.approx(1.0)
    assert priced.cost(replace(point, throughput=None)) is None
    assert replace(swept, aim=replace(swept.aim, price_per_hour=None)).cost(point) is None


def test_points_come_back_without_single_latencies() -> None:
    from builder.sweep import point as module

    point = points.swept().tried[0].point
    read = module.from_json(json.loads(json.dumps(point.as_json())))
    assert isinstance(read, Point)
    assert read == replace(point, windows=tuple(replace(window, latencies_ms=()) for window in point.windows))


def test_each_setting_under_a_load_has_one_outcome(swept: Swept) -> None:
    again = replace(swept, tried=(*swept.tried, *swept.tried[:20]))
    assert len(again.outcomes) == len({one.what for one in again.tried}) == len(swept.outcomes)
    assert again.outcomes[: len(again.ranking)] == again.ranking
    assert {one.point.status for one in again.outcomes[len(again.ranking) :]} == {
        "unstable", "failed", "saturated", "refused"
    }  # fmt: skip


def test_only_what_surely_met_the_constraints_wins(swept: Swept) -> None:
    assert swept.winner is swept.ranking[0]
    unsure = tuple(one for one in swept.ranking if one.verdict != "met")
    assert replace(swept, ranking=unsure).winner is None
    assert replace(swept, ranking=()).winner is None

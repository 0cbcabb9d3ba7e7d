"""Instances that a step would get: the rule, on figures that can be reckoned by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builder.sweep.load import Load
from builder.sweep.point import Interval, Point, StepTimes
from builder.sweep.report import instances
from builder.sweep.report.where import outside_ms, where_time_goes
from builder.sweep.setting import Setting
from builder.sweep.swept import Step, Swept
from tests.sweep import points

QUICK = StepTimes(
    inferences=100, executions=100, queue_ms=0, compute_input_ms=0, compute_infer_ms=1, compute_output_ms=0
)


def swept(cores: float) -> Swept:
    one = points.swept(count=1)
    served = replace(
        one.served, name="whole", steps=(Step("first", "whole-first"), Step("", "whole-main", instances=2))
    )
    return replace(one, served=served, hardware=replace(one.hardware, usable_cpus=cores))


def point(rate: float, main: StepTimes, **values: int) -> Point:
    steps = {"whole-first": QUICK, "whole-main": main}
    setting = Setting.of({name.replace("__", "."): value for name, value in values.items()})
    return Point(setting, Load(concurrency=8), "stable", throughput=Interval(rate, rate, rate), steps=steps)


def test_a_step_gets_instances_until_each_has_time_to_spare() -> None:
    slow = replace(QUICK, compute_input_ms=2, compute_infer_ms=16, compute_output_ms=2)
    first, main = instances.suggestions(swept(cores=8), point(100, slow))
    assert (main.busy, main.utilisation) == (pytest.approx(2.0), pytest.approx(1.0))
    assert (main.instances, main.suggested, main.bottleneck, main.limited) == (2, 3, True, False)
    assert (first.step, first.suggested, first.bottleneck) == ("first", 1, False)
    assert first.utilisation == pytest.approx(0.1)


def test_no_more_than_the_cores_bear_with_their_threads() -> None:
    slow = replace(QUICK, compute_infer_ms=20)
    knobs = {"instance_group__count": 1, "parameters__intra_op_thread_count": 2}
    _, main = instances.suggestions(swept(cores=4), point(200, slow, **knobs))
    assert (main.instances, main.suggested, main.limited) == (1, 2, True)
    _, alone = instances.suggestions(swept(cores=1), point(200, slow, **knobs))
    assert alone.suggested == 1


def test_a_batch_shares_the_time_of_its_execution() -> None:
    batches = replace(QUICK, executions=25, compute_infer_ms=40)
    assert instances.service_ms(batches) == pytest.approx(10)
    assert instances.service_ms(replace(batches, inferences=0)) == 0


def test_exactly_enough_is_enough() -> None:
    _, main = instances.suggestions(swept(cores=8), point(100, replace(QUICK, compute_infer_ms=16)))
    assert main.suggested == 2, "1.6 busy instances are 80 % of two"


def test_what_the_servers_times_do_not_explain_is_never_negative() -> None:
    there = replace(point(1, QUICK), mean_ms=Interval(5, 5, 5))
    assert outside_ms(there, there.steps) == pytest.approx(3)
    assert outside_ms(replace(there, mean_ms=Interval(1, 1, 1)), there.steps) == 0


def test_the_time_of_an_ensemble_is_that_of_its_steps_and_does_not_count_twice() -> None:
    found = points.swept()
    assert found.winner is not None
    name, point = found.served.name, found.winner.point
    whole = StepTimes(10, 10, 0, 0, sum(one.compute_infer_ms for one in point.steps.values()), 0)
    measured = replace(found.winner, point=replace(point, steps={**point.steps, name: whole}))
    plots = [where_time_goes(replace(found, ranking=(one,), as_it_is=None)) for one in (found.winner, measured)]
    assert all(plots)
    assert plots[0].data == plots[1].data  # type: ignore[union-attr]
    assert sum(row["ms"] for row in plots[1].data["parts"]) == pytest.approx(point.mean_ms.value)  # type: ignore[union-attr]


def test_threads_that_a_setting_leaves_out_are_the_subjects_own() -> None:
    slow = replace(QUICK, compute_infer_ms=20)
    own = swept(cores=4)
    steps = tuple(replace(one, threads=4) for one in own.served.steps)
    _, main = instances.suggestions(replace(own, served=replace(own.served, steps=steps)), point(200, slow))
    assert (main.suggested, main.limited) == (1, True)

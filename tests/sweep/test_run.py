"""The conductor, on a real repository and a server that is worked out: what a server answers is tested elsewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from builder.errors import UserError
from builder.recipe import load
from builder.sweep import run, swept
from builder.sweep.live import RefusedError
from builder.sweep.load import Load
from builder.sweep.point import Interval, Point, Status
from builder.sweep.search.finalists import TIMES
from builder.sweep.subject import open_subject
from builder.sweep.wanted import Wanted, of_main, own_values

if TYPE_CHECKING:
    from pathlib import Path

    from builder.sweep.run import Progress
    from builder.sweep.setting import Setting
    from builder.sweep.subject import Subject

CONFIG = """\
name: "m" backend: "onnxruntime" max_batch_size: 8
input [{ name: "x" data_type: TYPE_FP32 dims: [ 4 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 4 ] }]
instance_group [{ count: 1 kind: KIND_CPU }]
dynamic_batching { max_queue_delay_microseconds: 100 }
parameters { key: "intra_op_thread_count" value { string_value: "2" } }
"""
RECIPE = """\
schema_version: 1
name: tiny
source: {path: model}
task: sentence-embedding
verify:
  constraints: {p99_ms: 100}
  sweep:
    concurrency: [1, 4]
    search: exhaustive
    settings: {instance_group: {count: [1, 2, 3]}}
"""


class Server:
    """Two cores: a third instance only costs. Latency follows from Little's law."""

    measured: list[tuple[Setting, Load]]

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None: ...

    def variant(self, _: Setting) -> Subject:
        return self.subject

    def measure(self, setting: Setting, load: Load, seconds: float) -> Point:
        Server.measured.append((setting, load))
        count, users = int(str(setting.get("instance_group.count", 1))), load.concurrency or 1
        rate = 100.0 * {1: 1, 2: 1.9, 3: 1.7, 4: 1.6}[count] * (1 if users >= count else users / count)
        figure, latency = _known(rate), _known(1000 * users / rate)
        status: Status = "unstable" if count == 3 and users < 4 else "stable"
        return Point(setting, load, status, throughput=figure, p50_ms=latency, p99_ms=latency, seconds=seconds)


def _known(value: float) -> Interval:
    return Interval(value, 0.99 * value, 1.01 * value)


@pytest.fixture
def wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wanted:
    Server.measured = []
    monkeypatch.setattr(run, "Bench", Server)
    (tmp_path / "models/m/1").mkdir(parents=True)
    (tmp_path / "models/m/config.pbtxt").write_text(CONFIG)
    (tmp_path / "models/m/1/model.onnx").touch()
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return Wanted(tmp_path / "models", recipe=load(tmp_path / "recipe.yaml"), record=tmp_path / "record")


def test_a_sweep_from_end_to_end(wanted: Wanted) -> None:
    told: list[Progress] = []
    found = run.sweep(wanted, told.append)
    winner = found.swept.winner
    assert winner is not None
    assert (winner.point.setting.as_dict(), winner.point.load) == ({"instance_group.count": 2}, Load(concurrency=2))
    assert [one.number for one in told] == list(range(1, len(told) + 1))
    assert told[-1].best is not None
    assert len(found.swept.tried) == len(Server.measured) == len(told)
    assert told[-1].why == "as it is"
    assert found.swept.as_it_is is not None
    assert found.swept.as_it_is.what == (run.Setting(), Load(concurrency=2))
    assert found.swept.served.kind == "repository"
    assert swept.from_json(found.swept.as_json()).served == found.swept.served
    unstable = [one for one in found.swept.tried if one.point.status == "unstable"]
    assert unstable
    assert not {one.what for one in unstable} & {one.what for one in found.swept.ranking}


def test_a_winner_that_is_no_better_than_the_subject_as_it_is_gives_way_to_it(wanted: Wanted) -> None:
    assert wanted.recipe is not None
    alone = load(wanted.recipe.path, ("verify.sweep.settings={instance_group: {count: [1]}}",))
    found = run.sweep(replace(wanted, recipe=alone)).swept
    assert found.winner is not None
    assert found.winner.what == (run.Setting(), found.as_it_is and found.as_it_is.point.load)
    assert found.ranking[1].point.setting.as_dict() == {"instance_group.count": 1}
    asked = [setting for setting, load in Server.measured if load == found.winner.point.load]
    assert len(asked) == 2 * TIMES, "each as often as finalists are"
    Server.measured = []
    short = run.sweep(replace(wanted, recipe=alone, points=1, fresh=True)).swept
    assert len(short.tried) == 2, "a limit is kept to: the subject as it is comes on top, once"


def test_each_batch_of_a_client_is_swept_and_they_share_the_time(wanted: Wanted) -> None:
    assert wanted.recipe is not None
    recipe = load(wanted.recipe.path, ("verify.sweep.load={batch: [1, 4]}",))
    found = run.sweep(replace(wanted, recipe=recipe)).swept
    assert {load.batch for _, load in Server.measured} == {1, 4}
    assert {one.point.load.batch for one in found.ranking} == {1, 4}
    assert [setting.batches for setting in (wanted, replace(wanted, sent={"batch": 8}))] == [(1,), (8,)]
    Server.measured = []
    assert len(run.sweep(replace(wanted, recipe=recipe, points=2, fresh=True)).swept.tried) == 3
    short = run.sweep(replace(wanted, recipe=recipe, budget_seconds=60.0, fresh=True)).swept
    assert {one.point.load.batch for one in short.tried} == {1, 4}


def test_a_setting_that_cannot_be_built_is_refused_and_not_remembered(
    wanted: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blocked(self: Server, setting: Setting) -> Subject:
        if setting.get("instance_group.count") == 3:
            raise RefusedError("it cannot be built: no GPU")
        return self.subject

    monkeypatch.setattr(Server, "variant", blocked)
    run.sweep(wanted)
    again = run.sweep(wanted)
    assert again.measured == sum(one.what[0].get("instance_group.count") == 3 for one in again.swept.tried) > 0


def test_the_main_model_may_be_called_by_its_name(wanted: Wanted) -> None:
    assert wanted.recipe is not None
    settings = "verify.sweep.settings={steps: {tokenize: {instance_group: {count: [1, 2]}}}}"
    with pytest.raises(UserError, match="knob of step tokenize: m has no such step; it has: m"):
        run.sweep(replace(wanted, recipe=load(wanted.recipe.path, (settings,))))
    subject = open_subject(wanted.path)
    assert of_main(subject, {"m:instance_group.count": (1, 2)}) == {"instance_group.count": (1, 2)}
    with pytest.raises(UserError, match="is there already"):
        of_main(subject, {"instance_group.count": (1,), "m:instance_group.count": (1, 2)})


def test_it_goes_on_and_measures_only_what_changed(wanted: Wanted) -> None:
    whole = run.sweep(replace(wanted, points=3))
    assert whole.swept.ended == "ended after 3 points, as asked"
    before = len(Server.measured)
    rest = run.sweep(wanted)
    assert rest.measured == len(Server.measured) - before == len(rest.swept.tried) - before  # as it is among them
    assert [one.what for one in rest.swept.tried[:3]] == Server.measured[:3]
    assert run.sweep(wanted).measured == 0
    assert run.sweep(replace(wanted, fresh=True)).measured == len(rest.swept.tried)
    assert wanted.recipe is not None
    more = RECIPE.replace("[1, 2, 3]", "[1, 2, 3, 4]").replace("p99_ms: 100", "p99_ms: 90")
    wanted.recipe.path.write_text(more)
    changed = run.sweep(replace(wanted, recipe=load(wanted.recipe.path)))
    assert (
        0
        < changed.measured
        == len([one for one in changed.swept.tried if one.what[0].get("instance_group.count") == 4])
    )
    config = wanted.path / "m/config.pbtxt"
    config.write_text(CONFIG.replace("100", "200"))
    assert run.sweep(wanted).measured == len(rest.swept.tried)  # another subject: nothing of it is known


def test_no_setting_may_hold_the_constraints(wanted: Wanted) -> None:
    assert wanted.recipe is not None
    recipe = load(wanted.recipe.path, ("verify.constraints.p99_ms=0.5",))
    found = run.sweep(replace(wanted, recipe=recipe))
    assert found.swept.winner is None
    assert found.swept.as_it_is is None
    assert {one.verdict for one in found.swept.ranking} == {"missed"}


def test_a_profile_stops_at_its_threshold(wanted: Wanted) -> None:
    found = run.sweep(replace(wanted, profile="closed:1,4,16@p99_ms<30"))
    seen = [(dict(setting.values).get("instance_group.count"), load.concurrency) for setting, load in Server.measured]
    assert seen[:-1] == [(1, 1), (1, 4), (2, 1), (2, 4), (2, 16), (3, 1), (3, 4), (3, 16)]
    assert found.swept.ended == "3 of 3 settings went through the profile"


def test_what_is_sent_is_said_by_the_recipe_and_then_by_the_command(wanted: Wanted) -> None:
    assert wanted.recipe is not None
    recipe = load(wanted.recipe.path, ("verify.sweep.load={rate: [5, 10], arrivals: constant, protocol: http}",))
    said = replace(wanted, recipe=recipe)
    assert [one.load for one in said.load.levels] == [
        Load(rate=rate, arrivals="constant", protocol="http") for rate in (5.0, 10.0)
    ]
    other = replace(said, profile="closed:2", sent={"batch": 4}).load.levels[0].load
    assert (other.concurrency, other.batch, other.protocol) == (2, 4, "http")
    assert [one.load.concurrency for one in replace(wanted, recipe=None).load.levels][:4] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("{max_batch_size: [4, 16]}", "16 is more than the model takes"),
        ("{steps: {tokenize: {instance_group: {count: [1]}}}}", "knob of step tokenize: m has no such step"),
    ],
)
def test_knobs_that_the_subject_has_not(wanted: Wanted, settings: str, told: str) -> None:
    assert wanted.recipe is not None
    recipe = load(wanted.recipe.path, (f"verify.sweep.settings={settings}",))
    with pytest.raises(UserError, match=re.escape(told)):
        run.sweep(replace(wanted, recipe=recipe))
    assert Server.measured == []


def test_the_subjects_own_values_are_those_of_its_config(wanted: Wanted) -> None:
    assert own_values(run.open_subject(wanted.path)) == {
        "instance_group.count": 1,
        "instance_group.kind": "KIND_CPU",
        "max_batch_size": 8,
        "dynamic_batching": True,
        "dynamic_batching.max_queue_delay_microseconds": 100,
        "parameters.intra_op_thread_count": 2,
    }

"""The bench on one real server: what is right is measured, and whatever is wrong is said."""

import pytest

from builder.sweep import rounds
from builder.sweep.bench import Bench, BenchOptions
from builder.sweep.load import Load
from builder.sweep.setting import Setting
from builder.sweep.subject import Options, open_subject
from builder.tools import perf_requests

pytestmark = pytest.mark.triton

SECONDS = 0.3
ONE, FOUR, MANY = (Load(concurrency=each) for each in (1, 4, 16))


@pytest.fixture(scope="module")
def subject(repository):
    return open_subject(repository, Options(rows=8, sizes={"X": 3}))


@pytest.fixture(scope="module")
def bench(subject):
    with Bench(subject, BenchOptions(rounds=1)) as running:
        yield running


@pytest.fixture
def measure(bench):
    def measure(load=FOUR, seconds=SECONDS, **knobs):
        setting = Setting.of({name.replace("__", "."): value for name, value in knobs.items()})
        return bench.measure(setting, load, seconds)

    return measure


def test_a_point_has_all_that_says_what_it_is_worth(measure):
    point = measure(parameters__mood="slow")
    assert point.status in {"stable", "unstable"}, point.reason  # other work on this machine may disturb it
    assert point.throughput.low <= point.throughput.value <= point.throughput.high
    assert 10 <= point.p50_ms.value <= point.p90_ms.value <= point.p95_ms.value <= point.p99_ms.value
    assert point.throughput.value < 4 / 0.01  # one instance that sleeps 10 ms for four clients
    assert point.littles_law == pytest.approx(1, abs=0.2)
    assert 0 <= point.client_share < 0.4
    assert 0 < point.server_share < 1.05  # it sleeps more than it computes
    assert point.memory_mb > 20
    assert point.gpu == {}
    assert point.requests > sum(window.requests for window in point.windows) > 0
    assert point.errors == point.wrong == 0
    assert 20 <= point.checked <= 64
    assert point.steps["moody"].compute_infer_ms >= 10
    assert point.steps["moody"].inferences >= point.requests
    assert point.seconds > SECONDS
    assert point.at.endswith("+00:00")


def test_what_a_config_leaves_out_the_server_completes(repository, subject, tmp_path):
    model = (repository / "moody/1/model.py").read_text()
    stated = """
    @staticmethod
    def auto_complete_config(config):
        config.set_max_batch_size(8)
        config.add_input({"name": "X", "data_type": "TYPE_FP32", "dims": [-1]})
        config.add_input({"name": "T", "data_type": "TYPE_STRING", "dims": [1]})
        config.add_output({"name": "Y", "data_type": "TYPE_FP32", "dims": [-1]})
        return config
"""
    (tmp_path / "moody/1").mkdir(parents=True)
    (tmp_path / "moody/1/model.py").write_text(model.replace("    def initialize", f"{stated}\n    def initialize"))
    found = open_subject(tmp_path, Options(rows=8, sizes={"X": 3}))
    assert [request.values for request in found.requests] == [request.values for request in subject.requests]
    assert found.configs["moody"]["backend"] == "python"


def test_all_knobs_reach_the_server(bench, measure):
    point = measure(
        max_batch_size=4,
        instance_group__count=2,
        dynamic_batching__max_queue_delay_microseconds=300,
        dynamic_batching__preferred_batch_size=(2, 4),
        parameters__anything="1",
        optimization__cuda__graphs=False,
    )
    config = bench.live.client.config("moody")
    assert config["max_batch_size"] == 4
    assert config["instance_group"][0]["count"] == 2
    assert (
        config["dynamic_batching"].items()
        >= {"max_queue_delay_microseconds": "300", "preferred_batch_size": [2, 4]}.items()
    )
    assert config["parameters"]["anything"] == {"string_value": "1"}
    assert point.checked > 0


@pytest.mark.parametrize(
    "load",
    [
        Load(concurrency=2, batch=3),
        Load(concurrency=2, protocol="http"),
        Load(concurrency=2, shared_memory=True),
        Load(rate=100),
    ],
    ids=str,
)
def test_every_kind_of_load_is_sent_and_its_answers_are_checked(measure, load):
    point = measure(load, parameters__mood="right")
    assert point.status in {"stable", "unstable", "saturated"}, point.reason
    assert point.requests > 0
    assert (point.checked > 5, point.wrong) == (True, 0)


def test_wrong_answers_under_load_fail_the_point(bench, measure):
    assert measure(ONE, parameters__mood="muddled").wrong == 0  # alone it is right
    point = measure(MANY, parameters__mood="muddled")
    assert [bench._sender.planned(load, 1.0).warm_seconds for load in (ONE, MANY)] == [0, 0]
    assert point.status == "failed"
    assert point.wrong > 0
    assert "answers under load are wrong" in point.reason


def test_numbers_that_are_none_fail_the_point(bench, measure):
    point = measure(MANY, parameters__mood="no number")
    assert bench._sender.planned(ONE, 1.0).warm_seconds > 0  # the server has not seen it with this setting
    assert point.status == "failed"
    assert "NaN" in point.reason


def test_a_setting_that_the_server_refuses_says_why_and_the_next_one_works(measure):
    point = measure(max_batch_size=4, dynamic_batching__preferred_batch_size=(8,))
    assert point.status == "refused"
    assert "preferred" in point.reason
    assert measure(Load(concurrency=4, batch=8), max_batch_size=4).status == "refused"
    assert measure(max_batch_size=4).checked > 0


def test_requests_that_are_refused_fail_the_point_with_the_servers_words(measure):
    point = measure(parameters__mood="refusing")
    assert point.status == "failed"
    assert "enough of this" in point.reason
    assert point.errors > 0


def test_a_server_that_dies_or_hangs_fails_the_point_and_another_is_started(bench, measure, monkeypatch):
    point = measure(parameters__mood="deadly")
    assert point.status == "failed"
    assert "SIGKILL" in point.reason
    assert not bench.live.runs
    monkeypatch.setattr(perf_requests, "_PATIENCE_SECONDS", 0.2)
    point = measure(parameters__mood="hanging")
    assert point.status == "failed"
    assert "does not answer any more" in point.reason
    assert not bench.live.runs


def test_windows_that_do_not_agree_are_unstable(measure):
    point = measure(Load(concurrency=1), seconds=0.6, parameters__mood="tiring")
    assert point.status == "unstable"
    assert point.reason
    assert point.throughput is not None  # kept, for who wants to look


def test_a_rate_that_the_server_does_not_keep_up_with_is_unstable(measure):
    point = measure(Load(rate=200, arrivals="constant"), parameters__mood="slow", max_batch_size=1)
    assert point.status == "unstable"
    assert "does not keep up with 200" in point.reason


def test_a_saturated_client_is_said(measure, monkeypatch):
    monkeypatch.setattr(rounds, "MOST_CLIENT", 0.005)  # how much it gets depends on who else works on this machine
    point = measure(Load(concurrency=32), parameters__mood="right")
    assert point.status == "saturated"
    assert f"the client takes {point.client_share:.0%}" in point.reason


def test_what_the_response_cache_answers_is_said(measure):
    point = measure(parameters__mood="slow", response_cache__enable=True)
    times = point.steps["moody"]
    assert (times.inferences, times.hit_rate) == (0, 1.0)  # each of them was asked before
    assert times.cache_hits >= point.requests
    assert (point.status == "stable") == (
        point.reason == "100% of the requests were answered from the response cache: all of them are repeats of 8"
    )

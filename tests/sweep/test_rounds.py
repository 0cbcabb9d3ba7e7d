"""What rounds come to: who keeps up, who is the limit, and how far what is known of whole rounds can be believed."""

from __future__ import annotations

import pytest

from builder.sweep.checked import Checked
from builder.sweep.load import Load
from builder.sweep.rounds import Rounds
from builder.tools.perf_requests import Printed, Sent
from tests.sweep.closed_loop import SERVICE_SECONDS, requests

CHECKED = Checked(checked=4)


def run(times: list[tuple[float, float]]) -> Sent:
    """A run whose requests were sent and answered then, in seconds."""
    sent, ended = zip(*[(round(began * 1e9), round(end * 1e9)) for began, end in times], strict=True)
    return Sent("done", sent_ns=sent, ended_ns=ended)


def closed(load: Load, users: int) -> Rounds:
    """A load, and what came of it where so many requests were in flight."""
    found = Rounds(load)
    found.add(run(requests(users, 2, 2.0, lambda _: SERVICE_SECONDS)), CHECKED)
    return found


def arriving(latency: float, per_second: float = 1e9) -> Rounds:
    """100 requests a second, evenly; the server answers so many, and takes so long for each."""
    ended, times = 0.0, []
    for number in range(300):
        ended = max(ended + 1 / per_second, number / 100 + latency)
        times.append((number / 100, ended))
    found = Rounds(Load(rate=100, arrivals="constant"))
    found.add(run(times), CHECKED)
    return found


def test_a_long_latency_is_not_called_falling_behind() -> None:
    found = arriving(latency=0.35)  # the last answer comes 12 % of the time after the last request
    assert found.verdict() == ("stable", "")
    assert not found.is_hopeless


@pytest.mark.parametrize("per_second", [80, 20])
def test_a_server_that_does_not_keep_up_is_found_out(per_second: float) -> None:
    found = arriving(latency=0.01, per_second=per_second)
    assert bool(found.windows) == (per_second == 80)  # who is far behind leaves none
    assert found.is_hopeless
    status, reason = found.verdict()
    assert (status, reason) == ("unstable", f"the server does not keep up with 100 requests per second: {per_second}")


def test_a_client_that_keeps_too_few_requests_in_flight_is_the_limit() -> None:
    assert closed(Load(concurrency=4), users=4).verdict() == ("stable", "")
    assert closed(Load(concurrency=4), users=2).verdict() == (
        "saturated",
        "the client keeps only 2 of 4 requests in flight",
    )
    status, reason = closed(Load(concurrency=4), users=8).verdict()
    assert (status, "more requests seem to be in flight" in reason) == ("unstable", True)


def test_that_nothing_was_checked_is_said() -> None:
    for checks, checked, silent in ((True, Checked(), False), (True, CHECKED, True), (False, Checked(), True)):
        found = Rounds(Load(concurrency=4), checks=checks)
        found.add(run(requests(4, 2, 2.0, lambda _: SERVICE_SECONDS)), checked)
        status, reason = found.verdict()
        assert status == "stable"
        assert (reason == "") == silent
        assert silent or "no answer was checked" in reason


def test_two_rounds_that_were_not_recorded_make_a_wide_interval() -> None:
    found = Rounds(Load(concurrency=4, shared_memory=True))
    for p99 in (10.0, 10.2):
        found.add(Sent("done", printed=Printed(((100.0, 9.0),) * 3, {"p99_ms": p99}, requests=300)), CHECKED)
    interval = found.latency("p99_ms")
    assert interval is not None
    assert interval.value == pytest.approx(10.1)
    assert (interval.low, interval.high) == pytest.approx((10.1 - 1.2706, 10.1 + 1.2706))
    assert found.latency("p50_ms") is None

"""How a load is sent: how long, whether it is recorded, what does not count, and how much room answers need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builder.sweep.load import Load
from builder.sweep.sending import WARM_SECONDS, Sender, largest_bytes, settled
from builder.tools.perf_requests import OUTPUT_BYTES, Sent

FOUR = Load(concurrency=4)


@pytest.fixture
def sender() -> Sender:
    """Of a server that takes half a second for a request, of which the record has three million characters."""
    made = Sender(None, None, Path(), None, checks=0)  # type: ignore[arg-type]
    made._seconds_alone, made._characters = 0.5, 3_000_000
    return made


def test_a_record_is_as_large_as_the_run_is_long(sender: Sender) -> None:
    sender._seen = {FOUR}
    plan = sender.planned(FOUR, 1.5)
    assert plan.seconds == 12  # three windows, in each of which each of four requests is sent and answered
    assert not plan.recorded  # 12 s of 8 requests: 288 million characters; of 1.5 s they would be 36
    sender._characters = 1_000_000
    assert sender.planned(FOUR, 1.5).recorded


def test_what_the_server_has_not_seen_is_sent_for_longer_and_its_beginning_does_not_count(sender: Sender) -> None:
    sender._characters = 100
    new = sender.planned(FOUR, 20)
    assert (new.warm_seconds, new.seconds) == (WARM_SECONDS, 20 + WARM_SECONDS)
    sender._seen = {FOUR}
    assert sender.planned(FOUR, 20).warm_seconds == 0
    assert sender.planned(Load(concurrency=5), 20).warm_seconds == WARM_SECONDS
    unrecorded = sender.planned(Load(concurrency=4, shared_memory=True), 20)
    assert (unrecorded.recorded, unrecorded.warm_seconds, unrecorded.seconds) == (False, 0, 20)


def test_requests_of_the_warm_up_are_left_out() -> None:
    began, ended = [5_000, 10_000, 305_000_000], [7_000, 400_000_000, 305_000_001]
    sent = Sent("done", sent_ns=began, ended_ns=ended)
    kept = settled(sent, 0.3)
    assert (kept.sent_ns, kept.ended_ns) == (began[1:], ended[1:])
    assert settled(sent, 0.0) is sent
    assert settled(sent, 9.0) is sent  # all there is
    assert settled(Sent("nothing"), 0.3) == Sent("nothing")


def test_shared_memory_holds_the_largest_answer_of_a_batch(sender: Sender) -> None:
    texts = np.array([b"one", b"three"], dtype=object)
    assert largest_bytes({"A": np.zeros((2, 3), np.float32), "B": texts}) == 24
    assert largest_bytes({"B": texts}) == 4 + 3 + 4 + 5
    assert largest_bytes({}) == 0
    load = Load(concurrency=4, batch=8, shared_memory=True)
    assert sender.planned(load, 1.5).output_bytes == OUTPUT_BYTES
    sender._output_bytes = 100_000
    assert sender.planned(load, 1.5).output_bytes == 800_000

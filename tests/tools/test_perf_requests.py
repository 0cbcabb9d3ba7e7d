"""What is looked at of a run of perf_analyzer, and of the program itself."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from builder.tools.perf_requests import _looked_at, _processor_seconds


@pytest.mark.parametrize("count", [200, 1024, 1424, 9760])
def test_every_request_of_a_turn_is_looked_at(count: int) -> None:
    found = _looked_at(count, 64)
    assert len(set(found)) == 64
    assert found == sorted(found)
    assert 0 <= found[0] < found[-1] < count
    assert len({at % 16 for at in found}) >= 14  # of each 16th, all would be the same


def test_of_few_requests_all_are_looked_at() -> None:
    assert _looked_at(3, 64) == [0, 1, 2]
    assert _looked_at(3, 0) == _looked_at(0, 64) == []


def test_a_process_that_has_ended_has_no_processor_time() -> None:
    assert (_processor_seconds(os.getpid()) or 0) > 0
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert _processor_seconds(child.pid) is None

"""Costs of processes: what is counted, and what is not. Nothing here is timed."""

from __future__ import annotations

import sys

import pytest

from benchmarks.child import cost, cost_in_order
from builder.errors import MachineError

MEGABYTE = 10**6
HOLD = "import sys; held = b'x' * int(sys.argv[1]); print(len(held))"


def test_memory_of_the_command_is_counted_and_ours_is_not():
    ours = bytearray(b"x" * 200 * MEGABYTE)  # must not show up in the child's peak
    small = cost(["true"], what="true")
    large = cost([sys.executable, "-c", HOLD, str(100 * MEGABYTE)], what="python")
    assert small.peak_bytes < 50 * MEGABYTE < 100 * MEGABYTE < large.peak_bytes < len(ours)


def test_processor_time_of_the_command_is_counted():
    busy = cost([sys.executable, "-c", "for number in range(3_000_000): pass"], what="python")
    assert busy.cpu_seconds > 0
    assert busy.wall_seconds > 0


def test_variables_are_set_on_top_of_the_environment():
    check = "import os, sys; sys.exit(os.environ['BENCH_TEST'] != 'yes' or 'PATH' not in os.environ)"
    cost([sys.executable, "-c", check], what="python", env={"BENCH_TEST": "yes"})
    with pytest.raises(MachineError, match="exited with 1"):
        cost([sys.executable, "-c", check], what="python", env={"BENCH_TEST": "no"})


def test_a_command_that_fails_is_an_error_with_its_last_lines():
    with pytest.raises(MachineError, match=r"export: exited with 3\n(?s:.*)out of luck"):
        cost([sys.executable, "-c", "import sys; print('out of luck'); sys.exit(3)"], what="export")


def test_costs_in_order_add_up():
    once = cost([sys.executable, "-c", HOLD, "1"], what="python")
    both = cost_in_order([["true"], [sys.executable, "-c", HOLD, str(100 * MEGABYTE)]], what="both")
    assert both.peak_bytes > once.peak_bytes
    assert both.cpu_seconds > 0

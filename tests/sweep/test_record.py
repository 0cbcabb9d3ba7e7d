"""The record of sweeps: what it keeps, for whom, and what a kill costs."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import MachineError
from builder.sweep.load import Load
from builder.sweep.point import Interval, Point, StepTimes, Window
from builder.sweep.record import Record, Recorded
from builder.sweep.setting import Setting

ROOT = Path(__file__).parents[2]
LOAD = Load(concurrency=4)
SETTING = Setting.of({"instance_group.count": 2, "dynamic_batching.preferred_batch_size": (4, 8)})


def point(setting: Setting = SETTING, load: Load = LOAD, throughput: float = 124.5) -> Point:
    windows = (Window(0.5, 2, 4.0, 1.5, (1.25, 1.75)), Window(0.5, 1, 2.0, 2.5, (2.5,)))
    figure = Interval(throughput, 120.0, 130.0)
    steps = {"tokenize": StepTimes(3, 2, 0.1, 0.2, 0.3, 0.4)}
    return Point(setting, load, "stable", throughput=figure, windows=windows, steps=steps, seconds=1.5, at="2026")


class Counting:
    """A measure that says how often it was asked; each answer differs."""

    def __init__(self) -> None:
        self.asked: list[Setting] = []

    def __call__(self, setting: Setting, load: Load, seconds: float) -> Point:
        self.asked.append(setting)
        return point(setting, load, throughput=float(len(self.asked)))


def test_a_point_comes_back_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "record.sqlite"
    with Record.open(path) as record:
        record.add({"subject": "x"}, point())
    with Record.open(path) as record:
        assert record.find({"subject": "x"}) == point()
        assert record.find({"subject": "y"}) is None
        assert record.find({"subject": "x"}, nth=1) is None
    with sqlite3.connect(path) as raw:
        row = raw.execute("SELECT identity, status, throughput FROM points").fetchone()
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    raw.close()
    assert row == ('{"subject":"x"}', "stable", 124.5)


@pytest.mark.parametrize("change", ["subject", "setting", "load", "seconds"])
def test_only_what_changed_is_measured(tmp_path: Path, change: str) -> None:
    measure = Counting()
    asked = {"subject": "x", "setting": SETTING, "load": LOAD, "seconds": 1.5}
    others = {"subject": "y", "setting": SETTING.with_({"max_batch_size": 1}), "load": Load(rate=5.0), "seconds": 2.0}
    with Record.open(tmp_path / "r") as record:

        def sweep(subject: str, setting: Setting, load: Load, seconds: float) -> Recorded:
            recorded = Recorded(record, measure, lambda _: {"subject": subject})
            recorded(setting, load, seconds)
            return recorded

        assert sweep(**asked).measured == 1
        assert sweep(**asked).measured == 0
        assert sweep(**{**asked, change: others[change]}).measured == 1
        assert len(record) == 2


def test_a_recorded_point_is_that_of_the_load_that_was_asked_for(tmp_path: Path) -> None:
    """Of a closed loop nobody records how requests of an open one would arrive."""
    asked = Load(concurrency=4, arrivals="constant")
    with Record.open(tmp_path / "r") as record:
        for measured in (1, 0):
            recorded = Recorded(record, Counting(), lambda _: {})
            assert recorded(SETTING, asked, 1.0).load == asked
            assert recorded.measured == measured


def test_what_nothing_determines_is_not_kept(tmp_path: Path) -> None:
    with Record.open(tmp_path / "r") as record:
        recorded = Recorded(record, measure := Counting(), lambda _: None)
        recorded(SETTING, LOAD, 1.0)
        assert (recorded.measured, len(measure.asked), len(record)) == (1, 1, 0)


def test_what_is_measured_twice_is_found_twice(tmp_path: Path) -> None:
    """A search that measures its finalists again must find what it saw, in the order in which it saw it."""
    with Record.open(tmp_path / "r") as record:
        first = [Recorded(record, measure := Counting(), lambda _: {})] * 3
        seen = [one(SETTING, LOAD, 1.0).figure("throughput") for one in first]
        again = Recorded(record, measure, lambda _: {})
        assert [again(SETTING, LOAD, 1.0).figure("throughput") for _ in range(4)] == [*seen, 4.0]
        assert (again.found, again.measured) == (3, 1)
        fresh = Recorded(record, measure, lambda _: {}, fresh=True)
        assert fresh(SETTING, LOAD, 1.0).figure("throughput") == 5.0
        assert record.find(fresh.identity(SETTING, LOAD, 1.0)).figure("throughput") == 5.0


def test_a_killed_sweep_loses_at_most_the_point_in_progress(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.sweep.killed_sweep", str(tmp_path / "r"), "8", "0.15"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        done = [next(child.stdout) for _ in range(4)]
        child.send_signal(signal.SIGKILL)
        done += list(child.stdout)  # what it said before it was dead
    assert child.returncode == -signal.SIGKILL
    assert done[:4] == [f"measured {count}\n" for count in range(4)]
    ended = subprocess.run([*command[:-1], "0.15"], cwd=ROOT, capture_output=True, text=True, check=True)
    said = ended.stdout.splitlines()
    found = int(said[-1].removeprefix("found "))
    assert found >= len(done) - 1
    assert said[:-1] == [f"measured {count}" for count in range(found, 8)]


def test_two_sweeps_may_share_a_record(tmp_path: Path) -> None:
    with Record.open(tmp_path / "r") as one, Record.open(tmp_path / "r") as other:
        one.add({"n": 1}, point())
        assert other.find({"n": 1}) == point()
        other.add({"n": 1}, replace(point(), reason="later"))
        assert one.find({"n": 1}) == point()


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, and longer than SQLite's header of one hundred bytes\n" * 3)
    with pytest.raises(MachineError, match=r"text: the record of sweeps cannot be used"):
        Record.open(tmp_path / "text")
    raw = sqlite3.connect(tmp_path / "newer")
    raw.execute("PRAGMA user_version=9")
    raw.close()
    with pytest.raises(MachineError, match="a record of version 9"):
        Record.open(tmp_path / "newer")
    (tmp_path / "file").touch()
    with pytest.raises(MachineError):
        Record.open(tmp_path / "file" / "record.sqlite")


def test_a_point_that_another_version_wrote_is_measured_again(tmp_path: Path) -> None:
    with Record.open(tmp_path / "r") as record:
        record.add({"n": 1}, point())
        record._connection.execute("UPDATE points SET point = json_set(point, '$.load.later', 1)")
        assert record.find({"n": 1}) is None

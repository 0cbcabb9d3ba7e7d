"""A sweep as a process of its own, for tests that kill it: every point is a short sleep. Says each point on stdout."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from builder.sweep.load import Load
from builder.sweep.point import Point
from builder.sweep.record import Record, Recorded
from builder.sweep.setting import Setting


def measure(setting: Setting, load: Load, seconds: float) -> Point:
    time.sleep(seconds)
    print(f"measured {setting.get('instance_group.count')}", flush=True)  # noqa: T201
    return Point(setting, load, "stable", seconds=seconds)


def main(path: Path, points: int, seconds: float) -> None:
    with Record.open(path) as record:
        recorded = Recorded(record, measure, lambda _: {"subject": "toy"})
        for count in range(points):
            recorded(Setting.of({"instance_group.count": count}), Load(concurrency=1), seconds)
    print(f"found {recorded.found}")  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))

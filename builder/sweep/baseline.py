"""Is today's build slower than an earlier sweep's winner? Like is compared with like.

The baseline's winner says what is measured: its setting, under its load, on today's subject.

* Where the baseline's archive is at hand, both are served and measured in turn, which no drift of the machine turns.
  An archive is taken as it was built: knobs that take a build change recipes alone.
* Else today's figures are held against those in the file. That takes the same hardware, and hours lie between: only a
  difference by which two runs of a machine do not differ, :data:`APART`, is a regression.
* On other hardware nothing is compared: that is said, and is no pass.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.core.codec import CodecError
from builder.errors import UserError
from builder.sweep import compare, swept
from builder.sweep.bench import Bench
from builder.sweep.objective import pooled
from builder.sweep.self_test import interleaved
from builder.tools import hardware

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from builder.sweep.point import Interval, Point
    from builder.sweep.setting import Setting
    from builder.sweep.subject import Subject
    from builder.sweep.swept import Swept, Tried

log = logging.getLogger(__name__)

APART: Final = 0.1
"""Of figures that were not measured in turn: the least difference that is called one. It is the share by which the
windows of one stable point may differ: what lies between two hours is no less."""
FIGURES: Final = ("throughput", "p99_ms")
LONGER: Final = 3
"""How many times as long as in a search a point is measured: of 200 requests two are beyond the p99, of 600 six."""
_RUNS: Final = 3  # measurements of today's subject, where the baseline is a file alone
_LIMIT_BYTES: Final = 1 << 28


@dataclass(frozen=True, slots=True)
class Held:
    """What came of holding today's subject against a baseline.

    Args:
        verdicts: of each figure: today's beside the baseline's.
        how: in turn, against the file, or not at all; for people.
        reasons: by figure, for people.
    """

    verdicts: tuple[swept.Verdict, ...]
    how: str
    reasons: dict[str, str]

    @property
    def worse(self) -> bool:
        """Whether a figure is worse."""
        return any(one.verdict == "worse" for one in self.verdicts)

    @property
    def unsure(self) -> bool:
        """Whether nobody can tell of a figure."""
        return any(one.verdict == "unstable" for one in self.verdicts)


def read(path: Path) -> Swept:
    """The ``results.json`` of an earlier sweep.

    Raises:
        UserError: it is none, or it has no winner that could be measured again.
    """
    try:
        if path.stat().st_size > _LIMIT_BYTES:
            raise UserError(f"{path}: larger than {_LIMIT_BYTES >> 20} MiB")
        found = swept.from_json(json.loads(path.read_bytes()))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}", mend="name the results.json of a sweep") from error
    except (ValueError, CodecError) as error:
        raise UserError(f"{path}: is no result of a sweep: {error}", mend="name the results.json of a sweep") from error
    if found.winner is None:
        raise UserError(f"{path}: has no winner to compare with", mend="sweep again with constraints that can be met")
    return found


def hold(
    before: Swept, today: Subject, archive: Subject | None, *, seconds: float, told: Callable[[str], None]
) -> Held:
    """Measures today's subject as the baseline's winner was, and compares.

    Args:
        before: the baseline.
        today: what is held against it.
        archive: what the baseline was measured on, if it is at hand.
        seconds: of a measurement of a search; those here are longer.
        told: called before each measurement, with what it is.
    """
    winner, seconds = before.winner, LONGER * seconds
    assert winner is not None
    if archive is not None:
        return _in_turn(winner, today, archive, seconds=seconds, told=told)
    here = hardware.fingerprint()
    if here != before.hardware.fingerprint:
        why = (
            f"not comparable: the baseline was measured on {before.hardware.cpu}, {before.hardware.usable_cpus:g} CPUs"
        )
        log.warning("%s", why)
        return Held(tuple(_unsure(winner.point, figure) for figure in FIGURES), why, dict.fromkeys(FIGURES, why))
    return _against_file(winner, today, seconds=seconds, told=told)


def _unsure(point: Point, figure: str) -> swept.Verdict:
    return swept.Verdict(figure, "unstable", getattr(point, figure), None)


def _in_turn(winner: Tried, today: Subject, archive: Subject, *, seconds: float, told: Callable[[str], None]) -> Held:
    point = winner.point

    def measured(bench: Bench, name: str, setting: Setting) -> Callable[[], Point]:
        def measure() -> Point:
            told(f"{name}: {setting.label}, {point.load.label}")
            return bench.measure(setting, point.load, seconds)

        return measure

    with Bench(archive) as old, Bench(today) as new:
        before, now = (_fitting(point.setting, subject) for subject in (archive, today))
        a, b = interleaved(measured(old, "baseline", before), measured(new, "today", now))
    verdicts, reasons = [], {}
    for figure in FIGURES:
        found = compare.verdict(a, b, figure)
        reasons[figure] = found.reason
        kind = "worse" if found.broken == "b" else found.kind
        verdicts.append(swept.Verdict(figure, kind, _stable(a, figure), _stable(b, figure)))
    return Held(tuple(verdicts), f"both measured in turn, {len(a)} times", reasons)


def _fitting(setting: Setting, subject: Subject) -> Setting:
    return setting if subject.recipe is not None else setting.served


def _stable(points: list[Point], figure: str) -> Interval | None:
    """Of what can be believed, together; None: nothing can."""
    stable = [one for one in points if one.status == "stable"]
    found: Interval | None = getattr(pooled(stable), figure) if stable else None
    return found


def _against_file(winner: Tried, today: Subject, *, seconds: float, told: Callable[[str], None]) -> Held:
    point = winner.point
    points, setting = [], _fitting(point.setting, today)
    with Bench(today) as bench:
        for number in range(_RUNS):
            told(f"today, {number + 1} of {_RUNS}: {setting.label}, {point.load.label}")
            points.append(bench.measure(setting, point.load, seconds))
    verdicts, reasons = [], {}
    for figure in FIGURES:
        verdict, reason = against(getattr(point, figure), points, figure)
        verdicts.append(verdict)
        reasons[figure] = reason
    return Held(tuple(verdicts), "against the figures in the file: the same hardware, another hour", reasons)


def against(before: Interval | None, points: list[Point], figure: str) -> tuple[swept.Verdict, str]:
    """The verdict on points of today, beside a figure that was measured another time; and why."""
    if why := compare.broken(points):
        return swept.Verdict(figure, "worse", before, None), why
    after = _stable(points, figure)
    if before is None or after is None or any(one.status != "stable" for one in points):
        why = next((one.reason for one in points if one.status != "stable"), "there is no such figure")
        return swept.Verdict(figure, "unstable", before, after), why
    ratio = after.value / before.value
    said = f"{ratio - 1:+.1%}"
    if after.low <= before.high and before.low <= after.high:
        wide = max(before.high / after.low, after.high / before.low) - 1 > 2 * APART
        return swept.Verdict(figure, "unstable" if wide else "same", before, after), f"{said}: the intervals overlap"
    if max(ratio, 1 / ratio) - 1 < APART:
        return swept.Verdict(
            figure, "same", before, after
        ), f"{said}: less than {APART:.0%}, which may lie between two hours"
    better = (ratio > 1) == (figure == "throughput")
    return swept.Verdict(figure, "better" if better else "worse", before, after), said

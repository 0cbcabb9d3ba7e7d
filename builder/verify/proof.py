"""Both stages of the proof in one call: what ``tritonsmith verify ARCHIVE`` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from builder.artifacts import Measurement, Verdict
    from builder.verify.facts import ArchiveFacts
    from builder.verify.judge import Judge
    from builder.verify.measure import Measure


@dataclass(frozen=True, slots=True)
class Proof:
    """What was seen, and what it means."""

    measurement: Measurement
    verdict: Verdict


def verify_archive(facts: ArchiveFacts, *, measure: Measure, judge: Judge, work: Path) -> Proof:
    """Repeats the proof of an archive, from the archive and the files beside it alone.

    Args:
        facts: what the manifest says of the archive.
        measure: the cache, and under which load speed is measured.
        judge: tolerances and constraints.
        work: an empty folder; the server's log and perf_analyzer's reports are left in it.

    Returns:
        Measurement and verdict; a verdict other than passed is no exception.

    Raises:
        ArchiveError: the archive, or a file beside it, is not what the manifest says, or the manifest lacks what is
            needed; checked before anything runs.
        ServerError: the server did not start, did not load the archive, or ended meanwhile.
        MachineError: the toolchain cannot be run here.
    """
    measure.requires(facts)
    judge.check(facts.metric)
    measurement = measure.run(facts, work)
    judge.requires(measurement)
    verdict = judge.judge(measurement)
    judge.ensures(measurement, verdict)
    return Proof(measurement, verdict)

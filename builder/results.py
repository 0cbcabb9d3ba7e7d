"""What comes of a build: archives, what is known of them, and the command's exit code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from builder.artifacts import Verdict
from builder.core.report import RAN
from builder.errors import EXIT_DONE, EXIT_GATE_FAILED, EXIT_UNVERIFIED, BlockedError
from builder.package.attest import PROVENANCE, SBOM
from builder.package.seal import signature_of
from builder.verify import PASSED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.artifacts import Json, Packed
    from builder.core.report import StageTime
    from builder.package import Delivery, Manifest

UNVERIFIED: Final = "unverified"


@dataclass(frozen=True, slots=True)
class BuildResult:
    """An archive and what is known of it. ``status``: passed, failed, inconclusive, unverified."""

    delivery: Delivery
    times: tuple[StageTime, ...]

    @property
    def archive(self) -> Packed:
        return self.delivery.archive

    @property
    def manifest(self) -> Manifest:
        return self.delivery.manifest

    @property
    def status(self) -> str:
        return self.manifest.verification.status

    @property
    def seconds(self) -> Mapping[str, float]:
        """By stage, in order; of a stage that several models go through, all together."""
        found: dict[str, float] = {}
        for time in self.times:
            found[time.stage] = found.get(time.stage, 0.0) + time.seconds
        return found

    def _peaks(self) -> dict[str, int]:
        known = [(time.stage, time.peak_bytes) for time in self.times if time.peak_bytes is not None]
        return {stage: max(peak for name, peak in known if name == stage) for stage, _ in known}

    def _beside(self) -> dict[str, str | None]:
        attested, seal = self.delivery.attested, self.delivery.seal
        return {
            "provenance": str(attested[PROVENANCE].path) if PROVENANCE in attested else None,
            "sbom": str(attested[SBOM].path) if SBOM in attested else None,
            "checksums": str(seal) if seal else None,
            "signature": str(signature_of(seal)) if seal else None,
        }

    def as_json(self) -> Json:
        """The result for ``--json``: stable keys, absolute paths."""
        manifest = self.manifest
        return {
            "name": manifest.name,
            "target": manifest.target.name,
            "format": manifest.archive.format,
            "status": self.status,
            "reasons": list(manifest.measured.reasons),
            "archive": str(self.delivery.path.absolute()),
            "manifest": str(self.delivery.manifest_path),
            **self._beside(),
            "sha256": self.archive.sha256,
            "tree_digest": self.archive.tree_digest,
            "size": self.archive.size,
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
            "stages": {time.stage: time.state for time in sorted(self.times, key=lambda time: time.state == RAN)},
            "peak_bytes": self._peaks(),
            "verification": manifest.verification.model_dump(mode="json"),
            "parity": manifest.measured.model_dump(mode="json")["parity"],
            "perf": manifest.measured.model_dump(mode="json")["perf"],
        }


@dataclass(frozen=True, slots=True)
class Built:
    """What came of a build of several recipes: archives, and the errors of what failed, by node id."""

    results: tuple[BuildResult, ...]
    errors: Mapping[str, Exception]

    @property
    def blocked(self) -> Mapping[str, BlockedError]:
        """What this machine lacks something for, by node id."""
        return {node: error for node, error in self.errors.items() if isinstance(error, BlockedError)}

    @property
    def failed(self) -> Mapping[str, Exception]:
        """What failed, by node id."""
        return {node: error for node, error in self.errors.items() if not isinstance(error, BlockedError)}


def unproven(manifest: Manifest, why: str) -> Verdict:
    """The verdict on what cannot be tried here: why, and how far its answers were held against the reference."""
    ledger = manifest.precision.get("ledger")
    if not isinstance(ledger, list):
        return Verdict(UNVERIFIED, (why,))
    last = cast("dict[str, Json]", ledger[-1])
    figures = ", ".join(f"{name} {value:.6g}" for name, value in last["figures"].items())
    seen = f"before it was compiled, after {last['after']}, it answered within tolerance: {figures}"
    return Verdict(UNVERIFIED, (why, seen), {"ledger": ledger})


def exit_code(results: Sequence[BuildResult], *, asked_unverified: bool = False, blocked: bool = False) -> int:
    """The command's exit code: a failed gate counts more than something unverified or blocked."""
    statuses = {result.status for result in results}
    if statuses - {PASSED, UNVERIFIED}:
        return EXIT_GATE_FAILED
    unverified = UNVERIFIED in statuses and not asked_unverified
    return EXIT_UNVERIFIED if unverified or blocked else EXIT_DONE

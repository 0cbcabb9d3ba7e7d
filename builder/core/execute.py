"""Runs a stage: the only place that owns temporary folders, timing, publishing and the record."""

from __future__ import annotations

import errno
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from builder.artifacts import from_json, to_json
from builder.core.digest import digest_json
from builder.core.report import Reporter, Silent, StageTime
from builder.errors import MachineError

if TYPE_CHECKING:
    from pathlib import Path

    from builder.artifacts import Json
    from builder.core.stage import Stage

InT = TypeVar("InT")
OutT = TypeVar("OutT")


@dataclass(frozen=True, slots=True)
class Executor:
    """Runs stages below one folder and reports on each.

    Args:
        folder: where outputs are published, one folder per node.
        prefix: first parts of the node ids, ``recipe/source/model/target/format``.
        reporter: who is told.
    """

    folder: Path
    prefix: str
    reporter: Reporter = field(default_factory=Silent)

    def run(self, stage: Stage[InT, OutT], inputs: InT) -> OutT:
        """Runs one stage and publishes its output, whole or not at all.

        Raises:
            TritonsmithError: the stage's own precondition, postcondition or failure.
            MachineError: the disk is full or cannot be written.
        """
        node = f"{self.prefix}/{stage.name}"
        self.reporter.started(node)
        began = time.monotonic()
        try:
            output = self._run(stage, inputs)
        except BaseException:
            self.reporter.failed(node, time.monotonic() - began)
            raise
        self.reporter.finished(StageTime(node, stage.name, time.monotonic() - began))
        return output

    def _run(self, stage: Stage[InT, OutT], inputs: InT) -> OutT:
        stage.requires(inputs)
        fingerprint = {"stage": stage.name, "version": stage.version, **stage.fingerprint(inputs)}
        temporary, final = self.folder / f".{stage.name}.tmp", self.folder / stage.name
        try:
            (temporary / "out").mkdir(parents=True)
            output = stage.run(inputs, temporary / "out")
            stage.ensures(inputs, output)
            record = {
                "key": digest_json(fingerprint),
                "fingerprint": fingerprint,
                "output": _relocate(to_json(output), str(temporary), str(final)),
            }
            (temporary / "record.json").write_text(json.dumps(record, indent=1, sort_keys=True), encoding="utf-8")
            temporary.rename(final)
        except OSError as error:
            raise disk_error(stage.name, error) from error
        # A stage that ran and one whose output is read back are indistinguishable to the next stage.
        return from_json(type(output), record["output"])


def disk_error(what: str, error: OSError) -> MachineError:
    """The message for an operating-system error inside a stage."""
    place = f" ({error.filename})" if error.filename else ""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return MachineError(
            f"{what}: no space left on the disk{place}",
            mend="free some space, or set TRITONSMITH_CACHE (work in progress) or --out (archives) to a larger disk",
        )
    return MachineError(f"{what}: {error.strerror or error}{place}")


def _relocate(data: Json, old: str, new: str) -> Json:
    """Replaces the folder ``old`` by ``new`` in every string that begins with it."""
    if isinstance(data, str):
        return new + data[len(old) :] if data.startswith(old + "/") else data
    if isinstance(data, dict):
        return {key: _relocate(value, old, new) for key, value in data.items()}
    if isinstance(data, list):
        return [_relocate(value, old, new) for value in data]
    return data

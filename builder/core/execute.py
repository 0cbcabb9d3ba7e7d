"""Runs a stage, or finds what it made before: the only place that owns keys, temporary folders, timing and publishing.

key → found? load : wait for whoever makes the same, look again, check inputs, requires, run, ensures, publish, load.

A stage that ran and one that was found are indistinguishable to the next: both outputs are read from the record.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from builder.core.codec import files_in, from_json, to_json
from builder.core.digest import digest_json
from builder.core.report import FOUND, RAN, Reporter, Silent, StageTime, ended
from builder.core.store import Record, Store, describe_output
from builder.core.versions import check_versions
from builder.core.workspace import workspace
from builder.errors import DamagedError, MachineError, TritonsmithError, disk_error

if TYPE_CHECKING:
    from pathlib import Path

    from builder.artifacts import File, Json
    from builder.core.stage import Stage

InT = TypeVar("InT")
OutT = TypeVar("OutT")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A stage that a worker has just run for us, or that it found when others had run it: not what we find now."""

    began: float  # time.monotonic()
    peak_bytes: int
    state: str  # RAN | FOUND


@dataclass(frozen=True, slots=True)
class Executor:
    """Runs stages on one store and reports on each.

    Args:
        store: where outputs are kept.
        prefix: first parts of the node ids, ``recipe/source/model/target/format``.
        reporter: who is told.
        fresh: run even what is kept, and keep nothing of it: to repeat a proof.
    """

    store: Store
    prefix: str = ""
    reporter: Reporter = field(default_factory=Silent)
    fresh: bool = False

    def run(self, stage: Stage[InT, OutT], inputs: InT, node: str = "", ran: Elsewhere | None = None) -> OutT:
        """The stage's output: found in the store, or made and published, whole or not at all.

        Args:
            stage: the stage.
            inputs: what it takes.
            node: its id; default: the prefix and the stage's name.
            ran: that a worker ran it for us.

        Raises:
            TritonsmithError: the stage's own precondition, postcondition or failure.
            DamagedError: a file of the store is damaged. It was removed: what made it has to run again.
            MachineError: the disk is full or cannot be written.
        """
        node = node or f"{self.prefix}/{stage.name}"
        began = ran.began if ran else time.monotonic()
        try:
            fingerprint = self.fingerprint(stage, inputs)
            key = digest_json(fingerprint)
            output = None if self.fresh else self.store.find(key)
            state = ran.state if ran else FOUND
            if output is None:
                state, output = self._make(stage, inputs, fingerprint, node)
            if not self.fresh:
                self.store.remember(node, key, fingerprint)
        except OSError as error:
            raise disk_error(stage.name, error) from error
        peak_bytes = ran.peak_bytes if ran else None
        self.reporter.finished(StageTime(node, stage.name, time.monotonic() - began, state, peak_bytes))
        return cast("OutT", output)

    def found(self, stage: Stage[Any, OutT], inputs: object, node: str) -> OutT | None:
        """The stage's output if the store has it, as :meth:`run` would find it; None: run it, and see what happens."""
        began = time.monotonic()
        try:
            fingerprint = fingerprint_of(stage, inputs)
            key = digest_json(fingerprint)
            output = None if self.fresh else self.store.find(key)
            if output is not None:
                self.store.remember(node, key, fingerprint)
        except (OSError, TritonsmithError):
            return None
        if output is not None:
            self.reporter.finished(StageTime(node, stage.name, time.monotonic() - began, FOUND))
        return cast("OutT | None", output)

    def fingerprint(self, stage: Stage[InT, Any], inputs: InT) -> dict[str, Json]:
        """As :func:`fingerprint_of`, which may read inputs.

        Raises:
            TritonsmithError: the stage's own.
            DamagedError: an input is damaged. It was removed.
            MachineError: an input cannot be read.
        """
        try:
            found: dict[str, Json] = self._guarded(inputs, lambda: fingerprint_of(stage, inputs))
        except OSError as error:
            raise disk_error(stage.name, error) from error
        return found

    def _make(self, stage: Stage[Any, Any], inputs: object, fingerprint: dict[str, Json], node: str) -> tuple[str, Any]:
        """Whether it ran after all, and its output."""
        key = digest_json(fingerprint)
        with self.store.making(key):
            if not self.fresh and (output := self.store.find(key)) is not None:
                return FOUND, output  # another build made it meanwhile
            self.reporter.started(node)
            began = time.monotonic()
            try:
                return RAN, self._guarded(inputs, lambda: self._run(stage, inputs, fingerprint))
            except BaseException as error:
                ended(self.reporter, node, time.monotonic() - began, error)
                raise

    def _run(self, stage: Stage[Any, Any], inputs: object, fingerprint: dict[str, Json]) -> object:
        began = time.monotonic()
        check_versions(fingerprint)
        self._check(stage.reads(inputs) if hasattr(stage, "reads") else files_in(inputs))
        stage.requires(inputs)
        with workspace(self.store.root) as work:
            out = work / "out"
            out.mkdir()
            output = stage.run(inputs, out)
            stage.ensures(inputs, output)
            if fingerprint_of(stage, inputs) != fingerprint:
                raise MachineError(
                    f"{stage.name}: what it reads has changed while it ran", mend="leave it alone, and build again"
                )
            return self._publish(stage, output, fingerprint, out, time.monotonic() - began)

    def _publish(
        self, stage: Stage[Any, Any], output: object, fingerprint: dict[str, Json], out: Path, seconds: float
    ) -> object:
        key, (kind, data) = digest_json(fingerprint), describe_output(output)
        is_final = getattr(stage, "is_final", None)
        is_kept = not self.fresh and (is_final is None or is_final(output))
        with self.store.shared():  # nothing is collected between a blob and the record that refers to it
            for file in {file.sha256: file for file in files_in(output)}.values():
                self.store.take(file, out)
            if is_kept:
                self.store.write(Record(key, stage.name, stage.version, fingerprint, kind, data, round(seconds, 3)))
        # What another build published first is what everybody goes on with.
        if is_kept and (found := self.store.find(key)) is not None:
            return found
        return from_json(type(output), json.loads(json.dumps(data)), self.store.blobs.path)

    def _check(self, files: list[File]) -> None:
        """Hashes files of the store; all that are damaged are removed before the last of them is raised."""
        damaged: DamagedError | None = None
        for file in files:
            if self.store.blobs.holds(file.path):
                try:
                    self.store.blobs.check(file)
                except DamagedError as error:
                    damaged = error
        if damaged is not None:
            raise damaged

    def _guarded(self, inputs: object, call: Any) -> Any:  # noqa: ANN401 - what the call returns
        """Calls; where that fails because an input is damaged, says so and not what came of it."""
        try:
            return call()
        except DamagedError as error:
            if self.store.blobs.holds(error.path):
                self.store.blobs.discard(error.path)
                self._check(files_in(inputs))  # one is seldom alone
            raise
        except Exception:
            self._check(files_in(inputs))
            raise


def fingerprint_of(stage: Stage[InT, Any], inputs: InT) -> dict[str, Json]:
    """All that can change a stage's bytes, as JSON data: its digest is the key."""
    facts = {"stage": stage.name, "version": stage.version, **stage.fingerprint(inputs)}
    data: dict[str, Json] = to_json(facts)
    return data

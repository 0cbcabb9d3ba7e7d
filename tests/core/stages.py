"""Cheap stages, for tests of what runs them: they behave like the real ones, and keep a diary."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, ClassVar

from builder.artifacts import Repository
from builder.core.codec import files_in
from builder.core.digest import describe_file, describe_folder
from builder.errors import ModelError
from tests.core.chain import Work

if TYPE_CHECKING:
    from pathlib import Path

    from builder.artifacts import File

PIECES = 8


@dataclass(frozen=True)
class Write:
    """Makes a file of a text and of all that its inputs hold, and passes the first input's files on.

    Args:
        text: what is written.
        fail: is raised in the middle of the work.
        refuse: the output is refused.
        diary: a folder with one file for each time that it ran.
    """

    text: str
    name: str = "write"
    fail: BaseException | None = None
    refuse: bool = False
    diary: Path | None = None
    facts: Any = None
    version: ClassVar[int] = 1

    def fingerprint(self, inputs):
        digests = [file.sha256 for file in files_in(inputs)]
        return {"text": self.text, "inputs": digests or inputs, **(self.facts or {})}

    def requires(self, inputs):
        if inputs == "bad":
            raise ModelError("input 'bad' is refused")

    def run(self, inputs, out):
        if self.diary:
            self.diary.mkdir(parents=True, exist_ok=True)
            (self.diary / f"{self.name}-{len(list(self.diary.iterdir()))}").touch()
        before = [file.path.read_text() for file in files_in(inputs)]
        (out / "deep").mkdir()
        for piece in range(PIECES):
            (out / "deep" / f"{self.name}.{piece}").write_text(f"{self.name} {piece} {self.text} {before}")
            if self.fail and piece == PIECES // 2:
                raise self.fail
        passed_on = inputs[0].files if files_in(inputs) else {}
        made = describe_folder(out)
        return Repository(name=self.text, files={**passed_on, **made}, record={"pieces": PIECES, "tuple": (1, 2)})

    def ensures(self, inputs, output):
        if self.refuse:
            raise ModelError("the output is refused")


@dataclass(frozen=True)
class Apart(Work):
    """A stage for a process of its own, whose output tells which it was.

    Args:
        fail: how it fails.
        meets: a stage that runs at the same time, which it waits for; its output tells whether that came.
        needs: bytes that it says it needs.
        libraries: that it declares.
        reads_early: a file of its first input that its fingerprint reads.
        shout: it prints.
    """

    fail: str = ""
    meets: str = ""
    patience_seconds: float = 20.0
    needs: int = 256 << 20
    libraries: tuple[str, ...] = ()
    reads_early: str = ""
    shout: bool = False
    apart: ClassVar[bool] = True

    def fingerprint(self, inputs):
        if self.reads_early and "before" not in inputs[0].files[self.reads_early].path.read_text():
            raise ModelError("this makes no sense")
        versions = {name: metadata.version(name) for name in self.libraries}
        return {**super().fingerprint(inputs), "versions": versions}

    def memory(self, inputs):
        return self.needs

    def run(self, inputs, out):
        if self.shout:
            os.write(1, b"{not JSON\n")
        made = super().run(inputs, out)
        if self.fail == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fail == "bug":
            raise RuntimeError("a bug")
        if self.fail:
            raise ModelError(self.fail, mend="mend it")
        return Repository(made.name, made.files, {"pid": os.getpid(), "met": self._met()})

    def _met(self):
        """Whether the other was there while this one waited. Who leaves takes the sign away."""
        sign = self.diary / f"{self.name}.here"
        sign.touch()
        deadline = time.monotonic() + self.patience_seconds
        while not (met := bool(self.meets) and (self.diary / f"{self.meets}.here").exists()):
            if not self.meets or time.monotonic() > deadline:
                break
            time.sleep(0.01)
        if not met:
            sign.unlink()
        return met


class Listener:
    def __init__(self):
        self.events = []
        self.times = []

    def started(self, node):
        self.events.append(("started", node))

    def finished(self, time):
        self.events.append((time.state, time.node))
        self.times.append(time)

    def failed(self, node, seconds):
        self.events.append(("failed", node))

    def blocked(self, node):
        self.events.append(("blocked", node))


def outside(folder: Path, text: str = "weights") -> File:
    """A file of the user's."""
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_text(text)
    return describe_file(folder / "weights")

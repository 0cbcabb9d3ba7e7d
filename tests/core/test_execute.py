import errno
import json
from dataclasses import dataclass
from typing import ClassVar

import pytest

from builder.artifacts import Repository
from builder.core.digest import describe_folder
from builder.core.execute import Executor
from builder.errors import MachineError, ModelError


@dataclass(frozen=True)
class Write:
    """A real stage in small: writes one file."""

    text: str
    fail: BaseException | None = None
    refuse: bool = False
    name: ClassVar[str] = "write"
    version: ClassVar[int] = 1

    def fingerprint(self, inputs):
        return {"text": self.text, "inputs": inputs}

    def requires(self, inputs):
        if inputs == "bad":
            raise ModelError("input 'bad' is refused")

    def run(self, inputs, out):
        (out / "file").write_text(self.text)
        if self.fail:
            raise self.fail
        return Repository(name=inputs, files=describe_folder(out), record={})

    def ensures(self, inputs, output):
        if self.refuse:
            raise ModelError("the output is refused")


class Listener:
    def __init__(self):
        self.events = []

    def started(self, node):
        self.events.append(("started", node))

    def finished(self, time):
        self.events.append(("finished", time.node))

    def failed(self, node, seconds):
        self.events.append(("failed", node))


def test_output_is_published_under_its_final_name(tmp_path):
    listener = Listener()
    output = Executor(tmp_path, "recipe/path/model", listener).run(Write("hello"), "good")
    file = output.files["file"]
    assert file.path == tmp_path / "write" / "out" / "file"
    assert file.path.read_text() == "hello"
    assert listener.events == [("started", "recipe/path/model/write"), ("finished", "recipe/path/model/write")]
    record = json.loads((tmp_path / "write" / "record.json").read_text())
    assert record["fingerprint"] == {"stage": "write", "version": 1, "text": "hello", "inputs": "good"}


def test_key_follows_the_options(tmp_path):
    keys = []
    for place, text in (("a", "hello"), ("b", "hello"), ("c", "other")):
        Executor(tmp_path / place, "r").run(Write(text), "good")
        keys.append(json.loads((tmp_path / place / "write" / "record.json").read_text())["key"])
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    ("stage", "inputs"),
    [(Write("x"), "bad"), (Write("x", refuse=True), "good"), (Write("x", fail=KeyboardInterrupt()), "good")],
    ids=["requires", "ensures", "interrupted"],
)
def test_nothing_is_published_by_a_stage_that_failed(tmp_path, stage, inputs):
    listener = Listener()
    with pytest.raises((ModelError, KeyboardInterrupt)):
        Executor(tmp_path, "r", listener).run(stage, inputs)
    assert not (tmp_path / "write").exists()
    assert listener.events[-1] == ("failed", "r/write")


def test_full_disk_is_a_message_not_a_traceback(tmp_path):
    with pytest.raises(MachineError, match="write: no space left on the disk") as caught:
        Executor(tmp_path, "r").run(Write("x", fail=OSError(errno.ENOSPC, "No space left on device")), "good")
    assert "TRITONSMITH_CACHE" in caught.value.mend

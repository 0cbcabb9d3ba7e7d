from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.errors import MachineError
from builder.tools.process import Dialogue, Process, describe_status, end_all, run

if TYPE_CHECKING:
    from collections.abc import Callable

# A command that starts a grandchild in its own process group, as tritonserver starts its stubs, and tells both pids.
FAMILY = "sleep 1000 & echo $$ $! > pids.tmp; mv pids.tmp pids; wait"


def comes_true(fact: Callable[[], bool]) -> bool:
    return any(fact() or time.sleep(0.01) for _ in range(1000))


def wait_for(path: Path) -> str:
    assert comes_true(path.exists)
    return path.read_text()


def start_builder(folder: Path, body: str) -> tuple[subprocess.Popen[bytes], list[int]]:
    """Another Python that runs ``body``, and the pids of the family that it started."""
    script = (
        "from pathlib import Path\nimport time\nfrom builder.tools.process import Process, run\n"
        + textwrap.dedent(body)
    )
    builder = subprocess.Popen(
        [sys.executable, "-c", script], cwd=folder, start_new_session=True, stderr=subprocess.DEVNULL
    )
    pids = [int(pid) for pid in wait_for(folder / "pids").split()]
    return builder, pids


SERVE = f"""
command = ["sh", "-c", {FAMILY!r}]
with Process(command, what="family", log_path=Path("log"), remove=["made.*"], remove_orphaned=["o/*", "o"]):
    time.sleep(1000)
"""


def test_run_captures_both_streams() -> None:
    done = run(["sh", "-c", "echo out; echo err >&2; exit 3"], what="x", timeout_seconds=10, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_run_shows_command_and_last_lines_of_a_failure() -> None:
    with pytest.raises(MachineError) as caught:
        run(["sh", "-c", "seq 100; echo the reason >&2; exit 3"], what="counting", timeout_seconds=10)
    assert str(caught.value).startswith("counting exited with 3: sh -c 'seq 100;")
    assert "| the reason" in str(caught.value)


def test_a_signal_is_named() -> None:
    done = run(["sh", "-c", "kill -SEGV $$"], what="x", timeout_seconds=10, check=False)
    assert done.returncode == -signal.SIGSEGV
    assert describe_status(done.returncode) == "was killed by SIGSEGV"
    assert describe_status(-63) == "was killed by signal 63"


@pytest.mark.parametrize(
    ("program", "reason"), [("/nothing/here", "No such file"), ("/etc/passwd", "Permission denied")]
)
def test_a_program_that_cannot_start(program: str, reason: str) -> None:
    with pytest.raises(MachineError, match=f"reading: cannot start {program}: {reason}"):
        run([program], what="reading", timeout_seconds=10)


def test_environment_folder_and_input_are_what_was_said(tmp_path: Path) -> None:
    done = run(
        ["/bin/sh", "-c", "pwd; cat; export -p"], what="x", timeout_seconds=10, env={"ONLY": "this"}, cwd=tmp_path
    )
    lines = done.stdout.splitlines()
    assert lines[0] == str(tmp_path)
    assert "export ONLY='this'" in lines
    assert not any("PATH=" in line or "HOME" in line for line in lines)


def test_ignored_signals_are_not_inherited() -> None:
    # Python ignores SIGPIPE; a command that ignores it, too, would write into closed pipes for ever.
    ours = Path("/proc/self/status").read_text().split("SigIgn:")[1].split()[0]
    assert int(ours, 16) & (1 << (signal.SIGPIPE - 1)) != 0
    theirs = run(["grep", "SigIgn", "/proc/self/status"], what="x", timeout_seconds=10).stdout.split()[1]
    by_python = sum(1 << (one - 1) for one in (signal.SIGPIPE, signal.SIGXFSZ))
    assert int(theirs, 16) & by_python == 0  # a shell in the background ignores others


def test_lines_come_while_the_command_runs(tmp_path: Path) -> None:
    # The command waits for the file that only the callback makes: it would never end if lines came at its end.
    go = tmp_path / "go"
    seen: list[str] = []

    def on_line(line: str) -> None:
        seen.append(line)
        go.touch()

    run(
        ["sh", "-c", f"echo one; until [ -e {go} ]; do sleep 0.01; done; echo two"],
        what="x",
        timeout_seconds=30,
        on_line=on_line,
    )
    assert seen == ["one", "two"]


def test_too_long_kills_all_of_it(tmp_path: Path, is_gone) -> None:
    with pytest.raises(MachineError, match="family: not done after 1 s: sh -c"):
        run(["sh", "-c", FAMILY], what="family", timeout_seconds=1, cwd=tmp_path)
    assert all(is_gone(int(pid)) for pid in wait_for(tmp_path / "pids").split())


def test_end_reaches_grandchildren_and_those_who_do_not_listen(tmp_path: Path, is_gone) -> None:
    command = ["sh", "-c", f"trap '' TERM; cd {tmp_path}; {FAMILY}; wait"]
    with Process(command, what="family", log_path=tmp_path / "log", grace_seconds=0.1) as process:
        pids = [int(pid) for pid in wait_for(tmp_path / "pids").split()]
        assert process.pid == pids[0]
        assert process.returncode is None
        assert not is_gone(pids[1], timeout_seconds=0.1)  # the control: they do run
    assert process.returncode == -signal.SIGKILL
    assert all(is_gone(pid) for pid in pids)
    assert process.end() == -signal.SIGKILL  # once more does nothing


def test_a_polite_command_ends_by_itself(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Process(["sh", "-c", "trap 'exit 7' TERM; echo ready; sleep 1000 & wait"], what="x", log_path=log) as process:
        assert comes_true(lambda: "ready" in log.read_text())
    assert process.returncode == 7


def test_a_command_that_ends_alone_leaves_nobody(tmp_path: Path, is_gone) -> None:
    (tmp_path / "made.1").touch()
    command = ["sh", "-c", f"cd {tmp_path}; sleep 1000 & echo $! > pid; exit 5"]
    process = Process(command, what="x", log_path=tmp_path / "log", remove=[f"{tmp_path}/made.*"])
    assert process.wait(10) == 5
    assert is_gone(int((tmp_path / "pid").read_text()))
    assert not (tmp_path / "made.1").exists()


def test_it_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    # PR_SET_PDEATHSIG, set by the builder itself, would kill it when the thread ends.
    started: list[Process] = []

    def start() -> None:
        started.append(Process(["sleep", "1000"], what="sleep", log_path=tmp_path / "log"))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    with started[0] as process:
        assert process.wait(0.5) is None


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_the_builder(tmp_path: Path, is_gone, how: signal.Signals) -> None:
    (tmp_path / "made.by-server").touch()
    (tmp_path / "o").mkdir()
    (tmp_path / "o/log").touch()
    builder, pids = start_builder(tmp_path, SERVE)
    os.killpg(builder.pid, how)  # as a terminal does it, or the kernel
    builder.wait(30)
    assert all(is_gone(pid) for pid in pids)
    assert comes_true(lambda: not (tmp_path / "made.by-server").exists())
    # What the builder itself would have removed is removed for it only when it could not.
    assert comes_true(lambda: (tmp_path / "o").exists() == (how == signal.SIGINT))


def test_control_without_the_guardian_a_child_does_outlive_the_builder(tmp_path: Path, is_gone) -> None:
    body = f"import subprocess; subprocess.Popen(['sh', '-c', {FAMILY!r}], start_new_session=True).wait()"
    builder, pids = start_builder(tmp_path, body)
    builder.kill()
    builder.wait(30)
    try:
        assert not is_gone(pids[0], timeout_seconds=0.5)
    finally:
        os.killpg(pids[0], signal.SIGKILL)
    assert all(is_gone(pid) for pid in pids)


def test_the_command_dies_with_its_guardian(tmp_path: Path, is_gone) -> None:
    with Process(["sleep", "1000"], what="sleep", log_path=tmp_path / "log") as process:
        status = Path(f"/proc/{process.pid}/status").read_text()
        guardian = int(next(line.split()[1] for line in status.splitlines() if line.startswith("PPid")))
        os.kill(guardian, signal.SIGKILL)
        assert is_gone(process.pid)
        assert process.wait(10) == -signal.SIGKILL


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"sleep: cannot write its log .*missing/log: No such file"):
        Process(["sleep", "1"], what="sleep", log_path=tmp_path / "missing/log")


ECHO = 'while read -r line; do echo "heard $line"; done; echo "no more" >&2; exit 5'


def test_a_dialogue_is_told_lines_and_answers_each_as_it_comes(is_gone) -> None:
    dialogue = Dialogue(["sh", "-c", f"echo $$; {ECHO}"], what="x")
    answers = dialogue.answers()
    pid = int(next(answers))
    for word in ("one", "two"):
        dialogue.tell(word)
        assert next(answers) == f"heard {word}"
    assert not dialogue.has_ended
    assert dialogue.end() == -signal.SIGTERM
    assert is_gone(pid)
    assert dialogue.end() == -signal.SIGTERM, "it may be ended again"


def test_a_dialogue_that_ends_says_how_and_its_last_words() -> None:
    dialogue = Dialogue(["sh", "-c", "read -r line; echo the reason >&2; exit 5"], what="x")
    dialogue.tell("one")
    assert list(dialogue.answers()) == []
    assert comes_true(lambda: dialogue.has_ended)
    dialogue.tell("nobody hears this")
    assert dialogue.end() == 5
    assert dialogue.last_words == "the reason"


def test_all_dialogues_can_be_ended_from_another_thread() -> None:
    dialogue = Dialogue(["sh", "-c", ECHO], what="x")
    threading.Timer(0.2, end_all).start()
    assert list(dialogue.answers()) == []
    assert dialogue.end() == -signal.SIGTERM


def test_a_dialogue_that_cannot_start_leaves_nothing_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(MachineError, match="asking: cannot start /nothing/here"):
        Dialogue(["/nothing/here"], what="asking")
    assert len(list(Path("/proc/self/fd").iterdir())) == before

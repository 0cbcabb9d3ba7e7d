import signal
import subprocess
import sys

import pytest

from builder.core.workspace import workspace
from builder.errors import MachineError

HOLD = """
import sys, time
from pathlib import Path
from builder.core.workspace import workspace
with workspace(Path(sys.argv[1])) as folder:
    (folder / "half-written").write_text("x")
    print(folder, flush=True)
    time.sleep(60)
"""


def hold(cache):
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(cache)], stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
    return child


def end(child, number):
    child.send_signal(number)
    child.wait()
    child.stdout.close()


def test_folder_goes_with_its_owner(tmp_path):
    with workspace(tmp_path) as folder:
        (folder / "file").write_text("x")
        folder.chmod(0o500)
    assert not list((tmp_path / "builds").iterdir())


def test_killed_build_is_swept_by_the_next_and_a_running_one_is_not(tmp_path):
    killed, running = hold(tmp_path), hold(tmp_path)
    try:
        end(killed, signal.SIGKILL)
        assert len(list((tmp_path / "builds").iterdir())) == 2
        with workspace(tmp_path):
            assert len(list((tmp_path / "builds").iterdir())) == 2, "the running one and ours"
        assert len(list((tmp_path / "builds").glob("*/work/half-written"))) == 1
    finally:
        end(running, signal.SIGKILL)


def test_cache_that_cannot_be_written_is_a_message(tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(MachineError, match=r"the store .*cache: Not a directory") as caught:
        workspace(tmp_path / "cache").__enter__()
    assert "TRITONSMITH_CACHE" in caught.value.mend

"""A disk that is really full: a small tmpfs in a mount namespace of the command's own."""

import os
import subprocess
import sys

import pytest

NAMESPACE = ["unshare", "--map-root-user", "--mount"]


def _can_mount():
    try:
        done = subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not _can_mount(), reason="this machine lets nobody mount a tmpfs in a namespace of their own"),
]


def build_with_small_disk(command, place, kilobytes):
    place.mkdir(exist_ok=True)
    script = f"mount -t tmpfs -o size={kilobytes}k none '{place}' && '{sys.executable}' -m builder build tiny.yaml "
    script += "--no-verify --out out; code=$?; echo LEFT; find builds-dir out -mindepth 1 2>/dev/null; exit $code"
    return subprocess.run(
        [*NAMESPACE, "sh", "-c", script.replace("builds-dir", f"'{command.cache}/store'")],
        cwd=command.folder, env={**os.environ, "TRITONSMITH_CACHE": str(command.cache), "CI": "1"},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("where", "kilobytes", "stage"),
    [("cache/builds", 2000, "pack"), ("out", 500, "out")],
    ids=["while packing", "while delivering"],
)
def test_full_disk_is_one_message_and_leaves_nothing(command, where, kilobytes, stage):
    done = build_with_small_disk(command, command.folder / where, kilobytes)
    assert done.returncode == 3, done.stderr
    message = done.stderr.split("tritonsmith: ")[1]
    assert "no space left" in message.lower()
    assert stage in message.splitlines()[0]
    assert "mend: " in message
    assert "Traceback" not in done.stderr
    assert done.stdout.split("LEFT\n")[1] == "", "half-written files"


def test_disk_that_is_large_enough_is_none_of_it(command):
    done = build_with_small_disk(command, command.cache / "builds", 40_000)
    assert done.returncode == 0, done.stderr

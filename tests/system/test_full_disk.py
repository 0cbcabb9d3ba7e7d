"""A disk that is really full: a small tmpfs in a mount namespace of the command's own."""

import json
import os
import re
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
    """Builds, says what is left, verifies the store, and goes on with a larger disk."""
    place.mkdir(exist_ok=True)
    build = f"'{sys.executable}' -m builder build tiny.yaml --no-verify --out out"
    script = f"""
        mount -t tmpfs -o size={kilobytes}k none '{place}' && {build}; code=$?
        echo LEFT; find '{command.cache}/store/builds' out -mindepth 1 2>/dev/null
        echo STORE; '{sys.executable}' -m builder store verify --json
        if [ $code = 3 ]; then
            mount -o remount,size=60000k '{place}' && {build} >&2; echo AGAIN $?
        fi
        exit $code"""
    return subprocess.run(
        [*NAMESPACE, "sh", "-c", script],
        cwd=command.folder, env={**os.environ, "TRITONSMITH_CACHE": str(command.cache), "CI": "1"},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("where", "kilobytes", "place"),
    [
        ("cache/store", 100, "source: "),
        ("cache/store", 300, r"(tokenizer|trace|bind|reference|check): "),
        ("cache/store", 2_000, "package: "),
        ("cache/store", 12_000, r"\S+/tiny-cpu-\S+\.tar\.gz: "),
        ("out", 500, r"\S+/out: "),
    ],
    ids=["source", "export", "package", "pack", "deliver"],
)
def test_full_disk_is_one_message_leaves_nothing_and_the_next_run_goes_on(command, where, kilobytes, place):
    done = build_with_small_disk(command, command.folder / where, kilobytes)
    assert done.returncode == 3, done.stderr
    message = done.stderr.split("tritonsmith: ")[1]
    assert re.match(f"{place}no space left on the disk", message), message
    assert "mend: " in message
    assert "Traceback" not in done.stderr
    left, _, rest = done.stdout.partition("LEFT\n")[2].partition("STORE\n")
    assert left == "", "half-written files"
    store, _, again = rest.partition("AGAIN ")
    assert json.loads(store)["clean"]
    assert again == "0\n", done.stderr


def test_disk_that_is_large_enough_is_none_of_it(command):
    done = build_with_small_disk(command, command.cache / "store", 60_000)
    assert done.returncode == 0, done.stderr

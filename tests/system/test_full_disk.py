"""A disk that is really full when a stage begins: a small tmpfs in a mount namespace of the command's own."""

import json
import os
import re
import subprocess
import sys

import pytest

from builder.core.collect import kept_records
from builder.core.store import Store

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

SCRIPT = """
set -u
mount -t tmpfs -o size={megabytes}m none '{place}' && cp -a '{content}/.' '{place}' || exit 99
'{python}' -c "$FILL" '{place}/filler' {kilobytes}
{build} {options}; code=$?
echo LEFT; find '{store}/builds' out -mindepth 1 2>/dev/null | grep -v filler
echo STORE; '{python}' -m builder store verify --json
rm '{place}/filler'
if [ $code = 3 ]; then {build} --no-verify >&2; echo AGAIN $?; fi
exit $code"""
FILL = """
import os, sys
with open(sys.argv[1], "wb", buffering=0) as stream:
    room = os.fstatvfs(stream.fileno())
    left = room.f_bavail * room.f_frsize - int(sys.argv[2]) * 1024
    os.posix_fallocate(stream.fileno(), 0, left)
"""
"""Takes all of the disk but so many kilobytes."""


def build_on_full_disk(command, place, *, kilobytes=0, options="--no-verify"):
    """Builds with a full disk at a place that holds what it held; says what is left, verifies the store, frees the
    disk and builds again."""
    content = command.folder / "content"
    if place.exists():
        place.rename(content)
    else:
        content.mkdir()
    place.mkdir()
    build = f"'{sys.executable}' -m builder build tiny.yaml --out out"
    script = SCRIPT.format(
        megabytes=60, kilobytes=kilobytes, place=place, content=content, python=sys.executable, build=build,
        options=options, store=command.cache / "store",
    )  # fmt: skip
    return subprocess.run(
        [*NAMESPACE, "sh", "-c", script],
        cwd=command.folder, env={**os.environ, "TRITONSMITH_CACHE": str(command.cache), "CI": "1", "FILL": FILL},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def forget(command, stage):
    """What a stage made is not known any more: it runs again, and the later ones are found."""
    for kept in kept_records(Store.at(command.cache / "store")):
        if kept.record.stage == stage:
            kept.path.unlink()


EXPORT = ("source", "tokenizer", "trace", "bind", "reference", "check")


@pytest.mark.parametrize("stage", [*EXPORT, "warmup", "config", "package", "pack", "measure", "deliver"])
def test_full_disk_is_one_message_leaves_nothing_and_the_next_run_goes_on(again, stage):
    forget(again, stage)
    place = again.folder / "out" if stage == "deliver" else again.cache / "store"
    done = build_on_full_disk(again, place, options="" if stage == "measure" else "--no-verify")
    assert done.returncode == 3, done.stderr
    message = done.stderr.split("tritonsmith: ")[1]
    where = {"deliver": r"\S+/out", "pack": r"\S+/tiny-cpu-\S+\.tar\.gz", "measure": r"(measure|\S+/unpacked-\S+)"}
    assert re.match(f"{where.get(stage, stage)}: no space left on the disk", message), message
    assert "mend: " in message
    assert "Traceback" not in done.stderr
    left, _, rest = done.stdout.partition("LEFT\n")[2].partition("STORE\n")
    assert left == "", "half-written files"
    store, _, next_run = rest.partition("AGAIN ")
    assert json.loads(store)["clean"]
    assert next_run == "0\n", done.stderr


def test_disk_that_is_large_enough_is_none_of_it(again):
    forget(again, "pack")
    done = build_on_full_disk(again, again.cache / "store", kilobytes=20_000)
    assert done.returncode == 0, done.stderr

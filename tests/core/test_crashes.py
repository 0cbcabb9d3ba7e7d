"""Builds that are killed, damaged and crowded: cheap stages, the real executor, real processes. ``scripts/soak`` runs
many times as many."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest

from builder.core.collect import statistics, verify
from builder.core.store import Store
from tests.core.chain import OWN, SHARED, build

KILLS = 12
FLIPS = 6
CROWD = 6


def start(store, *options):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.core.chain", str(store), *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return json.loads(out)


def ran(folder):
    return {path.name: len(path.read_text()) for path in (folder / "diary").iterdir()}


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """The trees of builds that nobody disturbed."""
    store = Store.at(tmp_path_factory.mktemp("truth") / "store")
    digests = finish(start(store.root, "--recipes", *"abcdef", "--seconds", "0"))
    assert len(set(digests.values())) == 6
    return digests


def test_killed_at_any_moment_the_next_run_goes_on(tmp_path, truth):
    dice = random.Random(3)
    process = start(tmp_path / "whole/store")
    began = time.monotonic()
    finish(process)
    whole = time.monotonic() - began
    for number in range(KILLS):
        folder = tmp_path / f"kill-{number}"
        process = start(folder / "store")
        time.sleep(dice.uniform(0.2, 1) * whole)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        store = Store.at(folder / "store")
        assert verify(store).is_clean, "nothing half-written is ever seen"
        done = statistics(store).records
        assert finish(start(folder / "store")) == {"a": truth["a"]}
        if done < len((*SHARED, *OWN)):  # whoever runs a stage sweeps
            assert not list((store.root / "builds").iterdir())
        # What was published before is not made again; what was being made, at most twice.
        assert all(times <= 2 for times in ran(folder).values())
        assert sum(ran(folder).values()) <= len((*SHARED, *OWN)) + 1


@pytest.mark.parametrize("seed", range(FLIPS))
def test_bytes_flipped_all_over_the_store_are_found_and_never_shipped(tmp_path, truth, seed):
    dice = random.Random(seed)
    store = Store.at(tmp_path / "store")
    build(store, ["a"], 0, tmp_path / "diary")
    files = sorted(path for path in store.root.rglob("*") if path.is_file() and path.parent.name != "locks")
    for path in dice.sample(files, dice.randint(1, len(files))):
        content = bytearray(path.read_bytes())
        if content:
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
            path.chmod(0o644)
            path.write_bytes(content)
            path.chmod(0o444)
    assert finish(start(store.root)) == {"a": truth["a"]}
    verify(store)
    assert finish(start(store.root)) == {"a": truth["a"]}
    assert verify(store).is_clean


def test_builds_of_overlapping_recipes_share_one_store(tmp_path, truth):
    recipes = list(truth)
    processes = [
        start(tmp_path / "store", "--recipes", *recipes[index:], *recipes[:index], "--jobs", str(1 + index % 3))
        for index in range(CROWD)
    ]
    assert [finish(process) for process in processes] == [truth] * CROWD
    assert set(ran(tmp_path).values()) == {1}, "each stage ran once"
    assert verify(Store.at(tmp_path / "store")).is_clean

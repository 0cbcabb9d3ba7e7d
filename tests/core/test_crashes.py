"""Builds that are killed, damaged, crowded and collected: cheap stages, the real executor, real processes.
``scripts/soak`` runs many times as many."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest

from builder.core.collect import Rule, collect, statistics, verify
from builder.core.store import Store
from tests import damage
from tests.core.chain import OWN, SHARED, build

KILLS = 12
CROWD = 8
STAGES = len((*SHARED, *OWN))


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
    return {path.name: len(path.read_text()) for path in (folder / "diary").iterdir() if path.name != "theirs"}


def rebuilt(folder, recipe="a"):
    """Builds as another process would: nothing is known but what the store says."""
    return build(Store.at(folder / "store"), [recipe], 0, folder / "diary").values[f"{recipe}/deliver"]


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """The trees of builds that nobody disturbed."""
    store = Store.at(tmp_path_factory.mktemp("truth") / "store")
    digests = finish(start(store.root, "--recipes", *"abcdef", "--seconds", "0"))
    assert len(set(digests.values())) == 6
    return digests


def test_killed_at_any_moment_the_next_run_goes_on(tmp_path, truth):
    dice = random.Random(3)
    for number in range(KILLS):
        folder = tmp_path / f"kill-{number}"
        process, stage = start(folder / "store"), dice.choice((*SHARED, *OWN))
        assert any(line == f"{stage} ...\n" for line in process.stderr)
        time.sleep(dice.uniform(0, 0.03))  # a stage takes 0.02 s
        process.send_signal(signal.SIGKILL)
        process.communicate()
        store = Store.at(folder / "store")
        assert verify(store).is_clean, "nothing half-written is ever seen"
        done = statistics(store).records
        assert rebuilt(folder) == truth["a"]
        if done < STAGES:  # whoever runs a stage sweeps
            assert not list((store.root / "builds").iterdir())
        # What was published before is not made again; what was being made, at most twice.
        assert all(times <= 2 for times in ran(folder).values())
        assert sum(ran(folder).values()) <= STAGES + 1


@pytest.fixture
def built(tmp_path):
    """A store in which all that there can be has been written."""
    rebuilt(tmp_path)
    time.sleep(0.06)  # what is known by stat is kept of files that are older than a tick
    rebuilt(tmp_path)
    store = Store.at(tmp_path / "store")
    assert {path.relative_to(store.root).parts[0] for path in damage.files(store)} == {
        "blobs", "records", "nodes", "stats",
    }  # fmt: skip
    return store


@pytest.mark.parametrize("kind", damage.KINDS)
def test_damage_all_over_the_store_is_mended_and_never_shipped(built, tmp_path, truth, kind):
    for seed in range(3):
        dice = random.Random(seed)
        victims = damage.files(built)
        for path in dice.sample(victims, dice.randint(1, len(victims))):
            damage.strike(path, kind, dice)
        assert rebuilt(tmp_path) == truth["a"]
        verify(built)
        assert rebuilt(tmp_path) == truth["a"]
        assert verify(built).is_clean


@pytest.mark.parametrize("kind", damage.CONTENT)
def test_a_verification_names_each_damaged_file_and_no_other(built, tmp_path, truth, kind):
    dice = random.Random(kind)
    for part in ("blobs", "records", "nodes", "stats"):
        path = dice.choice([path for path in damage.files(built) if path.is_relative_to(built.root / part)])
        damage.strike(path, kind, dice)
        assert verify(built).damaged == (str(path.relative_to(built.root)),)
        assert not path.exists()
        assert rebuilt(tmp_path) == truth["a"]
        assert verify(built).is_clean


def test_builds_of_overlapping_recipes_share_one_store(tmp_path, truth):
    recipes = list(truth)
    processes = [
        start(tmp_path / "store", "--recipes", *recipes[index:], *recipes[:index], "--jobs", str(1 + index % 3))
        for index in (number % len(recipes) for number in range(CROWD))
    ]
    assert [finish(process) for process in processes] == [truth] * CROWD
    assert set(ran(tmp_path).values()) == {1}, "each stage ran once"
    assert verify(Store.at(tmp_path / "store")).is_clean


def test_collecting_takes_nothing_from_running_builds(tmp_path, truth):
    """They may not even mend: what they use is never gone."""
    store, recipes = Store.at(tmp_path / "store"), list(truth)
    processes = [
        start(tmp_path / "store", "--no-mending", "--recipes", *recipes[index:], *recipes[:index])
        for index in range(3)
    ]  # fmt: skip
    rules = (Rule(max_size=0), Rule(older_than_seconds=0), Rule(keep=()), Rule())
    collected = []
    while any(process.poll() is None for process in processes):
        collected.append(collect(store, rules[len(collected) % len(rules)]))
        assert verify(store).is_clean
    assert [finish(process) for process in processes] == [truth] * 3
    assert max(done.in_use for done in collected) > 0, "there was something to take"
    assert set(ran(tmp_path).values()) <= {1, 2, 3}
    assert collect(store, Rule(max_size=0)).left == 0, "and when they are gone it is taken"

import os
import subprocess
import sys
import time

import pytest

from builder.core.collect import Rule, collect, kept_records, statistics, verify
from builder.core.execute import Executor
from builder.core.store import Store
from tests.core.stages import PIECES, Write

HOLD = """
import sys, time
from pathlib import Path
from builder.core.store import Store
from builder.core.execute import Executor
from tests.core.stages import Write
store = Store.at(Path(sys.argv[1]))
with store.lease():
    for text in sys.argv[2:]:
        Executor(store, "r").run(Write(text), "good")
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def store(tmp_path):
    store = Store.at(tmp_path / "store")
    for text in ("a", "b", "c"):
        Executor(store, "r").run(Write(text), "good")
    return store


def texts(store):
    return sorted(kept.record.fingerprint["text"] for kept in kept_records(store))


def age(store, text, seconds):
    for kept in kept_records(store):
        if kept.record.fingerprint["text"] == text:
            then = time.time() - seconds
            for path in (kept.path, *map(store.blobs.path, kept.blobs)):
                os.utime(path, (then, then))


@pytest.fixture
def running(store):
    """Another process with a lease, that uses what its arguments say."""
    children = []

    def start(*texts):
        child = subprocess.Popen([sys.executable, "-c", HOLD, store.root, *texts], stdout=subprocess.PIPE, text=True)
        children.append(child)
        assert child.stdout.readline() == "held\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.wait()
        child.stdout.close()


def test_statistics_count_by_stage(store):
    found = statistics(store)
    assert (found.records, found.blobs, found.unreferenced) == (3, 3 * PIECES, 0)
    assert found.stages["write"]["records"] == 3
    assert found.stages["write"]["size"] == found.size
    assert not found.running


def test_what_nothing_refers_to_goes_and_all_else_stays(store):
    path = next(store.root.glob("records/*/*.json"))
    gone = next(kept for kept in kept_records(store) if kept.path == path)
    path.unlink()
    assert statistics(store).unreferenced > 0
    done = collect(store, Rule())
    assert (done.records, done.blobs) == (0, len(gone.blobs))
    assert len(texts(store)) == 2
    assert verify(store).is_clean
    assert collect(store, Rule()).blobs == 0


def test_by_age(store):
    age(store, "b", 100)
    assert collect(store, Rule(older_than_seconds=1000)).records == 0
    assert collect(store, Rule(older_than_seconds=50)).records == 1
    assert texts(store) == ["a", "c"]
    assert verify(store).is_clean


def test_by_size_the_least_recently_used_goes_first(store):
    for seconds, text in ((300, "c"), (200, "a"), (100, "b")):
        age(store, text, seconds)
    size = statistics(store).size
    done = collect(store, Rule(max_size=size * 7 // 10))
    assert texts(store) == ["a", "b"]
    assert done.left == statistics(store).size <= size * 7 // 10
    collect(store, Rule(max_size=0))
    assert texts(store) == []
    assert list(store.blobs.all()) == []


def test_by_what_is_still_reached(store):
    (keep,) = [kept.record.key for kept in kept_records(store) if kept.record.fingerprint["text"] == "b"]
    assert collect(store, Rule(keep={keep})).records == 2
    assert texts(store) == ["b"]


def test_being_found_is_being_used(store):
    age(store, "b", 100)
    Executor(Store.at(store.root), "r").run(Write("b"), "good")
    assert collect(store, Rule(older_than_seconds=50)).records == 0


def test_what_a_running_build_uses_stays_whatever_is_asked(store, running):
    for text in "abc":
        age(store, text, 100)
    child = running("b", "new")
    assert statistics(store).running
    done = collect(store, Rule(older_than_seconds=0, max_size=0, keep=()))
    assert texts(store) == ["b", "new"]
    assert (done.records, done.in_use) == (2, 2)
    assert verify(store).is_clean

    child.kill()  # a lease ends with its process, however that ends
    child.wait()
    collect(store, Rule(max_size=0))
    assert texts(store) == []
    assert not list((store.root / "leases").iterdir())


def test_a_lease_that_cannot_be_opened_is_taken_for_that_of_a_running_build(store):
    """Another user's, say; here a folder, which nobody can open for writing, root neither."""
    (store.root / "leases/theirs").mkdir(parents=True)
    Executor(store, "r").run(Write("b"), "good")
    collect(store, Rule(max_size=0))
    assert texts(store) == ["b"]


def test_verify_finds_every_kind_of_damage_and_removes_it(store):
    kept = list(kept_records(store))
    flipped, gone = (store.blobs.path(next(iter(one.blobs))) for one in kept[:2])
    flipped.chmod(0o644)
    flipped.write_bytes(flipped.read_bytes()[:-1] + b"?")
    gone.unlink()
    kept[2].path.chmod(0o644)
    kept[2].path.write_bytes(kept[2].path.read_bytes().replace(b"write", b"wrote", 1))
    found = verify(store)
    assert not found.is_clean
    assert sorted(found.damaged) == sorted(str(path.relative_to(store.root)) for path in (flipped, kept[2].path))
    assert len(found.missing) == 2
    assert verify(store).is_clean
    assert texts(store) == []


def test_a_copy_that_was_cut_is_swept_and_one_that_runs_is_not(store):
    import fcntl

    old = time.time() - 4000
    for name in ("copy-dead", "copy-alive"):
        (store.root / "builds" / name).write_text("half")
        os.utime(store.root / "builds" / name, (old, old))
    (store.root / "records" / "aa").mkdir(exist_ok=True)
    (store.root / "records/aa/.x.tmp").write_text("half")
    os.utime(store.root / "records/aa/.x.tmp", (old, old))
    with (store.root / "builds/copy-alive").open() as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        collect(store, Rule())
        assert [path.name for path in (store.root / "builds").iterdir()] == ["copy-alive"]
    assert not list(store.root.glob("records/*/.*.tmp"))

"""Worker processes through the real graph, executor and store."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import chain

import pytest

from builder.core.execute import Executor, fingerprint_of
from builder.core.graph import Limits, Node, run
from builder.core.orders import order_of
from builder.core.store import Store
from builder.core.worker import perform
from builder.core.workers import Workers
from builder.errors import DamagedError, InternalError, MachineError, ModelError
from tests.core.stages import Apart, Listener

PATIENCE_SECONDS = 0.5
"""How long a stage waits for one that must not come."""


@pytest.fixture
def store(tmp_path):
    (tmp_path / "diary").mkdir()
    return Store.at(tmp_path / "store")


@pytest.fixture
def workers(store):
    with Workers(Executor(store)) as made:
        yield made


def stage(store, name="apart", **options):
    return Apart(name, "text", 0, store.root.parent / "diary", **options)


def node(store, name, *needs, **options):
    made = stage(store, name, **options)
    return Node(f"r/{name}", {need: f"r/{need}" for need in needs}, lambda _: (made, ()))


def build(store, nodes, limits):
    with Workers(Executor(store), limits.memory) as workers:
        return run(nodes, workers.run, limits)


def test_a_stage_runs_in_a_process_of_its_own_and_is_found_afterwards(store):
    listener = Listener()
    with Workers(Executor(store, reporter=listener)) as workers:
        made = workers.run(stage(store), (), "r/apart")
        assert made.record["pid"] != os.getpid()
        assert workers.run(stage(store), (), "r/apart") == made
    assert listener.events == [("started", "r/apart"), ("ran", "r/apart"), ("found", "r/apart")]
    ran, found = listener.times
    assert ran.peak_bytes > 2**20
    assert found.peak_bytes is None
    assert not list((store.root / "builds").iterdir())


def test_one_process_takes_one_order_after_another(store, workers):
    first, second = (workers.run(stage(store, name), (), f"r/{name}").record["pid"] for name in "ab")
    assert first == second


def test_a_stage_gets_the_process_that_has_its_libraries(store, workers):
    both = [
        node(store, name, meets=other, libraries=(library,))
        for name, other, library in (("a", "b", "numpy"), ("b", "a", "typer"))
    ]
    pids = {name: made.record["pid"] for name, made in run(both, workers.run, Limits(2)).values.items()}
    assert len(set(pids.values())) == 2
    for name, library in (("a", "numpy"), ("b", "typer"), ("a", "numpy")):
        again = stage(store, f"again-{name}", libraries=(library,))
        assert workers.run(again, (), "r/again").record["pid"] == pids[f"r/{name}"]


def test_nothing_is_imported_from_the_users_folder(store, tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    assert build(store, [node(store, "a")], Limits(2)).values
    control = subprocess.run([sys.executable, "-m", "builder.core.worker"], stdin=subprocess.DEVNULL)
    assert control.returncode == 7, "by hand it is: python -m does that"


def test_an_error_there_is_the_same_error_here(store, workers):
    with pytest.raises(ModelError, match="no such head") as caught:
        workers.run(stage(store, fail="no such head"), (), "r/apart")
    assert caught.value.mend == "mend it"
    with pytest.raises(InternalError, match="RuntimeError: a bug"):
        workers.run(stage(store, fail="bug"), (), "r/apart")


def test_one_that_is_killed_fails_its_own_node_and_is_replaced(store):
    nodes = [
        node(store, "killed", fail="killed"), node(store, "after", "killed"), node(store, "b"), node(store, "c"),
    ]  # fmt: skip
    made = build(store, nodes, Limits(2))
    assert set(made.values) == {"r/b", "r/c"}
    error = made.errors.pop("r/killed")
    assert not made.errors
    assert isinstance(error, MachineError)
    assert "the worker of killed was killed by SIGKILL" in error.message
    assert "--jobs" in error.mend


def test_one_that_was_killed_while_it_was_idle_is_no_error(store, workers, is_gone):
    first = workers.run(stage(store, "a"), (), "r/a").record["pid"]
    os.kill(first, signal.SIGKILL)
    assert is_gone(first)
    assert workers.run(stage(store, "b"), (), "r/b").record["pid"] not in {first, os.getpid()}


@pytest.mark.parametrize(
    ("limits", "met"),
    [(Limits(2), True), (Limits(2, 600 << 20), True), (Limits(2, 500 << 20), False), (Limits(1), False)],
)
def test_two_run_side_by_side_if_both_fit(store, limits, met):
    patience = {} if met else {"patience_seconds": PATIENCE_SECONDS}
    nodes = [node(store, "a", meets="b", **patience), node(store, "b", meets="a", **patience)]
    made = build(store, nodes, limits)
    assert [value.record["met"] for value in made.values.values()] == [met, met]


def test_what_needs_more_than_there_is_runs_by_itself_with_a_warning(store, caplog):
    nodes = [
        node(store, "huge", meets="b", needs=10**12, patience_seconds=PATIENCE_SECONDS),
        node(store, "b", meets="huge", patience_seconds=PATIENCE_SECONDS),
    ]
    with caplog.at_level(logging.WARNING, logger="builder"):
        made = build(store, nodes, Limits(2, 10**9))
    assert [value.record["met"] for value in made.values.values()] == [False, False]
    assert caplog.messages == ["huge may need 1000.0 GB of memory, and 1.0 GB are there: it runs by itself"]


def test_what_needs_room_gets_that_of_idle_workers(store, workers, is_gone):
    nodes = [node(store, name, meets=other) for name, other in ("ab", "ba")]
    idle = {made.record["pid"] for made in run(nodes, workers.run, Limits(2)).values.values()}
    kept = workers.run(stage(store, "small"), (), "r/small").record["pid"]
    assert workers.run(stage(store, "huge", needs=10**15), (), "r/huge").record["pid"] == kept
    assert [is_gone(pid) for pid in idle - {kept}] == [True]


def test_more_memory_than_was_said_is_told(store, workers, caplog):
    with caplog.at_level(logging.INFO, logger="builder"):
        workers.run(stage(store, "honest"), (), "r/honest")
        assert not caplog.messages
        workers.run(stage(store, "modest", needs=1000), (), "r/modest")
    assert "modest took " in caplog.text


def test_a_damaged_input_is_told_as_such_before_the_order_and_in_the_worker(store, workers):
    """Not as what came of reading it: the next run makes it again."""
    before = workers.run(stage(store, "before"), (), "r/before")
    made = stage(store, "after", reads_early="before.0")
    first = before.files["before.0"]
    order = order_of(made, (before,), "r/after", fingerprint_of(made, (before,)), store)
    for ask in (lambda: workers.run(made, (before,), "r/after"), lambda: perform(order)):
        damage(first.path)
        with pytest.raises(DamagedError) as caught:
            ask()
        assert caught.value.path == first.path
        assert not first.path.exists()


def damage(path):
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(b"damaged")


def test_none_is_left_when_the_work_is_done(store, is_gone):
    made = build(store, [node(store, "a"), node(store, "b")], Limits(2))
    assert all(is_gone(value.record["pid"]) for value in made.values.values())


BUILDER = """
import sys
from pathlib import Path
from builder.core.graph import Limits
from builder.core.orders import order_of
from builder.core.store import Store
from builder.core.worker import perform
from tests.core.test_workers import build, node
store = Store.at(Path(sys.argv[1]))
build(store, [node(store, name, meets="nobody", patience_seconds=60) for name in "ab"], Limits(2))
"""


def test_none_outlives_the_builder(store, is_gone):
    builder = subprocess.Popen([sys.executable, "-c", BUILDER, store.root])
    signs = [store.root.parent / "diary" / f"{name}.here" for name in "ab"]
    assert any(all(sign.exists() for sign in signs) or time.sleep(0.02) for _ in range(1000))
    workers = children_of_children(builder.pid)
    assert len(workers) == 2
    builder.kill()
    builder.wait()
    assert all(is_gone(pid) for pid in workers)


def children_of_children(pid):
    """Builder → guardian → worker."""
    return list(chain.from_iterable(children(guardian) for guardian in children(pid)))


def children(pid):
    done = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True)
    return [int(line) for line in done.stdout.split()]


def test_an_interruption_ends_the_workers(store):
    sign = store.root.parent / "diary" / "b.here"

    def interrupt():
        while not sign.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    nodes = [node(store, name, meets="nobody", patience_seconds=60) for name in "ab"]
    threading.Thread(target=interrupt).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        build(store, nodes, Limits(2))
    assert time.monotonic() - began < 30, "not the minute that they would have taken"

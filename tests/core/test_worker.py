import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from builder.artifacts import File, Repository, Sample
from builder.core.execute import Executor, fingerprint_of
from builder.core.graph import Limits, Node, run
from builder.core.orders import decode, encode
from builder.core.store import Store
from builder.core.worker import Workers, perform
from builder.errors import InternalError, MachineError, ModelError
from tests.core.chain import Work
from tests.core.stages import Listener


@dataclass(frozen=True)
class Apart(Work):
    """A stage for a process of its own."""

    fail: str = ""
    apart: ClassVar[bool] = True

    def run(self, inputs, out):
        made = super().run(inputs, out)
        if self.fail == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fail == "bug":
            raise RuntimeError("a bug")
        if self.fail:
            raise ModelError(self.fail, mend="mend it")
        return Repository(made.name, made.files, {"pid": os.getpid()})


@pytest.fixture
def store(tmp_path):
    (tmp_path / "diary").mkdir()
    return Store.at(tmp_path / "store")


def stage(store, name="apart", **options):
    return Apart(name, "text", 0, store.root.parent / "diary", **options)


def test_orders_survive_the_journey():
    value = {
        "paths": (Path("/a"), "b"),
        "files": {"x": File(Path("/x"), "0" * 64, 1)},
        "samples": (Sample("a", None), Sample("b", "c")),
        "numbers": [1, 2.5, None, True],
    }
    assert decode(json.loads(json.dumps(encode(value)))) == value


@pytest.mark.parametrize(
    "name", ["os:system", "subprocess:Popen", "builder.settings:environment", "builder.errors:ModelError"]
)
def test_an_order_makes_nothing_but_values_of_ours(name):
    with pytest.raises(InternalError, match=r"no class of ours|no dataclass"):
        decode({"$class": name})


def test_what_no_process_can_be_given_is_our_own_mistake():
    with pytest.raises(InternalError, match="no other process can be given a function"):
        encode((test_orders_survive_the_journey,))


def test_a_stage_runs_in_a_process_of_its_own_and_is_found_afterwards(store):
    listener = Listener()
    workers = Workers(Executor(store, reporter=listener))
    made = workers.run(stage(store), (), "r/apart")
    assert made.record["pid"] != os.getpid()
    assert workers.run(stage(store), (), "r/apart") == made
    assert listener.events == [("started", "r/apart"), ("ran", "r/apart"), ("found", "r/apart")]
    assert not list((store.root / "builds").iterdir())


def test_an_error_there_is_the_same_error_here(store):
    workers = Workers(Executor(store))
    with pytest.raises(ModelError, match="no such head") as caught:
        workers.run(stage(store, fail="no such head"), (), "r/apart")
    assert caught.value.mend == "mend it"
    with pytest.raises(MachineError, match="the worker of apart was killed by SIGKILL") as killed:
        workers.run(stage(store, fail="killed"), (), "r/apart")
    assert "--jobs" in killed.value.mend
    with pytest.raises(InternalError, match="RuntimeError: a bug"):
        workers.run(stage(store, fail="bug"), (), "r/apart")


def test_what_was_declared_is_asserted_there(store):
    made = stage(store)
    order = {"stage": encode(made), "inputs": encode(()), "node": "r/apart", "store": str(store.root), "owned": []}
    declared = fingerprint_of(made, ())
    with pytest.raises(MachineError, match=r"planned for something else than is here: torch 9 → \(none\)"):
        perform({**order, "fingerprint": {**declared, "versions": {"torch": "9"}}})
    assert not list((store.root.parent / "diary").iterdir())
    perform({**order, "fingerprint": declared})
    assert len(list(store.root.glob("records/*/*.json"))) == 1


def test_an_interruption_ends_the_workers(store):
    def interrupt():
        time.sleep(0.8)
        os.kill(os.getpid(), signal.SIGINT)

    nodes = [Node(f"r/{name}", {}, _slow(store, name)) for name in "ab"]
    threading.Thread(target=interrupt).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(nodes, Workers(Executor(store)).run, Limits(2))
    assert time.monotonic() - began < 15, "not the minute that they would have taken"


def _slow(store, name):
    return lambda _: (Apart(name, "text", 60, store.root.parent / "diary"), ())

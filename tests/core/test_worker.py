import json
import subprocess
import sys
from pathlib import Path

import pytest

from builder.artifacts import File, Sample
from builder.core.digest import digest_json, digest_tree
from builder.core.execute import Executor, fingerprint_of
from builder.core.orders import decode, encode, order_of
from builder.core.store import Store
from builder.core.worker import perform
from builder.errors import InternalError, MachineError
from tests.core.chain import Work
from tests.core.stages import Apart


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


def test_what_was_declared_is_asserted_there(store):
    made = stage(store)
    declared = fingerprint_of(made, ())
    order = order_of(made, (), "r/apart", declared, store)
    with pytest.raises(MachineError, match=r"planned for something else than is here: torch 9 → \(none\)"):
        perform({**order, "fingerprint": {**declared, "versions": {"torch": "9"}}})
    assert not list((store.root.parent / "diary").iterdir())
    perform({**order, "fingerprint": declared})
    assert len(list(store.root.glob("records/*/*.json"))) == 1


def test_by_hand_it_makes_the_same_bytes_as_in_process(store, tmp_path):
    """``python -m builder.core.worker ORDER``, and the control: another order makes others."""
    trees = {}
    for name, text in (("here", "text"), ("by hand", "text"), ("another", "other")):
        own = Store.at(tmp_path / name)
        made = Work("work", text, 0, tmp_path / "diary")
        if name == "here":
            tree = Executor(own).run(made, (), "r/work")
        else:
            order = tmp_path / "order.json"
            order.write_text(json.dumps(order_of(made, (), "r/work", fingerprint_of(made, ()), own)))
            command = [sys.executable, "-m", "builder.core.worker", order]
            answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            assert answer["done"] == digest_json(fingerprint_of(made, ()))
            assert answer["peak_bytes"] >= answer["resident_bytes"] > 2**20
            tree = own.load(own.read(answer["done"]))
        trees[name] = digest_tree(tree.files)
    assert trees["here"] == trees["by hand"] != trees["another"]


def test_what_a_library_prints_is_no_answer(store):
    made = Apart("apart", "text", 0, store.root.parent / "diary", shout=True)
    order = json.dumps(order_of(made, (), "r/apart", fingerprint_of(made, ()), store))
    command = [sys.executable, "-m", "builder.core.worker"]
    done = subprocess.run(command, input=f"{order}\n{order}\n", check=True, capture_output=True, text=True)
    assert [next(iter(json.loads(line))) for line in done.stdout.splitlines()] == ["done", "done"]
    assert done.stderr == "{not JSON\n", "the second order found what the first had made"

import pytest

from builder.artifacts import Repository
from builder.core.execute import Executor
from builder.core.graph import Node, run
from builder.core.plan import differences, plan
from builder.core.store import Store
from builder.errors import ModelError
from tests.core.stages import Write, outside


@pytest.fixture
def store(tmp_path):
    return Store.at(tmp_path / "store")


def nodes(text="x", facts=None, theirs=None):
    """first → second → third → last, and apart"""
    start = (theirs,) if theirs else "good"
    return [
        Node("r/first", {}, lambda _: (Write(text, "first", facts=facts), start)),
        Node("r/second", {"it": "r/first"}, lambda made: (Write("same", "second"), (made["it"],))),
        Node("r/third", {"it": "r/second"}, lambda made: (Write("same", "third"), (made["it"],))),
        Node("r/apart", {}, lambda _: (Write("apart", "apart"), "good")),
        Node("r/last", {"it": "r/third"}, act=lambda made: made["it"]),
    ]


def build(store, made):
    outcome = run(made, Executor(store).run)
    assert not outcome.errors, outcome.errors


def states(store, made):
    return {one.stage: (one.state, one.why) for one in plan(made, store)}


def test_states_and_why(store):
    assert states(store, nodes()) == {
        "first": ("run", "never built"),
        "second": ("depends", "needs first"),
        "third": ("depends", "needs second"),
        "apart": ("run", "never built"),
    }
    build(store, nodes())
    assert {state for state, _ in states(store, nodes()).values()} == {"hit"}
    assert states(store, nodes("y")) == {
        "first": ("run", "text: x → y"),
        "second": ("depends", "needs first"),
        "third": ("depends", "needs second"),
        "apart": ("hit", ""),
    }


def test_a_plan_changes_nothing(store):
    build(store, nodes())
    before = sorted((path, path.stat().st_size) for path in store.root.rglob("*") if path.is_file())
    plan(nodes("y"), store)
    assert sorted((path, path.stat().st_size) for path in store.root.rglob("*") if path.is_file()) == before
    assert states(store, nodes("y"))["first"] == ("run", "text: x → y")


def test_what_was_built_once_and_thrown_away(store):
    build(store, nodes())
    for path in store.root.glob("records/*/*.json"):
        path.unlink()
    assert states(store, nodes())["first"] == ("run", "built before, but not in the store any more")


def test_blocked_says_what_is_missing_and_so_does_all_behind_it(store):
    from builder.core.versions import version

    class Needing(Write):
        def fingerprint(self, inputs):
            return {"versions": {"no-such-thing": version("no-such-thing")}}

    made = nodes()
    made[0] = Node("r/first", {}, lambda _: (Needing("x", "first"), "good"))
    found = states(store, made)
    assert found["first"][0] == "blocked"
    assert "no-such-thing is not installed" in found["first"][1]
    assert found["second"] == ("blocked", "needs first")
    assert found["third"] == ("blocked", "needs second")
    assert found["apart"][0] == "run"


def test_what_the_machine_lacks_blocks_a_node_that_was_not_made_elsewhere(store):
    lacking = {"r/second": "needs a GPU"}

    def states():
        return {one.stage: (one.state, one.why) for one in plan(nodes(), store, lacking)}

    assert states() == {
        "first": ("run", "never built"),
        "second": ("blocked", "needs a GPU"),  # said before it is known what it would run on
        "third": ("blocked", "needs second"),
        "apart": ("run", "never built"),
    }
    build(store, nodes())
    assert {state for state, _ in states().values()} == {"hit"}


def test_what_the_user_did_wrong_is_raised(store):
    def wrong(_):
        raise ModelError("no such model")

    with pytest.raises(ModelError):
        plan([Node("r/first", {}, wrong)], store)


def test_a_changed_file_is_named(store, tmp_path):
    class Keyed(Write):
        def fingerprint(self, inputs):
            return {"files": {name: file.sha256 for name, file in inputs[0].files.items()}}

    def made(text):
        theirs = Repository("theirs", {"model.safetensors": outside(tmp_path / "theirs", text)}, {})
        return [Node("r/first", {}, lambda _: (Keyed("x", "first"), (theirs,)))]

    build(store, made("one"))
    assert states(store, made("two"))["first"] == ("run", "model.safetensors changed")


SHA, OTHER = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({"serving": {"max_batch_size": 32}}, {"serving": {"max_batch_size": 64}}, "serving.max_batch_size: 32 → 64"),
        ({"versions": {"numpy": "2.0.0"}}, {"versions": {"numpy": "2.1.1"}}, "numpy 2.0.0 → 2.1.1"),
        ({"versions": {}}, {"versions": {"torch": "2.13"}}, "torch (none) → 2.13"),
        ({"version": 1}, {"version": 2}, "stage version 1 → 2"),
        ({"files": {"model.safetensors": SHA}}, {"files": {"model.safetensors": OTHER}}, "model.safetensors changed"),
        ({"files": {}}, {"files": {"a.json": SHA}}, "a.json added"),
        ({"files": {"a.json": SHA}}, {"files": {}}, "a.json removed"),
        ({"on": True, "x": None}, {"on": False, "x": None}, "on: true → false"),
        ({"list": [1, 2]}, {"list": [1, 2, 3]}, "list: [1, 2] → [1, 2, 3]"),
        ({"text": "a" * 99}, {"text": "b"}, f"text: {'a' * 39}… → b"),
    ],
)  # fmt: skip
def test_differences_in_words(old, new, words):
    assert list(differences(old, new)) == [words]


def test_what_is_equal_has_no_difference():
    assert list(differences({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]})) == []

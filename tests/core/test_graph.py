import threading
import time
from typing import ClassVar

import pytest

from builder.core.execute import Executor
from builder.core.graph import Limits, Node, run
from builder.core.store import Store
from builder.errors import InternalError, ModelError
from tests.core.stages import Listener, Write


class Hall:
    """Who is in at the same time."""

    def __init__(self):
        self.lock, self.inside, self.most, self.together, self.order = threading.Lock(), [], 0, set(), []

    def __call__(self, stage, inputs, node):
        with self.lock:
            self.inside.append(stage)
            self.order.append(node)
            self.most = max(self.most, len(self.inside))
            self.together |= {(one.name, other.name) for one in self.inside for other in self.inside if one != other}
        time.sleep(0.03)
        with self.lock:
            self.inside.remove(stage)
        if stage.fail:
            raise stage.fail
        return stage.name


class Sized(Write):
    def memory(self, inputs):
        return inputs


class Alone(Write):
    alone: ClassVar[bool] = True


def node(name, *needs, stage=None, size=0, **options):
    made = stage or Sized("x", name, **options)
    return Node(f"r/{name}", {need: f"r/{need}" for need in needs}, lambda _: (made, size))


@pytest.mark.parametrize("jobs", [1, 4])
def test_each_runs_once_and_after_what_it_needs(jobs):
    hall = Hall()
    nodes = [node("a"), node("b", "a"), node("c", "a"), node("d", "b", "c"), node("a")]
    outcome = run(nodes, hall, Limits(jobs))
    assert outcome.values == {f"r/{name}": name for name in "abcd"}
    assert hall.order[0] == "r/a"
    assert hall.order[-1] == "r/d"
    assert sorted(hall.order) == ["r/a", "r/b", "r/c", "r/d"]
    assert hall.most == (2 if jobs > 1 else 1)


def test_no_more_than_asked_for():
    hall = Hall()
    run([node(f"n{index}") for index in range(9)], hall, Limits(3))
    assert hall.most == 3


def test_no_more_than_fits_into_memory_but_one_always_does():
    hall = Hall()
    nodes = [node("a", size=6), node("b", size=6), node("c", size=4), node("huge", size=99)]
    assert len(run(nodes, hall, Limits(4, memory=10)).values) == 4
    assert ("a", "b") not in hall.together
    assert ("a", "c") in hall.together
    assert not [pair for pair in hall.together if "huge" in pair]


def test_one_that_measures_runs_alone():
    hall = Hall()
    nodes = [node("a"), node("m", stage=Alone("x", "m")), node("b")]
    assert len(run(nodes, hall, Limits(4)).values) == 3
    assert not [pair for pair in hall.together if "m" in pair]


@pytest.mark.parametrize("jobs", [1, 4])
def test_one_that_fails_stops_only_what_depends_on_it_and_what_nobody_wants_any_more(jobs):
    hall = Hall()
    wrong = ModelError("wrong")
    nodes = [
        node("a", fail=wrong), node("only-for-b"), node("b", "a", "only-for-b"), node("c", "b"),
        node("x"), node("y", "x"),
    ]  # fmt: skip
    outcome = run(nodes, hall, Limits(jobs))
    assert outcome.errors == {"r/a": wrong}
    assert {"r/x", "r/y"} <= outcome.values.keys()
    assert not {"r/b", "r/c"} & outcome.values.keys()
    if jobs == 1:
        assert hall.order == ["r/a", "r/x", "r/y"]


def test_an_error_while_inputs_are_prepared_is_the_nodes():
    def wrong(_):
        raise ModelError("wrong")

    for jobs in (1, 2):
        outcome = run([Node("r/a", {}, wrong), node("b")], Hall(), Limits(jobs))
        assert list(outcome.errors) == ["r/a"]
        assert outcome.values == {"r/b": "b"}


def test_an_interruption_is_no_error_of_a_node():
    def interrupted(stage, inputs, node):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([node("a"), node("b")], interrupted)


def test_recipes_that_share_stages_run_them_once(tmp_path):
    diary = tmp_path / "diary"
    nodes = []
    for recipe in "abcd":
        nodes.append(Node(f"{recipe}/first", {}, lambda _: (Write("same", "first", diary=diary), "good")))
        nodes.append(
            Node(
                f"{recipe}/second",
                {"it": f"{recipe}/first"},
                lambda made, recipe=recipe: (Write(recipe, "second", diary=diary), (made["it"],)),
            )
        )
    store = Store.at(tmp_path / "store")
    outcome = run(nodes, Executor(store).run, Limits(4))
    assert not outcome.errors
    ran = sorted(path.name.rpartition("-")[0] for path in diary.iterdir())
    assert ran == ["first", *["second"] * 4]


def test_the_outcome_is_in_the_order_of_the_nodes():
    first_done = threading.Event()

    def late_first(stage, inputs, node):
        if node == "r/a":
            assert first_done.wait(20)
        else:
            first_done.set()
        return node

    nodes = [node("a"), node("b")]
    assert list(run(nodes, late_first, Limits(2)).values) == ["r/a", "r/b"]


def test_equal_work_waits_for_its_twin_and_lets_others_go_first():
    hall = Hall()
    nodes = [node("a"), Node("s/a", {}, node("a").prepare), node("b")]
    assert len(run(nodes, hall, Limits(2)).values) == 3
    assert ("a", "b") in hall.together
    assert hall.order == ["r/a", "r/b", "s/a"]


def test_what_is_preferred_goes_first_beside_others():
    def order(**options):
        hall = Hall()
        nodes = [node("a"), *(node(f"{name}-of-a", "a") for name in ("cold", "warm")), node("last", "a")]
        run(nodes, hall, Limits(2), **options)
        return hall.order

    assert order()[:3] == ["r/a", "r/cold-of-a", "r/warm-of-a"]
    assert order(prefer=lambda stage: stage.name in {"last", "warm-of-a"})[:3] == ["r/a", "r/warm-of-a", "r/last"]


def test_nodes_that_wait_for_one_another_are_our_own_mistake():
    with pytest.raises(InternalError, match="wait for one another: r/a, r/b"):
        run([node("a", "b"), node("b", "a")], Hall(), Limits(2))


def test_what_is_there_takes_no_place_beside_others():
    hall = Hall()
    there = {f"r/{name}" for name in "abd"}
    asked = []

    def find(stage, inputs, node):
        asked.append(node)
        return stage.name.upper() if node in there else None

    nodes = [node("a"), node("b", "a"), node("c", "b"), node("d", "c")]
    outcome = run(nodes, hall, Limits(2), find=find)
    assert outcome.values == {"r/a": "A", "r/b": "B", "r/c": "c", "r/d": "D"}
    assert hall.order == ["r/c"]
    assert asked == ["r/a", "r/b", "r/c", "r/d"], "in order, each once"


def test_an_executor_finds_what_it_made_and_reports_it(tmp_path):
    listener = Listener()
    executor = Executor(Store.at(tmp_path), reporter=listener)
    stage = Write("text")
    assert executor.found(stage, (), "r/write") is None
    assert listener.events == []
    made = executor.run(stage, (), "r/write")
    assert executor.found(stage, (), "r/again") == made
    assert listener.events[-1] == ("found", "r/again")
    assert executor.store.last("r/again")["key"] == executor.store.last("r/write")["key"]
    assert Executor(executor.store, fresh=True).found(stage, (), "r/write") is None

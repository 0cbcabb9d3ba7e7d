"""What the sweep's benchmark takes for granted: how large its grid is, and how a peer's table is read."""

from types import SimpleNamespace

import pytest

from benchmarks import sweep, sweep_peer
from builder.errors import MachineError
from builder.sweep import space
from builder.sweep.load import Load
from builder.sweep.point import Interval, Point
from builder.sweep.setting import Setting

FACTS = space.Facts(cores=2, max_batch_sizes={"": 32})


def test_the_grid_is_as_large_as_the_goal_says() -> None:
    settings = space.parse(sweep.KNOBS, FACTS).settings()
    assert len(settings) >= 150
    assert {setting.get(space.THREADS) for setting in settings} == {1, 2}


@pytest.mark.parametrize(("size", "delay"), [("1", None), ("4", 0)])
def test_a_row_of_model_analyzers_table(size: str, delay: int | None) -> None:
    setting, load = sweep_peer._candidate({"Instance Group": "2:CPU", "Max Batch Size": size, "Concurrency": "8"})
    assert (setting.get(space.COUNT), setting.get(space.THREADS)) == (2, 1)
    assert (setting.get(space.MAX_BATCH_SIZE), setting.get(space.DELAY)) == (int(size), delay)
    assert load == Load(concurrency=8)


def test_only_rounds_in_which_both_were_stable_count() -> None:
    sides = [(Setting.of({space.COUNT: count}), Load(concurrency=1)) for count in (1, 2)]
    rounds = [("stable", "stable"), ("stable", "unstable"), ("stable", "stable")]
    again = {
        side: [
            Point(*side, status[place], throughput=Interval(*[10.0 * number + place] * 3))  # type: ignore[arg-type]
            for number, status in enumerate(rounds)
        ]
        for place, side in enumerate(sides)
    }
    assert sweep.figures(again, sides, "throughput") == [(0.0, 20.0), (1.0, 21.0)]


def test_without_a_round_in_which_both_winners_were_stable_there_is_no_result() -> None:
    sides = [(Setting.of({space.COUNT: count}), Load(concurrency=1)) for count in (1, 2)]
    ours = sweep.Run("guided", SimpleNamespace(winner=SimpleNamespace(point=Point(*sides[0], "stable"))), 10.0)  # type: ignore[arg-type]
    peer = sweep_peer.Peer(sides[1], 100.0, 9.0, 20.0, 3, ())
    figure = Interval(5.0, 5.0, 5.0)
    again = {side: [Point(*side, "stable", throughput=figure, p99_ms=figure)] for side in sides}
    first, *_ = sweep_peer._rows(ours, peer, again)
    assert first.what == "throughput of the winner"
    again[sides[1]] = [Point(*sides[1], "unstable", "the throughput drifts")]
    with pytest.raises(MachineError, match=r"count 2, concurrency 1: unstable \(the throughput drifts\)"):
        list(sweep_peer._rows(ours, peer, again))

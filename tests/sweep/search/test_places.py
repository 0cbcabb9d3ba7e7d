"""Where candidates lie, and which of them are the same under their load."""

import numpy as np

from builder.sweep import space
from builder.sweep.load import Load
from builder.sweep.search.model import Calibrated
from builder.sweep.search.places import places, twins
from builder.sweep.space import BATCHING, COUNT, DELAY, MAX_BATCH_SIZE, THREADS, Facts

FACTS = Facts(cores=2, max_batch_sizes={"": 32})
MODEL = Calibrated(FACTS, {1: 10.0, 2: 6.0}, overhead_ms=1.0)


def test_batches_that_cannot_fill_are_the_same() -> None:
    knobs = {MAX_BATCH_SIZE: [2, 8, 32], DELAY: [0, 3000]}
    settings = space.parse(knobs, FACTS).settings()
    candidates = [(setting, Load(concurrency=each)) for each in (4, 64) for setting in settings]
    found = twins(candidates, [MODEL.predict(*one) for one in candidates])
    sizes = [(one.get(MAX_BATCH_SIZE), one.get(DELAY)) for one in settings]
    same = dict(zip(sizes, found[: len(sizes)], strict=True))
    assert same[8, 0] == same[32, 0] != same[2, 0]
    assert same[8, 3000] == same[32, 3000] != same[8, 0]
    assert len(set(found[len(sizes) :])) > len(set(found[: len(sizes)]))  # 64 requests fill them


def test_other_knobs_tell_candidates_apart_whatever_the_simulation_says() -> None:
    settings = space.parse({COUNT: [1], "response_cache.enable": [False, True]}, FACTS).settings()
    candidates = [(setting, Load(concurrency=1)) for setting in settings]
    assert twins(candidates, [MODEL.predict(*one) for one in candidates]) == [0, 1]


def test_places_are_steps_through_the_values() -> None:
    knobs = {COUNT: [1, 2], THREADS: [1, 2], MAX_BATCH_SIZE: [4, 32], BATCHING: [False, True]}
    candidates = [(one, Load(concurrency=4)) for one in space.parse(knobs, FACTS).settings()]
    rows = places(candidates, FACTS)
    assert rows.shape[0] == len(candidates)
    assert np.isfinite(rows).all()
    assert len(np.unique(rows, axis=0)) == len(candidates)
    crowded = [one.get(COUNT) == one.get(THREADS) == 2 for one, _ in candidates]
    more = rows[:, -2]  # threads for each core
    assert (more[crowded] == 1.0).all()
    assert (more[np.logical_not(crowded)] == 0.0).all()

"""The simulation against queueing theory, and against what a real server did (two cores, MiniLM, 128 tokens)."""

import pytest

from builder.sweep.load import Load
from builder.sweep.search.model import Calibrated
from builder.sweep.search.simulate import Scheduler, Server, simulate
from builder.sweep.setting import Setting
from builder.sweep.space import BATCHING, COUNT, DELAY, MAX_BATCH_SIZE, THREADS, Facts


def constant(milliseconds: float, scheduler: Scheduler | None = None) -> Server:
    return Server(scheduler or Scheduler(), lambda items, running: milliseconds * items)


def test_littles_law() -> None:
    for concurrency in (1, 3, 8):
        outcome = simulate(constant(10.0, Scheduler(instances=2)), Load(concurrency=concurrency))
        assert outcome.throughput * outcome.figure("mean_ms") / 1000 == pytest.approx(concurrency, rel=0.02)
    assert outcome.throughput == pytest.approx(200, rel=0.02)


def test_poisson_arrivals_wait_as_theory_says() -> None:
    """M/D/1 at half of the capacity: the average request takes 1.5 times the service time."""
    outcome = simulate(constant(10.0), Load(rate=50), requests=8000)
    assert outcome.figure("mean_ms") == pytest.approx(15.0, rel=0.08)
    assert simulate(constant(10.0), Load(rate=50, arrivals="constant")).figure("p99_ms") == pytest.approx(10.0)
    assert simulate(constant(10.0), Load(rate=200)).figure("p99_ms") > 500  # it cannot follow


def test_batches_form_as_triton_forms_them() -> None:
    seen: list[int] = []

    def record(items: int, running: int) -> float:
        seen.append(items)
        return 10.0

    load = Load(concurrency=6)
    for scheduler, sizes in (
        (Scheduler(largest=1), {1}),
        (Scheduler(largest=6, delay_ms=5.0), {6}),
        (Scheduler(largest=8, delay_ms=5.0, preferred=(4,)), {4, 2}),
        (Scheduler(largest=4, delay_ms=5.0), {4, 2}),
    ):
        seen.clear()
        simulate(Server(scheduler, record), load)
        assert set(seen[len(seen) // 2 :]) == sizes, scheduler
    seen.clear()
    simulate(Server(Scheduler(largest=8), record), Load(concurrency=4, batch=4))
    assert set(seen[2:]) == {8}  # two requests of four items


MEASURED = [  # instances, threads, largest batch, delay in µs, concurrency, inferences per second
    (1, 2, 1, 0, 4, 121.8),
    (1, 1, 1, 0, 16, 67.7),
    (2, 1, 1, 0, 4, 127.3),
    (2, 2, 1, 0, 4, 86.4),  # the first trap: more threads than cores
    (2, 1, 8, 0, 4, 128.2),
    (2, 1, 8, 1000, 4, 71.0),  # the second: all requests wait for one batch, and one instance idles
    (2, 1, 8, 1000, 16, 126.0),
]


def test_the_calibrated_model_sees_the_traps() -> None:
    facts = Facts(cores=2, max_batch_sizes={"": 32})
    model = Calibrated(facts, {1: 14.7, 2: 8.0}, share=0.9, crowd={1: 1.06}, fight=1.5, overhead_ms=0.8)
    for count, threads, largest, delay, concurrency, measured in MEASURED:
        knobs = {COUNT: count, THREADS: threads, MAX_BATCH_SIZE: largest, BATCHING: largest > 1, DELAY: delay}
        outcome = model.predict(Setting.of(knobs), Load(concurrency=concurrency))
        assert outcome.throughput == pytest.approx(measured, rel=0.15), knobs

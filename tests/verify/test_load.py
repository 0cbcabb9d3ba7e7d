import base64
from types import SimpleNamespace

import pytest

from builder.artifacts import Sample
from builder.tools.perf_analyzer import Point, Windows
from builder.verify import load


def test_the_load_spans_all_lengths_short_and_long_in_turn():
    samples = tuple(Sample("x" * length) for length in range(1, 97))
    chosen = [len(sample.text) for sample in load.typical(samples)]
    assert len(set(chosen)) == load.REQUESTS
    assert min(chosen) <= 4
    assert max(chosen) >= 93
    assert chosen[0] < chosen[2] < chosen[1]
    assert sum(chosen) / len(chosen) == pytest.approx(48.5, abs=2)


def test_few_samples_are_all_taken_once():
    samples = (Sample("a"), Sample("bb"), Sample("ccc"))
    assert sorted(sample.text for sample in load.typical(samples)) == ["a", "bb", "ccc"]


def test_windows_grow_with_the_time_that_a_request_takes():
    assert load.fitting_windows(0.02, 1).interval_milliseconds == Windows().interval_milliseconds
    assert load.fitting_windows(0.125, 1).interval_milliseconds == 3000
    assert load.fitting_windows(0.125, 16).interval_milliseconds == 6000
    assert load.fitting_windows(0.25, 16).interval_milliseconds == 10_000


def test_each_point_is_told_in_one_line():
    stable = Point(4, "stable", 120.5, p50_ms=30, p90_ms=40, p95_ms=45, p99_ms=51)
    assert load.describe(stable) == "concurrency 4: 120.5 per second, p50 30.0 ms, p95 45.0 ms, p99 51.0 ms"
    unstable = Point(1, "unstable", windows_per_second=(10.0, 14.5, 12.0))
    assert load.describe(unstable) == "concurrency 1: unstable, between 10.0 and 14.5 per second"
    failed = Point(1, "failed", detail="Failed to maintain\nThread [0] had error: boom")
    assert load.describe(failed) == "concurrency 1: failed: Thread [0] had error: boom"


@pytest.mark.triton
def test_warming_up_asks_every_text(asker, samples):
    seconds = load.warm_up(asker, load.typical(samples))
    assert 0 < seconds < 5


def test_images_are_sent_as_they_are():
    images = [Sample(image_base64=base64.b64encode(b"x" * size).decode()) for size in (30, 10, 20)]
    assert load.describe_load(load.typical(images)) == {"images": 3, "mean_bytes": 20.0, "max_bytes": 30}
    asker = SimpleNamespace(text_pair=False, dtypes={})
    assert load._request(asker, images[1]) == {"IMAGE": b"x" * 10}

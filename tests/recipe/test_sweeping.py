"""``verify.sweep.settings`` as knobs, and what of ``verify`` is no part of an archive. Refusals are in refusals.txt."""

from __future__ import annotations

from builder.package import gates

SWEPT = """\
verify:
  objective: {throughput: 0.7, p99_ms: 0.3}
  constraints: {p99_ms: 50, p90_ms: 40, error_rate: 0.01, memory_mb: 900}
  sweep:
    concurrency: [1, 4]
    settings:
      instance_group: [{count: [1, 2]}]
      dynamic_batching: [true, false]
      dynamic_batching.preferred_batch_size: [[4, 8], [8]]
      parameters: {intra_op_thread_count: [1, null]}
      optimization: {cuda: {graphs: [true, false]}}
      precision: [fp32, int8]
      padding: [longest, buckets]
      buckets: [[16, 32], [64]]
      steps: {tokenize: {instance_group: {count: [1, 2]}}}
    search: exhaustive
    lengths: {log_normal: {median: 20}}
    load: {rate: [10, 20.5], protocol: http, batch: [1, 2]}
    price_per_hour: 0.5
"""


def test_settings_are_knobs(good) -> None:
    assert good(SWEPT).verify.sweep.knobs == {
        "instance_group.count": (1, 2),
        "dynamic_batching": (True, False),
        "dynamic_batching.preferred_batch_size": ((4, 8), (8,)),
        "parameters.intra_op_thread_count": (1, None),
        "optimization.cuda.graphs": (True, False),
        "@precision": ("fp32", "int8"),
        "@padding": ("longest", "buckets"),
        "@buckets": ((16, 32), (64,)),
        "tokenize:instance_group.count": (1, 2),
    }
    assert good().verify.sweep.knobs == {}


def test_a_value_may_be_set_on_the_command_line(good) -> None:
    recipe = good(SWEPT, "verify.sweep.settings.instance_group=[{count: [4]}]", "verify.sweep.search=random")
    assert recipe.verify.sweep.knobs["instance_group.count"] == (4,)
    assert recipe.verify.sweep.search == "random"


def test_what_only_sweeps_read_changes_no_archive(good) -> None:
    """What is judged is in the manifest; what a sweep tries, and for what, is not: nothing is built again for it."""
    swept = good(SWEPT)
    plain = good("verify: {constraints: {p99_ms: 50, p90_ms: 40}, sweep: {concurrency: [1, 4]}}\n")
    assert swept.keyed() == plain.keyed()
    assert swept.keyed() != good().keyed()
    assert gates(swept, "cpu", "cosine").constraints == {"p99_ms": 50.0, "p90_ms": 40.0}

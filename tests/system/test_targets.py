"""A recipe for a CPU and for GPUs, where there is none: what is proven, what nobody can try, and what is blocked."""

import pytest

TARGETS = """
targets:
  cpu: {runtime: onnxruntime, hardware: {vcpus: 2}, triton: "25.09"}
  t4: {runtime: tensorrt, precision: fp16, hardware: {instance: ml.g4dn.xlarge}}
  l4: {runtime: tensorrt-rtx, precision: fp16, hardware: {gpu: L4}}
"""


@pytest.fixture
def gpus(again):
    kept = [line for line in again.recipe.read_text().splitlines() if not line.startswith("targets")]
    again.recipe.write_text("\n".join(kept) + TARGETS)
    return again.recipe


def states(command, *arguments):
    planned = command("plan", *arguments, "--json")
    assert planned.code == 0, planned.err
    return {tuple(one["node"].split("/")[3::2]): (one["state"], one["why"]) for one in planned.json["nodes"]}


@pytest.mark.triton
@pytest.mark.slow
def test_one_is_proven_one_cannot_be_tried_and_one_is_blocked(again, gpus):
    command = again
    before = states(command, gpus)
    assert before["t4", "engine"][0] == "blocked"
    assert "tensorrt 10.13.3.9 is needed" in before["t4", "engine"][1]
    assert "a GPU of compute capability 7.5; this machine has none" in before["t4", "engine"][1]
    assert before["t4", "pack"][0] == "blocked"
    assert before["l4", "engine"] == ("depends", "needs optimise")
    assert before["cpu", "config"][0] == "hit"  # what a CPU needs is as it was without the others
    assert before["l4", "measure"][0] == "blocked"

    built = command("build", gpus, "--json", "--jobs", "2")
    assert built.code == 4, built.err
    found = {one["target"]: one for one in built.json["archives"]}
    assert {name: one["status"] for name, one in found.items()} == {"cpu": "passed", "l4": "unverified"}
    assert "a GPU of compute capability 8.9 (L4); this machine has none" in found["l4"]["reasons"][0]
    assert "before it was compiled, after fp16, it answered within tolerance: cosine" in found["l4"]["reasons"][1]
    assert built.json["failed"] == []
    (blocked,) = built.json["blocked"]
    assert (blocked["node"].split("/")[3::2], blocked["message"]) == (["t4", "engine"], before["t4", "engine"][1])

    # Another way to serve compiles nothing.
    after = states(command, gpus, "--set", "serving.max_batch_size=2")
    assert {after["l4", stage][0] for stage in ("optimise", "engine")} == {"hit"}
    assert after["l4", "config"][0] == "run"
    assert after["t4", "engine"][0] == "blocked"

    # Nor can the archive be proven again, or served.
    for asked in ("verify", "serve"):
        refused = command(asked, found["l4"]["archive"])
        assert refused.code == 4
        assert "a plan of tensorrt-rtx needs a GPU of compute capability 8.9" in refused.err

"""The parts of scripts/gpu_bench; all of it at once is ``scripts/gpu_bench --cpu``, which takes a minute."""

from __future__ import annotations

import json
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu import __main__ as bench
from benchmarks.gpu import bert, client, make_samples, matrix, outfit, prepare, results, served
from benchmarks.gpu.results import FAILED, MEASURED, NOT_RUN, PENDING, Outcome
from benchmarks.gpu.workshop import NotRunError
from builder.errors import MachineError
from builder.tools import process, triton_proto
from tests.tiny_graphs import ROWS, onnx_model

ROOT = Path(__file__).parents[2]


def point(concurrency: int, throughput: float, p99_ms: float, status: str = "stable") -> dict[str, Any]:
    return {
        "concurrency": concurrency,
        "status": status,
        "throughput_per_second": throughput if status == "stable" else None,
        "p99_ms": p99_ms if status == "stable" else None,
    }


def measured(row: str, *points: dict[str, Any], within: bool = True) -> Outcome:
    parity = {"smallest_cosine": 0.9, "within": within, "why": "at least 0.999"}
    return Outcome("m-8", row, "about", MEASURED, points=points, parity=parity)


def test_a_row_counts_at_the_bases_p99_and_no_later() -> None:
    base = measured("pt-base", point(1, 100, 10), point(4, 120, 40), point(16, 130, 160, "unstable"))
    fast = measured("rtx-db", point(1, 300, 5), point(4, 700, 39), point(16, 1000, 41))
    wrong = measured("rtx-ig", point(4, 5000, 1), within=False)
    slow = measured("ort-db", point(1, 500, 41))
    missing = Outcome("m-8", "trt-db", "about", NOT_RUN, "tensorrt is not there")
    document = results.to_json([base, fast, wrong, slow, missing], {"title": "T", "about": "A", "host": {}})
    rows = {row["row"]: row for row in document["rows"]}
    assert rows["pt-base"]["times_base"] == 1.0
    assert rows["rtx-db"]["best"] == {"throughput_per_second": 700, "p99_ms": 39, "concurrency": 4}
    assert rows["rtx-db"]["times_base"] == 5.83
    assert rows["ort-db"]["best"] is None
    text = results.to_markdown(document)
    assert "no point keeps the base's p99 of 40.0 ms" in text
    assert "**out of tolerance** (0.900000; at least 0.999)" in text
    assert "*not-run*: tensorrt is not there" in text
    assert "6.5 times pt-base: missed; best is rtx-db with 5.83 times" in text  # and not the row that answers wrongly


def test_the_goal_can_be_reached_and_needs_a_base() -> None:
    fast = measured("trt-db", point(4, 900, 9))
    facts = {"title": "T", "about": "A", "host": {}}
    reached = results.to_markdown(results.to_json([measured("pt-base", point(1, 100, 10)), fast], facts))
    assert "reached; best is trt-db with 9.00 times" in reached
    without = results.to_markdown(results.to_json([fast], facts))
    assert "no base" in without
    assert "nothing to judge yet" in without


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    outcomes = [measured("pt-base", point(1, 100, 10)), Outcome("m-8", "pt-db", "about", PENDING, "no time")]
    assert results.read(tmp_path) is None
    results.write(results.to_json(outcomes, {"title": "T", "about": "A", "host": {}}), tmp_path)
    document = results.read(tmp_path)
    assert document is not None
    assert results.from_json(document) == outcomes
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpu.json", "gpu.md"]


def test_the_matrix_begins_with_what_matters_most() -> None:
    rows = matrix.rows(matrix.CASES)
    assert len(rows) == 60
    assert [row.key for row in rows[:4]] == [
        "bert-large-128/pt-base",
        "minilm-128/pt-base",
        "bert-large-512/pt-base",
        "bert-large-128/pt-ig-db",
    ]
    assert [row.key for row in matrix.rows(matrix.CASES, ("minilm-128/rtx-*", "trt-db"))] == [
        "minilm-128/rtx-ig-db",
        "bert-large-128/trt-db",
        "minilm-128/trt-db",
        "minilm-128/rtx-db",
        "bert-large-512/trt-db",
        "minilm-128/rtx-base",
        "minilm-128/rtx-ig",
    ]


class Shop:
    """A workshop that has everything but what ``missing`` names."""

    def __init__(self, missing: str = "") -> None:
        self.missing, self.record = missing, {}

    def check(self, row: matrix.Row) -> None:
        if row.runtime.name == self.missing:
            raise NotRunError("not there")


def notebook(shop: Shop, folder: Path, earlier: dict[str, Any] | None = None) -> bench.Notebook:
    return bench.Notebook([folder], shop, bench.CPU, earlier)  # type: ignore[arg-type]


def test_rows_are_tried_in_order_and_what_fails_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def attempt(row: matrix.Row, *_: object) -> Outcome:
        tried.append(row.name)
        status = FAILED if row.runtime.name == "rtx" else MEASURED
        return bench._outcome(row, bench.CPU, status, "does not load" if status == FAILED else "")

    monkeypatch.setattr(bench, "_try", attempt)
    notes = notebook(Shop("trt"), tmp_path)
    bench.measure_all(matrix.rows(matrix.TINY), notes, deadline=1e12)
    assert tried[0] == "pt-base"
    assert [name for name in tried if name.startswith("rtx")] == ["rtx-ig-db"]
    assert not [name for name in tried if name.startswith("trt")]
    found = {one.row: (one.status, one.reason) for one in notes.rows.values()}
    assert found["rtx-db"] == (NOT_RUN, "tiny-16/rtx-ig-db failed: does not load")
    assert found["trt-base"] == (NOT_RUN, "not there")
    assert found["ort-base"][0] == MEASURED
    again = notebook(Shop(), tmp_path, results.read(tmp_path))
    assert {one.row: (one.status, one.reason) for one in again.rows.values()} == found
    # A later call tries what was not there, and of what failed nothing, unless it is asked to.
    tried.clear()
    left = [row for row in matrix.rows(matrix.TINY) if again.status(row) == NOT_RUN]
    bench.measure_all(left, again, deadline=1e12)
    assert sorted(tried) == ["trt-base", "trt-db", "trt-ig", "trt-ig-db"]
    bench.measure_all([row for row in matrix.rows(matrix.TINY) if row.runtime.name == "rtx"], again, deadline=1e12)
    assert tried[-1] == "rtx-ig-db"


def test_without_time_left_rows_stay_pending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_try", lambda *_: pytest.fail("no time was left"))
    notes = notebook(Shop("trt"), tmp_path)
    bench.measure_all(matrix.rows(matrix.TINY), notes, deadline=0.0)
    statuses = {one.row: one.status for one in notes.rows.values()}
    assert statuses["pt-base"] == PENDING
    assert statuses["trt-db"] == NOT_RUN


def test_configs_say_all_that_the_server_would_fill_in() -> None:
    files = served.Files(Path("/w/weights.pt"), Path("/w/model.onnx"), Path("/w/model.plan"))
    for row in matrix.rows(matrix.CASES):
        text = served.config(row, files, kind="KIND_GPU", cpu=False)
        config: Any = triton_proto.parse_text(text, place=row.key)
        assert config.backend == row.runtime.backend
        assert config.instance_group[0].count == row.variant.instances
        assert config.HasField("dynamic_batching") is row.variant.batching
        sizes = [warmup.batch_size for warmup in config.model_warmup]
        assert sizes == list(range(1, 33 if row.variant.batching else 2))
        assert list(config.instance_group[0].profile) == (["0", "1"] if row.runtime.name == "trt" else [])
        assert config.optimization.cuda.graphs is (row.runtime.name in ("trt", "rtx"))
        if row.runtime.backend == "python":
            assert config.parameters["graphs"].string_value == str(row.runtime.name == "pt16").lower()
            assert config.parameters["precision"].string_value == row.runtime.precision


def test_parity_tells_texts_apart_and_has_a_control() -> None:
    generator = np.random.default_rng(0)
    expected = (generator.standard_normal((8, 32)) * 0.1 + 1).astype(np.float32)  # all in nearly one direction
    assert served.check(expected, expected, "fp32")["within"]
    assert served.check(expected + 1e-5, expected, "fp16")["within"]
    swapped = expected[[1, 0, *range(2, 8)]]
    assert not served.check(swapped, expected, "fp16")["within"]
    vacuous = served.check(np.ones((8, 32), np.float32), np.ones((8, 32), np.float32) * 2, "fp16")
    assert not vacuous["within"]


def test_the_samples_are_real_texts() -> None:
    assert make_samples.PATH.read_text(encoding="utf-8") == make_samples.make()
    ids = np.array(json.loads(make_samples.PATH.read_text(encoding="utf-8"))["ids"])
    assert ids.shape == (16, bert.POSITIONS)
    assert ids.max() < bert.VOCABULARY


def test_bert_is_the_one_of_transformers() -> None:
    import torch
    from transformers import BertConfig, BertModel

    size = bert.SIZES["tiny"]
    weights = bert.random_weights(size)
    ours = bert.Bert(size).eval()
    ours.load_state_dict(weights)
    config = BertConfig(
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=size.intermediate,
    )
    theirs = BertModel(config, add_pooling_layer=False).eval()
    theirs.load_state_dict({_theirs(name): tensor for name, tensor in weights.items()})
    ids = torch.arange(24).reshape(2, 12) * 1000
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    with torch.inference_mode():
        states = theirs(input_ids=ids, attention_mask=mask).last_hidden_state * mask.unsqueeze(-1)
        expected = torch.nn.functional.normalize(states.sum(1) / mask.sum(1, keepdim=True), dim=1)
        plain = bert.Bert(size, fused=False).eval()
        plain.load_state_dict(weights)
        assert torch.allclose(ours(ids, mask), expected, atol=1e-6)
        assert torch.allclose(plain(ids, mask), expected, atol=1e-6)
        assert not torch.allclose(ours(ids, torch.ones_like(ids)), expected, atol=1e-3)


@pytest.mark.triton
def test_pytorch_is_served_and_answers_alike(tmp_path: Path) -> None:
    (case,) = matrix.TINY
    (row,) = matrix.rows(matrix.TINY, ("pt-db",))
    prepare.weights(case.model, str(tmp_path / "weights.pt"))
    ids = np.random.default_rng(0).integers(1000, bert.VOCABULARY, (6, case.sequence))
    np.save(tmp_path / "ids.npy", ids)
    prepare.reference(
        case.model, str(tmp_path / "weights.pt"), str(tmp_path / "ids.npy"), str(tmp_path / "expected.npy")
    )
    samples = served.Samples(ids, np.load(tmp_path / "expected.npy"))
    files = served.Files(tmp_path / "weights.pt", tmp_path / "none", tmp_path / "none")
    with served.serve(row, files, outfit.of_cache(tmp_path), tmp_path, cpu=True) as (server, facts):
        answers = served.ask(server.http_address, row.name, samples)
        # 32 warm-ups, three alone, three as a batch; the server counts a moment after it has answered.
        expected, counted = (528 + 6, 32 + 4), (0, 0)
        deadline = time.monotonic() + 10
        while counted != expected and time.monotonic() < deadline:
            found = client.statistics(server.http_address, row.name)
            counted = (found["inference_count"], found["execution_count"])
    assert counted == expected
    assert facts["instance_kind"] == "KIND_CPU"
    parity = served.check(answers, samples.expected, "fp32")
    assert parity["within"], parity
    assert not served.check(answers[::-1], samples.expected, "fp32")["within"]


def _theirs(name: str) -> str:
    """Our name of a weight as transformers has it."""
    parts = {
        "words.": "embeddings.word_embeddings.",
        "positions.": "embeddings.position_embeddings.",
        "types.": "embeddings.token_type_embeddings.",
        "norm.": "embeddings.LayerNorm.",
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "norm": "output.LayerNorm",
    }
    if not name.startswith("layers."):
        first = name.partition(".")[0] + "."
        return name.replace(first, parts[first])
    _, index, part, kind = name.split(".")
    return f"encoder.layer.{index}.{parts[part]}.{kind}"


def test_an_engine_is_built_with_the_profiles(tmp_path: Path) -> None:
    # Without a GPU, TensorRT for RTX builds for one that it is told of.
    pytest.importorskip("tensorrt_rtx_bindings")
    inputs = dict.fromkeys(("input_ids", "attention_mask"), ("INT64", ROWS))
    graph = onnx_model(inputs, {"EMBEDDING": ("INT64", ROWS)}, [("Mul", [*inputs], ["EMBEDDING"], {})])
    (tmp_path / "model.onnx").write_bytes(graph)
    (tmp_path / "bad.onnx").write_bytes(graph.replace(b"Mul", b"Mol"))
    given = ("tensorrt_rtx", str(tmp_path / "model.onnx"), 16, matrix.PROFILES, str(tmp_path / "model.plan"))
    done = prepare.engine(*given, capability="SM89")
    assert (tmp_path / "model.plan").read_bytes()[:4] == b"vtrt"
    assert (tmp_path / "model.plan").stat().st_size == done["bytes"]
    with pytest.raises(RuntimeError, match=r"for any: the engine does not load: .*; for CURRENT: "):
        prepare.engine(*given)  # this machine has no GPU
    with pytest.raises(RuntimeError, match="Mol"):
        prepare.engine(given[0], str(tmp_path / "bad.onnx"), *given[2:], capability="SM89")


def test_what_is_missing_is_named_and_parts_are_joined(tmp_path: Path) -> None:
    wheels, packed, work = (tmp_path / name for name in ("wheels", "packed", "work"))
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "numpy-1.26.4-cp312-cp312-any.whl", "w") as wheel:
        wheel.writestr("numpy/__init__.py", "x = 1")
        wheel.writestr("numpy/tests/test_x.py", "x = 1")
    with zipfile.ZipFile(wheels / "nvidia_pytriton-0.7.0-py3-none-any.whl", "w") as wheel:
        for minor in (11, 12, 13):
            wheel.writestr(f"pytriton/tritonserver/python_backend_stubs/3.{minor}/stub", "x")
        wheel.writestr("nvidia_pytriton.libs/libpython3-419a3a08.13.so.1.0", "x")
        wheel.writestr("nvidia_pytriton.libs/libz.so", "x")
    sizes = outfit.pack(wheels, packed, 100)
    assert [folder.name for folder in sizes] == ["1", "2"]  # too much for one call of 100 bytes
    with zipfile.ZipFile(next(packed.glob("*/nvidia_pytriton-0.7.0-py3-none-any.whl"))) as small:
        assert small.namelist() == [
            "pytriton/tritonserver/python_backend_stubs/3.12/stub",
            "nvidia_pytriton.libs/libz.so",
        ]
    first, second = (packed / name for name in "12")
    (whole,) = first.glob("numpy*")
    content = whole.read_bytes()
    whole.unlink()
    (first / f"{whole.name}.part-1-of-2").write_bytes(content[:100])
    (second / f"{whole.name}.part-2-of-2").write_bytes(content[100:])
    with pytest.raises(MachineError, match=r"no wheel of: nvidia_pytriton, tritonclient, numpy 1\.26"):
        outfit.of_wheels(first, work)
    with pytest.raises(MachineError, match=r"no wheel of: tritonclient\n"):
        outfit.of_wheels(second, work)


def test_what_runs_on_the_host_needs_no_package_of_ours() -> None:
    # -S: no site-packages; numpy is what the host has beside torch, and stands for it here.
    code = (
        "import sys, types; sys.modules['numpy'] = types.ModuleType('numpy'); sys.modules['numpy'].int64 = int\n"
        "sys.modules['numpy'].float32 = float; sys.modules['numpy'].dtype = lambda kind: kind\n"
        "sys.modules['numpy'].ndarray = list\n"
        "import benchmarks.gpu.__main__, benchmarks.gpu.prepare"
    )
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"}
    process.run([sys.executable, "-S", "-c", code], what="import", timeout_seconds=60, env=env)

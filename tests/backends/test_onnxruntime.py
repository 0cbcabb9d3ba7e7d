from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.errors import ServerError
from builder.tools import triton_client, triton_server
from tests.bench import Bench, gathering, parameter, serve
from tests.tiny_graphs import ROWS, add_model, config, onnx_model, put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.tools.toolchain import Toolchain

pytestmark = pytest.mark.triton

# name → (ONNX type, numpy type); Triton's name is ours, but for text
TYPES = {
    "BOOL": ("BOOL", np.bool_),
    "UINT8": ("UINT8", np.uint8),
    "UINT16": ("UINT16", np.uint16),
    "UINT32": ("UINT32", np.uint32),
    "UINT64": ("UINT64", np.uint64),
    "INT8": ("INT8", np.int8),
    "INT16": ("INT16", np.int16),
    "INT32": ("INT32", np.int32),
    "INT64": ("INT64", np.int64),
    "FP16": ("FLOAT16", np.float16),
    "FP32": ("FLOAT", np.float32),
    "FP64": ("DOUBLE", np.float64),
    "STRING": ("STRING", np.object_),
}
ADD_INPUTS, ADD_OUTPUTS = {"A": "FP32 -1", "B": "FP32 -1"}, {"C": "FP32 -1"}
ADD = config("onnxruntime", ADD_INPUTS, ADD_OUTPUTS)


@pytest.fixture(scope="module")
def bench(toolchain: Toolchain, server_environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with serve(tmp_path_factory.mktemp("repository"), toolchain, server_environment) as running:
        yield running


def test_every_type_comes_back_as_it_went(bench: Bench) -> None:
    graph = onnx_model(
        {f"X_{name}": (kind, ROWS) for name, (kind, _) in TYPES.items()},
        {f"Y_{name}": (kind, ROWS) for name, (kind, _) in TYPES.items()},
        [("Identity", [f"X_{name}"], [f"Y_{name}"], {}) for name in TYPES],
    )
    tensors = {side: {f"{side}_{name}": f"{name} -1" for name in TYPES} for side in "XY"}
    bench.load("types", config("onnxruntime", tensors["X"], tensors["Y"]), model_onnx=graph)
    sent = {f"X_{name}": np.array([[1, 0], [3, 4]]).astype(kind) for name, (_, kind) in TYPES.items()}
    sent["X_STRING"] = np.array([["a", "日本語"], ["", "🌷"]], dtype=object)
    answer = bench.client.infer("types", sent)
    for name, (_, kind) in TYPES.items():
        expected = sent[f"X_{name}"].tolist()
        if name == "STRING":
            expected = [[text.encode() for text in row] for row in expected]
        assert answer[f"Y_{name}"].dtype == kind
        assert answer[f"Y_{name}"].tolist() == expected, name


def test_requests_are_gathered_and_each_gets_its_own(bench: Bench) -> None:
    bench.load("gather", config("onnxruntime", ADD_INPUTS, ADD_OUTPUTS, more=gathering(8)), model_onnx=add_model())
    requests = [
        {"A": np.full((rows, 3), value, np.float32), "B": np.ones((rows, 3), np.float32)}
        for value, rows in enumerate([1, 3, 2, 1, 1])
    ]
    answers, executions = bench.ask_at_once("gather", requests)
    assert executions == 1
    for value, (answer, request) in enumerate(zip(answers, requests, strict=True)):
        assert answer["C"].shape == request["A"].shape
        assert (answer["C"] == value + 1).all()


def test_mixed_shapes_in_one_batch(bench: Bench) -> None:
    # Triton gathers unequal shapes only where the config says that the inputs are ragged.
    text = config("onnxruntime", ADD_INPUTS, ADD_OUTPUTS, more=gathering(4)).replace(
        "dims: [-1] }\ninput", "dims: [-1] allow_ragged_batch: true }\ninput"
    )
    text = text.replace("dims: [-1] }\noutput", "dims: [-1] allow_ragged_batch: true }\noutput")
    assert text.count("ragged") == 2
    bench.load("mixed", text, model_onnx=add_model())
    requests = [
        {"A": np.full((1, length), length, np.float32), "B": np.ones((1, length), np.float32)}
        for length in (5, 2, 5, 7)
    ]
    answers, executions = bench.ask_at_once("mixed", requests)
    assert executions == 1
    assert [answer["C"].tolist() for answer in answers] == [[[length + 1.0] * length] for length in (5, 2, 5, 7)]


def test_only_the_guilty_request_gets_the_error(bench: Bench) -> None:
    graph = onnx_model(
        {"IDS": ("INT64", ROWS)},
        {"ROWS": ("FLOAT", [*ROWS, 2])},
        [("Gather", ["table", "IDS"], ["ROWS"], {})],
        {"table": np.arange(20, dtype=np.float32).reshape(10, 2)},
    )
    text = config("onnxruntime", {"IDS": "INT64 -1"}, {"ROWS": "FP32 -1 2"}, more=gathering(4))
    bench.load("lookup", text, model_onnx=graph)
    answers, executions = bench.ask_at_once("lookup", [{"IDS": np.array([[index]])} for index in (1, 2, 77, 4)])
    assert executions == 1
    assert "indices element out of data bounds, idx=77" in str(answers.pop(2))
    assert [answer["ROWS"].tolist() for answer in answers] == [[[[2 * i, 2 * i + 1.0]]] for i in (1, 2, 4)]


def test_only_the_text_that_is_no_text_gets_the_error(bench: Bench) -> None:
    graph = onnx_model({"X": ("STRING", ROWS)}, {"Y": ("STRING", ROWS)}, [("Identity", ["X"], ["Y"], {})])
    text = config("onnxruntime", {"X": "STRING 1"}, {"Y": "STRING 1"}, more=gathering(3))
    bench.load("text", text, model_onnx=graph)
    sent = [b"one", b"\xff", b"three"]
    answers, executions = bench.ask_at_once("text", [{"X": np.array([[item]], dtype=object)} for item in sent])
    assert executions == 1
    assert "input 'X' is not UTF-8" in str(answers.pop(1))
    assert [answer["Y"].tolist() for answer in answers] == [[[b"one"]], [[b"three"]]]


def test_a_model_without_batching(bench: Bench) -> None:
    graph = onnx_model(
        {"X": ("FLOAT", [2, 3])}, {"SUM": ("FLOAT", [])}, [("ReduceSum", ["X"], ["SUM"], {"keepdims": 0})]
    )
    text = config("onnxruntime", {"X": "FP32 2 3"}, {"SUM": "FP32 1"}, max_batch_size=0)
    bench.load("whole", text, model_onnx=graph)
    requests = [{"X": np.full((2, 3), value, np.float32)} for value in range(3)]
    answers, executions = bench.ask_at_once("whole", requests)
    assert [float(answer["SUM"].reshape(())) for answer in answers] == [0.0, 6.0, 12.0]
    assert executions == 3


def test_an_output_that_loses_its_rows_is_an_error_and_not_a_wrong_answer(bench: Bench) -> None:
    graph = onnx_model(
        {"X": ("FLOAT", ROWS)}, {"Y": ("FLOAT", ROWS)}, [("Flatten", ["X"], ["Y"], {"axis": 0})]
    )  # [2, 3] becomes [1, 6]
    bench.load("flat", config("onnxruntime", {"X": "FP32 -1"}, {"Y": "FP32 -1"}), model_onnx=graph)
    assert bench.client.infer("flat", {"X": np.ones((1, 3), np.float32)})["Y"].shape == (1, 3)
    with pytest.raises(ServerError, match=r"output 'Y' has the shape \[1, 6\] for a batch of 2"):
        bench.client.infer("flat", {"X": np.ones((2, 3), np.float32)})


def test_thread_counts_are_honoured(bench: Bench) -> None:
    counts = {}
    for threads in (1, 4):
        name = f"threads{threads}"
        more = parameter("intra_op_thread_count", str(threads)) + "instance_group { count: 1 kind: KIND_CPU }"
        bench.load(name, config("onnxruntime", ADD_INPUTS, ADD_OUTPUTS, more=more), model_onnx=add_model())
        (stub,) = bench.stubs(name)
        counts[threads] = len(list((stub / "task").iterdir()))
    assert counts[4] - counts[1] == 3


def test_instances_are_processes(bench: Bench) -> None:
    for count in (1, 2):
        more = f"instance_group {{ count: {count} kind: KIND_CPU }}"
        name = f"instances{count}"
        bench.load(name, config("onnxruntime", ADD_INPUTS, ADD_OUTPUTS, more=more), model_onnx=add_model())
        assert len(bench.stubs(name)) == count


def test_all_parameters_of_the_native_backend_are_taken(bench: Bench) -> None:
    more = "optimization { graph { level: 1 } }\n"
    for key, value in {
        "execution_mode": "1",
        "inter_op_thread_count": "2",
        "enable_mem_arena": "1",
        "enable_mem_pattern": "false",
        "memory.enable_memory_arena_shrinkage": "cpu:0",
        "session.use_device_allocator_for_initializers": "1",
        "of_no_meaning_to_it": "x",
    }.items():
        more += parameter(key, value)
    bench.load("all", config("onnxruntime", ADD_INPUTS, ADD_OUTPUTS, more=more), model_onnx=add_model())
    one = np.ones((1, 2), np.float32)
    assert bench.client.infer("all", {"A": one, "B": one})["C"].tolist() == [[2.0, 2.0]]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("bad-mode", ADD + parameter("execution_mode", "2"), "execution_mode is 2, must be 0 or 1"),
        ("bad-count", ADD + parameter("intra_op_thread_count", "two"), "is 'two', must be an integer"),
        ("bad-flag", ADD + parameter("enable_mem_arena", "maybe"), "is 'maybe', must be true, false, 1 or 0"),
        (
            "bad-accelerator",
            ADD + 'optimization { execution_accelerators { cpu_execution_accelerator { name: "openvino" } } }',
            r"accelerators \['openvino'\] are not available",
        ),
        (
            "bad-name",
            config("onnxruntime", ADD_INPUTS, {"D": "FP32 -1"}),
            r"unexpected inference output \['D'\], allowed outputs are: C",
        ),
        ("bad-input", config("onnxruntime", {"A": "FP32 -1"}, ADD_OUTPUTS), r"needs the inputs \['B'\]"),
        (
            "bad-type",
            config("onnxruntime", {**ADD_INPUTS, "B": "INT64 -1"}, ADD_OUTPUTS),
            "input 'B': data_type is TYPE_INT64, the model has TYPE_FP32",
        ),
        (
            "bad-dims",
            config("onnxruntime", {**ADD_INPUTS, "B": "FP32 -1 3"}, ADD_OUTPUTS),
            r"input 'B': the model expects the shape \[-1, -1\], the config says \[-1, -1, 3\]",
        ),
    ],
)
def test_a_config_that_does_not_fit(bench: Bench, name: str, text: str, reason: str) -> None:
    with pytest.raises(ServerError, match=reason):
        bench.load(name, text, model_onnx=add_model())


def test_a_missing_graph(bench: Bench) -> None:
    with pytest.raises(ServerError, match=r"unable to find .*absent/1/model\.onnx' for model 'absent'"):
        bench.load("absent", ADD)


def test_where_the_graph_may_be(bench: Bench) -> None:
    one = np.ones((1, 2), np.float32)
    named = ADD + 'default_model_filename: "other.onnx"\n'
    bench.load("named", named, other_onnx=add_model())
    platform = ADD.replace('backend: "onnxruntime"', 'platform: "onnxruntime_onnx"')
    bench.load("platform", platform, model_onnx=add_model())
    (put(bench.repository, "folder", ADD) / "model.onnx").mkdir()
    (bench.repository / "folder/1/model.onnx/model.onnx").write_bytes(add_model())
    bench.client.load("folder")
    for name in ("named", "platform", "folder"):
        assert bench.client.infer(name, {"A": one, "B": one})["C"].tolist() == [[2.0, 2.0]]


def test_weights_beside_the_graph(bench: Bench) -> None:
    import onnx

    weights = np.arange(6, dtype=np.float32).reshape(1, 6)
    graph = onnx_model(
        {"X": ("FLOAT", ["batch", 6])}, {"Y": ("FLOAT", ["batch", 6])}, [("Add", ["X", "W"], ["Y"], {})], {"W": weights}
    )
    folder = put(bench.repository, "external", config("onnxruntime", {"X": "FP32 6"}, {"Y": "FP32 6"}))
    model = onnx.load_model_from_string(graph)
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert (folder / "w.bin").stat().st_size == weights.nbytes
    bench.client.load("external")
    assert bench.client.infer("external", {"X": np.zeros((1, 6), np.float32)})["Y"].tolist() == weights.tolist()


def test_completion_from_the_graph(toolchain: Toolchain, server_environment: Path, tmp_path: Path) -> None:
    fixed = onnx_model({"X": ("FLOAT", [2, "n"])}, {"Y": ("FLOAT", [2, "n"])}, [("Identity", ["X"], ["Y"], {})])
    put(tmp_path, "batching", 'backend: "onnxruntime"', model_onnx=add_model())
    put(tmp_path, "sixteen", 'backend: "onnxruntime" max_batch_size: 16', model_onnx=add_model())
    put(tmp_path, "fixed", 'backend: "onnxruntime"', model_onnx=fixed)
    put(tmp_path, "contradiction", 'backend: "onnxruntime" max_batch_size: 4', model_onnx=fixed)
    stated: dict[str, Any] = {}

    def load(name: str) -> None:
        try:
            client.load(name)
            stated[name] = client.config(name)
        except ServerError as error:
            stated[name] = str(error)

    with (
        triton_server.serve(tmp_path, toolchain=toolchain, environment=server_environment) as server,
        triton_client.connect(server.grpc_address) as client,
    ):
        threads = [threading.Thread(target=load, args=(folder.name,)) for folder in tmp_path.iterdir()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    tensor = {"data_type": "TYPE_FP32", "dims": ["-1"]}
    for name, size in (("batching", 4), ("sixteen", 16)):
        assert stated[name]["max_batch_size"] == size
        assert stated[name]["input"] == [{"name": "A", **tensor}, {"name": "B", **tensor}]
        assert stated[name]["output"] == [{"name": "C", **tensor}]
        assert "dynamic_batching" in stated[name]
    assert stated["fixed"].get("max_batch_size", 0) == 0
    assert stated["fixed"]["input"] == [{"name": "X", "data_type": "TYPE_FP32", "dims": ["2", "-1"]}]
    assert "autofill failed for model 'contradiction': model does not support batching" in stated["contradiction"]

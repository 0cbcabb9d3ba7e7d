"""The header reader against the reference implementation, and against every kind of damage."""

from __future__ import annotations

import io
import random
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from builder.errors import ModelError
from builder.tools.onnx_facts import DTYPES, ExternalFile, GraphTensor
from builder.tools.onnx_header import read_onnx_header, read_onnx_stream

if TYPE_CHECKING:
    from builder.tools.onnx_facts import OnnxHeader

DATA = Path(onnx.__file__).parent / "backend/test/data"
REAL = sorted(DATA.glob("**/*.onnx"))


def rich_model() -> onnx.ModelProto:
    """Subgraphs, a function, external data, an initializer that is an input, a constant in an attribute."""
    value = helper.make_tensor_value_info
    branch = helper.make_graph(
        [helper.make_node("Add", ["X", "inner"], ["Y1"])],
        "then",
        [],
        [value("Y1", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones(3, np.float32), "inner")],
    )
    other = helper.make_graph([helper.make_node("Mine", ["X"], ["Y2"], domain="my.own")], "else", [],
                              [value("Y2", TensorProto.FLOAT, None)])  # fmt: skip
    big = numpy_helper.from_array(np.zeros((64, 64), np.float32), "big")
    nodes = [
        helper.make_node("If", ["flag"], ["Y"], then_branch=branch, else_branch=other),
        helper.make_node("Relu", ["out-128"], ["dead"]),
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.arange(5), "c")),
    ]
    graph = helper.make_graph(
        nodes,
        "main",
        [value("X", TensorProto.FLOAT, ["batch", 3, None]), value("flag", TensorProto.BOOL, []),
         value("default", TensorProto.INT64, [1])],
        [value("Y", TensorProto.FLOAT, ["batch", -1])],
        [numpy_helper.from_array(np.zeros(1, np.int64), "default"), big, outside("w.bin", 128, 4096)],
    )  # fmt: skip
    function = helper.make_function("my.own", "Mine", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])],
                                    [helper.make_opsetid("", 17)])  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=[function], producer_name="p",
                             producer_version="1")  # fmt: skip


def outside(location: str, offset: int, length: int) -> TensorProto:
    tensor = TensorProto(name=f"out-{offset}", data_type=1, dims=[length // 4], data_location=TensorProto.EXTERNAL)
    for key, text in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=text)
    return tensor


def of_reference(tensor: onnx.ValueInfoProto) -> GraphTensor:
    """What the reference implementation says of a tensor."""
    kind = tensor.type.WhichOneof("value")
    if kind != "tensor_type":
        words = {"sequence_type": "sequence", "optional_type": "optional", "map_type": "map", None: "unknown"}
        return GraphTensor(tensor.name, "", None, words[kind])
    stated = tensor.type.tensor_type
    dtype = DTYPES.get(stated.elem_type, f"ONNX type {stated.elem_type}")
    axes = [axis.dim_value if axis.WhichOneof("value") == "dim_value" else axis.dim_param or None
            for axis in stated.shape.dim]  # fmt: skip
    return GraphTensor(tensor.name, dtype, tuple(axes) if stated.HasField("shape") else None)


def read(content: bytes, *, forward: bool = False) -> OnnxHeader:
    return read_onnx_stream(io.BytesIO(content), len(content), place="m.onnx", operators=True, can_seek=not forward)


def test_real_graphs_read_as_the_reference_implementation_reads_them():
    assert len(REAL) > 100
    for path in REAL:
        header = read_onnx_header(path, operators=True)
        model = onnx.load(path, load_external_data=False)
        initializers = {one.name for one in model.graph.initializer}
        initializers |= {one.values.name for one in model.graph.sparse_initializer}
        wanted = [of_reference(one) for one in model.graph.input]
        assert header.inputs == tuple(one for one in wanted if one.name not in initializers)
        assert header.overridable == tuple(one for one in wanted if one.name in initializers)
        assert header.outputs == tuple(map(of_reference, model.graph.output))
        assert header.ir_version == model.ir_version
        assert header.opsets == {one.domain: one.version for one in model.opset_import}
        assert {one.op_type for one in model.graph.node} <= set().union(*header.operators.values())


def test_every_type_reads_as_the_reference_implementation_reads_it():
    tensor = helper.make_tensor_type_proto
    types = [tensor(number, shape) for number in TensorProto.DataType.values() if number
             for shape in (None, [], [1, "n", None])]  # fmt: skip
    types += [helper.make_sequence_type_proto(types[0]), helper.make_optional_type_proto(types[0]),
              helper.make_map_type_proto(7, types[0]), onnx.TypeProto()]  # fmt: skip
    values = [helper.make_value_info(f"t{index}", kind) for index, kind in enumerate(types)]
    header = read(helper.make_model(helper.make_graph([], "all", values, values[:1])).SerializeToString())
    assert header.inputs == tuple(map(of_reference, values))
    assert {"FP16", "BF16", "STRING"} <= {one.dtype for one in header.inputs}
    assert {"sequence", "optional", "map", "unknown"} <= {one.kind for one in header.inputs}


def test_a_rich_graph():
    header = read(rich_model().SerializeToString())
    assert header.inputs == (GraphTensor("X", "FP32", ("batch", 3, None)), GraphTensor("flag", "BOOL", ()))
    assert header.inputs[0].dims == (-1, 3, -1)
    assert [tensor.name for tensor in header.overridable] == ["default"]
    assert header.outputs[0].dims == (-1, -1)
    assert header.external == (ExternalFile("w.bin", 4224, 1),)
    assert header.operators == {"": {"If", "Add", "Constant", "Relu"}, "my.own": {"Mine"}}
    assert header.functions == {"my.own": {"Mine"}}
    assert (header.producer, header.ir_version, header.opsets) == ("p 1", 8, {"": 17, "my.own": 1})


def test_without_operators_nodes_are_skipped():
    content = rich_model().SerializeToString()
    header = read_onnx_stream(io.BytesIO(content), len(content), place="m.onnx")
    assert header.operators == {}
    assert header.inputs == read(content).inputs


def test_a_stream_that_only_goes_forward_gives_the_same():
    content = rich_model().SerializeToString()

    class Forward(io.RawIOBase):
        def __init__(self) -> None:
            self.left = content

        def read(self, size: int = -1) -> bytes:
            taken, self.left = self.left[: min(size, 7)], self.left[min(size, 7) :]  # short reads, as sockets give
            return taken

    got = read_onnx_stream(Forward(), len(content), place="m.onnx", operators=True, can_seek=False)
    assert got == read(content)


def test_weights_are_not_read(tmp_path):
    model = rich_model()
    path = tmp_path / "sparse.onnx"
    size = 2**31 - 2048
    tensor = TensorProto(name="huge", data_type=2, dims=[size]).SerializeToString()
    raw = tensor + b"\x4a" + varint(size)  # field 9, raw_data
    graph = b"\x2a" + varint(len(raw) + size) + raw
    content = model.SerializeToString()
    with path.open("wb") as file:
        file.write(content + b"\x3a" + varint(len(graph) + size) + graph)
        file.truncate(file.tell() + size)
    assert path.stat().st_blocks * 512 < 1 << 20
    before = read_bytes()
    assert read_onnx_header(path).inputs == read(content).inputs
    assert read_bytes() - before < 1 << 20


def read_bytes() -> int:
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["rchar"])


def varint(value: int) -> bytes:
    parts = []
    while value >= 128:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def test_every_truncation_is_refused_or_whole():
    content = rich_model().SerializeToString()
    for length in range(len(content)):
        try:
            header = read(content[:length])
        except ModelError:
            continue
        assert onnx.load_from_string(content[:length]).graph.node  # cut between two fields: a message is left
        assert header.inputs


def test_flipped_bytes_never_crash_hang_or_fill_the_memory():
    content = rich_model().SerializeToString()
    source = random.Random(0)
    verdicts = set()
    tracemalloc.start()
    for number in range(1500):
        broken = bytearray(content)
        for _ in range(1 + number % 3):
            broken[source.randrange(len(broken))] = source.randrange(256)
        forward = number % 2 == 0
        try:
            read(bytes(broken), forward=forward)
            verdicts.add("read")
        except ModelError:
            verdicts.add("refused")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert verdicts == {"read", "refused"}
    assert peak < 4 << 20


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no graph"),
        (b"version https://git-lfs.github.com/spec/v1\n", "no whole ONNX file"),
        (b"\x00" * 64, "number 0"),
        (b"\x08\x07", "no graph"),
        (b"\x3a\xff\xff\xff\xff\x7f", "cut off"),
        (b"\xff" * 32, "more than 10 bytes"),
        (b"\x08" + b"\x80" * 12, "more than 10 bytes"),
        (b"\x0b\x0c", "unknown kind"),
        (b"\x3a\x05\x5a\x03\x0a\x7f", "cut off"),
        (b"\x12\x90\x9a\x0c" + b"a" * 200_000, "a name of"),
    ],
)
def test_rubbish_is_refused_with_the_reason(content, words):
    with pytest.raises(ModelError, match=words):
        read(content)


def test_graphs_within_graphs_end():
    graph = b""
    for _ in range(40):
        attribute = b"\x32" + varint(len(graph)) + graph
        node = b"\x2a" + varint(len(attribute)) + attribute
        graph = b"\x0a" + varint(len(node)) + node
    with pytest.raises(ModelError, match="deep"):
        read(b"\x3a" + varint(len(graph)) + graph)


def test_a_bomb_of_empty_fields_ends(monkeypatch):
    monkeypatch.setattr("builder.tools.wire._FIELDS_LIMIT", 10_000)
    with pytest.raises(ModelError, match="more than 10000 fields"):
        read(b"\x3a" + varint(40_000) + b"\x0a\x00" * 20_000)

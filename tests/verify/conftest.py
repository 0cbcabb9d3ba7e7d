"""A tiny model that is served for real: an ensemble of a Python step and an ONNX model, and the same model in numpy."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from builder.artifacts import Sample
from builder.core.digest import describe_file, describe_folder, digest_tree
from builder.settings import settings
from builder.tools import archive as archives
from builder.tools import triton_client, triton_server
from builder.verify.ask import Asker
from builder.verify.facts import ArchiveFacts

TRITON = "25.09"
MAX_BATCH_SIZE = 8
DIMENSIONS = 12
LABELS = 3
LONGEST = 48  # bytes of a text that are used

_TOKENIZE = '''
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Bytes of the text, plus one; 0 is padding."""

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        rows = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()[:, 0]
        pairs = pb_utils.get_input_tensor_by_name(request, "TEXT_PAIR")
        try:
            for row in rows:
                row.decode()
        except UnicodeDecodeError as error:
            return pb_utils.InferenceResponse([], pb_utils.TritonError(f"TEXT is not UTF-8: {error.reason}"))
        if pairs is not None:
            rows = [row + b"|" + pair for row, pair in zip(rows, pairs.as_numpy()[:, 0])]
        rows = [row[:LONGEST] for row in rows]
        if BROKEN_LENGTH and any(len(row) > BROKEN_LENGTH for row in rows):
            return pb_utils.InferenceResponse([], pb_utils.TritonError("this text is too long for me"))
        ids = np.zeros((len(rows), max(1, *(len(row) for row in rows))), np.int64)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = np.frombuffer(row, np.uint8).astype(np.int64) + 1
        return pb_utils.InferenceResponse([pb_utils.Tensor("input_ids", ids)])
'''


@dataclass(frozen=True)
class Tiny:
    """The model in numpy: the truth that the served one is held against."""

    metric: str = "cosine"
    text_pair: bool = False

    def table(self):
        table = np.random.default_rng(7).normal(size=(257, DIMENSIONS)).astype(np.float32)
        table[0] = 0
        return table

    def head(self):
        return np.random.default_rng(8).normal(size=(DIMENSIONS, LABELS)).astype(np.float32) * 8

    @property
    def outputs(self):
        return ("EMBEDDING",) if self.metric == "cosine" else ("LOGITS", "PROBABILITIES")

    def ids(self, sample, longest=LONGEST):
        text = sample.text.encode() + (b"|" + sample.text_pair.encode() if self.text_pair else b"")
        return np.frombuffer(text[:longest], np.uint8).astype(np.int64) + 1

    def answer(self, samples, longest=LONGEST, pool=np.mean):
        pooled = np.stack([pool(self.table()[self.ids(sample, longest)], axis=0) for sample in samples])
        if self.metric == "cosine":
            return {"EMBEDDING": pooled / np.linalg.norm(pooled, axis=1, keepdims=True)}
        logits = pooled @ self.head()
        if self.metric == "single-label":
            exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
            return {"LOGITS": logits, "PROBABILITIES": exponentials / exponentials.sum(axis=1, keepdims=True)}
        return {"LOGITS": logits, "PROBABILITIES": np.exp(-np.logaddexp(0, -logits))}

    def controls(self, samples):
        return {"wrong_pooling": self.answer(samples, pool=np.max), "truncated": self.answer(samples, longest=8)}


def _config(**fields):
    from google.protobuf import json_format, text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    return text_format.MessageToString(json_format.ParseDict(fields, ModelConfig()))


def _onnx(tiny, path):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "table": tiny.table(),
        "head": tiny.head(),
        "zero": np.array(0, np.int64),
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
    }
    embed = [
        ("Gather", ["table", "input_ids"], "rows"),
        ("ReduceSum", ["rows", "one"], "sum"),
        ("Greater", ["input_ids", "zero"], "real"),
        ("Cast", ["real"], "mask"),
        ("ReduceSum", ["mask", "one"], "count"),
        ("Div", ["sum", "count"], "mean"),
    ]
    label = [
        ("MatMul", ["mean", "head"], "LOGITS"),
        ("Softmax" if tiny.metric == "single-label" else "Sigmoid", ["LOGITS"], "PROBABILITIES"),
    ]
    tail = [("LpNormalization", ["mean"], "EMBEDDING")] if tiny.metric == "cosine" else label
    attributes = {
        "sum": {"keepdims": 0},
        "count": {"keepdims": 1},
        "mask": {"to": TensorProto.FLOAT},
        "EMBEDDING": {"axis": -1, "p": 2},
    }
    graph = helper.make_graph(
        [
            helper.make_node(kind, inputs, [output], **attributes.get(output, {}))
            for kind, inputs, output in embed + tail
        ],
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", _width(name)]) for name in tiny.outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _width(output):
    return DIMENSIONS if output == "EMBEDDING" else LABELS


def _write_repository(tiny, folder, broken_length=0):
    texts = ["TEXT", "TEXT_PAIR"] if tiny.text_pair else ["TEXT"]
    inputs = [{"name": name, "data_type": "TYPE_STRING", "dims": [1]} for name in texts]
    ids = {"name": "input_ids", "data_type": "TYPE_INT64", "dims": [-1]}
    outputs = [{"name": name, "data_type": "TYPE_FP32", "dims": [_width(name)]} for name in tiny.outputs]
    common = {"max_batch_size": MAX_BATCH_SIZE}
    instances = [{"count": 1, "kind": "KIND_CPU"}]
    batching = {"dynamic_batching": {"max_queue_delay_microseconds": 2000}, "instance_group": instances}
    steps = [
        {
            "model_name": "tiny-tokenize",
            "model_version": -1,
            "input_map": {name: name for name in texts},
            "output_map": {"input_ids": "input_ids"},
        },
        {
            "model_name": "tiny-model",
            "model_version": -1,
            "input_map": {"input_ids": "input_ids"},
            "output_map": {name: name for name in tiny.outputs},
        },
    ]
    configs = {
        "tiny": {"platform": "ensemble", "input": inputs, "output": outputs, "ensemble_scheduling": {"step": steps}},
        "tiny-tokenize": {"backend": "python", "input": inputs, "output": [ids], **batching},
        "tiny-model": {"backend": "onnxruntime", "input": [ids], "output": outputs, **batching},
    }
    for name, fields in configs.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(_config(name=name, **common, **fields))
    (folder / "tiny" / "1" / "build.json").write_text("{}")
    code = f"LONGEST = {LONGEST}\nBROKEN_LENGTH = {broken_length}\n{_TOKENIZE}"
    (folder / "tiny-tokenize" / "1" / "model.py").write_text(code)
    _onnx(tiny, folder / "tiny-model" / "1" / "model.onnx")
    return folder


def _write_archive(tiny, samples, folder, broken_length=0):
    """The archive and the files beside it, as a build leaves them; returns the facts that its manifest would state."""
    from safetensors.numpy import save_file

    repository = describe_folder(_write_repository(tiny, folder / "repository", broken_length))
    archive = archives.pack(repository, folder / "tiny-cpu.tar.gz")
    lines = [{"text": one.text} | ({"text_pair": one.text_pair} if tiny.text_pair else {}) for one in samples]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    controls = tiny.controls(samples)
    tensors = dict(tiny.answer(samples))
    tensors |= {f"control.{name}.{output}": value for name in controls for output, value in controls[name].items()}
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, folder / "expected.safetensors")
    return ArchiveFacts(
        name="tiny",
        archive=archive,
        samples=describe_file(folder / "samples.jsonl"),
        expected=describe_file(folder / "expected.safetensors"),
        tree_digest=digest_tree(repository),
        triton=TRITON,
        metric=tiny.metric,
        outputs=tiny.outputs,
        controls=tuple(controls),
        max_batch_size=MAX_BATCH_SIZE,
        text_pair=tiny.text_pair,
    )


@pytest.fixture(scope="session")
def samples():
    """Real sentences, short and long."""
    from builder.verify.samples import load_samples

    return load_samples(None, text_pair=False)[:40]


@pytest.fixture(scope="session")
def tiny():
    return Tiny()


@pytest.fixture(scope="session")
def make_tiny():
    return Tiny


@pytest.fixture(scope="session")
def make_archive(tmp_path_factory):
    """Packs an archive of a tiny model: ``make_archive(tiny, samples, broken_length=0)``."""

    def make(tiny, samples, broken_length=0):
        return _write_archive(tiny, samples, tmp_path_factory.mktemp("archive"), broken_length)

    return make


@pytest.fixture(scope="session")
def facts(make_archive, tiny, samples):
    """An archive that is right."""
    return make_archive(tiny, samples)


@pytest.fixture(scope="session")
def asker(facts, samples, toolchain, server_environment, tmp_path_factory):
    """The archive, served; shared by the tests that only ask."""
    repository = tmp_path_factory.mktemp("served") / "repository"
    archives.unpack(facts.archive.path, repository)
    with (
        triton_server.serve(repository, toolchain=toolchain, environment=server_environment, load=["tiny"]) as server,
        triton_client.connect(server.grpc_address) as client,
    ):
        yield Asker(server, client, "tiny", samples, text_pair=False)


@pytest.fixture
def ask_about(asker):
    """The shared server, asked about other samples: ``ask_about(*samples)``."""
    return lambda *samples: replace(asker, samples=samples)


@pytest.fixture
def cache():
    return settings().cache


@pytest.fixture
def make_sample():
    return Sample

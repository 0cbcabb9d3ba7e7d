"""Models over 2 GiB: a protobuf file could not hold them, and nobody wants to read them."""

import dataclasses
import json
import resource
import struct

import pytest
from safetensors.numpy import load_file

from builder.artifacts import File
from builder.core.digest import describe_file
from builder.core.execute import Executor
from builder.core.store import Store
from builder.errors import ModelError
from builder.export.bind import Bind
from builder.export.check import Check
from builder.export.tokenizer import Tokenizer
from builder.export.trace import Trace
from builder.tools import onnx_graph
from tests.export.builds import source_of
from tests.models import add_sentence_transformers_files, make_model, write_json

TASK = "sentence-embedding"
TABLE = "embeddings.word_embeddings.weight"
ROWS = 18_000_000
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def bound(tmp_path_factory):
    """The tiny bert with a vocabulary of 18 million words, of which all but the first 320 are a hole in the file."""
    work = tmp_path_factory.mktemp("large")
    folder = add_sentence_transformers_files(make_model("bert", TASK, work / "model"))
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    small = source_of(folder)
    _write(tensors, folder / WEIGHTS)
    write_json(folder / "config.json", {**json.loads((folder / "config.json").read_text()), "vocab_size": ROWS})
    # No stage asks for this digest, and to compute it would take longer than all else here.
    weights = File(folder / WEIGHTS, "0" * 64, (folder / WEIGHTS).stat().st_size)
    files = {**small.files, "config.json": describe_file(folder / "config.json"), WEIGHTS: weights}
    source, executor = dataclasses.replace(small, files=files), Executor(Store.at(work), "test")
    tokenizer = executor.run(Tokenizer(TASK), source)
    graph = executor.run(Trace(TASK), (source, tokenizer))
    return Bind(TASK).run((graph, source), work)  # not published: that would copy the weights


def test_they_are_bound_and_loaded_without_being_read(exported, bound, tmp_path):
    assert bound.files[WEIGHTS].size > 2**31
    assert bound.files["model.onnx"].size < 60_000
    assert bound.record["embedded"] == {}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    checked = Check().run((bound, exported("bert", TASK).reference), tmp_path)  # the same weights, where they are asked

    assert len(checked.record["checks"]) == 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20, "KiB: less than half of the weights"


def test_what_lies_beyond_two_gibibytes_is_read_from_there(exported, bound, tmp_path):
    model = onnx_graph.load(bound.files["model.onnx"].path)
    name, value = next(
        (name, value)
        for name, value in model.graph.initializers.items()
        if name.endswith("attention.self.query.weight")
    )
    place = value.const_value
    assert place.offset > 2**31
    onnx_graph.point(model, name, WEIGHTS, place.offset % 2**31, place.length)  # control: into the hole
    onnx_graph.save(model, tmp_path / "model.onnx")
    wrong = dataclasses.replace(
        bound, files={WEIGHTS: bound.files[WEIGHTS], "model.onnx": describe_file(tmp_path / "model.onnx")}
    )

    with pytest.raises(ModelError, match="differs from transformers"):
        Check().run((wrong, exported("bert", TASK).reference), tmp_path)


def _write(tensors, path):
    """The table first, so that all others lie behind the hole."""
    begin, header = ROWS * 32 * 4, {TABLE: {"dtype": "F32", "shape": [ROWS, 32], "data_offsets": [0, ROWS * 32 * 4]}}
    others = {name: value for name, value in tensors.items() if name != TABLE}
    for name, value in others.items():
        header[name] = {
            "dtype": "F32",
            "shape": list(value.shape),
            "data_offsets": [begin, begin := begin + value.nbytes],
        }
    content = json.dumps({**header, "__metadata__": {"format": "pt"}}).encode()
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(content)) + content)
        stream.write(tensors[TABLE].tobytes())
        stream.seek(8 + len(content) + ROWS * 32 * 4)
        stream.write(b"".join(value.tobytes() for value in others.values()))

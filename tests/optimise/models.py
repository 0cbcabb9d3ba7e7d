"""Tiny text models with real tokens, made to go wrong in FP16 where a test wants it; and what they should answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from builder.artifacts import OnnxModel, Reference, Sample, Tensor, TokenizerFiles
from builder.core.digest import describe_folder
from builder.optimise import OptimiseInputs
from builder.parity.questions import batches
from builder.tools.safetensors_values import save_arrays
from tests.models import MAX_LENGTH, TEXTS, TOKENIZERS
from tests.tiny_graphs import onnx_model

if TYPE_CHECKING:
    from pathlib import Path

WIDTH = 48
SAMPLES = tuple(Sample(text) for text in TEXTS if text)


@dataclass(frozen=True)
class Made:
    """A model in a folder, and the stage's inputs."""

    folder: Path
    inputs: OptimiseInputs


def write_model(folder: Path, *, loud: float = 1.0, seed: int = 3) -> OnnxModel:
    """Embedding, a LayerNormalization written out (it squares), two products, the mean over the tokens.

    Args:
        folder: is made; the tables lie in ``weights.data``.
        loud: how many times larger than 1 the values are that are normalised.
        seed: of the weights.
    """
    import onnx

    source = np.random.default_rng(seed)
    tables = {
        "words.weight": loud * source.normal(size=(400, WIDTH)),
        "first.dense.weight": source.normal(size=(WIDTH, WIDTH)) / 7,
        "first.dense.bias": source.normal(size=WIDTH) / 9,
        "second.dense.weight": source.normal(size=(WIDTH, WIDTH)) / 7,
    }
    numbers = {"last": np.array([-1]), "two": np.float32(2), "tiny": np.float32(1e-6), "tokens": np.array([1])}
    nodes: list[tuple[str, list[str], list[str], dict[str, Any]]] = [
        ("Gather", ["words.weight", "input_ids"], ["words"], {}),
        ("ReduceMean", ["words", "last"], ["mean"], {}),
        ("Sub", ["words", "mean"], ["centred"], {}),
        ("Pow", ["centred", "two"], ["squared"], {}),
        ("ReduceMean", ["squared", "last"], ["variance"], {}),
        ("Add", ["variance", "tiny"], ["positive"], {}),
        ("Sqrt", ["positive"], ["deviation"], {}),
        ("Div", ["centred", "deviation"], ["normal"], {}),
        ("Transpose", ["first.dense.weight"], ["turned"], {"perm": [1, 0]}),
        ("MatMul", ["normal", "turned"], ["first"], {}),
        ("Add", ["first", "first.dense.bias"], ["biased"], {}),
        ("Tanh", ["biased"], ["bent"], {}),
        ("MatMul", ["bent", "second.dense.weight"], ["second"], {}),
        ("Cast", ["attention_mask"], ["flat"], {"to": onnx.TensorProto.FLOAT}),
        ("Unsqueeze", ["flat", "last"], ["mask"], {}),
        ("Mul", ["second", "mask"], ["masked"], {}),
        ("ReduceSum", ["masked", "tokens"], ["sum"], {"keepdims": 0}),
        ("ReduceSum", ["mask", "tokens"], ["count"], {"keepdims": 0}),
        ("Div", ["sum", "count"], ["EMBEDDING"], {}),
    ]
    inputs = dict.fromkeys(("input_ids", "attention_mask"), ("INT64", ["batch", "sequence"]))
    constants = {**{name: value.astype(np.float32) for name, value in tables.items()}, **numbers}
    model = onnx.load_model_from_string(
        onnx_model(inputs, {"EMBEDDING": ("FLOAT", ["batch", WIDTH])}, nodes, constants)
    )
    model.opset_import[0].version = 20
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    folder.mkdir()
    onnx.save_model(
        model, folder / "model.onnx", save_as_external_data=True, location="weights.data", size_threshold=128
    )
    tensors = tuple(Tensor(name, "INT64", (-1, -1)) for name in inputs)
    outputs = (Tensor("EMBEDDING", "FP32", (-1, WIDTH)),)
    return OnnxModel(describe_folder(folder), tensors, outputs, 20, {"bound": 4})


def make_tokens(folder: Path) -> TokenizerFiles:
    """A real tokenizer, without the library that takes seconds to import."""
    tokenizer, _ = TOKENIZERS["wordpiece"]()
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    names = ("input_ids", "attention_mask")
    return TokenizerFiles(describe_folder(folder), names, 0, 0, "[PAD]", "right", "right", MAX_LENGTH)


def make(folder: Path, *, loud: float = 1.0) -> Made:
    """A model and what it answers in onnxruntime, FP32: the reference of a stage that must not change it."""
    from builder.parity.questions import Questions
    from builder.tools.onnxruntime import Session

    tokens = make_tokens(folder / "tokens")
    model = write_model(folder / "model", loud=loud)
    empty = {"EMBEDDING": np.zeros(0)}
    asked = Questions(batches([(one.text,) for one in SAMPLES], tokens), empty, "cosine", len(SAMPLES))
    answers = asked.ask(Session(folder / "model" / "model.onnx"))
    written = folder / "reference"
    written.mkdir()
    save_arrays(answers, written / "expected.safetensors")
    lines = [json.dumps({"text": one.text}) + "\n" for one in SAMPLES]
    (written / "samples.jsonl").write_text("".join(lines), encoding="utf-8")
    reference = Reference(describe_folder(written), ("EMBEDDING",), (), {}, "cosine")
    return Made(folder / "model", OptimiseInputs(model, reference, tokens))

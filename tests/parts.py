"""Tiny artifacts, as the export hands them on: an ONNX model with external data, a real tokenizer, a reference."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from builder.artifacts import Engine, OnnxModel, Profile, Reference, Source, Tensor, TokenizerFiles
from builder.core.digest import describe_file, describe_folder
from builder.tools import hf
from tests.models import MAX_LENGTH, TEXTS, VOCABULARY, make_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DIMENSIONS = 8
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Parts:
    """What config and package read, and the Hugging Face tokenizer that they must agree with."""

    source: Source
    model: OnnxModel
    tokenizer: TokenizerFiles
    reference: Reference
    hf: Any

    def tokens(self, *rows: tuple[str, ...]) -> dict[str, np.ndarray]:
        """What the Hugging Face tokenizer makes of texts, or of pairs."""
        encoded = self.hf(
            [row[0] for row in rows],
            [row[1] for row in rows] if len(rows[0]) > 1 else None,
            padding=True,
            truncation="longest_first",
            max_length=MAX_LENGTH,
            return_tensors="np",
            return_token_type_ids=True,
        )
        return {name: encoded[name] for name in INPUTS}

    def answer(self, *rows: tuple[str, ...]) -> np.ndarray:
        """The model in numpy: [rows, DIMENSIONS]."""
        tokens = self.tokens(*rows)
        table, types = weights()
        values = table[tokens["input_ids"]] + types[tokens["token_type_ids"]]
        mask = tokens["attention_mask"][..., None].astype(np.float32)
        return (values * mask).sum(axis=1) / mask.sum(axis=1)


def weights() -> tuple[np.ndarray, np.ndarray]:
    """Tables of tokens and token types: seeded, the same each time."""
    source = np.random.default_rng(5)
    return (
        source.normal(size=(VOCABULARY, DIMENSIONS)).astype(np.float32),
        source.normal(size=(2, DIMENSIONS)).astype(np.float32),
    )


def make_parts(folder: Path, *, kind: str = "wordpiece", samples: Sequence[dict[str, str]] | None = None) -> Parts:
    """Writes the files of all parts below ``folder``."""
    tokenizer_folder = make_tokenizer(
        kind, folder / "source", "PreTrainedTokenizerFast", model_input_names=list(INPUTS)
    )
    (folder / "source" / "config.json").write_text("{}", encoding="utf-8")
    loaded = hf.load_tokenizer(tokenizer_folder)
    shipped = folder / "tokenizer"
    shipped.mkdir()
    (shipped / "tokenizer.json").write_text(loaded.backend_tokenizer.to_str(), encoding="utf-8")
    return Parts(
        source=Source("path", "tiny", None, "apache-2.0", describe_folder(folder / "source")),
        model=make_onnx(folder / "model"),
        tokenizer=TokenizerFiles(
            files={"tokenizer.json": describe_file(shipped / "tokenizer.json")},
            input_names=INPUTS,
            pad_token_id=loaded.pad_token_id,
            pad_token_type_id=loaded.pad_token_type_id,
            pad_token=loaded.pad_token,
            padding_side=loaded.padding_side,
            truncation_side=loaded.truncation_side,
            max_length=MAX_LENGTH,
        ),
        reference=make_reference(folder / "reference", samples or [{"text": text} for text in TEXTS]),
        hf=loaded,
    )


def make_reference(folder: Path, samples: Sequence[dict[str, str]]) -> Reference:
    folder.mkdir()
    lines = [json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples]
    (folder / "samples.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "expected.safetensors").write_bytes(b"expected")
    return Reference(
        files=describe_folder(folder),
        outputs=("EMBEDDING",),
        controls=("wrong_pooling",),
        record={"versions": {"transformers": "5"}, "shapes": (1, 2)},
        metric="cosine",
    )


def make_onnx(folder: Path) -> OnnxModel:
    """The mean of the token's rows in a table, under the mask; the table lies in a file of its own."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir()
    table, types = weights()
    constants = {"table": table, "types": types, "one": np.array([1], np.int64), "two": np.array([2], np.int64)}
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Gather", ["types", "token_type_ids"], ["kinds"]),
        helper.make_node("Add", ["rows", "kinds"], ["values"]),
        helper.make_node("Cast", ["attention_mask"], ["flat"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["flat", "two"], ["mask"]),
        helper.make_node("Mul", ["values", "mask"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "one"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "one"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["EMBEDDING"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in INPUTS],
        [helper.make_tensor_value_info("EMBEDDING", TensorProto.FLOAT, ["batch", DIMENSIONS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save_model(
        model, folder / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=1024
    )
    return OnnxModel(
        files=describe_folder(folder),
        inputs=tuple(Tensor(name, "INT64", (-1, -1)) for name in reversed(INPUTS)),
        outputs=(Tensor("EMBEDDING", "FP32", (-1, DIMENSIONS)),),
        opset=18,
        record={},
    )


def make_engine(
    folder: Path,
    model: OnnxModel,
    profiles: Sequence[Profile] = (Profile((1, 8, 32), (2, 16, MAX_LENGTH)),),
    *,
    runtime: str = "tensorrt",
    plans: Mapping[str, str] | None = None,
) -> Engine:
    """What a compiler would hand on for a model: files that begin as plans do, and nothing behind."""
    made = dict(plans or {"7.5": "model.plan"})
    folder.mkdir()
    for name in set(made.values()):
        (folder / name).write_bytes((b"vtrt" if "rtx" in runtime else b"ftrt") + name.encode().ljust(60, b"\0"))
    return Engine(describe_folder(folder), runtime, model.inputs, model.outputs, tuple(profiles), made, record={})

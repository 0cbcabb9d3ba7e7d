"""What lies where in a model's folder: JSON files, weights, the transformer's subfolder."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from builder.errors import ModelError
from builder.tools import files as tools_files
from builder.tools.hf import TOKENIZER_FILES, VOCABULARY_FILES
from builder.tools.hf_images import SETTINGS_FILE
from builder.tools.safetensors_header import read_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.artifacts import Json, Source, Tree


LIBRARIES_BYTES: Final = 600 << 20
"""Resident memory of a worker that has imported torch, transformers, onnx_ir and onnxruntime and has exported models
before: 400 to 550 MB were measured, with torch 2.13."""


def read_json(tree: Tree, name: str) -> Json:
    """The JSON document of a file, or None where the model has no such file.

    Raises:
        ModelError: the file is not JSON.
    """
    if name not in tree:
        return None
    try:
        return json.loads(tree[name].path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{name}: not JSON: {error}", mend="download the model again, or mend the file") from error


def read_object(tree: Tree, name: str) -> dict[str, Any]:
    """As :func:`read_json`, for a file that must hold a JSON object; empty where there is no file.

    Raises:
        ModelError: the file does not hold an object.
    """
    value = read_json(tree, name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ModelError(
            f"{name}: a {type(value).__name__}, where a JSON object is expected", mend="download the model again"
        )
    return value


def in_folder(folder: str, name: str) -> str:
    """``folder/name``, or ``name`` where the folder is the model's root ("")."""
    return f"{folder}/{name}" if folder else name


def weight_files(tree: Tree, folder: str) -> tuple[str, ...]:
    """Names of the safetensors files that hold the weights of ``folder``: one file, or the shards of an index.

    Raises:
        ModelError: there are none, or one that the index names is missing.
    """
    single, index = in_folder(folder, "model.safetensors"), in_folder(folder, "model.safetensors.index.json")
    if single in tree:
        return (single,)
    if index not in tree:
        raise ModelError(
            f"{single}: the model has no such file; it has {', '.join(_weights_like(tree)) or 'no weights at all'}",
            mend="take a revision with safetensors weights, or save the model again with save_pretrained()",
        )
    shards = sorted({in_folder(folder, str(name)) for name in _weight_map(tree, index).values()})
    missing = [name for name in shards if name not in tree]
    if missing:
        raise ModelError(f"{index}: names {', '.join(missing)}, which the model does not have")
    return tuple(shards)


@contextlib.contextmanager
def transformer_folder(source: Source, folder: str, *, weights: bool, below: Path) -> Iterator[Path]:
    """A temporary folder as ``from_pretrained`` wants it: configuration and tokenizer files, weights if asked.

    It holds symbolic links, and nothing that could execute: no pickle, and Python only where the recipe allows it.
    """
    names = [
        name for name in (*TOKENIZER_FILES, SETTINGS_FILE, "config.json") if in_folder(folder, name) in source.files
    ]
    paths = {name: source.files[in_folder(folder, name)].path for name in names}
    paths |= {PurePosixPath(name).name: source.files[name].path for name in code_files(source)}
    if weights:
        paths |= _weights(source.files, folder)
    with tempfile.TemporaryDirectory(dir=below, prefix=".model-") as temporary:
        yield tools_files.link(paths, Path(temporary))


def code_files(source: Source) -> tuple[str, ...]:
    """Names of the model's own Python files; none unless the recipe allows to run them."""
    return tuple(name for name in source.files if name.endswith(".py")) if source.remote_code else ()


def has_tokenizer(tree: Tree, folder: str) -> bool:
    """Whether any file holds a vocabulary: transformers makes an empty tokenizer where there is none."""
    return any(in_folder(folder, name) in tree for name in VOCABULARY_FILES)


def digests(tree: Tree, names: Iterable[str]) -> dict[str, str]:
    """sha256 of those of the files that exist, by name."""
    return {name: tree[name].sha256 for name in sorted(names) if name in tree}


def needed_memory(source: Source, copies: float) -> int:
    """Bytes that a stage needs with torch and transformers.

    Args:
        source: the model.
        copies: how much of the weights is in memory, with what is computed from them; for 0, nothing is loaded. Those
            that are stored as FP16 or BF16 are read whole, and are there in FP32 as well.
    """
    weights = weight_bytes(source)
    return LIBRARIES_BYTES + int(copies * weights) + (3 * half_bytes(source) if copies else 0)


def weight_bytes(source: Source) -> int:
    """Size of the model's safetensors files together."""
    return sum(file.size for name, file in source.files.items() if name.endswith(".safetensors"))


def half_bytes(source: Source) -> int:
    """Bytes of the model's tensors in FP16 or BF16; 0 where a file cannot be read: the stage itself says so."""
    with contextlib.suppress(OSError, ModelError):
        spans = [
            span
            for name, file in source.files.items()
            if name.endswith(".safetensors")
            for span in read_header(file.path).values()
        ]
        return sum(span.end - span.begin for span in spans if span.dtype in {"F16", "BF16"})
    return 0


def _weights(tree: Tree, folder: str) -> dict[str, Path]:
    found = weight_files(tree, folder)
    index = in_folder(folder, "model.safetensors.index.json")
    names = [*found, *([index] if len(found) > 1 or index in tree else [])]
    return {name.removeprefix(f"{folder}/") if folder else name: tree[name].path for name in names}


def _weight_map(tree: Tree, index: str) -> dict[str, Any]:
    weight_map = read_object(tree, index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise ModelError(f"{index}: no weight_map", mend="download the model again")
    return weight_map


def _weights_like(tree: Tree) -> list[str]:
    return [name for name in tree if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".safetensors"))]

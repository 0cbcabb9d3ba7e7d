"""The tensors of a model's safetensors files: where each lies, and which parameter of the traced module it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.errors import ModelError
from builder.export.model_files import in_folder, weight_files
from builder.tools import safetensors_values
from builder.tools.heads import Dense, LayerNorm
from builder.tools.safetensors_header import TensorSpan, read_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.artifacts import Json, Tree
    from builder.export.tasks import Head
    from builder.tools.opaque import Array, TorchModule

_LEGACY_NAMES = ((".LayerNorm.weight", ".LayerNorm.gamma"), (".LayerNorm.bias", ".LayerNorm.beta"))
"""Names of today and of checkpoints from TensorFlow's days: transformers still reads both."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a checkpoint."""

    file: str  # the model's file that holds it
    span: TensorSpan


def stored_tensors(tree: Tree, head: Head) -> dict[str, Stored]:
    """Every tensor that the model stores, by ``folder/name`` (``name`` alone in the root).

    Names hold the folder and not the file, so that a model and its sharded copy are the same.

    Raises:
        ModelError: a file is missing, truncated or corrupt.
    """
    found: dict[str, Stored] = {}
    for folder in _folders(head):
        for file in weight_files(tree, folder):
            spans = read_header(tree[file].path)
            found |= {in_folder(folder, name): Stored(file, span) for name, span in spans.items()}
    return found


def header_facts(tree: Tree, head: Head) -> list[Json]:
    """Name, dtype and shape of every stored tensor: what a graph may depend on, unlike offsets and values."""
    stored = stored_tensors(tree, head)
    return [[name, stored[name].span.dtype, list(stored[name].span.shape)] for name in sorted(stored)]


def candidates(parameter: str, head: Head, base_model_prefix: str) -> Iterator[str]:
    """Names under which a checkpoint may hold a parameter of the traced module, likeliest first.

    Args:
        parameter: ``model.<name>`` or ``steps.<index>.<name>``.
        head: the head that was traced.
        base_model_prefix: of the transformers class, e.g. ``bert``: checkpoints may or may not have it.
    """
    owner, _, name = parameter.partition(".")
    if owner == "steps":
        index, _, name = name.partition(".")
        step = head.steps[int(index)]
        if not isinstance(step, Dense | LayerNorm):
            raise ModelError(f"{parameter}: {type(step).__name__} has no parameters")  # pragma: no cover
        yield in_folder(step.folder, name)
        return
    prefix = f"{base_model_prefix}."
    spellings = [name, name.removeprefix(prefix), prefix + name]
    for spelling in dict.fromkeys(spellings):
        yield in_folder(head.folder, spelling)
        for today, legacy in _LEGACY_NAMES:
            if spelling.endswith(today):
                yield in_folder(head.folder, spelling.removesuffix(today) + legacy)


def match(module: TorchModule, names: Iterable[str], head: Head, tree: Tree) -> dict[str, str]:
    """Which stored tensor each parameter is.

    transformers maps most tensors from the file as they are: then the memory itself says which it is. The others, which
    were converted or copied, are found by name, and proven by their values, because transformers changes some tensors
    while it loads them.

    Args:
        module: the traced module, loaded.
        names: initializers of the graph; those that are no parameters of the module are left out.
        head: the head that was traced.
        tree: the model's files.

    Returns:
        Initializer → ``folder/name`` of the stored tensor, or "" for what was loaded and no stored tensor is. Buffers
        that were not loaded are left out: the architecture computes them, and they are the graph's own. Nothing else
        may be: its values would be bound to every other checkpoint of the architecture.
    """
    from builder.tools import torch_heads
    from builder.tools.mapped import MappedFiles

    stored = stored_tensors(tree, head)
    places = {(str(tree[at.file].path.resolve()), at.span.begin): key for key, at in stored.items()}
    mapped, prefix = MappedFiles(), str(getattr(module.model, "base_model_prefix", ""))
    found: dict[str, str] = {}
    missing = module.model.tritonsmith_missing_keys
    for name, state in torch_heads.states(module, names).items():
        key = places.get(mapped.place(state.array) or ("", 0))
        if key is None or not _is_whole(stored[key], state.array):
            keys = (key for key in candidates(name, head, prefix) if key in stored)
            key = next((key for key in keys if _holds(tree, stored[key], state.array)), None)
        if key is not None or state.is_parameter or name.removeprefix("model.") not in missing:
            found[name] = key or ""
    return found


def _is_whole(stored: Stored, array: Array) -> bool:
    """Whether an array that begins where a stored tensor begins is all of it, and not a part or a view of it."""
    return bool(stored.span.shape == array.shape) and stored.span.end - stored.span.begin == array.nbytes


def _holds(tree: Tree, stored: Stored, array: Array) -> bool:
    return safetensors_values.holds(tree[stored.file].path, stored.span, array)


def _folders(head: Head) -> list[str]:
    steps = [step.folder for step in head.steps if isinstance(step, Dense | LayerNorm)]
    return list(dict.fromkeys([head.folder, *steps]))

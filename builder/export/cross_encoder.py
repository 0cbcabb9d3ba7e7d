"""Reads the files of a sentence-transformers CrossEncoder: what follows the one logit of a pair.

The rules are those of sentence-transformers 6.2 (``CrossEncoder.__init__``, ``get_default_activation_fn``). What is not
understood is refused by name: an ignored setting would change the scores in silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.errors import ModelError
from builder.export.model_files import read_json, read_object
from builder.export.sentence_transformers import (
    MODULES,
    NEUTRAL_SETTINGS,
    SETTINGS,
    TRANSFORMER_SETTINGS,
    activation,
    optional_integer,
    read_transformer_settings,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import Json, Tree

_CLASSIFIER: Final[Mapping[str, Json]] = {
    "transformer_task": "sequence-classification",
    "module_output_name": "scores",
    "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
}
_KNOWN: Final = NEUTRAL_SETTINGS | {"model_type", "prompts", "activation_fn", "keep_in_fp32_modules"}
_LEGACY: Final = "sbert_ce_default_activation_function"
_DEFAULT: Final = "Sigmoid"  # for one label


@dataclass(frozen=True, slots=True)
class CrossEncoder:
    """What a model's files say about how its scores are made."""

    activation: str  # of builder.tools.heads.ACTIVATIONS
    max_length: int | None = None  # tokens
    max_length_from: str = ""
    lower_case: bool = False
    files: tuple[str, ...] = ()  # the JSON files that were read, besides config.json


def read(tree: Tree) -> CrossEncoder:
    """Reads a model for the task text-ranking.

    Raises:
        ModelError: a file is damaged, or says something that is not understood.
    """
    _check_modules(tree)
    name = next((name for name in TRANSFORMER_SETTINGS if name in tree), "")
    settings = read_transformer_settings(tree, name, _CLASSIFIER) if name else {}
    return CrossEncoder(
        activation=_activation(tree, _settings(tree)),
        max_length=optional_integer(name, "max_seq_length", settings.get("max_seq_length")),
        max_length_from=f"{name}: max_seq_length",
        lower_case=bool(settings.get("do_lower_case", False)),
        files=tuple(file for file in (MODULES, SETTINGS, name) if file in tree),
    )


def _check_modules(tree: Tree) -> None:
    modules = read_json(tree, MODULES)
    if modules is None:
        return
    entries = modules if isinstance(modules, list) and all(isinstance(entry, dict) for entry in modules) else []
    kinds = [str(entry.get("type", "")).rpartition(".")[2] for entry in entries]
    if kinds != ["Transformer"] or entries[0].get("path") or entries[0].get("kwargs"):
        raise ModelError(
            f"{MODULES}: {', '.join(kinds) or 'no modules'}; text-ranking takes a Transformer alone, in the model's "
            "own folder",
            mend="take a cross-encoder that is a classifier with one label",
        )


def _settings(tree: Tree) -> dict[str, Json]:
    settings = read_object(tree, SETTINGS)
    for key, value in settings.items():
        if key not in _KNOWN and value not in (None, {}, []):
            raise ModelError(
                f"{SETTINGS}: {key}: {value!r} is not understood", mend="take a model without this setting"
            )
    kind = settings.get("model_type", "CrossEncoder")
    if kind != "CrossEncoder":
        raise ModelError(f"{SETTINGS}: model_type is {kind!r}; text-ranking takes a 'CrossEncoder'")
    return settings


def _activation(tree: Tree, settings: Mapping[str, Json]) -> str:
    """That of the newest file that names one; before 6.0 and before 4.0 it stood elsewhere."""
    config = read_object(tree, "config.json")
    inner = config.get("sentence_transformers")
    places = (
        (SETTINGS, "activation_fn", settings.get("activation_fn")),
        (
            "config.json",
            "sentence_transformers.activation_fn",
            inner.get("activation_fn") if isinstance(inner, dict) else None,
        ),
        ("config.json", _LEGACY, config.get(_LEGACY)),
    )
    for name, key, path in places:
        if path is not None:
            return activation(name, key, path)
    return _DEFAULT

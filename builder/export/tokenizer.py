"""The tokenizer stage: the Hugging Face tokenizer as one file, and all that decides its tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from builder.artifacts import TokenizerFiles
from builder.core.digest import describe_file
from builder.errors import InternalError, ModelError
from builder.export.model_files import (
    code_files,
    digests,
    has_tokenizer,
    in_folder,
    needed_memory,
    transformer_folder,
)
from builder.export.tasks import Head, read_head
from builder.export.versions import versions
from builder.recipe.tasks import TASKS
from builder.tools import hf, tokenizer_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.artifacts import Json, Source
    from builder.recipe.tasks import Task
    from builder.tools.opaque import HfTokenizer

_UNLIMITED: Final = 1_000_000
"""Tokens. transformers writes 1e30 where a tokenizer has no limit of its own."""

_HARD_TEXTS: Final = (
    "",
    " ",
    "A plain sentence, with punctuation (and brackets).",
    "  leading and trailing white space \t\r\n",
    "Ünïcödé ÀÉÎ ﬁ Ⅷ İstanbul ΣΊΣΥΦΟΣ",
    "emoji 👩‍👩‍👧‍👦 🏳️‍🌈 ☕",
    "中文和日本語のテキスト 한국어",
    "שלום עולם مرحبا بالعالم",
    "control \x00\x01\x1f\x7f characters \u200b\u200d\ufeff",
    "[CLS] [SEP] [MASK] <s> </s> <pad> <mask> <unk> special tokens",
    "word " * 2000,
)


@dataclass(frozen=True)
class Tokenizer:
    """Makes ``tokenizer.json`` for serving: exactly the tokens of ``AutoTokenizer``.

    Args:
        task: one that takes text.
        max_length: the recipe's ``inputs.max_length``, in tokens; None takes the model's own.
    """

    task: str
    max_length: int | None = None
    name: ClassVar[str] = "tokenizer"
    version: ClassVar[int] = 2
    apart: ClassVar[bool] = True

    def fingerprint(self, inputs: Source) -> Mapping[str, Json]:
        head = read_head(inputs.files, self.task)
        names = [in_folder(head.folder, name) for name in (*hf.TOKENIZER_FILES, "config.json")]
        return {
            "task": self.task,
            "max_length": self.max_length,
            "files": digests(inputs.files, [*names, *head.files, *code_files(inputs)]),
            "versions": versions("transformers", "tokenizers", "torch"),
        }

    def requires(self, inputs: Source) -> None:
        head = read_head(inputs.files, self.task)
        if not has_tokenizer(inputs.files, head.folder):
            raise ModelError(
                f"{inputs.model_id}: the model has no tokenizer: none of {', '.join(hf.VOCABULARY_FILES)}",
                mend="save the tokenizer beside the model with tokenizer.save_pretrained()",
            )

    def memory(self, inputs: Source) -> int:
        return needed_memory(inputs, copies=0)

    def run(self, inputs: Source, out: Path) -> TokenizerFiles:
        head = read_head(inputs.files, self.task)
        with transformer_folder(inputs, head.folder, weights=False, below=out) as folder:
            tokenizer = hf.load_tokenizer(folder, lower_case=head.lower_case, remote_code=inputs.remote_code)
            architecture = hf.architecture(folder, self.task, remote_code=inputs.remote_code)
        max_length, limits = self._max_length(tokenizer, head, architecture.positions)
        path = out / "tokenizer.json"
        path.write_text(tokenizer_file.serialise(tokenizer), encoding="utf-8")
        result = TokenizerFiles(
            files={path.name: describe_file(path)},
            input_names=_input_names(tokenizer, architecture),
            max_length=max_length,
            truncation=TASKS[self.task].truncation,
            prompt=head.prompt,
            record={"class": type(tokenizer).__name__, "max_length": limits, "lower_case": head.lower_case},
            **_padding(tokenizer, TASKS[self.task]),
        )
        _agree(tokenizer, path, result, with_pairs=TASKS[self.task].takes_pairs)
        return result

    def ensures(self, inputs: Source, output: TokenizerFiles) -> None:  # noqa: ARG002 - a stage's signature
        state = json.loads(output.files["tokenizer.json"].path.read_text(encoding="utf-8"))
        if state["truncation"] is not None or state["padding"] is not None:
            raise InternalError("tokenizer.json still pads or truncates by itself")

    def _max_length(self, tokenizer: HfTokenizer, head: Head, positions: int | None) -> tuple[int, dict[str, Json]]:
        """The recipe's limit, else the task's own files', else the tokenizer's; never more than the positions."""
        if self.max_length is not None:
            return self._from_recipe(positions), {"from": "recipe: inputs.max_length", "positions": positions}
        stated, place = tokenizer.model_max_length, "tokenizer_config.json: model_max_length"
        if head.max_length is not None:
            stated, place = head.max_length, head.max_length_from
        if stated > _UNLIMITED and positions is None:
            raise ModelError(
                f"{place} states no limit, and neither does config.json",
                mend="set inputs.max_length in the recipe",
            )
        if positions is not None and stated > positions:
            stated, place = positions, f"the model's positions ({place} says {_shown(stated)})"
        return int(stated), {"from": place, "positions": positions}

    def _from_recipe(self, positions: int | None) -> int:
        if positions is not None and self.max_length is not None and self.max_length > positions:
            raise ModelError(
                f"inputs.max_length is {self.max_length}; allowed: up to {positions}, the positions that the model has",
                mend=f"set inputs.max_length to {positions} or less",
            )
        return self.max_length or 0


def _shown(limit: float) -> str:
    return "no limit" if limit > _UNLIMITED else str(int(limit))


def _input_names(tokenizer: HfTokenizer, architecture: hf.Architecture) -> tuple[str, ...]:
    made, taken = set(tokenizer.model_input_names), set(architecture.forward_inputs)
    if not {"input_ids", "attention_mask"} <= made & taken:
        raise ModelError(
            f"the tokenizer makes {', '.join(sorted(made))} and {architecture.class_name} takes "
            f"{', '.join(sorted(taken & set(hf.MODEL_INPUTS))) or 'none of them'}: without input_ids and attention_mask"
            " on both sides, the answer to a text would depend on the other texts of its batch",
        )
    unknown = sorted(made & taken - set(hf.MODEL_INPUTS))
    if unknown:
        raise ModelError(f"{architecture.class_name} takes {unknown[0]}; allowed inputs: {', '.join(hf.MODEL_INPUTS)}")
    names = tuple(name for name in hf.MODEL_INPUTS if name in made & taken)
    return names if architecture.token_types else tuple(name for name in names if name != "token_type_ids")


def _padding(tokenizer: HfTokenizer, task: Task) -> dict[str, Json]:
    if tokenizer.pad_token is None:
        raise ModelError(
            "the tokenizer has no padding token: texts of different lengths cannot share a batch",
            mend='add a "pad_token" to tokenizer_config.json',
        )
    return {
        "pad_token_id": tokenizer.pad_token_id,
        "pad_token_type_id": tokenizer.pad_token_type_id,
        "pad_token": tokenizer.pad_token,
        # Where each token has an answer, token i is to be at i whatever else is in its batch.
        "padding_side": "right" if task.per_token else tokenizer.padding_side,
        "truncation_side": tokenizer.truncation_side,
    }


def _agree(tokenizer: HfTokenizer, path: Path, files: TokenizerFiles, *, with_pairs: bool) -> None:
    """Compares the file with the Hugging Face tokenizer on texts that are hard to tokenise.

    Raises:
        ModelError: the tokenizer does something that its file cannot hold.
    """
    pairs = _hard_pairs(tokenizer, files) if with_pairs else []
    for texts, truncation in (([(text,) for text in _HARD_TEXTS], "longest_first"), (pairs, files.truncation)):
        expected = hf.encode(tokenizer, texts, files.max_length, truncation)
        actual = tokenizer_file.encode(path, texts, files.max_length, files.truncation_side, truncation)
        for text, wanted, got in zip(texts, expected, actual, strict=True):
            _compare(text, wanted, got, files.input_names)


def _hard_pairs(tokenizer: HfTokenizer, files: TokenizerFiles) -> list[tuple[str, ...]]:
    """Pairs of hard texts; where the first of a pair stays whole, only such as leave room for the second."""
    pairs: list[tuple[str, ...]] = list(zip(_HARD_TEXTS, reversed(_HARD_TEXTS), strict=True))
    if files.truncation == "longest_first":
        return pairs
    firsts = hf.encode(tokenizer, [pair[:1] for pair in pairs], files.max_length)
    return [pair for pair, item in zip(pairs, firsts, strict=True) if len(item["input_ids"]) < files.max_length // 2]


def _compare(
    text: tuple[str, ...], wanted: Mapping[str, list[int]], got: Mapping[str, list[int]], names: tuple[str, ...]
) -> None:
    for name in names:
        if wanted[name] != got[name]:
            raise ModelError(
                f"the tokenizer of transformers and its own tokenizer.json differ in {name} for {text[0][:40]!r}: "
                f"{wanted[name][:8]} against {got[name][:8]}",
                mend="take a model whose tokenizer does all its work in tokenizer.json",
            )

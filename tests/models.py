"""Tiny models of real architectures with real tokenizers, seeded: hidden size 32, two layers, a vocabulary of 256.

They are written in the Hugging Face format and read by the code under test like any other model.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from builder.tools import hf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

TEXTS = (
    "The train to the coast leaves at seven in the morning.",
    "A wonderful film!",
    "",
    "How do I reset my password?",
    "Der Hund schläft unter dem Tisch, und die Katze schaut ihm zu.",
    "今日は天気がいいですね。",
    "Thank you so much for the flowers, they are lovely 🌷",
    "Interest rates were raised by a quarter of a percentage point on Wednesday, and nobody was surprised.",
    "  white space\t around  ",
    "UPPER case and lower case",
    "It rained for three weeks; then the river came. " * 12,
)
"""Texts that the vocabularies are made of, and that the tests ask."""

VOCABULARY = 320

MAX_LENGTH = 48
"""Positions of the tiny models, in tokens."""

_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def _wordpiece() -> tuple[Tokenizer, dict[str, Any]]:
    """Like bert-base-uncased."""
    letters, words = _pieces()
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), *words]
    vocabulary = {piece: index for index, piece in enumerate(pieces[:VOCABULARY])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in pieces[:5]])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return tokenizer, {**names, "mask_token": "[MASK]", "model_max_length": MAX_LENGTH}


def _byte_level() -> tuple[Tokenizer, dict[str, Any]]:
    """Like roberta-base: byte-level BPE."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    # This trainer breaks ties by token id: its result is the same each time, unlike WordPiece's and Unigram's.
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer, {**_roberta_names(), "model_max_length": MAX_LENGTH}


def _unigram() -> tuple[Tokenizer, dict[str, Any]]:
    """Like xlm-roberta-base: a SentencePiece Unigram model."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    letters, words = _pieces()
    pieces = [*((name, 0.0) for name in special), ("▁", -6.0), *((letter, -8.0) for letter in letters)]
    pieces += [(f"▁{word}", -4.0 - index / 64) for index, word in enumerate(words)]
    tokenizer = Tokenizer(models.Unigram(pieces[:VOCABULARY], unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in special])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer, {**_roberta_names(), "model_max_length": MAX_LENGTH}


TOKENIZERS: Mapping[str, Callable[[], tuple[Tokenizer, dict[str, Any]]]] = {
    "wordpiece": _wordpiece,
    "byte-level": _byte_level,
    "unigram": _unigram,
}

_ROBERTA = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "max_position_embeddings": MAX_LENGTH + 2}
_BERT = {"pad_token_id": 0, "max_position_embeddings": MAX_LENGTH}

FAMILIES: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    # family: tokenizer, class of the tokenizer, config.json
    "bert": ("wordpiece", "BertTokenizer", {**_SIZES, **_BERT}),
    "distilbert": (
        "wordpiece",
        "DistilBertTokenizer",
        {**_BERT, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
    ),
    "electra": ("wordpiece", "ElectraTokenizer", {**_SIZES, **_BERT, "embedding_size": 16}),
    "roberta": ("byte-level", "RobertaTokenizer", {**_SIZES, **_ROBERTA, "type_vocab_size": 1}),
    "mpnet": ("wordpiece", "PreTrainedTokenizerFast", {**_SIZES, **_ROBERTA, "relative_attention_num_buckets": 32}),
    "deberta-v2": (
        "unigram",
        "PreTrainedTokenizerFast",
        {
            **_SIZES,
            "pad_token_id": 1,
            "max_position_embeddings": MAX_LENGTH,
            "type_vocab_size": 0,
            "relative_attention": True,
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "pooler_hidden_size": 32,
        },
    ),
    "xlm-roberta": ("unigram", "PreTrainedTokenizerFast", {**_SIZES, **_ROBERTA, "type_vocab_size": 1}),
    "modernbert": (
        "byte-level",
        "PreTrainedTokenizerFast",
        {
            **_SIZES,
            "num_hidden_layers": 3,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "cls_token_id": 0,
            "sep_token_id": 2,
            "max_position_embeddings": MAX_LENGTH,
            "global_attn_every_n_layers": 3,
            "local_attention": 16,
        },
    ),
    "albert": ("unigram", "PreTrainedTokenizerFast", {**_SIZES, "embedding_size": 16, **_BERT, "pad_token_id": 1}),
}

OTHERS: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    # Not tiny copies of a common family, but each with a trait of its own.
    "t5": (  # sentence-transformers takes its encoder alone
        "unigram",
        "PreTrainedTokenizerFast",
        {
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 48,
            "num_layers": 2,
            "num_heads": 4,
            "pad_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 0,
        },
    ),
    "nomic_bert": ("wordpiece", "BertTokenizer", {**_SIZES, **_BERT}),  # query, key and value are stored as one tensor
    "bart": (  # a classifier that looks for the end-of-sequence token
        "byte-level",
        "PreTrainedTokenizerFast",
        {
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "max_position_embeddings": MAX_LENGTH,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "decoder_start_token_id": 2,
            "init_std": 0.2,
        },
    ),
}


_PIXELS = {"do_resize": True, "size": {"height": 16, "width": 24}, "resample": 2, "do_rescale": True}

IMAGE_FAMILIES: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # family: config.json, preprocessor_config.json
    "vit": (
        {**_SIZES, "image_size": [16, 24], "patch_size": 8},
        {"image_processor_type": "ViTImageProcessor", **_PIXELS, "do_normalize": True, "image_std": [0.5, 0.25, 0.5]},
    ),
    "resnet": (
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
        {
            "image_processor_type": "BitImageProcessor",
            **_PIXELS,
            "size": {"shortest_edge": 20},
            "do_center_crop": True,
            "crop_size": {"height": 16, "width": 18},
        },
    ),
}


def make_image_model(family: str, folder: Path, *, seed: int = 0, **config: Any) -> Path:
    """Writes a tiny image classifier of a family; ``config`` goes into its config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    base, processor = IMAGE_FAMILIES[family]
    pixels = folder.with_name(folder.name + "-processor")
    write_json(pixels / "preprocessor_config.json", processor)
    hf.make_random_model({"model_type": family, **base, **config}, seed, pixels, "image-classification", folder)
    return folder


def make_tokenizer(kind: str, folder: Path, class_name: str = "PreTrainedTokenizerFast", **settings: Any) -> Path:
    """Writes tokenizer.json and tokenizer_config.json of a tokenizer that was trained on :data:`TEXTS`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, config = TOKENIZERS[kind]()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {**config, "tokenizer_class": class_name, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def make_model(family: str, task: str, folder: Path, *, seed: int = 0, **config: Any) -> Path:
    """Writes a tiny model of a family; ``config`` goes into its config.json."""
    kind, class_name, base = {**FAMILIES, **OTHERS}[family]
    folder.mkdir(parents=True, exist_ok=True)
    inputs = ["input_ids", "attention_mask"]
    if base.get("type_vocab_size", 2) > 1 and family in {"bert", "electra", "albert"}:
        inputs.insert(1, "token_type_ids")
    tokenizer = make_tokenizer(kind, folder.with_name(folder.name + "-tokenizer"), class_name, model_input_names=inputs)
    # A larger spread than transformers' 0.02: in two layers of 32, less would make all texts nearly the same.
    values = {"model_type": family, "vocab_size": VOCABULARY, "initializer_range": 0.2, **base, **config}
    hf.make_random_model(values, seed, tokenizer, task, folder)
    return folder


def add_sentence_transformers_files(
    folder: Path,
    *,
    pooling: Mapping[str, Any] | None = None,
    modules: tuple[str, ...] = ("Normalize",),
    transformer: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the files that make a model one of sentence-transformers: Transformer, Pooling, then ``modules``."""
    kinds = ("Transformer", "Pooling", *modules)
    listed = [
        {
            "idx": index,
            "name": str(index),
            "path": "" if index == 0 else f"{index}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, kind in enumerate(kinds)
    ]
    write_json(folder / "modules.json", listed)
    values = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True} if pooling is None else pooling
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, **values})
    write_json(
        folder / "sentence_bert_config.json", {"max_seq_length": 32, "do_lower_case": False, **(transformer or {})}
    )
    write_json(folder / "config_sentence_transformers.json", dict(settings or {}))
    return folder


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, and the folders that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def _roberta_names() -> dict[str, Any]:
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>"}
    return {**names, "unk_token": "<unk>", "mask_token": "<mask>"}


def _pieces() -> tuple[list[str], list[str]]:
    """The letters and the words of :data:`TEXTS`, in lower case, sorted: training them would not be deterministic."""
    words = sorted({word for text in TEXTS for word in text.lower().split()})
    return sorted({letter for word in words for letter in word}), words

"""The entities step, after the tokenizer step and a tiny model, against transformers' token-classification pipeline."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.tools import hf
from tests.models import FAMILIES, MAX_LENGTH, TEXTS, VOCABULARY, make_tokenizer
from tests.steps.kit import HARD, load_step, model, request
from tests.steps.test_tokenize import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

STEP, TOKENIZE = load_step("entities"), load_step("tokenize")
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC", "B-A-B"]
# Tokens of WordPiece, byte-level BPE and Unigram (which alone has unknown tokens beside known ones of the same word).
WORDS = {"bert": "ids", "roberta": "spaces", "xlm-roberta": "spaces"}
CITY = "Angela Merkel flew from Los Angeles to San José, and back to Los Angeles"
ALL = [text for text in (*TEXTS, *HARD, CITY) if text.strip()]
STRATEGIES = (*STEP.PER_TOKEN, *STEP.PER_WORD)


@dataclass(frozen=True)
class Tagger:
    """A pipeline of transformers, and what the step gets for the same texts."""

    peer: Any
    outputs: list[Any]  # of the pipeline's model, for each text
    arrays: Mapping[str, np.ndarray]
    words: str

    def settings(self, strategy: str, **changes: Any) -> dict[str, Any]:
        unknown = self.peer.tokenizer.unk_token_id
        values = {"labels": LABELS, "aggregation_strategy": strategy, "words": self.words, "unk_token_id": unknown}
        return {"schema": 1, **values, **changes}

    def row(self, index: int) -> dict[str, np.ndarray]:
        return {name: array[index] for name, array in self.arrays.items()}

    def find(self, index: int, strategy: str, **changes: Any) -> list[dict[str, Any]]:
        step = STEP.Entities(self.settings(strategy, **changes))
        names = ("LOGITS", "OFFSETS", "SEQUENCE_IDS", *step.extra)
        return step.find(ALL[index], {name: self.row(index)[name] for name in names})


@pytest.fixture(scope="module", params=sorted(WORDS))
def tagger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    import torch
    from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer, pipeline

    kind, class_name, base = FAMILIES[request.param]
    folder = make_tokenizer(kind, tmp_path_factory.mktemp(request.param), class_name)
    (folder / "tokenizer.json").write_text(hf.load_tokenizer(folder).backend_tokenizer.to_str(), encoding="utf-8")
    values = {**base, "vocab_size": VOCABULARY, "initializer_range": 0.2, "id2label": dict(enumerate(LABELS))}
    torch.manual_seed(0)
    network = AutoModelForTokenClassification.from_config(AutoConfig.for_model(request.param, **values)).eval()
    peer = pipeline(
        "token-classification", model=network, tokenizer=AutoTokenizer.from_pretrained(folder), device="cpu"
    )
    tokens = TOKENIZE.load_encoder(
        folder,
        {
            **SETTINGS,
            "input_names": ["input_ids", "attention_mask"],
            "extra_outputs": ["OFFSETS", "SEQUENCE_IDS", "WORD_IDS"],
            "pad_token_id": peer.tokenizer.pad_token_id,
            "max_length": MAX_LENGTH,
        },
    ).encode([[(text,) for text in ALL]])[0]
    with torch.no_grad(), hf.one_thread():
        outputs = [[peer.forward(item) for item in peer.preprocess(text, is_split_into_words=False)] for text in ALL]
        inputs = {name: torch.tensor(tokens[name]) for name in ("input_ids", "attention_mask")}
        logits = network(**inputs).logits.numpy()
    return Tagger(peer, outputs, {**tokens, "LOGITS": logits}, WORDS[request.param])


def expected(tagger: Tagger, index: int, strategy: str) -> list[dict[str, Any]]:
    """The pipeline's entities, with the words as they stand in the text."""
    from transformers.pipelines.token_classification import AggregationStrategy

    found = tagger.peer.postprocess(tagger.outputs[index], AggregationStrategy(strategy))
    return [{**item, "word": ALL[index][item["start"] : item["end"]]} for item in found]


def same(got: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> bool:
    scores = [[float(item["score"]) for item in items] for items in (got, wanted)]
    rest = [[{**item, "score": None} for item in items] for items in (got, wanted)]
    return rest[0] == rest[1] and np.allclose(*scores, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_as_the_pipeline_of_transformers(tagger: Tagger, strategy: str) -> None:
    names = set()
    for index in range(len(ALL)):
        got, wanted = tagger.find(index, strategy), expected(tagger, index, strategy)
        assert same(got, wanted), (ALL[index], got, wanted)
        names |= {item.get("entity_group", item.get("entity")) for item in got}
    assert len(names) >= 3  # the tiny model finds entities of several kinds


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
def test_the_comparison_tells_strategies_words_and_tokens_apart(tagger: Tagger) -> None:
    every = range(len(ALL))
    wanted = {index: expected(tagger, index, "average") for index in every}
    assert all(same(tagger.find(index, "average"), wanted[index]) for index in every)
    for strategy in ("simple", "first", "max"):
        assert not all(same(tagger.find(index, strategy), wanted[index]) for index in every)
    tagger.arrays["OFFSETS"][:] += 1
    try:
        assert not any(same(tagger.find(index, "average"), wanted[index]) for index in every if wanted[index])
    finally:
        tagger.arrays["OFFSETS"][:] -= 1


def test_words_where_transformers_guesses_wrong(tmp_path: Path) -> None:
    """A control character is dropped from the token, which transformers then takes for a part of the word before."""
    folder = make_tokenizer("wordpiece", tmp_path)
    values = {**SETTINGS, "extra_outputs": ["OFFSETS", "SEQUENCE_IDS", "WORD_IDS"]}
    text = "a t\x01he"
    tokens = TOKENIZE.load_encoder(folder, values).encode([[(text,)]])[0]
    assert tokens["OFFSETS"][0].tolist() == [[0, 0], [0, 1], [2, 6], [0, 0]]
    logits = np.zeros((4, 3), np.float32)
    logits[1, 1] = logits[2, 2] = 5
    step = STEP.Entities({"schema": 1, "labels": ["O", "A", "B"], "aggregation_strategy": "first"})
    found = step.find(text, {"LOGITS": logits, **{name: array[0] for name, array in tokens.items()}})
    assert [(item["entity_group"], item["word"]) for item in found] == [("A", "a"), ("B", "t\x01he")]


def test_labels_that_are_left_out(tagger: Tagger) -> None:
    index = ALL.index(CITY)
    names = {item["entity_group"] for item in tagger.find(index, "simple", ignore_labels=[])}
    one = sorted(names)[0]
    assert {item["entity_group"] for item in tagger.find(index, "simple", ignore_labels=[one])} == names - {one}


def test_an_unknown_strategy() -> None:
    with pytest.raises(ValueError, match="is 'best'; allowed: none, simple, first, max, average"):
        STEP.Entities({"schema": 1, "labels": LABELS, "aggregation_strategy": "best"})


def test_a_bad_request_fails_alone(tagger: Tagger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = model(STEP, tmp_path, tagger.settings("max"), monkeypatch)
    texts = np.array([[text.encode()] for text in ALL], dtype=object)
    inputs = {**tagger.arrays, "TEXT": texts}
    invalid = {**inputs, "TEXT": np.where(np.arange(len(ALL))[:, None] == 2, b"\xff", texts)}
    uneven = {**inputs, "SEQUENCE_IDS": inputs["SEQUENCE_IDS"][:, 1:]}
    labels = {**inputs, "LOGITS": inputs["LOGITS"][:, :, 1:]}
    good, *bad = served.execute([request(**arrays) for arrays in (inputs, invalid, uneven, labels)])
    found = [json.loads(item) for item in good.tensors["ENTITIES"][:, 0]]
    assert found == [tagger.find(index, "max") for index in range(len(ALL))]
    assert "今".encode() in b"".join(good.tensors["ENTITIES"][:, 0])  # readable, no escapes
    assert bad[0].error.message == "TEXT, row 2: byte 0xff at position 0 is not UTF-8"
    assert "must have as many tokens as each other" in bad[1].error.message
    assert bad[2].error.message.startswith("LOGITS has shape")

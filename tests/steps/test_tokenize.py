"""The tokenizer step's own code against the Hugging Face tokenizer, without a server."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.settings import settings
from builder.tools import hf, templates, wheels
from tests.models import MAX_LENGTH, TOKENIZERS, make_tokenizer
from tests.steps.kit import HARD, Backend, Tensor, load_step

if TYPE_CHECKING:
    from pathlib import Path

STEP = load_step("tokenize")

SETTINGS: dict[str, Any] = {
    "schema": 1,
    "input_names": ["input_ids", "attention_mask", "token_type_ids"],
    "text_pair": False,
    "prompt": "",
    "strip": False,
    "lower_case": False,
    "max_length": MAX_LENGTH,
    "minimum_length": 2,
    "truncation_side": "right",
    "padding": "longest",
    "buckets": [16, 32, MAX_LENGTH],
    "padding_side": "right",
    "pad_token_id": 0,
    "pad_token_type_id": 0,
}


@pytest.fixture(scope="module", params=sorted(TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The Hugging Face tokenizer, and the file that ships, as the export makes it."""
    folder = make_tokenizer(request.param, tmp_path_factory.mktemp(request.param))
    loaded = hf.load_tokenizer(folder)
    shipped = tmp_path_factory.mktemp(request.param + "-shipped")
    (shipped / "tokenizer.json").write_text(loaded.backend_tokenizer.to_str(), encoding="utf-8")
    return SimpleNamespace(hf=loaded, folder=shipped)


def make_encoder(tokenizer: Any, **changes: Any) -> Any:
    values = {**SETTINGS, "pad_token_id": tokenizer.hf.pad_token_id, **changes}
    return STEP.load_encoder(tokenizer.folder, values)


def expected(tokenizer: Any, rows: list[tuple[str, ...]], **options: Any) -> dict[str, np.ndarray]:
    """What the Hugging Face tokenizer makes of the rows, padded to the longest."""
    return dict(
        tokenizer.hf(
            [row[0] for row in rows],
            [row[1] for row in rows] if len(rows[0]) > 1 else None,
            padding=True,
            truncation="longest_first",
            return_tensors="np",
            return_token_type_ids=True,
            **{"max_length": MAX_LENGTH, **options},
        )
    )


def assert_equal(answer: Any, wanted: dict[str, np.ndarray]) -> None:
    assert not isinstance(answer, STEP.RefusedError), answer
    assert list(answer) == SETTINGS["input_names"]
    for name, array in answer.items():
        assert array.dtype == np.int64
        np.testing.assert_array_equal(array, wanted[name], err_msg=name)


def test_each_hard_text_alone(tokenizer: Any) -> None:
    answers = make_encoder(tokenizer).encode([[(text,)] for text in HARD])
    for text, answer in zip(HARD, answers, strict=True):
        assert_equal(answer, expected(tokenizer, [(text,)]))


def test_hard_texts_together(tokenizer: Any) -> None:
    rows = [(text,) for text in HARD]
    assert_equal(make_encoder(tokenizer).encode([rows])[0], expected(tokenizer, rows))


def test_hard_pairs_are_cut_longest_first(tokenizer: Any) -> None:
    rows = [(HARD[index], HARD[-index]) for index in range(len(HARD))]
    encoder = make_encoder(tokenizer, text_pair=True)
    assert_equal(encoder.encode([rows])[0], expected(tokenizer, rows))
    for answer, row in zip(encoder.encode([[row] for row in rows]), rows, strict=True):
        assert_equal(answer, expected(tokenizer, [row]))


def test_requests_are_padded_by_themselves(tokenizer: Any) -> None:
    requests = [[(HARD[2],), (HARD[0],)], [(HARD[14],)], [(HARD[0],)]]
    for answer, rows in zip(make_encoder(tokenizer).encode(requests), requests, strict=True):
        assert_equal(answer, expected(tokenizer, rows))


def test_all_requests_of_a_call_are_encoded_at_once(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = make_encoder(tokenizer)
    calls = []
    inner = encoder._tokenizer

    class Spy:
        def encode_batch(self, texts: list[str]) -> Any:
            calls.append(len(texts))
            return inner.encode_batch(texts)

    monkeypatch.setattr(encoder, "_tokenizer", Spy())
    encoder.encode([[("a",), ("b",)], [("c",)]])
    assert calls == [3]


@pytest.mark.parametrize("side", ["left", "right"])
def test_sides(tokenizer: Any, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("padding_side", "truncation_side"):
        monkeypatch.setattr(tokenizer.hf, name, side)
    rows = [(HARD[2],), (HARD[14],), (HARD[0],)]
    wanted = expected(tokenizer, rows, max_length=12)
    right = make_encoder(tokenizer, max_length=12, padding_side=side, truncation_side=side).encode([rows])[0]
    assert_equal(right, wanted)
    other = {"left": "right", "right": "left"}[side]
    wrong = make_encoder(tokenizer, max_length=12, padding_side=other, truncation_side=side).encode([rows])[0]
    assert not np.array_equal(wrong["input_ids"], wanted["input_ids"])


def test_buckets(tokenizer: Any) -> None:
    encoder = make_encoder(tokenizer, padding="buckets")
    short, long = encoder.encode([[("a",)], [(HARD[14],), ("a",)]])
    assert short["input_ids"].shape == (1, 16)
    assert long["input_ids"].shape == (2, MAX_LENGTH)
    wanted = expected(tokenizer, [("a",)])
    length = wanted["input_ids"].shape[1]
    np.testing.assert_array_equal(short["input_ids"][:, :length], wanted["input_ids"])
    assert (short["input_ids"][:, length:] == tokenizer.hf.pad_token_id).all()
    assert short["attention_mask"].sum() == length


def test_never_shorter_than_the_model_takes(tokenizer: Any) -> None:
    answer = make_encoder(tokenizer, minimum_length=7).encode([[("",)]])[0]
    assert answer["input_ids"].shape == (1, 7)
    assert answer["attention_mask"].sum() == expected(tokenizer, [("",)])["attention_mask"].sum()


def test_only_the_models_inputs_in_its_order(tokenizer: Any) -> None:
    answer = make_encoder(tokenizer, input_names=["attention_mask", "input_ids"]).encode([[("a",)]])[0]
    assert list(answer) == ["attention_mask", "input_ids"]


def test_prompt_strip_and_lower_case(tokenizer: Any) -> None:
    encoder = make_encoder(tokenizer, prompt=" Query: ", strip=True, lower_case=True)
    assert_equal(encoder.encode([[(" Where? ",)]])[0], expected(tokenizer, [("query:  where?",)]))
    plain = make_encoder(tokenizer, prompt=" Query: ").encode([[(" Where? ",)]])[0]
    assert_equal(plain, expected(tokenizer, [(" Query:  Where? ",)]))


def without_special_tokens(tokenizer: Any, folder: Path) -> Any:
    state = json.loads((tokenizer.folder / "tokenizer.json").read_text(encoding="utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps({**state, "post_processor": None}), encoding="utf-8")
    return SimpleNamespace(hf=tokenizer.hf, folder=folder)


def test_a_text_without_tokens_is_refused_alone(tokenizer: Any, tmp_path: Path) -> None:
    encoder = make_encoder(without_special_tokens(tokenizer, tmp_path))
    fine, empty = encoder.encode([[("a",)], [("a",), ("",)]])
    assert fine["attention_mask"].sum() >= 1
    assert isinstance(empty, STEP.RefusedError)
    assert str(empty) == "row 1: the text gives no tokens"


def test_a_text_that_the_tokenizer_refuses_fails_alone(tokenizer: Any) -> None:
    encoder = make_encoder(tokenizer)
    fine, refused, other = encoder.encode([[("a",)], [("half a pair \ud83d",)], [("b",)]])
    assert isinstance(refused, STEP.RefusedError)
    assert "the tokenizer refuses the text" in str(refused)
    assert_equal(fine, expected(tokenizer, [("a",)]))
    assert_equal(other, expected(tokenizer, [("b",)]))


def ask(step: Any, *texts: Any, name: str = "TEXT") -> dict[str, Tensor]:
    return {name: Tensor(name, np.array([[text] for text in texts], dtype=object))}


@pytest.fixture
def model(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(STEP, "pb_utils", Backend)
    served = STEP.TritonPythonModel()
    served._names, served._encoder = ("TEXT",), make_encoder(tokenizer)
    return served


def test_invalid_utf8_is_an_error_for_that_request_only(model: Any, tokenizer: Any) -> None:
    requests = [
        ask(model, b"a"),
        ask(model, b"b", b"caf\xe9 noir"),
        ask(model, "今".encode()),
        ask(model, b"\xed\xa0\xbd"),
    ]
    first, wrong, third, surrogate = model.execute(requests)
    assert_equal(first.tensors, expected(tokenizer, [("a",)]))
    assert_equal(third.tensors, expected(tokenizer, [("今",)]))
    assert first.error is third.error is None
    assert (wrong.error.message, wrong.error.code) == ("TEXT, row 1: byte 0xe9 at position 3 is not UTF-8", 3)
    assert surrogate.error.message == "TEXT, row 0: byte 0xed at position 0 is not UTF-8"
    assert wrong.tensors == surrogate.tensors == {}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1,), "TEXT has shape [1]; allowed: [n, 1], one text per row"),
        ((1, 2), "TEXT has shape [1, 2]; allowed: [n, 1], one text per row"),
        ((0, 1), "TEXT has shape [0, 1]; allowed: [n, 1], one text per row"),
    ],
)
def test_other_shapes_are_refused(model: Any, shape: tuple[int, ...], message: str) -> None:
    wrong, right = model.execute([{"TEXT": Tensor("TEXT", np.full(shape, b"a", dtype=object))}, ask(model, b"a")])
    assert wrong.error.message == message
    assert right.error is None


def test_a_call_of_bad_requests_alone_is_answered(model: Any) -> None:
    assert [response.error is not None for response in model.execute([{}, ask(model, b"\xff")])] == [True, True]


def test_a_pair_needs_both_texts(model: Any) -> None:
    model._names = ("TEXT", "TEXT_PAIR")
    alone, uneven, right = model.execute(
        [
            ask(model, b"a"),
            ask(model, b"a") | ask(model, b"b", b"c", name="TEXT_PAIR"),
            ask(model, b"a") | ask(model, b"b", name="TEXT_PAIR"),
        ]
    )
    assert alone.error.message == "TEXT_PAIR is missing"
    assert uneven.error.message == "TEXT and TEXT_PAIR must have as many rows, got [1, 2]"
    assert right.error is None


def test_settings_of_a_later_version_are_refused(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="has schema 2; this step reads 1"):
        make_encoder(tokenizer, schema=2)


START = """
import importlib.util, json, os, sys
spec = importlib.util.spec_from_file_location("model", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert "tokenizers" not in sys.modules
model = module.TritonPythonModel()
model.initialize({"model_config": json.dumps({"parameters": {"tokenizer_threads": {"string_value": sys.argv[2]}}})})
print(sys.modules["tokenizers"].__file__, os.environ["TOKENIZERS_PARALLELISM"], os.environ["RAYON_NUM_THREADS"])
"""


@pytest.mark.parametrize(("threads", "parallel"), [("1", "false"), ("4", "true")])
def test_the_vendored_package_is_used_and_threads_are_the_configs(
    tokenizer: Any, tmp_path: Path, threads: str, parallel: str
) -> None:
    version = tmp_path / "1"
    wanted = wheels.Wanted("tokenizers", wheels.installed_version("tokenizers"), (3, 10))
    wheels.unpack(wheels.fetch(wanted, settings().cache), version / "vendor")
    for path in (templates.path("steps/tokenize/model.py"), tokenizer.folder / "tokenizer.json"):
        (version / path.name).write_bytes(path.read_bytes())
    (version / "settings.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
    before = sorted(version.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", START, version / "model.py", threads], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [str(version / "vendor/tokenizers/__init__.py"), parallel, threads], done.stderr
    kept = version / "__pycache__"  # of model.py, by the Python of this test; the vendored package gets none
    assert sorted(path for path in version.rglob("*") if path != kept and path.parent != kept) == before


EXTRA = ["OFFSETS", "SEQUENCE_IDS", "WORD_IDS"]


def made_of(tokenizer: Any, rows: list[tuple[str, ...]], width: int, **options: Any) -> dict[str, np.ndarray]:
    """What the Hugging Face tokenizer says that the tokens were made of, one row at a time, padded by hand."""
    found: dict[str, list[Any]] = {name: [] for name in EXTRA}
    for row in rows:
        options = {"truncation": "longest_first", "max_length": MAX_LENGTH, **options}
        encoding = tokenizer.hf(*row, return_offsets_mapping=True, **options)
        missing = width - len(encoding["input_ids"])
        for name, values, fill in (
            ("OFFSETS", encoding["offset_mapping"], (0, 0)),
            ("SEQUENCE_IDS", [-1 if item is None else item for item in encoding.sequence_ids()], -1),
            ("WORD_IDS", [-1 if item is None else item for item in encoding.word_ids()], -1),
        ):
            padding = [fill] * missing
            found[name].append(padding + values if tokenizer.hf.padding_side == "left" else values + padding)
    return {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_tokens_were_made_of(tokenizer: Any, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer.hf, "padding_side", side)
    encoder = make_encoder(tokenizer, text_pair=True, extra_outputs=EXTRA, padding_side=side)
    rows = [(HARD[index], HARD[-index]) for index in range(len(HARD))]
    answer = encoder.encode([rows])[0]
    assert list(answer) == [*SETTINGS["input_names"], *EXTRA]
    wanted = made_of(tokenizer, rows, answer["input_ids"].shape[1])
    for name in EXTRA:
        assert answer[name].dtype == np.int64
        np.testing.assert_array_equal(answer[name], wanted[name], err_msg=name)
    assert {-1, 0, 1} == set(answer["SEQUENCE_IDS"].ravel().tolist())
    assert len(set(answer["WORD_IDS"].ravel().tolist())) > 5
    plain = make_encoder(tokenizer, text_pair=True, padding_side=side).encode([rows])[0]
    for name, array in plain.items():
        np.testing.assert_array_equal(answer[name], array)


def test_only_the_second_text_is_cut(tokenizer: Any) -> None:
    rows = [("a b c d", HARD[14]), ("a b c d", HARD[2])]
    encoder = make_encoder(tokenizer, text_pair=True, truncation_strategy="only_second", extra_outputs=EXTRA)
    answer = encoder.encode([rows])[0]
    width = answer["input_ids"].shape[1]
    wanted = made_of(tokenizer, rows, width, truncation="only_second")
    np.testing.assert_array_equal(answer["OFFSETS"], wanted["OFFSETS"])
    # The other way round nothing of the question would be left.
    good, bad = encoder.encode([[("a", "b")], [(HARD[14], "b")]])
    assert good["SEQUENCE_IDS"].max() == 1
    assert isinstance(bad, STEP.RefusedError)
    assert "the tokenizer refuses the text" in str(bad)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"extra_outputs": ["TOKENS"]}, "extra output TOKENS; allowed: OFFSETS, SEQUENCE_IDS, WORD_IDS"),
        ({"extra_outputs": ["OFFSETS"], "prompt": "query: "}, "without prompt, strip, lower_case"),
        ({"extra_outputs": ["OFFSETS"], "strip": True}, "without prompt, strip, lower_case"),
        ({"truncation_strategy": "only_second"}, "allowed: longest_first, and with text_pair only_second"),
        ({"truncation_strategy": "only_first", "text_pair": True}, "is 'only_first'; allowed: longest_first"),
    ],
)
def test_settings_that_cannot_be(tokenizer: Any, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make_encoder(tokenizer, **changes)

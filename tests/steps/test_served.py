"""Every step template once on a real server: requests that travel together, of which a bad one fails alone."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.errors import ServerError
from builder.settings import settings as user_settings
from builder.tools import perf_analyzer, templates, wheels
from builder.tools.toolchain import python_minor
from tests.bench import Bench, gathering, serve
from tests.models import make_tokenizer
from tests.steps.kit import load_step
from tests.steps.test_image import CLIP, UNREADABLE, encode, picture
from tests.steps.test_tokenize import SETTINGS
from tests.tiny_graphs import config, put

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from builder.tools.toolchain import Toolchain

pytestmark = pytest.mark.triton

TOKENS = {"OFFSETS": "INT64 -1 2", "SEQUENCE_IDS": "INT64 -1", "WORD_IDS": "INT64 -1"}
NAMES = ["sad", "glad", "怒"]
USER = """
def run(TEXT):
    if (TEXT == b"fault").any():
        raise ValueError("no such language")
    return {"LANGUAGE": [["de" if b"\\xc3" in text else "en"] for text in TEXT[:, 0]]}
"""
# A model that select calls: it refuses negative rows, and says how many rows came together.
CALLED = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(request, "X").as_numpy()) for request in requests]

    def answer(self, array):
        if (array < 0).any():
            return pb_utils.InferenceResponse([], error=pb_utils.TritonError("negative"))
        rows = np.full_like(array, len(array))
        names = np.full(array.shape, b"NAME", dtype=object)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("Y", array * 2), pb_utils.Tensor("ROWS", rows), pb_utils.Tensor("MODEL", names)]
        )
"""
CALLED_OUTPUTS = {"Y": "FP32 1", "ROWS": "FP32 1", "MODEL": "STRING 1"}


def put_step(
    repository: Path,
    kind: str,
    settings: dict[str, Any],
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    more: str = "",
) -> Path:
    """Writes a step as it lies in an archive, but for its vendored packages."""
    version = repository / kind / "1"
    version.mkdir(parents=True)
    for file in templates.step_files(kind):
        shutil.copyfile(file, version / file.name)
    (version / "settings.json").write_text(json.dumps({"schema": 1, **settings}), encoding="utf-8")
    text = config("python", inputs, outputs, more=gathering(3) + more)
    (repository / kind / "config.pbtxt").write_text(text)
    return version


def put_tokenize(repository: Path) -> None:
    parameter = 'parameters { key: "tokenizer_threads" value: { string_value: "1" } }\n'
    outputs = {**dict.fromkeys(SETTINGS["input_names"], "INT64 -1"), **TOKENS}
    settings = {**SETTINGS, "extra_outputs": list(TOKENS)}
    version = put_step(repository, "tokenize", settings, {"TEXT": "STRING 1"}, outputs, parameter)
    make_tokenizer("wordpiece", version)
    wanted = wheels.Wanted("tokenizers", wheels.installed_version("tokenizers"), (3, 10))
    wheels.unpack(wheels.fetch(wanted, user_settings().cache), version / "vendor")


def put_image(repository: Path) -> None:
    version = put_step(repository, "image", CLIP, {"IMAGE": "STRING 1"}, {"pixel_values": "FP32 3 20 30"})
    for file in importlib.metadata.files("pillow") or []:
        if file.suffix != ".pyc":
            target = version / "vendor" / str(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target)


def put_numeric(repository: Path) -> None:
    """The steps that need nothing but their settings."""
    outputs = {"LABEL": "STRING 2", "SCORE": "FP32 2"}
    put_step(repository, "labels", {"labels": NAMES, "top_k": 2}, {"PROBABILITIES": "FP32 3"}, outputs)
    settings: dict[str, Any] = {"mode": "vote", "inputs": ["A", "B"], "output": "PROBABILITIES"}
    put_step(repository, "aggregate", settings, {"A": "FP32 3", "B": "FP32 3"}, {"PROBABILITIES": "FP32 3"})
    inputs = {"START_LOGITS": "FP32 -1", "END_LOGITS": "FP32 -1", **TOKENS, "TEXT_PAIR": "STRING 1"}
    outputs = {"ANSWER": "STRING 1", "SCORE": "FP32 1", "START": "INT64 1", "END": "INT64 1"}
    put_step(repository, "spans", {"max_answer_length": 2, "align_to_words": True}, inputs, outputs)
    inputs = {"LOGITS": "FP32 -1 3", **TOKENS, "TEXT": "STRING 1"}
    settings = {"labels": ["O", "B-X", "I-X"], "aggregation_strategy": "first"}
    put_step(repository, "entities", settings, inputs, {"ENTITIES": "STRING 1"})


def put_calls(repository: Path) -> None:
    """The user's own step, and the selection among a model and an ensemble."""
    takes, gives = ({name: {"dtype": "BYTES", "dims": [1]}} for name in ("TEXT", "LANGUAGE"))
    settings = {"file": "language.py", "takes": takes, "gives": gives}
    version = put_step(repository, "python", settings, {"TEXT": "STRING 1"}, {"LANGUAGE": "STRING 1"})
    (version / "language.py").write_text(USER)
    cases = {"de": "german", "en": "english", "fr": "absent"}
    settings = {"by": "LANGUAGE", "cases": cases, "default": None, "inputs": ["X"], "outputs": list(CALLED_OUTPUTS)}
    inputs = {"LANGUAGE": "STRING 1", "X": "FP32 1"}
    more = gathering(3).replace("[3]", "[7]")
    version = put_step(repository, "select", settings, inputs, CALLED_OUTPUTS)
    text = config("python", inputs, CALLED_OUTPUTS, more=more)
    (version.parent / "config.pbtxt").write_text(text)
    takes = {"X": "FP32 1"}
    for name, language in (("german", "german"), ("english-model", "english")):
        text = config("python", takes, CALLED_OUTPUTS)
        put(repository, name, text, model_py=CALLED.replace("NAME", language))
    maps = "".join(f'output_map {{ key: "{name}" value: "{name}" }} ' for name in CALLED_OUTPUTS)
    step = f'model_name: "english-model" model_version: -1 input_map {{ key: "X" value: "X" }} {maps}'
    english = config("", takes, CALLED_OUTPUTS, more=f"ensemble_scheduling {{ step {{ {step} }} }}\n")
    put(repository, "english", english.replace('backend: ""', 'platform: "ensemble"'))


@pytest.fixture(scope="module")
def bench(toolchain: Toolchain, server_environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    repository = tmp_path_factory.mktemp("repository")
    for put_steps in (put_tokenize, put_numeric, put_calls):
        put_steps(repository)
    if python_minor(server_environment) == sys.version_info[:2]:  # Pillow's wheels are for one minor version each
        put_image(repository)
    models = sorted(path.name for path in repository.iterdir())
    before = sorted(repository.rglob("*"))
    with serve(repository, toolchain, server_environment, load=models) as running:
        yield running
    assert sorted(repository.rglob("*")) == before


def texts(*items: str | bytes) -> np.ndarray:
    column = np.empty((len(items), 1), dtype=object)
    column[:, 0] = [item.encode() if isinstance(item, str) else item for item in items]
    return column


def ask(bench: Bench, name: str, *requests: Mapping[str, Any]) -> list[Any]:
    """The answers to requests that the server gathers into one execution."""
    answers, executions = bench.ask_at_once(name, list(requests))
    assert executions == 1
    return answers


def error(answer: Any) -> str:
    assert isinstance(answer, ServerError), answer
    return str(answer)


def test_tokenize(bench: Bench) -> None:
    one, bad, two = ask(bench, "tokenize", *({"TEXT": texts(text)} for text in ("the train", b"\xff", "a b c")))
    folder = bench.repository / "tokenize/1"
    encoder = load_step("tokenize").load_encoder(folder)
    for answer, text in ((one, "the train"), (two, "a b c")):
        wanted = encoder.encode([[(text,)]])[0]
        assert {name: array.tolist() for name, array in answer.items()} == {
            name: array.tolist() for name, array in wanted.items()
        }
        assert answer["OFFSETS"].shape == (1, answer["input_ids"].shape[1], 2)
    assert "TEXT, row 0: byte 0xff at position 0 is not UTF-8" in error(bad)


def test_labels(bench: Bench) -> None:
    rows = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [np.nan, 0, 0]], np.float32)
    one, two, bad = ask(bench, "labels", *({"PROBABILITIES": row[None]} for row in rows))
    assert [one["LABEL"].tolist(), two["LABEL"].tolist()] == [
        [[b"glad", "怒".encode()]],
        [["怒".encode(), b"sad"]],
    ]
    assert [one["SCORE"].tolist(), two["SCORE"].tolist()] == [[rows[0, [1, 2]].tolist()], [rows[1, [2, 0]].tolist()]]
    assert "PROBABILITIES, row 0: holds NaN or infinity; allowed: finite numbers" in error(bad)


def test_aggregate(bench: Bench) -> None:
    sure, unsure = np.array([[0.1, 0.9, 0]], np.float32), np.array([[0.6, 0.2, 0.2]], np.float32)
    pairs = [(sure, sure), (sure, unsure), (sure, unsure * np.inf)]
    one, two, bad = ask(bench, "aggregate", *({"A": first, "B": second} for first, second in pairs))
    assert one["PROBABILITIES"].tolist() == [[0, 1, 0]]
    assert two["PROBABILITIES"].argmax() == 1
    assert two["PROBABILITIES"][0].tolist() == pytest.approx([0.5, 0.5, 0])
    assert "B, row 0: holds NaN or infinity" in error(bad)


def tokens_of(text: str) -> dict[str, np.ndarray]:
    """What the tokenizer step would say of words that are tokens, between two tokens of its own."""
    ends = np.cumsum([len(word) + 1 for word in text.split(" ")]) - 1
    starts = [0, *(ends[:-1] + 1).tolist()]
    offsets = [(0, 0), *zip(starts, ends.tolist(), strict=True), (0, 0)]
    count = len(ends)
    return {
        "OFFSETS": np.array([offsets]),
        "SEQUENCE_IDS": np.array([[-1, *[1] * count, -1]]),
        "WORD_IDS": np.array([[-1, *range(count), -1]]),
    }


def test_spans(bench: Bench) -> None:
    text = "Die Katze schläft dort"
    logits = {"START_LOGITS": np.zeros((1, 6), np.float32), "END_LOGITS": np.zeros((1, 6), np.float32)}
    logits["START_LOGITS"][0, 2] = logits["END_LOGITS"][0, 3] = 20
    good = {**logits, **tokens_of(text), "TEXT_PAIR": texts(text)}
    nothing = {**good, "SEQUENCE_IDS": np.zeros((1, 6), np.int64)}
    later = {**good, "START_LOGITS": np.roll(logits["START_LOGITS"], 1), "END_LOGITS": np.roll(logits["END_LOGITS"], 1)}
    one, bad, two = ask(bench, "spans", good, nothing, later)
    for answer, wanted in ((one, "Katze schläft"), (two, "schläft dort")):
        assert answer["ANSWER"].tolist() == [[wanted.encode()]]
        assert answer["SCORE"] == pytest.approx(1, abs=1e-5)
        (start,), (end,) = answer["START"].tolist()[0], answer["END"].tolist()[0]
        assert text[start:end] == wanted
    assert "TEXT_PAIR, row 0: the context has no tokens, or none fits beside the question" in error(bad)


def test_entities(bench: Bench) -> None:
    text = "Die Frau Müller schläft"
    logits = np.zeros((1, 6, 3), np.float32)
    logits[0, :, 0] = 1
    logits[0, 2, 1] = logits[0, 3, 2] = 30
    good = {"LOGITS": logits, **tokens_of(text), "TEXT": texts(text)}
    one, two, bad = ask(
        bench, "entities", good, {**good, "LOGITS": np.roll(logits, 1, axis=1)}, {**good, "TEXT": texts(b"\xff")}
    )
    entities = [json.loads(answer["ENTITIES"][0, 0]) for answer in (one, two)]
    assert entities == [
        [{"entity_group": "X", "score": 1.0, "word": "Frau Müller", "start": 4, "end": 15}],
        [{"entity_group": "X", "score": 1.0, "word": "Müller schläft", "start": 9, "end": 23}],
    ]
    assert "TEXT, row 0: byte 0xff at position 0 is not UTF-8" in error(bad)


def test_perf_analyzer_sends_images(bench: Bench, toolchain: Toolchain, tmp_path: Path) -> None:
    if not (bench.repository / "image").exists():
        pytest.skip("Pillow is not for the server's Python")
    quick = perf_analyzer.Windows(interval_milliseconds=200, trials=3, stability_percent=500)
    statuses = [
        perf_analyzer.measure(
            toolchain,
            address=bench.server.grpc_address,
            model="image",
            rows=[{"IMAGE": content}],
            concurrency=3,  # what the step waits for
            folder=tmp_path / str(number),
            windows=quick,
        ).status
        for number, content in enumerate((encode(picture()), b"no image"))
    ]
    assert statuses == ["stable", "failed"]


def test_image(bench: Bench) -> None:
    if not (bench.repository / "image").exists():
        pytest.skip("the server's stubs run another Python than the tests, whose Pillow they cannot load")
    contents = [encode(picture(seed=0)), b"?", encode(picture("L", seed=1))]
    one, bad, two = ask(bench, "image", *({"IMAGE": texts(content)} for content in contents))
    processor = load_step("image").Processor({"schema": 1, **CLIP})
    np.testing.assert_array_equal(one["pixel_values"], processor.pixels(contents[0])[None])
    np.testing.assert_array_equal(two["pixel_values"], processor.pixels(contents[2])[None])
    assert not np.array_equal(one["pixel_values"], two["pixel_values"])
    assert f"IMAGE, row 0: {UNREADABLE}" in error(bad)


def test_python(bench: Bench) -> None:
    one, bad, two = ask(bench, "python", *({"TEXT": texts(text)} for text in ("schläft", "fault", "sleeps")))
    assert [one["LANGUAGE"].tolist(), two["LANGUAGE"].tolist()] == [[[b"de"]], [[b"en"]]]
    assert "language.py:4: ValueError: no such language" in error(bad)


def test_select(bench: Bench) -> None:
    asked = [(["de", "en"], [1, 2]), (["en"], [3]), (["en"], [-4]), (["xx"], [5]), (["fr"], [6]), (["de"], [7])]
    requests = [
        {"LANGUAGE": texts(*languages), "X": np.array(numbers, np.float32)[:, None]} for languages, numbers in asked
    ]
    mixed, english, negative, unknown, absent, german = ask(bench, "select", *requests)
    assert mixed["Y"].tolist() == [[2], [4]]
    assert mixed["MODEL"].tolist() == [[b"german"], [b"english"]]
    assert (english["Y"].tolist(), english["MODEL"].tolist()) == ([[6]], [[b"english"]])
    assert (german["Y"].tolist(), german["MODEL"].tolist()) == ([[14]], [[b"german"]])
    # The German rows of two clients travelled together; the English ones alone, after they had failed together.
    assert [answer["ROWS"].ravel().tolist() for answer in (mixed, german, english)] == [[2, 1], [2], [1]]
    assert "model 'english': in ensemble 'english', negative" in error(negative)
    assert "LANGUAGE, row 0: 'xx' has no model; allowed: de, en, fr" in error(unknown)
    assert "model 'absent': " in error(absent)
    (again,) = ask(bench, "select", {"LANGUAGE": texts(*["de"] * 3, *["en"] * 4), "X": np.ones((7, 1), np.float32)})
    assert again["ROWS"].ravel().tolist() == [3] * 3 + [4] * 4

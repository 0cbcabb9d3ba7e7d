"""The proof of a pipeline on a real server: texts, bytes and numbers in; texts, JSON and numbers out."""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.artifacts import Row
from builder.core.digest import describe_file, describe_folder, digest_tree
from builder.recipe.tasks import tolerances
from builder.settings import settings
from builder.tools import archive, templates, triton_client, triton_server
from builder.tools.perf_analyzer import Windows
from builder.verify import ArchiveFacts, Judge, Measure, ask, verify_archive
from builder.verify.ask import Asker
from builder.verify.measure import Expected, measure_parity, read_expected, request_dtypes
from tests.tiny_graphs import config, onnx_model, put

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from builder.artifacts import Measurement, Verdict
    from builder.tools.toolchain import Toolchain

LABELS = ("sad", "glad", "angry")
TOLERANCES = tolerances("pipeline", "fp32")
SENT = {"TEXT": "STRING 1", "BLOB": "STRING 1", "WEIGHT": "FP32 2"}
GIVEN = {"LABEL": "STRING 2", "SCORE": "FP32 2", "ENTITIES": "STRING 1", "SIZE": "INT64 1"}
FEATURES = """
import numpy as np


def run(TEXT):
    rows = [[text[0].decode().count(letter) / 2 for letter in "aei"] for text in TEXT]
    return {"FEATURES": np.array(rows, np.float32)}
"""
NOTES = """
import json

import numpy as np


def run(TEXT, BLOB, WEIGHT, FEATURES):
    notes = [
        [json.dumps([{"word": text[0].decode()[:5], "score": float(weight.sum()), "start": 0}])]
        for text, weight in zip(TEXT, WEIGHT)
    ]
    return {"ENTITIES": notes, "SIZE": np.array([[len(blob[0])] for blob in BLOB], np.int64)}
"""


def samples() -> tuple[Row, ...]:
    texts = ("a banana and an apple", "eerie evening", "iris, idiot", "beneath", "aria in e", "missing inning", "ease")
    return tuple(
        Row({"BLOB": {"base64": encoded(index)}, "TEXT": text, "WEIGHT": [index / 8, 0.5]})
        for index, text in enumerate(texts)
    )


def encoded(index: int) -> str:
    return base64.b64encode(b"\xff\0\xd8" + b"\0" * index).decode()


def truth(rows: tuple[Row, ...], reverse: bool = False) -> dict[str, np.ndarray]:
    """What the pipeline should answer, in numpy."""
    texts = [row.tensors["TEXT"] for row in rows]
    powers = np.exp([[text.count(letter) / 2 for letter in "aei"] for text in texts])
    scores = powers / powers.sum(axis=1, keepdims=True)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :2]
    names = LABELS[::-1] if reverse else LABELS
    notes = [
        json.dumps([{"score": sum(row.tensors["WEIGHT"]), "start": 0, "word": row.tensors["TEXT"][:5]}]) for row in rows
    ]
    return {
        "LABEL": np.array([[names[index].encode() for index in row] for row in order], dtype=object),
        "SCORE": np.take_along_axis(scores, order, axis=1).astype(np.float32),
        "ENTITIES": np.array([[note.encode()] for note in notes], dtype=object),
        "SIZE": np.array([[3 + index] for index in range(len(rows))], np.int64),
    }


def put_step(repository: Path, name: str, kind: str, values: dict[str, Any], takes: Any, gives: Any) -> Path:
    folder = put(repository, f"pipe-{name}", config("python", takes, gives, more="dynamic_batching {}\n"))
    for file in templates.step_files(kind):
        shutil.copyfile(file, folder / file.name)
    (folder / "settings.json").write_text(json.dumps({"schema": 1, **values}), encoding="utf-8")
    return folder


def put_own(repository: Path, name: str, code: str, takes: dict[str, str], gives: dict[str, str]) -> None:
    def stated(tensors: dict[str, str]) -> dict[str, Any]:
        split = {tensor: what.replace("STRING", "BYTES").split() for tensor, what in tensors.items()}
        return {
            tensor: {"dtype": kind, "dims": [int(size) for size in dims]} for tensor, (kind, *dims) in split.items()
        }

    values = {"file": f"{name}.py", "takes": stated(takes), "gives": stated(gives)}
    folder = put_step(repository, name, "python", values, takes, gives)
    (folder / f"{name}.py").write_text(code)


def put_pipeline(repository: Path) -> None:
    features, chances = {"FEATURES": "FP32 3"}, {"PROBABILITIES": "FP32 3"}
    labels = {tensor: GIVEN[tensor] for tensor in ("LABEL", "SCORE")}
    put_own(repository, "features", FEATURES, {"TEXT": "STRING 1"}, features)
    # After the features, which refuse what is not UTF-8: see Asker.apart.
    notes = {tensor: GIVEN[tensor] for tensor in ("ENTITIES", "SIZE")}
    put_own(repository, "notes", NOTES, {**SENT, **features}, notes)
    put_step(repository, "labels", "labels", {"labels": LABELS, "top_k": 2}, chances, labels)
    rows = ["batch", 3]
    graph = onnx_model(
        {"FEATURES": ("FLOAT", rows)},
        {"PROBABILITIES": ("FLOAT", rows)},
        [("Softmax", ["FEATURES"], ["PROBABILITIES"], {})],
    )
    put(repository, "pipe-model", config("onnxruntime", features, chances), model_onnx=graph)
    steps = {
        "features": (["TEXT"], ["FEATURES"]),
        "model": (["FEATURES"], ["PROBABILITIES"]),
        "labels": (["PROBABILITIES"], ["LABEL", "SCORE"]),
        "notes": ([*SENT, "FEATURES"], ["ENTITIES", "SIZE"]),
    }
    text = "".join(
        f'step {{ model_name: "pipe-{name}" model_version: -1 '
        + "".join(f'input_map {{ key: "{tensor}" value: "{tensor}" }} ' for tensor in takes)
        + "".join(f'output_map {{ key: "{tensor}" value: "{tensor}" }} ' for tensor in gives)
        + "}\n"
        for name, (takes, gives) in steps.items()
    )
    whole = config("", SENT, GIVEN, more=f"ensemble_scheduling {{ {text} }}\n")
    put(repository, "pipe", whole.replace('backend: ""', 'platform: "ensemble"'), build_json="{}")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> ArchiveFacts:
    """An archive of a pipeline and the files beside it, as a build leaves them."""
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("pipeline")
    put_pipeline(folder / "repository")
    tree = describe_folder(folder / "repository")
    rows = samples()
    answers = truth(rows)
    controls = {f"control.reversed_labels.{name}": values for name, values in truth(rows, reverse=True).items()}
    named = answers | controls
    texts = {name: values.tolist() for name, values in named.items() if values.dtype.kind == "O"}
    decoded = {name: [[text.decode() for text in row] for row in values] for name, values in texts.items()}
    (folder / "expected.json").write_text(json.dumps(decoded))
    save_file({name: values for name, values in named.items() if name not in texts}, folder / "expected.safetensors")
    (folder / "samples.jsonl").write_text("".join(json.dumps(row.tensors) + "\n" for row in rows))
    return ArchiveFacts(
        name="pipe",
        archive=archive.pack(tree, folder / "pipe-cpu.tar.gz"),
        samples=describe_file(folder / "samples.jsonl"),
        expected=describe_file(folder / "expected.safetensors"),
        texts=describe_file(folder / "expected.json"),
        tree_digest=digest_tree(tree),
        triton="25.09",
        metric="pipeline",
        outputs=tuple(answers),
        controls=("reversed_labels",),
        max_batch_size=8,
        readable=("TEXT",),
    )


@pytest.fixture(scope="module")
def asker(
    pipeline: ArchiveFacts,
    toolchain: Toolchain,
    server_environment: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Asker]:
    repository = tmp_path_factory.mktemp("served") / "repository"
    archive.unpack(pipeline.archive.path, repository)
    with (
        triton_server.serve(repository, toolchain=toolchain, environment=server_environment, load=["pipe"]) as server,
        triton_client.connect(server.grpc_address) as client,
    ):
        dtypes = request_dtypes(client, "pipe")
        yield Asker(server, client, "pipe", samples(), text_pair=False, dtypes=dtypes, readable=("TEXT",))


def judged(parity: dict[str, Any], **changes: float) -> Verdict:
    from builder.artifacts import Measurement

    return Judge({**TOLERANCES, **changes}).judge(Measurement(parity, (), {}, {}))


@pytest.fixture
def verdict_on(asker: Asker, pipeline: ArchiveFacts) -> Callable[..., Verdict]:
    """The verdict where one output is expected to be another: ``verdict_on("SCORE", change, text_agreement=0.5)``."""

    def make(name: str, change: Callable[[np.ndarray], None], **changes: float) -> Verdict:
        expected = read_expected(pipeline)
        answers = {key: values.copy() for key, values in expected.answers.items()}
        change(answers[name])
        return judged(measure_parity(asker, pipeline, dataclasses.replace(expected, answers=answers)), **changes)

    return make


@pytest.mark.triton
def test_a_right_pipeline_passes(pipeline: ArchiveFacts, tmp_path: Path) -> None:
    stage = Measure(settings().cache, concurrency=(2,), windows=Windows(400, 3, 500))
    proof = verify_archive(pipeline, measure=stage, judge=Judge(TOLERANCES), work=tmp_path)
    measured: Measurement = proof.measurement
    assert (proof.verdict.status, proof.verdict.reasons) == ("passed", ())
    json.dumps([measured.parity, measured.perf, measured.server, measured.hardware], allow_nan=False)
    for way in measured.parity["ways"].values():
        assert way["figures"]["max_difference"] < 1e-6
        assert way["figures"]["text_agreement"] == 1
    assert measured.parity["invalid_utf8"]["requests"] == measured.parity["invalid_utf8"]["errors"] == 1
    assert measured.perf[0]["status"] == "stable"
    (sent,) = [json.loads(path.read_text()) for path in tmp_path.glob("perf/*/input.json")]
    assert sent["data"][0].keys() == SENT.keys()


@pytest.mark.triton
def test_invalid_requests_may_be_sent_apart(asker: Asker, pipeline: ArchiveFacts) -> None:
    found = measure_parity(dataclasses.replace(asker, apart=True), pipeline, read_expected(pipeline))["invalid_utf8"]
    assert (found["requests"], found["errors"], found["apart"]) == (1, 1, True)
    assert "UnicodeDecodeError" in found["error"]
    unread = measure_parity(dataclasses.replace(asker, readable=()), pipeline, read_expected(pipeline))
    assert unread["invalid_utf8"]["requests"] == 0


HARMED = """
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    harmed = False

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
        if self.harmed:
            time.sleep(PATIENCE)
        try:
            lengths = np.array([[len(text.decode())] for text in texts[:, 0]], np.float32)
        except UnicodeDecodeError as error:
            self.harmed = HARMED
            return pb_utils.InferenceResponse([], pb_utils.TritonError(str(error)))
        return pb_utils.InferenceResponse([pb_utils.Tensor("SIZE", lengths)])
"""


@pytest.mark.triton
@pytest.mark.parametrize("harmed", [True, False])
def test_a_bad_request_that_stops_the_service_is_found(
    harmed: bool, toolchain: Toolchain, server_environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As 2.51 does, not always, where a request goes to two steps at once and one of them refuses it."""
    monkeypatch.setattr(ask, "_PATIENCE_SECONDS", 1.0)
    code = HARMED.replace("PATIENCE", "3.0").replace("= HARMED", f"= {harmed}")
    put(tmp_path, "pipe", config("python", {"TEXT": "STRING 1"}, {"SIZE": "FP32 1"}), model_py=code)
    rows = tuple(Row({"TEXT": text}) for text in ("one", "two", "three", "four"))
    with (
        triton_server.serve(tmp_path, toolchain=toolchain, environment=server_environment, load=["pipe"]) as server,
        triton_client.connect(server.grpc_address) as client,
    ):
        asker = Asker(server, client, "pipe", rows, False, {"TEXT": "BYTES"}, readable=("TEXT",), apart=True)
        found, invalid = ask.concurrent(asker)
    assert len(invalid) == 1
    assert [failure.name for failure in found.failures] == ["harmed"] * harmed
    if harmed:
        assert "a valid one is not answered: pipe: infer: Deadline Exceeded" in found.failures[0].what


@pytest.mark.triton
def test_labels_in_another_order_fail(verdict_on: Callable[..., Verdict]) -> None:
    def reverse(labels: np.ndarray) -> None:
        labels[3] = labels[3, ::-1].copy()

    found = verdict_on("LABEL", reverse)
    assert found.status == "failed"
    assert found.reasons[0].startswith("text_agreement 0.904761905 is below 1, asked alone; worst is sample 4")
    assert len(found.reasons) == 3
    assert verdict_on("LABEL", reverse, text_agreement=0.9).status == "passed"


@pytest.mark.triton
@pytest.mark.parametrize("name", ["SCORE", "SIZE"])
def test_one_number_that_is_off_fails(verdict_on: Callable[..., Verdict], name: str) -> None:
    def move(values: np.ndarray) -> None:
        values[5, 0] += 1e-3 if name == "SCORE" else 1

    found = verdict_on(name, move)
    assert found.status == "failed"
    assert found.reasons[0].startswith("max_difference")
    assert "worst is sample 6" in found.reasons[0]
    assert len(found.reasons) == 3


@pytest.mark.triton
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"word": "other"}, "text_agreement"),
        ({"start": 1}, "text_agreement"),
        ({"label": "X"}, "text_agreement"),
        ({"score": 0.626}, "max_difference 0.001 is above"),
    ],
)
def test_another_entity_fails(verdict_on: Callable[..., Verdict], change: Any, reason: str) -> None:
    def spoil(notes: np.ndarray) -> None:
        (entity,) = json.loads(notes[1, 0])
        notes[1, 0] = json.dumps([entity | change], indent=1).encode()

    found = verdict_on("ENTITIES", spoil)
    assert found.status == "failed"
    assert found.reasons[0].startswith(reason)
    assert "worst is sample 2" in found.reasons[0]


@pytest.mark.triton
def test_an_output_that_is_missing_or_of_another_kind_fails(asker: Asker, pipeline: ArchiveFacts) -> None:
    expected: Expected = read_expected(pipeline)
    more = dataclasses.replace(expected, answers={**expected.answers, "ANSWER": expected.answers["LABEL"]})
    assert "missing-output" in judged(measure_parity(asker, pipeline, more)).reasons[0]
    other = {**expected.answers, "LABEL": expected.answers["SCORE"]}
    found = judged(measure_parity(asker, pipeline, dataclasses.replace(expected, answers=other)))
    assert "LABEL is object, not floating point" in found.reasons[0]


@pytest.mark.triton
def test_a_mistake_that_would_not_be_noticed_is_inconclusive(asker: Asker, pipeline: ArchiveFacts) -> None:
    expected = read_expected(pipeline)
    kept = {**expected.controls["reversed_labels"], "LABEL": expected.answers["LABEL"].copy()}
    kept["LABEL"][0, 0] = b"other"
    blind = dataclasses.replace(expected, controls={"reversed_labels": kept})
    found = judged(measure_parity(asker, pipeline, blind), text_agreement=0.9)
    assert found.status == "inconclusive"
    assert "the negative control reversed_labels is within tolerance too" in found.reasons[0]

"""What pipelines are expected to answer: held against transformers' own pipelines, and against numbers made by hand."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.artifacts import ModelParts, PipelinePlan, RequestTensor, Row, StepPlan
from builder.core.digest import describe_file
from builder.core.execute import Executor
from builder.core.store import Store
from builder.errors import ModelError, UserError
from builder.export.expected import Expect, ExpectedInputs, _fan_out
from builder.export.tokenizer import Tokenizer
from builder.tools.safetensors_values import load_arrays
from tests.export.builds import source_of
from tests.models import FAMILIES, MAX_LENGTH, TEXTS, VOCABULARY, make_model, make_tokenizer, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.artifacts import Json, Reference

LABELS = {0: "sad", 1: "glad", 2: "angry"}
TEXT, PAIR = RequestTensor("TEXT", "BYTES", (1,)), RequestTensor("TEXT_PAIR", "BYTES", (1,))
ASKED = [text for text in TEXTS if text.strip()]
CITY = "Angela Merkel flew from Los Angeles to San José, and back to Los Angeles"


def step(name: str, kind: str, inputs: dict[str, str], **options: Any) -> StepPlan:
    return StepPlan(name, kind, options, inputs)


def tokenize(model: str, *more: str) -> StepPlan:
    texts = {name: f"request.{name}" for name in ("TEXT", *more)}
    return step("tokenize", "tokenizer", texts, model=model)


def network(name: str) -> StepPlan:
    names = ("input_ids", "token_type_ids", "attention_mask")
    return step(name, "model", {tensor: f"tokenize.{tensor}" for tensor in names}, model=name)


def rows(*texts: str, name: str = "TEXT") -> tuple[Row, ...]:
    return tuple(Row({name: text}) for text in texts)


class Expected:
    """A reference, read."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.numbers = load_arrays(reference.files["expected.safetensors"].path)
        self.texts: dict[str, Any] = json.loads(reference.files["expected.json"].path.read_bytes())


def expect(
    steps: Sequence[StepPlan],
    outputs: dict[str, str],
    models: dict[str, ModelParts],
    samples: tuple[Row, ...],
    work: Path,
    inputs: tuple[RequestTensor, ...] = (TEXT,),
    own: dict[str, Any] | None = None,
) -> Expected:
    stage = Expect(PipelinePlan(tuple(steps), inputs, outputs))
    return Expected(Executor(Store.at(work), "test").run(stage, ExpectedInputs(models, own or {}, samples)))


def parts(folder: Path, task: str, work: Path, **more: Any) -> ModelParts:
    source = source_of(folder)
    # The tokenizer is that of any task with tokens.
    tokenizer = Executor(Store.at(work), "test").run(Tokenizer("text-classification"), source)
    return ModelParts(task, source, tokenizer, **more)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def classifiers(work: Path) -> dict[str, ModelParts]:
    """Three classifiers with one tokenizer."""
    made = {}
    for seed, name in enumerate("abc"):
        folder = make_model("bert", "text-classification", work / name, seed=seed, id2label=LABELS)
        made[name] = parts(folder, "text-classification", work)
    return made


def scores(folder: Path, texts: Sequence[str]) -> list[dict[str, float]]:
    """By transformers' pipeline: label → score."""
    from transformers import pipeline

    ask = pipeline("text-classification", model=str(folder), top_k=None, device="cpu")
    found = ask(list(texts), truncation=True, max_length=MAX_LENGTH)
    return [{item["label"]: item["score"] for item in row} for row in found]


def test_labels_are_those_of_transformers_and_the_controls_differ(classifiers: Any, work: Path) -> None:
    labels = step("labels", "labels", {"PROBABILITIES": "a.PROBABILITIES"}, model="a", top_k=2)
    outputs = {"LABEL": "labels.LABEL", "SCORE": "labels.SCORE"}
    found = expect([tokenize("a"), network("a"), labels], outputs, classifiers, rows(*ASKED), work)

    for index, row in enumerate(scores(work / "a", ASKED)):
        best = sorted(row, key=lambda label: -row[label])[:2]
        assert found.texts["LABEL"][index] == best
        assert np.abs(found.numbers["SCORE"][index] - [row[label] for label in best]).max() < 1e-5
    reference = found.reference
    assert (reference.metric, reference.outputs) == ("pipeline", ("LABEL", "SCORE"))
    assert reference.controls == ("truncated", "reversed_labels")
    assert found.texts["control.reversed_labels.LABEL"] != found.texts["LABEL"]
    assert np.array_equal(found.numbers["control.reversed_labels.SCORE"], found.numbers["SCORE"])
    assert np.abs(found.numbers["control.truncated.SCORE"] - found.numbers["SCORE"]).max() > 0.001
    assert reference.record["controls_without_effect"] == []
    assert reference.record["readable"] == ["TEXT"]
    lines = reference.files["samples.jsonl"].path.read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0]) == {"TEXT": ASKED[0]}


@pytest.mark.parametrize("mode", ["mean", "max", "vote"])
def test_joining_classifiers(classifiers: Any, work: Path, mode: str) -> None:
    joined = {f"PROBABILITIES_{index}": f"{name}.PROBABILITIES" for index, name in enumerate("abc")}
    steps = [tokenize("a"), *map(network, "abc"), step("join", "aggregate", joined, mode=mode)]
    found = expect(steps, {"JOINED": "join.PROBABILITIES"}, classifiers, rows(*ASKED), work)

    each = [[list(map(row.get, LABELS.values())) for row in scores(work / name, ASKED)] for name in "abc"]
    stacked = np.asarray(each)  # [models, samples, labels]
    votes = np.eye(3)[stacked.argmax(axis=2)].mean(axis=0)
    wanted = {"mean": stacked.mean(axis=0), "max": stacked.max(axis=0), "vote": votes}[mode]
    assert np.abs(found.numbers["JOINED"] - wanted).max() < 1e-5
    assert found.reference.controls == ("truncated", "other_mode")
    assert np.abs(found.numbers["control.other_mode.JOINED"] - wanted).max() > 0.01
    assert found.texts == {}


def test_equal_votes_are_decided_by_the_mean() -> None:
    from builder.export.expected_steps import _vote

    rows = [np.array([0.6, 0.4, 0.0], np.float32), np.array([0.1, 0.9, 0.0], np.float32)]
    assert _vote(rows).argmax() == 1
    assert np.abs(_vote(rows) - [0.5, 0.5, 0]).max() < 1e-6


def test_selection_and_the_users_own_step(classifiers: Any, work: Path, tmp_path: Path) -> None:
    file = tmp_path / "language.py"
    file.write_text(
        "import numpy as np\n\n\nclass Step:\n"
        "    def __init__(self, folder, parameters):\n        self.long = int(parameters['long'])\n\n"
        "    def __call__(self, TEXT):\n"
        "        return {'KIND': [['long' if len(t) > self.long else 'short'] for t in TEXT[:, 0]],\n"
        "                'LENGTH': np.array([[len(t)] for t in TEXT[:, 0]], np.int64)}\n"
    )
    gives = {"KIND": {"dtype": "BYTES", "dims": [1]}, "LENGTH": {"dtype": "INT64", "dims": [1]}}
    options = {"file": "language.py", "gives": gives, "parameters": {"long": "60"}}
    own = step("kind", "python", {"TEXT": "request.TEXT"}, **options)
    inputs = {"KIND": "kind.KIND", "TEXT": "request.TEXT"}
    choose = step("choose", "select", inputs, by="KIND", cases={"long": "a", "short": "b"}, default=None)
    outputs = {"P": "choose.PROBABILITIES", "KIND": "kind.KIND", "LENGTH": "kind.LENGTH"}
    files = {"kind": {"language.py": describe_file(file)}}
    found = expect([own, choose], outputs, classifiers, rows(*ASKED), work, own=files)

    kinds = ["long" if len(text.encode()) > 60 else "short" for text in ASKED]
    assert found.texts["KIND"] == [[kind] for kind in kinds]
    assert set(kinds) == {"long", "short"}
    assert found.numbers["LENGTH"].tolist() == [[len(text.encode())] for text in ASKED]
    by_model = {name: scores(work / name, ASKED) for name in "ab"}
    for index, kind in enumerate(kinds):
        right, wrong = ("a", "b") if kind == "long" else ("b", "a")
        for model, control in ((right, ""), (wrong, "control.other_case.")):
            wanted = list(map(by_model[model][index].get, LABELS.values()))
            assert np.abs(found.numbers[f"{control}P"][index] - np.asarray(wanted, float)).max() < 1e-5
    assert found.reference.record["own_reference"] == ["kind"]
    assert found.reference.record["fan_out"] == []

    refusing = tmp_path / "refusing.py"
    refusing.write_text("def run(TEXT):\n    raise ValueError('no such text')\n")
    changed = {"kind": {"language.py": describe_file(refusing)}}
    with pytest.raises(UserError, match=r"language\.py: sample 1: ValueError: no such text"):
        expect([own, choose], outputs, classifiers, rows(*ASKED), work, own=changed)
    unknown = step("choose", "select", inputs, by="KIND", cases={"long": "a"}, default=None)
    with pytest.raises(ModelError, match="sample 1: KIND is 'short', which no case names"):
        expect([own, unknown], outputs, classifiers, rows(*ASKED), work, own=files)


def test_a_model_with_its_tokenizer_is_one_step(classifiers: Any, work: Path) -> None:
    nested = step("nested", "ensemble", {"TEXT": "request.TEXT"}, model="b")
    other = step("other", "ensemble", {"TEXT": "request.TEXT"}, model="a")
    outputs = {"P": "nested.PROBABILITIES", "Q": "other.PROBABILITIES"}
    found = expect([nested, other], outputs, classifiers, rows(*ASKED), work)
    assert found.reference.record["fan_out"] == []  # a step before them takes the request for both, but for …
    hint = RequestTensor("HINT", "FP32", (1,), optional=True)
    hinted = StepPlan("other", "python", {}, {"TEXT": "request.TEXT", "HINT": "request.HINT"})
    text = RequestTensor("TEXT", "BYTES", (1,))
    assert _fan_out(PipelinePlan((nested, hinted), (text, hint), {})) == ["other"]
    assert _fan_out(PipelinePlan((hinted,), (text, hint), {})) == []

    wanted = [list(map(row.get, LABELS.values())) for row in scores(work / "b", ASKED)]
    assert np.abs(found.numbers["P"] - np.asarray(wanted, float)).max() < 1e-5


def make_network(family: str, auto: str, folder: Path, **config: Any) -> Path:
    """A tiny model of a task, seeded."""
    import torch
    import transformers

    kind, class_name, base = FAMILIES[family]
    names = ["input_ids", "token_type_ids", "attention_mask"]
    make_tokenizer(kind, folder, class_name, model_input_names=names)
    torch.manual_seed(3)
    values = {**base, "vocab_size": VOCABULARY, "initializer_range": 0.2, **config}
    made = getattr(transformers, auto).from_config(transformers.AutoConfig.for_model(family, **values)).eval()
    made.save_pretrained(folder)
    return folder


def test_answers_of_question_answering(work: Path) -> None:
    """Against a search through all spans, one by one: transformers 5 has no such pipeline any more."""
    import torch
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    folder = make_network("bert", "AutoModelForQuestionAnswering", work / "qa")
    models = {"qa": parts(folder, "question-answering", work, text_pair=True, truncation="only_second")}
    pairs = [("How do I?", TEXTS[0]), ("Who?", TEXTS[4]), ("What?", TEXTS[7]), ("Where?", TEXTS[10])]
    places = {name: f"tokenize.{name}" for name in ("OFFSETS", "SEQUENCE_IDS")}
    logits = {name: f"qa.{name}" for name in ("START_LOGITS", "END_LOGITS")}
    inputs = {**logits, **places, "TEXT_PAIR": "request.TEXT_PAIR"}
    spans = step("spans", "spans", inputs, model="qa", max_answer_length=4)
    outputs = {name: f"spans.{name}" for name in ("ANSWER", "SCORE", "START", "END")}
    samples = tuple(Row({"TEXT": one, "TEXT_PAIR": other}) for one, other in pairs)
    steps = [tokenize("qa", "TEXT_PAIR"), network("qa"), spans]
    found = expect(steps, outputs, models, samples, work, inputs=(TEXT, PAIR))

    tokenizer, model = (kind.from_pretrained(folder) for kind in (AutoTokenizer, AutoModelForQuestionAnswering))
    for index, pair in enumerate(pairs):
        tokens = tokenizer(*pair, truncation="only_second", max_length=MAX_LENGTH, return_offsets_mapping=True)
        with torch.no_grad():
            ids = {name: torch.tensor([tokens[name]]) for name in ("input_ids", "token_type_ids", "attention_mask")}
            answer = model(**ids)
        context = [place for place, number in enumerate(tokens.sequence_ids()) if number == 1]
        competing = [0, *context]
        start, end = (
            dict(zip(competing, torch.softmax(values[0, competing].double(), 0).tolist(), strict=True))
            for values in (answer.start_logits, answer.end_logits)
        )
        every = [(start[s] * end[e], s, e) for s in context for e in context if s <= e < s + 4]
        score, s, e = max(every)
        begin, finish = tokens["offset_mapping"][s][0], tokens["offset_mapping"][e][1]
        assert found.texts["ANSWER"][index] == [pair[1][begin:finish]]
        assert (found.numbers["START"][index], found.numbers["END"][index]) == (begin, finish)
        assert abs(found.numbers["SCORE"][index, 0] - score) < 1e-6
    assert set(found.reference.controls) == {"truncated", "swapped_ends"}
    assert "does not fit into 48 tokens" in found.reference.record["controls_left_out"]["swapped_pair"]
    for control in found.reference.controls:
        assert found.texts[f"control.{control}.ANSWER"] != found.texts["ANSWER"]


@pytest.mark.parametrize("strategy", ["none", "simple", "first"])
def test_entities_are_those_of_transformers(work: Path, strategy: str) -> None:
    from transformers import pipeline

    names = dict(enumerate(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]))
    folder = work / "ner"
    if not folder.exists():
        make_network("bert", "AutoModelForTokenClassification", folder, id2label=names)
    models = {"ner": parts(folder, "token-classification", work)}
    inputs = {"LOGITS": "ner.LOGITS", "TEXT": "request.TEXT"}
    inputs |= {name: f"tokenize.{name}" for name in ("OFFSETS", "SEQUENCE_IDS", "WORD_IDS")}
    entities = step("entities", "entities", inputs, model="ner", aggregation_strategy=strategy)
    texts = [CITY, *ASKED[:4]]
    steps = [tokenize("ner"), network("ner"), entities]
    found = expect(steps, {"ENTITIES": "entities.ENTITIES"}, models, rows(*texts), work)

    peer = pipeline("token-classification", model=str(folder), device="cpu", aggregation_strategy=strategy)
    for index, text in enumerate(texts):
        wanted = [
            {**{key: value.item() if hasattr(value, "item") else value for key, value in item.items()},
             "word": text[item["start"] : item["end"]]}
            for item in peer(text)
        ]  # fmt: skip
        got = json.loads(found.texts["ENTITIES"][index][0])
        assert [{**item, "score": 0} for item in got] == [{**item, "score": 0} for item in wanted]
        assert np.allclose([item["score"] for item in got], [item["score"] for item in wanted], atol=1e-5)
    assert got
    assert found.reference.controls == ("truncated", "reversed_labels")
    assert found.texts["control.reversed_labels.ENTITIES"] != found.texts["ENTITIES"]


def test_images(work: Path) -> None:
    import torch
    from PIL import Image
    from transformers import ViTConfig, ViTForImageClassification, pipeline

    folder = work / "vit"
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = ViTConfig(**sizes, image_size=[16, 24], patch_size=8, initializer_range=0.2, id2label=LABELS)
    ViTForImageClassification(config).eval().save_pretrained(folder)
    pixels = {"image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 16, "width": 24}}
    write_json(folder / "preprocessor_config.json", {**pixels, "resample": 2, "do_rescale": True, "do_normalize": True})
    images = [Image.fromarray(np.random.default_rng(n).integers(0, 255, (30, 20, 3), np.uint8)) for n in range(3)]
    contents = []
    for image in images:
        stream = io.BytesIO()
        image.save(stream, "PNG")
        contents.append(stream.getvalue())
    samples = tuple(Row({"IMAGE": {"base64": base64.b64encode(content).decode()}}) for content in contents)
    steps = [
        step("pixels", "image", {"IMAGE": "request.IMAGE"}, model="vit"),
        step("vit", "model", {"pixel_values": "pixels.pixel_values"}, model="vit"),
        step("labels", "labels", {"PROBABILITIES": "vit.PROBABILITIES"}, model="vit", top_k=1),
    ]
    outputs = {"LABEL": "labels.LABEL", "SCORE": "labels.SCORE"}
    models = {"vit": ModelParts("image-classification", source_of(folder))}
    sent = (RequestTensor("IMAGE", "BYTES", (1,)),)
    found = expect(steps, outputs, models, samples, work, inputs=sent)

    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    peer = pipeline("image-classification", model=str(folder), image_processor=processor, device="cpu")
    for index, image in enumerate(images):
        (best,) = peer(image, top_k=1)
        assert found.texts["LABEL"][index] == [best["label"]]
        assert abs(found.numbers["SCORE"][index, 0] - best["score"]) < 1e-5
    assert found.reference.controls == ("swapped_channels", "reversed_labels")
    assert np.abs(found.numbers["control.swapped_channels.SCORE"] - found.numbers["SCORE"]).max() > 1e-4
    broken = (*samples, Row({"IMAGE": {"base64": base64.b64encode(b"no image").decode()}}))
    with pytest.raises(ModelError, match="an image cannot be read"):
        expect(steps, outputs, models, broken, work, inputs=sent)


def test_a_control_without_effect_is_told(classifiers: Any, work: Path) -> None:
    short = rows("A wonderful film!", "A film!")
    labels = step("labels", "labels", {"PROBABILITIES": "a.PROBABILITIES"}, model="a", top_k=1)
    mean = step("mean", "aggregate", {"P_0": "a.PROBABILITIES", "P_1": "a.PROBABILITIES"}, mode="mean")
    found = expect([tokenize("a"), network("a"), labels, mean], {"P": "mean.PROBABILITIES"}, classifiers, short, work)
    assert found.reference.record["controls_without_effect"] == ["reversed_labels", "other_mode"]


def test_answers_of_different_shapes_are_refused(classifiers: Any, work: Path) -> None:
    with pytest.raises(ModelError, match="output IDS: samples are answered with shapes"):
        expect([tokenize("a")], {"IDS": "tokenize.input_ids"}, classifiers, rows(*ASKED), work)


def test_the_key_holds_what_changes_the_answers(classifiers: Any) -> None:
    labels = step("labels", "labels", {"PROBABILITIES": "a.PROBABILITIES"}, model="a", top_k=2)
    plan = PipelinePlan((tokenize("a"), network("a"), labels), (TEXT,), {"LABEL": "labels.LABEL"})
    inputs = ExpectedInputs({"a": classifiers["a"]}, {}, rows(*ASKED))
    other = dataclasses.replace(labels, options={"model": "a", "top_k": 1})

    def key(stage: Expect, given: ExpectedInputs) -> Json:
        return json.dumps(stage.fingerprint(given), sort_keys=True)

    keys = [
        key(Expect(plan), inputs),
        key(Expect(dataclasses.replace(plan, steps=(*plan.steps[:2], other))), inputs),
        key(Expect(plan), dataclasses.replace(inputs, models={"a": classifiers["b"]})),
        key(Expect(plan), dataclasses.replace(inputs, samples=rows(*ASKED[1:]))),
    ]
    assert len(set(keys)) == len(keys)
    with pytest.raises(ModelError, match="there is no sample"):
        Expect(plan).requires(dataclasses.replace(inputs, samples=()))

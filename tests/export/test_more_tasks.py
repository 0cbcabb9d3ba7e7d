"""Tasks besides embeddings and classes of texts: equal to transformers at untraced shapes, and to a third party."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.artifacts import Sample
from builder.core.digest import describe_file
from builder.core.execute import Executor
from builder.core.store import Store
from builder.errors import ModelError
from builder.export.check import Check
from builder.export.processor import Processor
from builder.tools import hf, hf_images, pictures
from builder.tools.safetensors_values import save_arrays
from tests.export.builds import Export, export, export_images, refer
from tests.models import MAX_LENGTH, TEXTS, make_image_model, make_model, write_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

SPANS, TOKENS, RANKING = "question-answering", "token-classification", "text-ranking"
IMAGES = "image-classification"

QUESTIONS = tuple(text for text in TEXTS if len(text) < 45)
PAIRS = [Sample(question, context) for question, context in zip(QUESTIONS, reversed(TEXTS), strict=False)]
PICTURES = [pictures.png(picture) for picture in pictures.pictures(12)]

BUILDS = {
    (SPANS, "bert"): {},
    (SPANS, "roberta"): {},
    (TOKENS, "distilbert"): {"num_labels": 4},
    (TOKENS, "modernbert"): {"num_labels": 4},
    (RANKING, "bert"): {},
    (RANKING, "xlm-roberta"): {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
}
OUTPUTS = {
    SPANS: {"START_LOGITS": (-1, -1), "END_LOGITS": (-1, -1)},
    TOKENS: {"LOGITS": (-1, -1, 4)},
    RANKING: {"LOGITS": (-1, 1), "SCORE": (-1, 1)},
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Export]:
    """The export of a tiny model, by task and family."""
    made: dict[tuple[str, str], Export] = {}

    def make(task: str, family: str) -> Export:
        if (task, family) not in made:
            work = tmp_path_factory.mktemp(f"{family}-{task}")
            if task == IMAGES:
                folder = make_image_model(family, work / "model", num_labels=3)
                samples = [Sample(image_base64=base64.b64encode(content).decode()) for content in PICTURES]
                made[task, family] = export_images(folder, task, work, samples)
            else:
                folder = make_model(family, task, work / "model", **BUILDS[task, family])
                made[task, family] = export(folder, task, work, PAIRS if task != TOKENS else ())
        return made[task, family]

    return make


@pytest.mark.parametrize(("task", "family"), BUILDS)
def test_equals_transformers_at_untraced_shapes(built: Any, task: str, family: str) -> None:
    export = built(task, family)

    checks = export.model.record["checks"]
    assert {(check["batch"], check["sequence"]) for check in checks} >= {(1, 2), (5, 2), (5, MAX_LENGTH)}
    assert max(value for check in checks for value in check["difference"].values()) < 2e-5
    assert {tensor.name: tensor.shape for tensor in export.model.outputs} == OUTPUTS[task]
    assert export.model.record["embedded"] == {}
    assert export.reference.metric == "logits"


@pytest.mark.parametrize(("task", "family"), [*BUILDS, (IMAGES, "vit")])
def test_controls_are_far_from_the_answers(built: Any, task: str, family: str) -> None:
    export = built(task, family)

    expected, controls = export.expected, export.reference.controls
    assert (
        set(controls)
        == {
            SPANS: {"truncated", "swapped_pair", "shifted"},
            TOKENS: {"truncated", "shifted"},
            RANKING: {"truncated", "swapped_pair", "wrong_activation"},
            IMAGES: {"flipped", "swapped_channels", "wrong_normalisation"},
        }[task]
    )
    for control in controls:
        differences = [_own_difference(expected, f"control.{control}.", name) for name in export.reference.outputs]
        assert max(differences) > 0.1, control


def _own_difference(expected: dict[str, Any], prefix: str, name: str) -> float:
    """The largest difference at tokens that both have; of outputs without tokens, at all."""
    right, wrong = expected[name], expected[prefix + name]
    if "lengths" not in expected:
        return float(np.abs(right - wrong).max())
    lengths = np.minimum(expected["lengths"], expected.get(f"{prefix}lengths", expected["lengths"]))
    return max(
        float(np.abs(one[:length] - other[:length]).max())
        for one, other, length in zip(right, wrong, lengths, strict=True)
    )


def test_start_and_end_are_those_of_the_model_and_the_question_stays_whole(built: Any) -> None:
    export = built(SPANS, "bert")
    assert (export.tokenizer.truncation, export.tokenizer.padding_side) == ("only_second", "right")
    model, tokenizer = hf.load_model(export.folder, SPANS), hf.load_tokenizer(export.folder)
    expected = export.expected
    for index, sample in enumerate(PAIRS):
        encoded = tokenizer(
            sample.text, sample.text_pair, truncation="only_second", max_length=MAX_LENGTH, return_tensors="pt"
        )
        output = model(**encoded)
        length = encoded["input_ids"].shape[1]
        assert expected["lengths"][index] == length
        for name, theirs in (("START_LOGITS", output.start_logits), ("END_LOGITS", output.end_logits)):
            assert np.abs(expected[name][index, :length] - theirs[0].detach().numpy()).max() < 1e-5
            assert not expected[name][index, length:].any()
    starts = {row[:length].argmax() for row, length in zip(expected["START_LOGITS"], expected["lengths"], strict=True)}
    assert len(starts) > 1


def test_a_question_that_leaves_no_room_is_named(built: Any, tmp_path: Path) -> None:
    export = built(SPANS, "bert")
    with pytest.raises(ModelError, match=r"sample 2 \('It rained for three weeks.*leaves no room for the second"):
        refer(export.source, export.tokenizer, SPANS, tmp_path, [PAIRS[0], Sample(TEXTS[-1], "short")])
    with pytest.raises(ModelError, match="question-answering takes pairs of texts, and a sample has one"):
        refer(export.source, export.tokenizer, SPANS, tmp_path, [Sample("one")])


@pytest.mark.parametrize("family", ["distilbert", "modernbert"])
def test_labels_of_tokens_are_those_of_the_pipeline(built: Any, family: str) -> None:
    from transformers import pipeline

    export = built(TOKENS, family)
    asked = [index for index, length in enumerate(export.expected["lengths"]) if 2 < length < MAX_LENGTH]
    ask = pipeline("token-classification", model=str(export.folder), device="cpu", ignore_labels=[])
    seen = set()
    for index in asked:
        logits = export.expected["LOGITS"][index].astype(np.float64)
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        for token in ask(TEXTS[index]):
            row = probabilities[token["index"]]
            assert export.reference.labels[row.argmax()] == token["entity"]
            assert row.max() == pytest.approx(token["score"], abs=1e-5)
            seen.add(token["entity"])
    assert len(seen) == 4  # every label occurs


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_scores_are_those_of_a_cross_encoder(built: Any, family: str) -> None:
    from sentence_transformers import CrossEncoder

    export = built(RANKING, family)
    model = CrossEncoder(str(export.folder), device="cpu", local_files_only=True)
    scores = model.predict([(pair.text, pair.text_pair) for pair in PAIRS], show_progress_bar=False)

    assert np.abs(scores - export.expected["SCORE"][:, 0]).max() < 1e-5
    assert scores.std() > 0.01
    other = "LOGITS" if family == "bert" else "control.wrong_activation.SCORE"
    assert np.abs(scores - export.expected[other][:, 0]).max() > 0.1


@pytest.mark.parametrize("family", ["vit", "resnet"])
def test_labels_of_images_are_those_of_the_pipeline(built: Any, family: str) -> None:
    from PIL import Image
    from transformers import AutoModelForImageClassification, pipeline

    export = built(IMAGES, family)
    processor = hf_images.load(export.folder)
    model = AutoModelForImageClassification.from_pretrained(export.folder)
    ask = pipeline(IMAGES, model=model, image_processor=processor, top_k=3, device="cpu")
    answers = ask([Image.fromarray(picture) for picture in pictures.pictures(12)])

    labels, expected = export.reference.labels, export.expected["PROBABILITIES"]
    answered = [[{item["label"]: item["score"] for item in row}[label] for label in labels] for row in answers]
    assert np.abs(np.asarray(answered) - expected).max() < 1e-5
    assert set(expected.argmax(axis=1)) == {0, 1, 2}
    height, width = export.tokenizer.height, export.tokenizer.width
    assert export.model.inputs[0].shape == (-1, 3, height, width)
    assert {check["batch"] for check in export.model.record["checks"]} == {1, 3, 5}
    assert max(value for check in export.model.record["checks"] for value in check["difference"].values()) < 2e-5


def test_padding_is_not_compared_and_tokens_are(built: Any, tmp_path: Path) -> None:
    export = built(TOKENS, "distilbert")
    run = Executor(Store.at(tmp_path / "store"), "test").run
    mask = export.expected["probe.4.attention_mask"]
    row = int((mask == 0).any(axis=1).argmax())
    rows = list(export.expected["probe.4.rows"])
    for place, caught in ((-1, False), (0, True)):
        arrays = {name: values.copy() for name, values in export.expected.items()}
        arrays["probe.4.LOGITS"][rows.index(row), place] += 1
        save_arrays(arrays, tmp_path / "expected.safetensors")
        changed = describe_file(tmp_path / "expected.safetensors")
        reference = replace(export.reference, files={**export.reference.files, "expected.safetensors": changed})
        if caught:
            with pytest.raises(ModelError, match="LOGITS at batch 5, sequence 48: differs from transformers"):
                run(Check(), (export.model, reference))
        else:
            run(Check(), (export.model, reference))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 16}}, "crop_pct: 0.875 is not"),
        ({"image_processor_type": "BitImageProcessor", "do_center_crop": False, "size": {"shortest_edge": 16}},
         "no fixed size: size is {'shortest_edge': 16}; allowed: a height and a width"),
        ({"image_processor_type": "BitImageProcessor", "do_center_crop": False, "do_resize": False},
         "no fixed size: size is not used"),
        ({"image_processor_type": "NoSuchProcessor"}, "preprocessor_config.json cannot be loaded by transformers"),
    ],
)  # fmt: skip
def test_image_processors_that_do_more_are_refused(
    built: Any, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    source = built(IMAGES, "vit").source
    write_json(tmp_path / "preprocessor_config.json", change)
    files = {**source.files, "preprocessor_config.json": describe_file(tmp_path / "preprocessor_config.json")}
    with pytest.raises(ModelError) as error:
        Executor(Store.at(tmp_path / "store"), "test").run(Processor(IMAGES), replace(source, files=files))
    assert message in str(error.value)


def test_a_step_with_other_pixels_is_noticed() -> None:
    from builder.export.processor import _agree

    settings: dict[str, Any] = {
        "schema": 1,
        "do_resize": True,
        "size": {"height": 8, "width": 8},
        "resample": 2,
        "do_rescale": False,
        "do_normalize": False,
    }
    step_pixels: NDArray[Any] = np.stack([_pixels(settings, content) for content in PICTURES[:2]])
    _agree(settings, PICTURES[:2], step_pixels)
    with pytest.raises(ModelError, match="the image step differ by 1:"):
        _agree(settings, PICTURES[:2], step_pixels + np.array([[[[0]]], [[[1]]]], np.float32))
    with pytest.raises(ModelError, match=r"the image step cannot do this: settings\.json: gamma is unknown"):
        _agree({**settings, "gamma": 2}, PICTURES[:2], step_pixels)


def _pixels(settings: dict[str, Any], content: bytes) -> Any:
    from builder.tools import templates

    return templates.load_step("image").Processor(settings).pixels(content)

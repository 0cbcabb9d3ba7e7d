"""What each kind of step should answer: by transformers' own code, or by rules written down anew.

On purpose not the code of the step templates: the same code on both sides of a comparison proves nothing. A user's own
Python step is its own reference: nobody else knows what it should give.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.errors import InternalError, ModelError
from builder.export.expected_spans import Read, best_answer
from builder.tools import files, user_step
from builder.tools.tensors import bytes_array

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from builder.artifacts import StepPlan, Tree
    from builder.export.expected_models import AskedModel, Tensors
    from builder.tools.opaque import Array

TRUNCATED: Final = "truncated"
SWAPPED_CHANNELS: Final = "swapped_channels"
REVERSED_LABELS: Final = "reversed_labels"
SWAPPED_ENDS: Final = "swapped_ends"
OTHER_MODE: Final = "other_mode"
OTHER_CASE: Final = "other_case"

_TEXTS: Final = ("TEXT", "TEXT_PAIR")
_IMAGE: Final = "IMAGE"
_WRONG_MODE: Final = {"mean": "max", "max": "mean", "vote": "mean"}


@dataclass(frozen=True)
class Around:
    """What steps need besides their inputs."""

    models: Mapping[str, AskedModel]
    own: Mapping[str, Tree]  # python step → its files
    work: Path


def answer(step: StepPlan, inputs: Tensors, around: Around, mistake: str = "") -> Tensors:
    """The outputs of a step.

    Args:
        step: the step.
        inputs: its inputs, by their names in the step.
        around: models, and users' files.
        mistake: one of :func:`mistakes`, which the step then makes; empty: none.

    Raises:
        UserError: a row has no answer: a text without tokens, a file that is no image.
    """
    return _KINDS[step.kind](step, inputs, around, mistake)


def mistakes(step: StepPlan, models: Mapping[str, AskedModel]) -> tuple[str, ...]:
    """The mistakes that a step of a wrong build might make."""
    if step.kind == "ensemble":
        return _mistakes_of_models([models[step.options["model"]]])
    if step.kind == "select":
        chosen = _cases(step)
        other = (OTHER_CASE,) if len(chosen) > 1 else ()
        return (*_mistakes_of_models([models[name] for name in chosen]), *other)
    if step.kind == "aggregate" and len(step.inputs) < 2:
        return ()
    return _MISTAKES.get(step.kind, ())


def _mistakes_of_models(models: Sequence[AskedModel]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(SWAPPED_CHANNELS if model.takes_images else TRUNCATED for model in models))


def _tokenize(step: StepPlan, inputs: Tensors, around: Around, mistake: str) -> Tensors:
    texts = list(zip(*(_texts(inputs[name]) for name in _TEXTS if name in inputs), strict=True))
    return around.models[step.options["model"]].encode(texts, cut=mistake == TRUNCATED)


def _image(step: StepPlan, inputs: Tensors, around: Around, mistake: str) -> Tensors:
    images = [row[0] for row in inputs[_IMAGE]]
    return around.models[step.options["model"]].pixels(images, swapped=mistake == SWAPPED_CHANNELS)


def _model(step: StepPlan, inputs: Tensors, around: Around, mistake: str) -> Tensors:  # noqa: ARG001 - as all kinds
    return around.models[step.options["model"]].answer(inputs)


def _ensemble(step: StepPlan, inputs: Tensors, around: Around, mistake: str) -> Tensors:
    return _whole(around.models[step.options["model"]], inputs, mistake)


def _whole(model: AskedModel, inputs: Tensors, mistake: str) -> Tensors:
    """What a model answers to texts, or images."""
    if model.takes_images:
        images = [row[0] for row in inputs[_IMAGE]]
        return model.answer(model.pixels(images, swapped=mistake == SWAPPED_CHANNELS))
    names = _TEXTS if model.parts.text_pair else _TEXTS[:1]
    texts = list(zip(*(_texts(inputs[name]) for name in names), strict=True))
    tokens = model.encode(texts, cut=mistake == TRUNCATED)
    return model.answer({name: tokens[name] for name in model.input_names})


def _select(step: StepPlan, inputs: Tensors, around: Around, mistake: str) -> Tensors:
    """Each row's model, asked for its rows alone."""
    models, cases, default = _cases(step), step.options["cases"], step.options.get("default")
    rows: dict[str, list[int]] = {}
    for index, value in enumerate(_texts(inputs[step.options["by"]])):
        chosen = cases.get(value, default)
        if chosen is None:
            raise ModelError(
                f"step {step.name!r}: sample {index + 1}: {step.options['by']} is {value[:40]!r}, which no case names",
                mend="set a default, or leave the sample out of verify.samples",
            )
        if mistake == OTHER_CASE:
            chosen = models[(models.index(chosen) + 1) % len(models)]
        rows.setdefault(chosen, []).append(index)
    found: dict[int, dict[str, Array]] = {}
    for name, indices in rows.items():
        part = {tensor: [column[index] for index in indices] for tensor, column in inputs.items()}
        outputs = _whole(around.models[name], part, mistake)
        found |= {index: {tensor: outputs[tensor][row] for tensor in outputs} for row, index in enumerate(indices)}
    return {tensor: [found[index][tensor] for index in range(len(found))] for tensor in found[0]}


def _cases(step: StepPlan) -> list[str]:
    default = step.options.get("default")
    return list(dict.fromkeys([*step.options["cases"].values(), *([default] if default else [])]))


def _labels(step: StepPlan, inputs: Tensors, around: Around, mistake: str) -> Tensors:
    import numpy as np

    names = _names(step, around, mistake)
    threshold = step.options.get("threshold")
    labels, scores = [], []
    for row in inputs["PROBABILITIES"]:
        best = sorted(zip((-row).tolist(), range(len(names)), names, strict=True))[: step.options["top_k"]]
        kept = [(name, -score) if threshold is None or -score >= threshold else ("", 0.0) for score, _, name in best]
        labels.append(bytes_array([name.encode() for name, _ in kept]))
        scores.append(np.array([score for _, score in kept], np.float32))
    return {"LABEL": labels, "SCORE": scores}


def _names(step: StepPlan, around: Around, mistake: str) -> list[str]:
    names = around.models[step.options["model"]].labels
    return names[::-1] if mistake == REVERSED_LABELS else names


def _aggregate(step: StepPlan, inputs: Tensors, around: Around, mistake: str) -> Tensors:  # noqa: ARG001 - as all kinds
    mode = step.options["mode"]
    rule = _RULES[_WRONG_MODE[mode] if mistake == OTHER_MODE else mode]
    return {"PROBABILITIES": [rule(list(rows)) for rows in zip(*inputs.values(), strict=True)]}


def _mean(rows: list[Array]) -> Array:
    import numpy as np

    return (sum(row.astype(np.float64) for row in rows) / len(rows)).astype(np.float32)


def _maximum(rows: list[Array]) -> Array:
    import numpy as np

    return np.array([max(values) for values in zip(*rows, strict=True)], np.float32)


def _vote(rows: list[Array]) -> Array:
    """The share of the models that prefer each label; of labels with as many votes, the more probable is put first."""
    import numpy as np

    votes = Counter(int(row.argmax()) for row in rows)
    shares = np.zeros(len(rows[0]), np.float32)
    for label, count in votes.items():
        shares[label] = count / len(rows)
    leading = [label for label in votes if votes[label] == max(votes.values())]
    if len(leading) > 1:
        mean = _mean(rows)
        first = min(leading, key=lambda label: (-mean[label], label))
        shares[first] = np.nextafter(shares[first], np.float32(2))
    return shares


_RULES: Final[dict[str, Callable[[list[Array]], Array]]] = {"mean": _mean, "max": _maximum, "vote": _vote}


def _spans(step: StepPlan, inputs: Tensors, around: Around, mistake: str) -> Tensors:
    """As ``pipeline("question-answering")`` of transformers 4 did, for a context that fits."""
    import numpy as np

    tokenizer = around.models[step.options["model"]].tokenizer
    names = ("END_LOGITS", "START_LOGITS") if mistake == SWAPPED_ENDS else ("START_LOGITS", "END_LOGITS")
    texts = _texts(inputs["TEXT_PAIR"])
    words = inputs.get("WORD_IDS", [None] * len(texts))  # without them answers are no whole words
    columns = (inputs[names[0]], inputs[names[1]], inputs["OFFSETS"], inputs["SEQUENCE_IDS"], words)
    longest, has_nothing = step.options["max_answer_length"], tokenizer.cls_token_id is not None
    outputs: Tensors = {"ANSWER": [], "SCORE": [], "START": [], "END": []}
    for index, (context, starts, ends, *places) in enumerate(zip(texts, *columns, strict=True)):
        read = Read(context, *places)
        if not (read.sequence == 1).any():
            raise ModelError(f"step {step.name!r}: sample {index + 1}: no token of TEXT_PAIR fits beside TEXT")
        found = best_answer(starts, ends, read, longest, has_nothing=has_nothing)
        outputs["ANSWER"].append(bytes_array([context[found.start : found.end].encode()]))
        outputs["SCORE"].append(np.array([found.score], np.float32))
        outputs["START"].append(np.array([found.start], np.int64))
        outputs["END"].append(np.array([found.end], np.int64))
    return outputs


def _entities(step: StepPlan, inputs: Tensors, around: Around, mistake: str) -> Tensors:
    """By the pipeline of transformers, from the logits on."""
    import numpy as np

    model, strategy = around.models[step.options["model"]], step.options["aggregation_strategy"]
    found = []
    columns = (inputs["LOGITS"], inputs["OFFSETS"], inputs["SEQUENCE_IDS"])
    for text, logits, offsets, sequence in zip(_texts(inputs["TEXT"]), *columns, strict=True):
        special = (sequence == -1).astype(np.int64)
        seen = logits[:, ::-1] if mistake == REVERSED_LABELS else logits
        entities = model.tagger.entities(text, model.ids(text, len(sequence)), special, offsets, seen, strategy)
        found.append(bytes_array([json.dumps(entities, ensure_ascii=False).encode()]))
    return {"ENTITIES": found}


def _python(step: StepPlan, inputs: Tensors, around: Around, mistake: str) -> Tensors:  # noqa: ARG001 - as all kinds
    folder = around.work / f"python-{step.name}"
    if not folder.exists():
        files.link({name: file.path for name, file in around.own[step.name].items()}, folder)
    rows = [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]
    answers = user_step.run(folder, step.options, rows, around.work)
    return {name: [row[name] for row in answers] for name in step.options["gives"]}


def _texts(rows: Sequence[Array]) -> list[str]:
    """The texts of a column of BYTES [1].

    Raises:
        ModelError: a row has several, or holds no text.
    """
    found: list[str] = []
    for index, row in enumerate(rows):
        if row.shape != (1,):
            raise InternalError(f"sample {index + 1}: BYTES {list(row.shape)} where one text is expected")
        try:
            found.append(row[0].decode())
        except UnicodeDecodeError as error:
            raise ModelError(f"sample {index + 1}: a text is not UTF-8: {error.reason}") from error
    return found


_KINDS: Final = {
    "tokenizer": _tokenize,
    "image": _image,
    "model": _model,
    "ensemble": _ensemble,
    "select": _select,
    "labels": _labels,
    "aggregate": _aggregate,
    "spans": _spans,
    "entities": _entities,
    "python": _python,
}

_MISTAKES: Final = {
    "tokenizer": (TRUNCATED,),
    "image": (SWAPPED_CHANNELS,),
    "labels": (REVERSED_LABELS,),
    "entities": (REVERSED_LABELS,),
    "spans": (SWAPPED_ENDS,),
    "aggregate": (OTHER_MODE,),
}

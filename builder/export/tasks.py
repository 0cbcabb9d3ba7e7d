"""From a task and the model's files to a head: what follows the transformer, and what the outputs are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from builder.errors import ModelError
from builder.export import cross_encoder, sentence_transformers
from builder.export.model_files import in_folder, read_object
from builder.tools.heads import Classify, Score, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from builder.artifacts import Json, Tree

_PROBLEMS: Final = {
    "single_label_classification": "single-label",
    "multi_label_classification": "multi-label",
    "regression": "regression",
}
_MOST_LABELS: Final = 1_000_000
_ACTIVATIONS: Final = {"single-label": "softmax", "multi-label": "sigmoid", "regression": ""}


@dataclass(frozen=True, slots=True)
class Head:
    """How a model does a task."""

    folder: str  # where the transformer's files are: "" is the model's root
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    metric: str  # cosine | single-label | multi-label | regression | logits
    takes: tuple[str, ...] = ("logits",)  # the model's own outputs that the steps begin with
    labels: tuple[str, ...] = ()
    max_length: int | None = None  # tokens, as the task's own files say
    max_length_from: str = ""
    lower_case: bool = False
    prompt: str = ""
    files: tuple[str, ...] = ()  # JSON files that decide all this, besides config.json
    record: dict[str, Json] = field(default_factory=dict)


def read_head(tree: Tree, task: str) -> Head:
    """Reads how the model does ``task``, from its JSON files alone.

    Raises:
        ModelError: a file is missing or damaged, or says something that is not understood.
    """
    head = _READERS[task](tree)
    name = in_folder(head.folder, "config.json")
    if name not in tree:
        raise ModelError(f"{name}: the model has no such file", mend="take a model in the transformers format")
    if "quantization_config" in read_object(tree, name):
        raise ModelError(
            f"{name}: quantization_config: quantised weights are not supported",
            mend="take the model that was quantised",
        )
    adapter = in_folder(head.folder, "adapter_config.json")
    if adapter in tree:
        raise ModelError(
            f"{adapter}: the model is an adapter (PEFT) of another model",
            mend="merge it into its base model with merge_and_unload(), and save the result",
        )
    return head


def _embedding(tree: Tree) -> Head:
    model = sentence_transformers.read(tree)
    return Head(
        folder=model.folder,
        steps=model.steps,
        outputs=("EMBEDDING",),
        metric="cosine",
        takes=("last_hidden_state",),
        max_length=model.max_length,
        max_length_from=f"{model.record.get('settings')}: max_seq_length",
        lower_case=model.lower_case,
        prompt=model.prompt,
        files=model.files,
        record=model.record,
    )


def _classification(tree: Tree) -> Head:
    config = read_object(tree, "config.json")
    labels = _labels(config)
    metric = _metric(config, len(labels))
    return Head(
        folder="",
        steps=(Classify(_ACTIVATIONS[metric]),),
        outputs=("LOGITS",) if metric == "regression" else ("LOGITS", "PROBABILITIES"),
        metric=metric,
        labels=labels,
        record={"problem_type": config.get("problem_type"), "labels": list(labels), "metric": metric},
    )


def _tokens(tree: Tree) -> Head:
    labels = _labels(read_object(tree, "config.json"))
    return Head("", (), ("LOGITS",), "logits", labels=labels, record={"labels": list(labels)})


def _spans(_tree: Tree) -> Head:
    return Head("", (), ("START_LOGITS", "END_LOGITS"), "logits", takes=("start_logits", "end_logits"))


def _ranking(tree: Tree) -> Head:
    count = len(_labels(read_object(tree, "config.json")))
    if count != 1:
        raise ModelError(
            f"config.json: the model has {count} labels; text-ranking takes one, the score",
            mend="take a cross-encoder that ranks, or the task text-classification",
        )
    model = cross_encoder.read(tree)
    return Head(
        folder="",
        steps=(Score(model.activation),),
        outputs=("LOGITS", "SCORE"),
        metric="logits",
        max_length=model.max_length,
        max_length_from=model.max_length_from,
        lower_case=model.lower_case,
        files=model.files,
        record={"activation": model.activation},
    )


_READERS: Final[Mapping[str, Callable[[Tree], Head]]] = {
    "sentence-embedding": _embedding,
    "text-classification": _classification,
    "question-answering": _spans,
    "token-classification": _tokens,
    "text-ranking": _ranking,
    "image-classification": _classification,
}


def _labels(config: dict[str, Any]) -> tuple[str, ...]:
    """Names of the labels in the order of the logits, with the defaults of ``PretrainedConfig`` (two, LABEL_0 …)."""
    named = config.get("id2label")
    if not isinstance(named, dict) or not named:
        return tuple(f"LABEL_{index}" for index in range(_label_count(config)))
    try:
        return tuple(str(named[str(index)]) for index in range(len(named)))
    except KeyError as error:
        raise ModelError(
            f"config.json: id2label has {len(named)} labels and no number {error}; allowed: 0 to {len(named) - 1}"
        ) from error


def _label_count(config: dict[str, Any]) -> int:
    count = config.get("num_labels", 2)
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= _MOST_LABELS:
        raise ModelError(f"config.json: num_labels is {count!r:.100}; allowed: a whole number from 1 to {_MOST_LABELS}")
    return count


def _metric(config: dict[str, Any], labels: int) -> str:
    problem = config.get("problem_type")
    if problem is None:
        # The rule of transformers' own classification models: one label without a problem type is a regression.
        return "regression" if labels == 1 else "single-label"
    if not isinstance(problem, str) or problem not in _PROBLEMS:
        raise ModelError(f"config.json: problem_type is {problem!r:.100}; allowed: {', '.join(_PROBLEMS)}")
    if problem == "single_label_classification" and labels == 1:
        raise ModelError(
            "config.json: problem_type is 'single_label_classification' with one label: its probability is always 1",
            mend="set problem_type to 'regression' or 'multi_label_classification', as the model was trained",
        )
    return _PROBLEMS[problem]

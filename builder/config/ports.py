"""The tensors of each kind of step: as the recipe declares them, and as the built models turn out to have them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from builder.artifacts import Tensor
from builder.config.dag import Port, Step
from builder.errors import RecipeError
from builder.recipe import steps as kinds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
ANY: Final = -1

TEXT: Final = Port("TEXT", "BYTES", (1,))
TEXT_PAIR: Final = Port("TEXT_PAIR", "BYTES", (1,))
IMAGE: Final = Port("IMAGE", "BYTES", (1,))
OFFSETS: Final = Port("OFFSETS", "INT64", (ANY, 2))
SEQUENCE_IDS: Final = Port("SEQUENCE_IDS", "INT64", (ANY,))
WORD_IDS: Final = Port("WORD_IDS", "INT64", (ANY,))
TOKEN_PLACES: Final = (OFFSETS, SEQUENCE_IDS, WORD_IDS)
"""Where each token stands in the text: made only where a step takes it."""

_SCORES: Final = "FP32"


@dataclass(frozen=True, slots=True)
class ModelPorts:
    """What is known of a model: its tensors without the batch axis, and how many labels it has (-1: not known yet).

    ``unknown_begins``: a step that gathers tokens into words must look for unknown tokens (None: not known yet).
    """

    takes: tuple[Port, ...]
    gives: tuple[Port, ...]
    text_pair: bool = False
    labels: int = ANY
    unknown_begins: bool | None = None

    @property
    def texts(self) -> tuple[Port, ...]:
        """What its tokenizer takes, or the image that its processor takes."""
        if self.takes and self.takes[0].name == "pixel_values":
            return (IMAGE,)
        return (TEXT, TEXT_PAIR) if self.text_pair else (TEXT,)


def port(tensor: Tensor) -> Port:
    """A tensor of a graph without its batch axis."""
    return Port(tensor.name, tensor.dtype, tensor.shape[1:])


def tensors_of(ports: tuple[Port, ...]) -> tuple[Tensor, ...]:
    """The same with a batch axis, for a config."""
    return tuple(Tensor(port.name, port.dtype, (-1, *port.dims)) for port in ports)


def ports(
    steps: Mapping[str, kinds.AnyStep], models: Mapping[str, ModelPorts], max_batch_size: Mapping[str, int]
) -> tuple[Step, ...]:
    """The steps of a recipe with their tensors.

    Args:
        steps: the recipe's, by name.
        models: what is known of the recipe's models, by name.
        max_batch_size: of each step.

    Raises:
        RecipeError: a step names a model that is not there, or joins what cannot be joined.
    """
    wanted = frozenset(port.name for step in steps.values() for port in _fixed(step))
    made: list[Step] = []
    for name, step in steps.items():
        takes, gives = _ports(name, step, models, wanted)
        stated = _inputs(name, step)
        if isinstance(step, kinds.AggregateStep):
            takes, gives = (_of_one_size(tensors, stated.values(), made) for tensors in (takes, gives))
        made.append(Step(name, takes, gives, max_batch_size[name], stated, not isinstance(step, kinds.PythonStep)))
    return tuple(made)


def _of_one_size(tensors: tuple[Port, ...], references: Iterable[str], before: Iterable[Step]) -> tuple[Port, ...]:
    """The tensors of an aggregate: as many labels as the first of its givers is known to have."""
    given = {f"{step.name}.{port.name}": port.dims for step in before for port in step.gives}
    known = next((given[name] for name in references if given.get(name, (ANY,)) != (ANY,)), (ANY,))
    return tuple(replace(port, dims=known) for port in tensors)


def _fixed(step: kinds.AnyStep) -> tuple[Port, ...]:
    """The places of tokens that a kind of step takes: answers are whole words, so their steps take words, too."""
    return TOKEN_PLACES if isinstance(step, kinds.SpansStep | kinds.EntitiesStep) else ()


def _inputs(name: str, step: kinds.AnyStep) -> dict[str, str]:
    """Input → reference.

    A list stands for as many inputs, numbered: ``PROBABILITIES_0``, …; the key of ``select`` is an input as well.
    """
    stated: dict[str, str] = {}
    for tensor, given in step.inputs.items():
        if isinstance(given, str):
            stated[tensor] = given
        elif isinstance(step, kinds.AggregateStep):
            stated |= {f"{tensor}_{index}": reference for index, reference in enumerate(given)}
        else:
            raise RecipeError(f"step {name!r} input {tensor!r}: only aggregate takes a list; write one STEP.TENSOR")
    if isinstance(step, kinds.SelectStep):
        stated[step.select.by.partition(".")[2]] = step.select.by
    return stated


def _ports(
    name: str, step: kinds.AnyStep, models: Mapping[str, ModelPorts], wanted: frozenset[str]
) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    match step:
        case kinds.TokenizerStep(tokenizer=model):
            found = _of_texts(name, model, models)
            places = tuple(port for port in TOKEN_PLACES if port.name in wanted)
            return found.texts, (*found.takes, *places)
        case kinds.ModelStep(model=model):
            return _model(name, model, models).takes, _model(name, model, models).gives
        case kinds.EnsembleStep(ensemble=model):
            return _of_texts(name, model, models).texts, _model(name, model, models).gives
        case kinds.ImageStep(image=model):
            if _model(name, model, models).texts != (IMAGE,):
                raise RecipeError(f"step {name!r}: model {model!r} takes text; write tokenizer: {model}")
            return (IMAGE,), _model(name, model, models).takes
        case kinds.PythonStep():
            return _own(step.takes), _own(step.gives)
        case kinds.SelectStep():
            return _select(name, step, models)
        case kinds.AggregateStep():
            return _aggregate(name, step)
    return _post(name, step, models)


def _post(
    name: str, step: kinds.LabelsStep | kinds.SpansStep | kinds.EntitiesStep, models: Mapping[str, ModelPorts]
) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """The steps that make words of a model's numbers."""
    match step:
        case kinds.LabelsStep(labels=model, top_k=count):
            labels = _model(name, model, models).labels
            if labels != ANY and count > labels:
                raise RecipeError(f"step {name!r}: top_k is {count}, but {model!r} has {labels} labels")
            return (Port("PROBABILITIES", _SCORES, (labels,)),), (
                Port("LABEL", "BYTES", (count,)),
                Port("SCORE", _SCORES, (count,)),
            )
        case kinds.SpansStep(spans=model):
            _model(name, model, models)
            logits = tuple(Port(tensor, _SCORES, (ANY,)) for tensor in ("START_LOGITS", "END_LOGITS"))
            places = tuple(Port(tensor, "INT64", (1,)) for tensor in ("START", "END"))
            found = (Port("ANSWER", "BYTES", (1,)), Port("SCORE", _SCORES, (1,)), *places)
            return (*logits, *_fixed(step), TEXT_PAIR), found
        case kinds.EntitiesStep(entities=model):
            known = _model(name, model, models)
            logits = (Port("LOGITS", _SCORES, (ANY, known.labels)),)
            looks = step.gathers_words and known.unknown_begins is not False
            ids = (Port("input_ids", "INT64", (ANY,), optional=known.unknown_begins is None),) if looks else ()
            return (*logits, *TOKEN_PLACES, TEXT, *ids), (Port("ENTITIES", "BYTES", (1,)),)


def _own(tensors: Mapping[str, kinds.TensorSpec]) -> tuple[Port, ...]:
    return tuple(Port(name, spec.dtype, spec.dims, spec.optional) for name, spec in tensors.items())


def _aggregate(name: str, step: kinds.AggregateStep) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    lists = {tensor: given for tensor, given in step.inputs.items() if not isinstance(given, str)}
    if len(step.inputs) != 1 or len(lists) != 1:
        raise RecipeError(
            f"step {name!r}: aggregate takes one list under inputs",
            mend="write, say, inputs: {PROBABILITIES: [a.PROBABILITIES, b.PROBABILITIES]}",
        )
    ((tensor, given),) = lists.items()
    takes = tuple(Port(f"{tensor}_{index}", _SCORES, (ANY,)) for index in range(len(given)))
    return takes, (Port("PROBABILITIES", _SCORES, (ANY,)),)


def _select(
    name: str, step: kinds.SelectStep, models: Mapping[str, ModelPorts]
) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    chosen = dict.fromkeys([*step.select.cases.values(), *([step.select.default] if step.select.default else [])])
    found = {model: _of_texts(name, model, models) for model in chosen}
    by = Port(step.select.by.partition(".")[2], "BYTES", (1,))
    first, *others = found
    for other in others:
        if not _alike(found[first].gives, found[other].gives):
            raise RecipeError(
                f"step {name!r}: {first!r} gives {_shown(found[first].gives)}, but {other!r} gives "
                f"{_shown(found[other].gives)}: whichever is chosen must give the same tensors"
            )
        if found[first].texts != found[other].texts:
            raise RecipeError(
                f"step {name!r}: {first!r} takes {_shown(found[first].texts)}, but {other!r} takes "
                f"{_shown(found[other].texts)}: whichever is chosen must take the same tensors"
            )
    texts = (port for port in found[first].texts if port.name != by.name)
    return (by, *texts), found[first].gives


def _alike(one: tuple[Port, ...], other: tuple[Port, ...]) -> bool:
    return [port.name for port in one] == [port.name for port in other] and all(
        a.fits(b) for a, b in zip(one, other, strict=True)
    )


def _shown(found: Iterable[Port]) -> str:
    return ", ".join(f"{port.name} {port}" for port in found)


def _of_texts(step: str, name: str, models: Mapping[str, ModelPorts]) -> ModelPorts:
    found = _model(step, name, models)
    if found.texts == (IMAGE,):
        raise RecipeError(
            f"step {step!r}: model {name!r} takes images; write the steps image: {name} and model: {name}"
        )
    return found


def _model(step: str, name: str, models: Mapping[str, ModelPorts]) -> ModelPorts:
    if name not in models:
        raise RecipeError(f"step {step!r}: there is no model {name!r} under models; allowed: {', '.join(models)}")
    return models[name]

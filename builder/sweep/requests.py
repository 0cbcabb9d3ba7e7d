"""The requests of a load: the subject's own samples, texts of other lengths made of them, or random tensors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from builder.artifacts import RequestTensor
from builder.core.digest import digest_json
from builder.errors import UserError
from builder.sweep.lengths import make_texts, words
from builder.tools.tensors import NUMPY, array_of
from builder.verify.load import as_sent, typical
from builder.verify.rows import load_rows, read_rows, row_of
from builder.verify.samples import load_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from builder.artifacts import Json, Row, Sample
    from builder.sweep.subject import Options
    from builder.tools.perf_analyzer import Value

_TEXT: Final = "TEXT"
_TEXTS: Final = frozenset({_TEXT, "TEXT_PAIR"})
_MOST_SMALL: Final = 100  # random whole numbers are below it: most vocabularies and tables have as many
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Request:
    """A request.

    Args:
        values: what each input gets, as JSON data: see :class:`builder.artifacts.Row`.
        dtypes: Triton's name of the inputs' types.
        sample: the index of the sample that it is; None: of no sample.
    """

    values: Mapping[str, Json]
    dtypes: Mapping[str, str]
    sample: int | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # of texts, whose values are a flat list

    @property
    def row(self) -> dict[str, Value]:
        """As perf_analyzer is told of it."""
        shaped = {name: tensor for name, tensor in self.tensors.items() if name in self.shapes}
        return {name: as_sent(value, self._dtype(name)) for name, value in self.values.items()} | shaped

    @property
    def tensors(self) -> dict[str, Any]:
        """As arrays without a batch axis, for a client of our own."""
        flat = {name: array_of(value, self._dtype(name)) for name, value in self.values.items()}
        return {name: array.reshape(self.shapes.get(name, array.shape)) for name, array in flat.items()}

    def _dtype(self, name: str) -> str:
        return self.dtypes.get(name, "BYTES")

    @property
    def digest(self) -> str:
        """Identity: sha256 of what is sent."""
        return digest_json(dict(self.values))


def dtypes_of(config: Mapping[str, Json]) -> dict[str, str]:
    """Triton's names of the types of a model's inputs, as requests have them: TYPE_STRING is BYTES."""
    named = {one["name"]: str(one["data_type"]).removeprefix("TYPE_") for one in config.get("input", [])}
    return {name: "BYTES" if dtype == "STRING" else dtype for name, dtype in named.items()}


def from_samples(samples: Sequence[Sample | Row], config: Mapping[str, Json], options: Options) -> tuple[Request, ...]:
    """Samples that stand for all of them: short and long ones in turn."""
    dtypes = dtypes_of(config)
    index = {id(sample): number for number, sample in enumerate(samples)}
    pair = "TEXT_PAIR" in dtypes
    return tuple(
        Request(row_of(sample, text_pair=pair), dtypes, index[id(sample)]) for sample in typical(samples, options.rows)
    )


def samples_in(path: Path, dtypes: Mapping[str, str]) -> Sequence[Sample | Row]:
    """The samples of a file: texts, where clients send nothing else; else tensors by name.

    Raises:
        UserError: the file cannot be read, or a line of it.
    """
    if set(dtypes) <= _TEXTS:
        return load_samples(path, text_pair="TEXT_PAIR" in dtypes)
    return read_rows(path)


def from_file(path: Path, known: Sequence[Sample | Row], config: Mapping[str, Json], rows: int) -> tuple[Request, ...]:
    """The requests of a file, evenly by length; those that are among the known samples have an expected answer.

    Raises:
        UserError: the file cannot be read, or has not what clients send; with ``file:line``.
    """
    dtypes = dtypes_of(config)
    _check_types(dtypes)
    pair = "TEXT_PAIR" in dtypes
    tensors = [
        RequestTensor(one["name"], dtypes[one["name"]], tuple(map(int, one["dims"])), bool(one.get("optional")))
        for one in config["input"]
    ]
    samples = samples_in(path, dtypes) if set(dtypes) <= _TEXTS else load_rows(path, tensors, fewest=1)
    values = [dict(row_of(sample, text_pair=pair)) for sample in typical(samples, rows)]
    asked = [dict(row_of(sample, text_pair=pair)) for sample in known]
    return tuple(Request(one, dtypes, asked.index(one) if one in asked else None) for one in values)


def _check_types(dtypes: Mapping[str, str]) -> None:
    for name, dtype in dtypes.items():
        if dtype not in NUMPY:
            raise UserError(
                f"input {name} has the type {dtype}; values are known for {', '.join(NUMPY)}",
                mend="sweep an ensemble whose first step makes it of another type",
            )


def with_lengths(
    requests: Sequence[Request], samples: Sequence[Sample | Row], options: Options, tokenizer: str | None
) -> tuple[Request, ...]:
    """The same requests, with texts whose lengths follow a distribution.

    Args:
        requests: they take a ``TEXT``.
        samples: what the texts are made of.
        options: the distribution, how many requests, and the seed.
        tokenizer: the content of a ``tokenizer.json``; None: lengths are words.

    Raises:
        UserError: clients send no TEXT.
    """
    assert options.lengths is not None
    if any(_TEXT not in request.values for request in requests):
        raise UserError(f"lengths: clients send {', '.join(requests[0].values)}, and no {_TEXT}")
    pair = "TEXT_PAIR" in requests[0].values
    rows = [dict(row_of(sample, text_pair=pair)) for sample in samples]
    lengths = options.lengths.draw(options.rows, options.seed)
    spans = _tokens(tokenizer) if tokenizer else words
    made = make_texts([str(row.get(_TEXT, "")) for row in rows], lengths, options.seed, spans)
    return tuple(
        _with_text(request, text, rows) for text, request in zip(made, _in_turn(requests, len(made)), strict=True)
    )


def _with_text(request: Request, text: str, rows: Sequence[Mapping[str, Json]]) -> Request:
    values = {**request.values, _TEXT: text}
    return replace(request, values=values, sample=rows.index(values) if values in rows else None)


def _in_turn(requests: Sequence[Request], count: int) -> list[Request]:
    return [requests[index % len(requests)] for index in range(count)]


def _tokens(tokenizer: str) -> Callable[[str], Sequence[tuple[int, int]]]:
    from tokenizers import Tokenizer

    model = Tokenizer.from_str(tokenizer)
    model.no_truncation()
    model.no_padding()
    return lambda text: model.encode(text, add_special_tokens=False).offsets


def random_requests(config: Mapping[str, Json], options: Options) -> tuple[Request, ...]:
    """Requests for a model that nothing is known of: the samples of a file, or random tensors.

    Raises:
        UserError: the config names no inputs, or the size of an axis is not known.
    """
    import numpy as np

    dtypes = dtypes_of(config)
    if not dtypes:
        raise UserError(f"{config.get('name')}: its config names no inputs", mend="complete its config.pbtxt")
    if options.samples is not None:
        return from_file(options.samples, (), config, options.rows)
    _check_types(dtypes)
    random = np.random.default_rng(options.seed)
    shapes = {one["name"]: _shape(one, options.sizes) for one in config["input"]}
    texts = {name: shape for name, shape in shapes.items() if dtypes[name] == "BYTES" and shape != (1,)}
    return tuple(
        Request({name: _random(random, dtypes[name], shape) for name, shape in shapes.items()}, dtypes, shapes=texts)
        for _ in range(options.rows)
    )


def _shape(tensor: Mapping[str, Json], sizes: Mapping[str, int]) -> tuple[int, ...]:
    name, dims = tensor["name"], [int(size) for size in tensor["dims"]]
    size = sizes.get(name, sizes.get("*"))
    if -1 in dims and size is None:
        raise UserError(
            f"input {name} has the shape {dims}, where -1 is any size", mend=f"give a size for {name}, or samples"
        )
    return tuple(int(size or 0) if one == -1 else one for one in dims)


def _random(random: Any, dtype: str, shape: tuple[int, ...]) -> Json:  # noqa: ANN401 - numpy's generator
    count = 1
    for size in shape:
        count *= size
    if dtype == "BYTES":
        texts = ["".join(random.choice(list(_LETTERS), size=int(random.integers(3, 12)))) for _ in range(count)]
        return texts if shape != (1,) else texts[0]
    import numpy as np

    if dtype == "BOOL":
        values = random.integers(0, 2, size=shape).astype(bool)
    elif "INT" in dtype:
        values = random.integers(0, _MOST_SMALL, size=shape)
    else:
        values = random.standard_normal(size=shape)
    return np.asarray(values).astype(NUMPY[dtype]).tolist()

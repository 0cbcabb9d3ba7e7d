"""What a pipeline is asked: a row of each tensor that clients send, from files or from what ships with tritonsmith."""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.artifacts import Row
from builder.errors import UserError
from builder.tools.tensors import array_of
from builder.verify.samples import load_samples, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from builder.artifacts import Json, RequestTensor, Sample

DEFAULT_IMAGES: Final = Path(__file__).parent / "data" / "images"
"""Real images; ``SOURCES.md`` beside them says where each comes from."""

_IMAGE: Final = "IMAGE"
_PICTURES: Final = (".jpg", ".jpeg", ".png", ".webp")
_TEXTS: Final = ("TEXT", "TEXT_PAIR")
_FEWEST: Final = 2


def load_rows(
    path: Path | None, tensors: Sequence[RequestTensor], *, questions: bool = False, fewest: int = _FEWEST
) -> tuple[Row, ...]:
    """Reads the samples of a pipeline.

    A ``.jsonl`` file has one object per line, with the tensors by name: ``{"TEXT": "…", "IMAGE": "cat.jpg"}``, where
    the value of ``IMAGE`` is a path relative to the file; a ``source`` is for readers only. A ``.txt`` file has one
    ``TEXT`` per line. Where no ``TEXT_PAIR`` is given, a text is paired with that of the sample that follows.

    Args:
        path: the file; None: texts and images that ship with tritonsmith.
        tensors: what clients send.
        questions: whether TEXT is a question to TEXT_PAIR, for some model; then such pairs ship, too.
        fewest: how many samples there must be.

    Raises:
        UserError: the file cannot be read, a sample is not as it must be (with ``file:line``), or samples are needed
            and none are given.
    """
    if path is None:
        return _shipped(tensors, questions)
    if path.suffix not in {".txt", ".jsonl"}:
        raise UserError(
            f"samples {path}: unknown kind of file {path.suffix!r}; allowed: .txt, .jsonl",
            mend=f"write one object with {', '.join(tensor.name for tensor in tensors)} per line (.jsonl)",
        )
    placed = [(f"{path}:{number}", line) for number, line in enumerate(read_lines(path), 1) if line.strip()]
    given = [
        (place, {"TEXT": line} if path.suffix == ".txt" else _object(place, line, tensors)) for place, line in placed
    ]
    rows = tuple(_row(place, values, tensors, path.parent) for place, values in _paired(given, tensors))
    _check_alike(rows, [place for place, _ in placed])
    if len(rows) < fewest:
        names = ", ".join(tensor.name for tensor in tensors)
        raise UserError(
            f"{path}: {len(rows)} samples, at least {fewest} must be there",
            mend=f"write one object with {names} per line; best are 64 or more real requests, which tell answers apart",
        )
    return rows


def read_rows(path: Path) -> tuple[Row, ...]:
    """The samples of a reference: one JSON object of tensors a line.

    Raises:
        UserError: a line is not a JSON object.
    """
    lines = [(f"{path}:{number}", line) for number, line in enumerate(read_lines(path), 1) if line.strip()]
    return tuple(Row(_parsed(place, line)) for place, line in lines)


def row_of(sample: Sample | Row, *, text_pair: bool) -> Mapping[str, Json]:
    """The tensors of a sample."""
    if isinstance(sample, Row):
        return sample.tensors
    if sample.image_base64 is not None:
        return {"IMAGE": {"base64": sample.image_base64}}
    return {"TEXT": sample.text} | ({"TEXT_PAIR": sample.text_pair or ""} if text_pair else {})


def size(sample: Sample | Row) -> int:
    """How large it is: characters of its texts, bytes of what is in base64, and numbers."""
    if isinstance(sample, Row):
        return sum(map(_size, sample.tensors.values()))
    if sample.image_base64 is not None:
        return _decoded(sample.image_base64)
    return len(sample.text) + len(sample.text_pair or "")


def describe_row(row: Row) -> str:
    """For messages: the text, where it is one alone; else all tensors, without the content of images."""
    shown = {name: f"{_size(value)} bytes" if isinstance(value, dict) else value for name, value in row.tensors.items()}
    return str(shown["TEXT"]) if list(shown) == ["TEXT"] else json.dumps(shown, ensure_ascii=False)


def _decoded(base64: str) -> int:
    """How many bytes a text in base64 stands for."""
    return len(base64) * 3 // 4 - base64[-2:].count("=")


def _size(value: Json) -> int:
    if isinstance(value, dict):
        return _decoded(value["base64"])
    return sum(map(_size, value)) if isinstance(value, list) else len(value) if isinstance(value, str) else 1


def _shipped(tensors: Sequence[RequestTensor], questions: bool) -> tuple[Row, ...]:
    wanted = {tensor.name for tensor in tensors if not tensor.optional}
    pictures = _pictures() if _IMAGE in wanted else []
    if unknown := sorted(wanted - {*_TEXTS, *([_IMAGE] if pictures else [])}):
        raise UserError(
            f"verify.samples: clients send {unknown[0]}, for which tritonsmith has no samples",
            mend=f'name a .jsonl file with one {{"{unknown[0]}": …}} per line under verify.samples',
        )
    texts = load_samples(None, text_pair=_TEXTS[1] in wanted, questions=questions and _TEXTS[1] in wanted)
    columns: dict[str, list[Json]] = {
        "TEXT": [sample.text for sample in texts],
        "TEXT_PAIR": [sample.text_pair for sample in texts],
        _IMAGE: pictures,
    }
    count = max(len(columns[name]) for name in wanted)
    return tuple(
        Row({name: columns[name][index % len(columns[name])] for name in sorted(wanted)}) for index in range(count)
    )


def _pictures() -> list[Json]:
    files = [path for path in sorted(DEFAULT_IMAGES.glob("*")) if path.suffix.lower() in _PICTURES]
    return [_in_base64(path.read_bytes()) for path in files]


def _in_base64(content: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(content).decode("ascii")}


def _paired(
    given: Sequence[tuple[str, dict[str, Json]]], tensors: Sequence[RequestTensor]
) -> Iterator[tuple[str, dict[str, Json]]]:
    pairs = any(tensor.name == _TEXTS[1] and not tensor.optional for tensor in tensors)
    for (place, values), (_, after) in zip(given, [*given[1:], *given[:1]], strict=True):
        following = {_TEXTS[1]: after["TEXT"]} if pairs and "TEXT" in after else {}
        yield place, following | values


def _object(place: str, line: str, tensors: Sequence[RequestTensor]) -> dict[str, Json]:
    names = [tensor.name for tensor in tensors]
    values = _parsed(place, line)
    values.pop("source", None)
    for key in values:
        if key not in names:
            raise UserError(f"{place}: unknown tensor {key!r}; clients send {', '.join(names)}")
    return values


def _parsed(place: str, line: str) -> dict[str, Json]:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise UserError(f"{place}: not JSON: {error}", mend='write one {"TEXT": …} per line') from error
    if not isinstance(data, dict):
        raise UserError(f"{place}: {line[:40]} is not an object", mend='write one {"TEXT": …} per line')
    return data


def _row(place: str, values: Mapping[str, Json], tensors: Sequence[RequestTensor], folder: Path) -> Row:
    made = {}
    for tensor in tensors:
        if tensor.name in values:
            made[tensor.name] = _value(place, tensor, values[tensor.name], folder)
        elif not tensor.optional:
            raise UserError(f"{place}: the tensor {tensor.name} is missing")
    return Row(dict(sorted(made.items())))


def _value(place: str, tensor: RequestTensor, value: Json, folder: Path) -> Json:
    place = f"{place}: {tensor.name}"
    if tensor.name == _IMAGE and isinstance(value, str):
        value = _picture(place, folder / value)
    if tensor.dtype == "BYTES":
        for item in value if isinstance(value, list) else [value]:
            _check_bytes(place, item)
    try:
        if tensor.dtype != "BYTES":
            _check_numbers(value)
        shape = array_of(value, tensor.dtype).shape
    except (ValueError, TypeError, OverflowError) as error:
        shown = json.dumps(value)[:40]
        raise UserError(
            f"{place} is {shown}; it is {tensor.dtype} {list(tensor.dims)}: {error}",
            mend="write values of that type, in lists as deep as its dims are many",
        ) from error
    if len(shape) != len(tensor.dims) or any(
        want not in (-1, have) for want, have in zip(tensor.dims, shape, strict=True)
    ):
        raise UserError(f"{place} has shape {list(shape)}; it is {tensor.dtype} {list(tensor.dims)}")
    return value


def _check_numbers(value: Json) -> None:
    """Against what numpy makes numbers of, though no client would: texts of digits, and null."""
    import numpy as np

    if np.asarray(value).dtype.kind not in "biuf":
        raise ValueError("not all of it are numbers")


def _picture(place: str, path: Path) -> Json:
    try:
        return _in_base64(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{place}: {path}: {error.strerror}", mend="write the path relative to the samples file"
        ) from error


def _check_bytes(place: str, item: Json) -> None:
    if isinstance(item, dict) and set(item) == {"base64"} and isinstance(item["base64"], str):
        try:
            base64.b64decode(item["base64"], validate=True)
        except binascii.Error as error:
            raise UserError(f"{place}: its base64 cannot be read: {error}") from error
    elif isinstance(item, str):
        try:
            item.encode()
        except UnicodeEncodeError:
            raise UserError(f"{place} holds half of a surrogate pair, which is not text") from None
    else:
        raise UserError(f'{place} is {json.dumps(item)[:40]}, neither a string nor {{"base64": …}}')


def _check_alike(rows: Sequence[Row], places: Iterable[str]) -> None:
    """Rows of one request all have the same tensors."""
    for row, place in zip(rows, places, strict=True):
        if differs := sorted(row.tensors.keys() ^ rows[0].tensors.keys()):
            raise UserError(f"{place}: {differs[0]} must be in all samples, or in none")

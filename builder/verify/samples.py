"""The texts that an archive is asked."""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from builder.artifacts import Sample
from builder.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.artifacts import Json

DEFAULT_SAMPLES = Path(__file__).parent / "data" / "samples.jsonl"
"""Real sentences and paragraphs in some thirty languages; ``SOURCES.md`` beside it says where each comes from."""

DEFAULT_PAIRS = Path(__file__).parent / "data" / "pairs.jsonl"
"""Questions, each with a text that answers it; ``SOURCES.md`` beside it says where each comes from."""

IMAGES = Path(__file__).parent / "data" / "images"
"""Small pictures made in code; ``SOURCES.md`` beside them says how."""

_TEXT_KEYS = ("text", "text_pair", "source")
_IMAGE_KEYS = ("image", "source")
_WRITTEN_KEYS = ("text", "text_pair", "image_base64")  # by the reference


def load_samples(
    path: Path | None, *, text_pair: bool, questions: bool = False, short_first: bool = False
) -> tuple[Sample, ...]:
    """Reads samples from a ``.txt`` file (one text per line) or a ``.jsonl`` file (one object per line).

    An object has ``text``, and may have ``text_pair`` and ``source`` (where the text comes from: for readers only).
    Empty lines of a ``.txt`` file are skipped. Where the task takes pairs, a sample without a second text is paired
    with the text of the sample that follows it, and the last one with the first: n texts make n pairs.

    Args:
        path: the file; None: the samples that ship with tritonsmith.
        text_pair: whether the task takes two texts.
        questions: whether the first of them is a question to the second; then such pairs ship, too.
        short_first: of two texts that this function has paired, the shorter one comes first, as a question does.

    Raises:
        UserError: the file cannot be read, has no samples, or one of them is not as it must be; with ``file:line``.
    """
    shipped = DEFAULT_PAIRS if questions else DEFAULT_SAMPLES
    samples = _shipped(shipped) if path is None else tuple(_from_lines(path, read_lines(path)))
    path = path or shipped
    if len(samples) < 2:
        raise UserError(
            f"{path}: {len(samples)} samples, at least 2 are needed",
            mend="one tells nothing of how answers differ; give it some real texts, best 64 or more",
        )
    paired = [number for number, sample in enumerate(samples, 1) if sample.text_pair is not None]
    if not text_pair:
        if paired:
            raise UserError(
                f"{path}: sample {paired[0]} has a text_pair, but the model is asked one text at a time",
                mend="remove text_pair, or set inputs.text_pair to true",
            )
        return samples
    return tuple(_paired(samples, short_first))


@cache
def _shipped(path: Path) -> tuple[Sample, ...]:
    return tuple(_from_lines(path, read_lines(path)))


def load_images(path: Path | None) -> tuple[Sample, ...]:
    """Reads samples for a task that takes images: a ``.jsonl`` file with ``{"image": …}`` in each line.

    Args:
        path: the file, which names image files by paths relative to itself; None: the ones that ship with tritonsmith.

    Raises:
        UserError: the file or an image cannot be read, or a line names none; with ``file:line``.
    """
    if path is None:
        return tuple(_image(str(file), file) for file in sorted(IMAGES.iterdir()))
    lines = [(number, line) for number, line in enumerate(read_lines(path), 1) if line.strip()]
    samples = [_named_image(f"{path}:{number}", path.parent, line) for number, line in lines]
    if len(samples) < 2:
        raise UserError(
            f"{path}: {len(samples)} samples, at least 2 are needed",
            mend="verification tells one answer from another; give it some real images",
        )
    return tuple(samples)


def _named_image(place: str, folder: Path, line: str) -> Sample:
    data = _object(place, line, _IMAGE_KEYS)
    if "image" not in data:
        raise UserError(f"{place}: the key image is missing", mend='write one {"image": "cat.jpg"} per line')
    return _image(place, folder / _text(place, "image", data["image"]))


def _image(place: str, file: Path) -> Sample:
    try:
        return Sample(image_base64=base64.b64encode(file.read_bytes()).decode())
    except OSError as error:
        raise UserError(f"{place}: {file}: {error.strerror}", mend="name images relative to the file") from error


def read_samples(path: Path) -> tuple[Sample, ...]:
    """The samples of a reference, one JSON object a line: exactly what is in the file, whatever its name.

    Raises:
        UserError: a line is not a sample.
    """
    lines = [(number, line) for number, line in enumerate(read_lines(path), 1) if line.strip()]
    return tuple(_from_json(f"{path}:{number}", line, (*_WRITTEN_KEYS, "source")) for number, line in lines)


def _paired(samples: tuple[Sample, ...], short_first: bool) -> Iterable[Sample]:
    following = (*samples[1:], samples[0])
    for sample, after in zip(samples, following, strict=True):
        texts = [sample.text, after.text]
        made = Sample(*(sorted(texts, key=len) if short_first else texts))
        yield sample if sample.text_pair is not None else made


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file.

    Raises:
        UserError: it cannot be read, or is not UTF-8; with ``file:line``.
    """
    # Split at "\n" alone: texts may hold other characters that str.splitlines() takes for the end of a line.
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"samples {path}: {error.strerror}", mend="check verify.samples in the recipe") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8: {error.reason}", mend="save the file as UTF-8") from error
    return [line.removesuffix("\r") for line in text.split("\n")]


def _from_lines(path: Path, lines: list[str]) -> Iterable[Sample]:
    if path.suffix not in {".txt", ".jsonl"}:
        raise UserError(
            f"samples {path}: unknown kind of file {path.suffix!r}; allowed: .txt, .jsonl",
            mend='give one text per line (.txt), or one {"text": …} per line (.jsonl)',
        )
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield Sample(line) if path.suffix == ".txt" else _from_json(f"{path}:{number}", line)


def _object(place: str, line: str, keys: tuple[str, ...]) -> dict[str, Json]:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise UserError(f"{place}: not JSON: {error}", mend='write one {"text": …} per line') from error
    if not isinstance(data, dict):
        raise UserError(f"{place}: {line[:40]} is not an object", mend='write one {"text": …} per line')
    for key in data:
        if key not in keys:
            raise UserError(f"{place}: unknown key {key!r}; allowed: {', '.join(keys)}")
    return data


def _from_json(place: str, line: str, keys: tuple[str, ...] = _TEXT_KEYS) -> Sample:
    data = _object(place, line, keys)
    if "image_base64" in data:
        return Sample(image_base64=_text(place, "image_base64", data["image_base64"]))
    if "text" not in data:
        raise UserError(f"{place}: the key text is missing")
    return Sample(_text(place, "text", data["text"]), _pair(place, data.get("text_pair")))


def _pair(place: str, value: Json) -> str | None:
    return None if value is None else _text(place, "text_pair", value)


def _text(place: str, key: str, value: Json) -> str:
    if not isinstance(value, str):
        raise UserError(f"{place}: {key} is {json.dumps(value)[:40]}, not a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{place}: {key} holds half of a surrogate pair, which is not text") from None
    return value

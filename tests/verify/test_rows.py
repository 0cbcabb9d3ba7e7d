"""Samples of pipelines: tensors by name, from files and from what ships; every mistake is told with its line."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.artifacts import RequestTensor, Row, Sample
from builder.errors import UserError
from builder.tools.tensors import array_of
from builder.verify import load_rows, rows
from builder.verify.rows import describe_row, read_rows, row_of, size
from builder.verify.samples import load_samples

if TYPE_CHECKING:
    from pathlib import Path

TEXT, PAIR, IMAGE = (RequestTensor(name, "BYTES", (1,)) for name in ("TEXT", "TEXT_PAIR", "IMAGE"))
WEIGHT = RequestTensor("WEIGHT", "FP32", (-1, 2))
HINT = RequestTensor("HINT", "BYTES", (1,), optional=True)


def write(folder: Path, *lines: Any, name: str = "samples.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_tensors_by_name_and_pictures_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"\xff\xd8\xff")
    line = {"TEXT": "a", "IMAGE": "cat.jpg", "WEIGHT": [[1, 2.5]], "source": "mine"}
    raw = {"TEXT": "b", "IMAGE": {"base64": "/9g="}, "WEIGHT": [[3, 4], [5, 6]]}
    found = load_rows(write(tmp_path, line, "", raw), (TEXT, IMAGE, WEIGHT))
    picture = {"base64": base64.b64encode(b"\xff\xd8\xff").decode()}
    assert found == (Row({"IMAGE": picture, "TEXT": "a", "WEIGHT": [[1, 2.5]]}), Row(raw))
    assert array_of(found[0].tensors["IMAGE"], "BYTES").tolist() == [b"\xff\xd8\xff"]
    assert array_of(found[1].tensors["WEIGHT"], "FP32").dtype == np.float32


def test_texts_one_per_line_and_pairs_of_neighbours(tmp_path: Path) -> None:
    path = write(tmp_path, "one", "two", "three", name="samples.txt")
    assert [row.tensors for row in load_rows(path, (TEXT, PAIR))] == [
        {"TEXT": "one", "TEXT_PAIR": "two"},
        {"TEXT": "two", "TEXT_PAIR": "three"},
        {"TEXT": "three", "TEXT_PAIR": "one"},
    ]
    given = write(tmp_path, {"TEXT": "a", "TEXT_PAIR": "z"}, {"TEXT": "b"})
    assert [row.tensors["TEXT_PAIR"] for row in load_rows(given, (TEXT, PAIR))] == ["z", "a"]


def test_what_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = load_rows(None, (TEXT, PAIR, HINT))
    assert len(found) > 60
    assert found[0].tensors == {"TEXT": found[-1].tensors["TEXT_PAIR"], "TEXT_PAIR": found[1].tensors["TEXT"]}
    asked = load_rows(None, (TEXT, PAIR, IMAGE), questions=True)
    assert [(row.tensors["TEXT"], row.tensors["TEXT_PAIR"]) for row in asked] == [
        (sample.text, sample.text_pair) for sample in load_samples(None, text_pair=True, questions=True)
    ]
    assert load_rows(None, (TEXT,), questions=True) == load_rows(None, (TEXT,))
    with pytest.raises(UserError, match="clients send WEIGHT, for which tritonsmith has no samples"):
        load_rows(None, (TEXT, WEIGHT))
    monkeypatch.setattr(rows, "DEFAULT_IMAGES", tmp_path)
    with pytest.raises(UserError, match="clients send IMAGE"):
        load_rows(None, (IMAGE,))
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(bytes([index]))
    assert [row.tensors["IMAGE"] for row in load_rows(None, (IMAGE,))] == [
        {"base64": text} for text in ("AA==", "AQ==", "Ag==")
    ]
    both = load_rows(None, (TEXT, IMAGE))
    assert both[0].tensors["IMAGE"] == both[3].tensors["IMAGE"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"samples\.jsonl:2: not JSON"),
        ("[1]", r"samples\.jsonl:2: \[1\] is not an object"),
        ({"text": "a"}, r"samples\.jsonl:2: unknown tensor 'text'; clients send TEXT, IMAGE, WEIGHT, HINT"),
        ({"TEXT": "a", "WEIGHT": [[1, 2]]}, r"samples\.jsonl:2: the tensor IMAGE is missing"),
        ({"IMAGE": "none.jpg"}, r"samples\.jsonl:2: IMAGE: .*none\.jpg: No such file"),
        ({"IMAGE": {"base64": "?"}}, r"samples\.jsonl:2: IMAGE: its base64 cannot be read"),
        ({"TEXT": 3}, r"samples\.jsonl:2: TEXT is 3, neither a string nor"),
        ({"TEXT": ["a", "b"]}, r"samples\.jsonl:2: TEXT has shape \[2\]; it is BYTES \[1\]"),
        ({"TEXT": "\ud800"}, r"samples\.jsonl:2: TEXT holds half of a surrogate pair"),
        ({"WEIGHT": ["x", 1]}, r"samples\.jsonl:2: WEIGHT is .*; it is FP32 \[-1, 2\]"),
        ({"WEIGHT": [1, 2]}, r"samples\.jsonl:2: WEIGHT has shape \[2\]; it is FP32 \[-1, 2\]"),
        ({"HINT": "only here"}, r"samples\.jsonl:2: HINT must be in all samples, or in none"),
    ],
)
def test_every_mistake_has_its_line(tmp_path: Path, line: Any, message: str) -> None:
    good = {"TEXT": "a", "IMAGE": {"base64": ""}, "WEIGHT": [[1, 2]]}
    partial = isinstance(line, dict) and not {"text"} & line.keys() and "missing" not in message
    path = write(tmp_path, good, {**good, **line} if partial else line)
    with pytest.raises(UserError, match=message):
        load_rows(path, (TEXT, IMAGE, WEIGHT, HINT))


def test_files_that_cannot_be_samples(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown kind of file '\.csv'"):
        load_rows(tmp_path / "samples.csv", (TEXT,))
    with pytest.raises(UserError, match="1 samples, at least 2 must be there"):
        load_rows(write(tmp_path, {"TEXT": "a"}), (TEXT,))
    with pytest.raises(UserError, match="the tensor IMAGE is missing"):
        load_rows(write(tmp_path, "a", "b", name="samples.txt"), (TEXT, IMAGE))


def test_rows_of_a_reference_are_read_as_they_are(tmp_path: Path) -> None:
    line = {"IMAGE": {"base64": "AAAA"}, "TEXT": "an  apple"}
    (row,) = read_rows(write(tmp_path, line, name="x.samples.jsonl"))
    assert row.tensors == line
    assert size(row) == 3 + 9
    assert describe_row(row) == '{"IMAGE": "3 bytes", "TEXT": "an  apple"}'
    assert describe_row(Row({"TEXT": "alone"})) == "alone"
    assert row_of(Sample("a", "b"), text_pair=True) == {"TEXT": "a", "TEXT_PAIR": "b"}
    assert row_of(Sample("a"), text_pair=False) == {"TEXT": "a"}

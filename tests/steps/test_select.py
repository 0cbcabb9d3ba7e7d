"""How the select step divides rows among models and joins their answers; real calls are in test_served.py."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.steps.kit import load_step, model, request

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

STEP = load_step("select")
SETTINGS = {
    "schema": 1,
    "by": "LANGUAGE",
    "cases": {"de": "german", "en": "english", "at": "german", "??": "broken"},
    "default": "english",
    "inputs": ["X"],
    "outputs": ["Y", "MODEL"],
}
SHIFTS = {"german": 1000.0, "english": 2000.0}


class Models:
    """Stands in for the server's models: each adds its own number, and refuses what is negative."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    async def __call__(self, name: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.calls.append((name, len(inputs["X"])))
        await asyncio.sleep(0)
        if name == "broken" or (inputs["X"] < 0).any():
            raise STEP.RefusedError(f"model {name!r}: no")
        names = np.full((len(inputs["X"]), 1), name.encode(), dtype=object)
        return {"Y": inputs["X"] + SHIFTS[name], "MODEL": names, "NOT ASKED": names}


def ask(*requests: tuple[list[str], list[float]], width: int = 1, **changes: Any) -> tuple[list[Any], Models]:
    models = Models()
    arrays = [
        {
            "LANGUAGE": np.array([[value.encode()] for value in values], dtype=object),
            "X": np.array(numbers, np.float32)[:, None].repeat(width, axis=1),
        }
        for values, numbers in requests
    ]
    return asyncio.run(STEP.Selection({**SETTINGS, **changes}, models).answer(arrays)), models


LANGUAGES = st.sampled_from(["de", "en", "at", "fr"])
ROWS = st.lists(st.tuples(LANGUAGES, st.integers(0, 99)), min_size=1, max_size=5)


@given(st.lists(ROWS, max_size=5), st.one_of(st.none(), st.integers(1, 6)))
def test_each_row_comes_back_from_its_model(requests: list[list[tuple[str, int]]], max_rows: int | None) -> None:
    asked = [([value for value, _ in rows], [float(number) for _, number in rows]) for rows in requests]
    answers, models = ask(*asked, max_rows=max_rows)
    for rows, answer in zip(requests, answers, strict=True):
        names = ["german" if value in ("de", "at") else "english" for value, _ in rows]
        assert list(answer) == SETTINGS["outputs"]
        assert answer["MODEL"][:, 0].tolist() == [name.encode() for name in names]
        wanted = [number + SHIFTS[name] for name, (_, number) in zip(names, rows, strict=True)]
        assert answer["Y"][:, 0].tolist() == wanted
        assert answer["Y"].dtype == np.float32
    if max_rows is None:
        assert len(models.calls) == len({name for name, _ in models.calls})  # one call for each model
    else:
        largest = max((len(rows) for rows in requests), default=0)
        assert all(rows <= max(max_rows, largest) for _, rows in models.calls)


def test_an_unknown_value_without_default_fails_alone() -> None:
    (good, bad), models = ask((["de"], [1]), (["en", "fr" * 99], [2, 3]), default=None)
    assert good["Y"].tolist() == [[1001]]
    assert isinstance(bad, STEP.RefusedError)
    assert str(bad) == f"LANGUAGE, row 1: {('fr' * 40)!r} has no model; allowed: de, en, at, ??"
    assert models.calls == [("german", 1)]


def test_rows_that_a_model_refuses_fail_alone() -> None:
    answers, models = ask((["de", "en"], [1, 2]), (["de", "en"], [-1, 3]), (["en"], [4]), (["??"], [5]))
    assert answers[0]["Y"].tolist() == [[1001], [2002]]
    assert str(answers[1]) == "model 'german': no"
    assert answers[2]["Y"].tolist() == [[2004]]
    assert str(answers[3]) == "model 'broken': no"
    assert sorted(models.calls) == [("broken", 1), ("english", 3), ("german", 1), ("german", 1), ("german", 2)]


def test_requests_of_other_shapes_are_asked_apart() -> None:
    models = Models()
    arrays = [
        {"LANGUAGE": np.array([[b"de"]], dtype=object), "X": np.full((1, width), width, np.float32)}
        for width in (3, 2, 3)
    ]
    answers = asyncio.run(STEP.Selection(SETTINGS, models).answer(arrays))
    assert [answer["Y"].tolist() for answer in answers] == [[[1003] * 3], [[1002] * 2], [[1003] * 3]]
    assert models.calls == [("german", 2), ("german", 1)]


def test_models_that_answer_in_other_shapes() -> None:
    class Uneven(Models):
        async def __call__(self, name: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            outputs = await super().__call__(name, inputs)
            return {**outputs, "Y": outputs["Y"].repeat(2 if name == "german" else 1, axis=1)}

    rows = {"LANGUAGE": np.array([[b"de"], [b"en"]], dtype=object), "X": np.zeros((2, 1), np.float32)}
    alone = {name: array[:1] for name, array in rows.items()}
    mixed, fine = asyncio.run(STEP.Selection(SETTINGS, Uneven()).answer([rows, alone]))
    assert str(mixed) == "Y: the rows' models give the shapes [1] and [2]; send the rows one by one"
    assert fine["Y"].tolist() == [[1000, 1000]]


def test_models_run_at_the_same_time() -> None:
    running, most = 0, 0

    async def call(name: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return {"Y": inputs["X"], "MODEL": inputs["X"]}

    rows = {"LANGUAGE": np.array([[b"de"], [b"en"]], dtype=object), "X": np.zeros((2, 1), np.float32)}
    asyncio.run(STEP.Selection(SETTINGS, call).answer([rows]))
    assert most == 2


def test_requests_that_cannot_be_read_fail_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = model(STEP, tmp_path, SETTINGS, monkeypatch)
    language, x = np.array([[b"de"]], dtype=object), np.zeros((1, 1), np.float32)
    invalid = np.array([[b"\xff"]], dtype=object)
    requests = [request(LANGUAGE=language), request(X=x), request(LANGUAGE=invalid, X=x)]
    errors = [response.error.message for response in asyncio.run(served.execute(requests))]
    assert errors == ["X is missing", "LANGUAGE is missing", "LANGUAGE, row 0: byte 0xff at position 0 is not UTF-8"]

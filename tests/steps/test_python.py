"""The python step: what it does around the user's file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.steps.kit import load_step, model, request

if TYPE_CHECKING:
    from pathlib import Path

STEP = load_step("python")
TAKES = {"TEXT": {"dtype": "BYTES", "dims": [1]}, "X": {"dtype": "FP32", "dims": [-1]}}
GIVES = {"LANGUAGE": {"dtype": "BYTES", "dims": [1]}, "SUM": {"dtype": "FP32", "dims": []}}
RUN = """
import numpy as np

CALLS = []


def run(TEXT, X):
    CALLS.append(len(TEXT))
    if (TEXT == b"client's fault").any():
        raise ValueError("no such language")
    if (TEXT == b"fault").any():
        raise KeyError("lost")
    return {"LANGUAGE": TEXT[:, ::-1], "SUM": X.sum(axis=1)}
"""
CLASS = """
class Step:
    def __init__(self, folder, parameters):
        self.suffix = (folder / "suffix.txt").read_text() + parameters["more"]

    def __call__(self, TEXT, X):
        return {"LANGUAGE": [[text.decode() + self.suffix] for text in TEXT[:, 0]], "SUM": X.sum(axis=1)}
"""


def step(folder: Path, code: str, **changes: Any) -> Any:
    (folder / "user.py").write_text(code)
    return STEP.Step(folder, {"schema": 1, "file": "user.py", "takes": TAKES, "gives": GIVES, **changes})


def rows(*texts: str, width: int = 2) -> dict[str, np.ndarray]:
    column = np.array([[text.encode()] for text in texts], dtype=object)
    return {"TEXT": column, "X": np.arange(len(texts) * width, dtype=np.float32).reshape(len(texts), width)}


def calls(made: Any) -> list[int]:
    return made._run.__globals__["CALLS"]


def test_all_rows_of_a_call_come_together(tmp_path: Path) -> None:
    made = step(tmp_path, RUN)
    one, two = made.answer([rows("a"), rows("b", "c")])
    assert one["LANGUAGE"].tolist() == [[b"a"]]
    assert two["LANGUAGE"].tolist() == [[b"b"], [b"c"]]
    assert two["SUM"].tolist() == [1, 5]
    assert calls(made) == [3]


def test_rows_of_other_shapes_come_apart(tmp_path: Path) -> None:
    made = step(tmp_path, RUN)
    answers = made.answer([rows("a"), rows("b", width=3), rows("c")])
    assert [answer["SUM"].tolist() for answer in answers] == [[1], [3], [1]]
    assert calls(made) == [2, 1]


def test_a_class_is_made_once_with_its_folder_and_parameters(tmp_path: Path) -> None:
    (tmp_path / "suffix.txt").write_text("!")
    made = step(tmp_path, CLASS, parameters={"more": "?"})
    assert made.answer([rows("ä"), rows("b")])[0]["LANGUAGE"].tolist() == [["ä!?".encode()]]


def test_only_the_request_for_which_it_raises_fails(tmp_path: Path) -> None:
    made = step(tmp_path, RUN)
    answers = made.answer([rows("a"), rows("b", "fault"), rows("client's fault"), rows("c")])
    assert answers[0]["SUM"].tolist() == answers[3]["SUM"].tolist() == [1]
    assert isinstance(answers[1], STEP.FaultyStepError)
    assert str(answers[1]) == "user.py:12: KeyError: 'lost'"
    assert isinstance(answers[2], STEP.RefusedError)
    assert str(answers[2]) == "user.py:10: ValueError: no such language"
    assert calls(made) == [5, 1, 2, 1, 1]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("None", "user.py: gave NoneType; it must give a dict of ['LANGUAGE', 'SUM']"),
        ("{'SUM': X[:, 0]}", "user.py: gave ['SUM']; it must give a dict of ['LANGUAGE', 'SUM']"),
        (
            "{'LANGUAGE': TEXT, 'SUM': X.sum(axis=1).astype('float64')}",
            "user.py: gave SUM as float64; the recipe says FP32: convert it with .astype(np.float32)",
        ),
        (
            "{'LANGUAGE': TEXT[:1], 'SUM': X[:, 0]}",
            "user.py: gave LANGUAGE of shape [1, 1] for 2 rows; the recipe says [2, 1]",
        ),
        (
            "{'LANGUAGE': TEXT, 'SUM': X[:, :1]}",
            "user.py: gave SUM of shape [2, 1] for 2 rows; the recipe says [2]",
        ),
        ("{'LANGUAGE': [[1], ['a']], 'SUM': X[:, 0]}", "user.py: gave LANGUAGE with 1 in it; BYTES hold bytes or str"),
    ],
)
def test_what_it_gives_is_checked(tmp_path: Path, code: str, message: str) -> None:
    (answer,) = step(tmp_path, f"def run(TEXT, X):\n    return {code}\n").answer([rows("a", "b")])
    assert isinstance(answer, STEP.FaultyStepError)
    assert str(answer) == message


def test_every_type_can_be_given(tmp_path: Path) -> None:
    gives = {name: {"dtype": name, "dims": [-1]} for name in STEP.DTYPES}
    arrays = {name: np.ones((1, 2)).astype(kind) for name, kind in STEP.DTYPES.items() if name != "BYTES"}
    made = step(tmp_path, "def run(TEXT, X):\n    return OUTPUTS\n", gives=gives)
    for texts in (np.array([["a", "b"]]), np.array([[b"a", b"b"]]), np.array([["a", b"b"]], dtype=object)):
        made._run.__globals__["OUTPUTS"] = {**arrays, "BYTES": texts}
        (answer,) = made.answer([rows("a")])
        assert answer["BYTES"].tolist() == [[b"a", b"b"]]
        assert {name: array.dtype.type for name, array in answer.items()} == STEP.DTYPES


def test_a_file_without_a_step(tmp_path: Path) -> None:
    with pytest.raises(STEP.FaultyStepError, match=r"user.py: has neither a function run\(\) nor a class Step"):
        step(tmp_path, "x = 1")
    (tmp_path / "user.py").unlink()
    with pytest.raises(STEP.FaultyStepError, match=r"other\.py is not beside model\.py"):
        step(tmp_path, "", file="other.py")


def test_a_bad_request_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "user.py").write_text(f"import vendored_for_the_user\n{RUN}")
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor/vendored_for_the_user.py").touch()
    served = model(STEP, tmp_path, {"file": "user.py", "takes": TAKES, "gives": GIVES}, monkeypatch)
    missing, good, shape, fault = served.execute(
        [
            request(TEXT=rows("a")["TEXT"]),
            request(**rows("b", "c") | {"X": np.array([[np.nan], [1]], np.float32)}),  # may mean something to it
            request(**rows("d") | {"X": np.zeros((1, 2, 2), np.float32)}),
            request(**rows("fault")),
        ]
    )
    assert missing.error.message == "X is missing"
    assert good.tensors["LANGUAGE"].tolist() == [[b"b"], [b"c"]]
    assert shape.error.message == "X has shape [1, 2, 2]; allowed: [n, -1], n at least 1"
    assert (fault.error.message, fault.error.code) == ("FaultyStepError: user.py:13: KeyError: 'lost'", 1)
    assert not list(tmp_path.rglob("__pycache__"))

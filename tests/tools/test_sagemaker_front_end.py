"""Places and answers of SageMaker's front end; what it does is in tests/verify/contract."""

from __future__ import annotations

import pytest

from builder.errors import MachineError, ServerError
from builder.tools import sagemaker_front_end
from builder.tools.sagemaker_front_end import BINARY, Answer, FrontEnd


def test_a_place_is_one_link_and_goes(tmp_path, monkeypatch):
    models = tmp_path / "opt" / "ml" / "models"
    monkeypatch.setattr(sagemaker_front_end, "MODELS", models)
    (tmp_path / "here" / "model").mkdir(parents=True)
    with sagemaker_front_end.placed(tmp_path / "here", "abc") as url:
        assert url == f"{models}/abc/model"
        assert (models / "abc" / "model").is_dir()
    assert not models.parent.parent.exists()  # what was made for it goes, too
    assert (tmp_path / "here" / "model").is_dir()


def test_what_others_have_there_stays(tmp_path, monkeypatch):
    models = tmp_path / "models"
    (models / "theirs").mkdir(parents=True)
    monkeypatch.setattr(sagemaker_front_end, "MODELS", models)
    with sagemaker_front_end.placed(tmp_path, "abc"):
        pass
    assert [path.name for path in models.iterdir()] == ["theirs"]
    with pytest.raises(MachineError), sagemaker_front_end.placed(tmp_path, "theirs"):
        pass
    assert (models / "theirs").is_dir()


def test_a_place_that_cannot_be_written_is_said_with_a_mend(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sagemaker_front_end, "MODELS", tmp_path / "file" / "models")
    with pytest.raises(MachineError, match="sudo install"), sagemaker_front_end.placed(tmp_path, "abc"):
        pass


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(400, "application/json", b'{"error": "no such input"}'), "400: no such input"),
        (Answer(404, "text/plain", b""), "404: "),
        (Answer(200, f"{BINARY}many", b"{}"), "is no number"),
        (Answer(200, "application/json", b"[]"), "cannot be read"),
    ],
)
def test_what_is_no_answer_is_said(answer, says):
    with pytest.raises(ServerError, match=says):
        answer.tensors()


def test_nobody_there_is_said():
    with pytest.raises(ServerError, match="does not answer GET /ping"):
        FrontEnd("127.0.0.1:1").ping()

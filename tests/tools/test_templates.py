from __future__ import annotations

from pathlib import Path

import pytest

from builder.errors import InternalError
from builder.tools import templates


def test_a_checkout_has_them_beside_the_package() -> None:
    assert templates.folder() == Path(__file__).parents[2] / "model_repo_template"
    assert templates.path("backends/onnxruntime/model.py").is_file()


def test_a_wheel_has_them_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "site-packages/builder/model_repo_template/backends/b"
    inside.mkdir(parents=True)
    (inside / "model.py").touch()
    monkeypatch.setattr(templates, "_PACKAGE", tmp_path / "site-packages/builder")
    assert templates.folder() == tmp_path / "site-packages/builder/model_repo_template"
    assert templates.backends() == (inside,)


def test_what_is_not_there_is_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InternalError, match=r"no template steps/none.py"):
        templates.path("steps/none.py")
    monkeypatch.setattr(templates, "_PACKAGE", tmp_path)
    with pytest.raises(InternalError, match="model_repo_template is neither in"):
        templates.folder()


def test_each_backend_is_a_folder_with_a_model() -> None:
    assert "onnxruntime" in {folder.name for folder in templates.backends()}
    assert all((folder / "model.py").is_file() for folder in templates.backends())


def test_a_step_has_its_model_and_what_it_shares() -> None:
    assert [path.name for path in templates.step_files("labels")] == ["model.py", "tritonsmith_step.py"]
    assert [path.name for path in templates.step_files("tokenize")] == ["model.py"]
    with pytest.raises(InternalError, match=r"no template steps/none/model\.py"):
        templates.step_files("none")


def test_the_code_of_a_step_is_a_module() -> None:
    step = templates.load_step("image")
    assert step.Processor.__module__ == "tritonsmith_image_step"
    assert step.RefusedError.__module__ == "tritonsmith_step"
    with pytest.raises(InternalError, match=r"no template steps/none/model.py"):
        templates.load_step("none")

"""Which models `tritonsmith serve` loads, and what it says of paths that hold none."""

from pathlib import Path

import pytest

from builder.errors import ArchiveError, UserError
from builder.serving import DEFAULT_RELEASE, Ports, _release_of, loadable, running


def model(repository, name, config=None):
    (repository / name / "1").mkdir(parents=True)
    if config is not None:
        (repository / name / "config.pbtxt").write_text(config)


def test_ensembles_bring_their_steps_along(tmp_path):
    model(tmp_path, "tiny", 'name: "tiny"\nplatform: "ensemble"\n')
    model(tmp_path, "tiny-model", 'backend: "onnxruntime"\n')
    assert loadable(tmp_path) == ("tiny",)


def test_plain_models_are_all_loaded(tmp_path):
    model(tmp_path, "b", 'parameters { key: "platform" value { string_value: "ensemble" } }\n')
    model(tmp_path, "a")
    model(tmp_path, ".hidden")
    (tmp_path / "notes").mkdir()
    assert loadable(tmp_path) == ("a", "b")


def test_one_models_folder_is_told_from_a_repository(tmp_path):
    model(tmp_path, "tiny", 'backend: "onnxruntime"\n')
    with pytest.raises(UserError, match="is one model's folder") as caught:
        loadable(tmp_path / "tiny")
    assert str(tmp_path) in caught.value.mend


def test_an_empty_folder_and_none_at_all(tmp_path):
    with pytest.raises(UserError, match="holds no model"):
        loadable(tmp_path)
    with pytest.raises(ArchiveError, match="no such folder"):
        loadable(tmp_path / "nowhere")
    with (
        pytest.raises(ArchiveError, match="nowhere: no such file or folder"),
        running(tmp_path / "nowhere", triton=None, ports=Ports()),
    ):
        pass


@pytest.mark.parametrize("path", ["/", ".", "..", "/nowhere"])
def test_where_no_manifest_can_lie_the_default_release_serves(path):
    assert _release_of(Path(path)) == DEFAULT_RELEASE

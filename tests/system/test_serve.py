"""Which models `tritonsmith serve` loads, and what it says of paths that hold none."""

from pathlib import Path

import pytest

from builder.errors import ArchiveError, UserError
from builder.inspecting import inspect
from builder.serving import DEFAULT_RELEASE, Ports, _release_of, _unpacked, loadable, running
from builder.tools import archive, triton_client
from builder.verify.contract import probe


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


@pytest.mark.triton
def test_a_single_model_packed_flat_is_served_and_shown_by_its_name(tmp_path):
    """As multi-model endpoints take it: config.pbtxt at the root."""
    path = probe.pack(tmp_path / "flat-cpu-0.tar.gz")
    assert [model.name for model in inspect(path).models] == ["probe"]
    with (
        running(path, triton=None, ports=Ports()) as served,
        triton_client.connect(served.server.grpc_address) as client,
    ):
        assert served.models == ("probe",)
        assert [tensor["name"] for tensor in client.metadata("probe")["outputs"]] == ["Y"]


def test_without_a_name_it_is_called_as_its_file_is(tmp_path):
    files = probe.texts("m")
    files["config.pbtxt"] = files["config.pbtxt"].replace('name: "m"\n', "")
    path = tmp_path / "called.tar.gz"
    archive.pack(probe.write(tmp_path / "files", files), path)
    assert loadable(_unpacked(path, tmp_path / "repository")) == ("called",)
    assert [model.name for model in inspect(path).models] == ["called"]
    assert [model.name for model in inspect(tmp_path / "files").models] == ["files"]


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/b", ".."])
def test_a_name_that_leads_elsewhere_is_refused(name, tmp_path):
    path = probe.pack(tmp_path / "bad.tar.gz", name=name)
    for read in (lambda: _unpacked(path, tmp_path / "deep" / "repository"), lambda: inspect(path)):
        with pytest.raises(UserError, match="is none of a folder"):
            read()
    assert not list(tmp_path.glob("**/out"))


@pytest.mark.parametrize("path", ["/", ".", "..", "/nowhere"])
def test_where_no_manifest_can_lie_the_default_release_serves(path):
    assert _release_of(Path(path)) == DEFAULT_RELEASE

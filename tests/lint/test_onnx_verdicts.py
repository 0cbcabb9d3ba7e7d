"""What lint says of ONNX files, against the onnxruntime that is installed (the C++ backend is not here)."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.lint import Options, lint
from builder.tools.onnx_header import read_onnx_header
from tests.lint.hosting_cases import ANY, CASES, external, graph, make, onnx, packed


def loads(path) -> bool:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    try:
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception:
        return False
    return True


@pytest.mark.parametrize("rule_id", ["O2", "O6", "O12"])
def test_onnxruntime_agrees(rule_id, tmp_path):
    case = CASES[rule_id]
    for side, what in (("bad", case.bad), ("good", case.good)):
        folder = tmp_path / side
        folder.mkdir()
        path = make(what, folder)
        assert loads(path / "m/1/model.onnx") == (side == "good")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (external(16, there=False), "not beside the graph"),
        (external(16, "../w.bin"), "out of the graph's folder"),
        (external(16, "/etc/hostname"), "out of the graph's folder"),
        (external(15), "has 15 bytes"),
    ],
)
def test_external_data_that_is_not_there(files, words, tmp_path):
    path = make(files | {"m/w.bin": bytes(16)}, tmp_path)
    assert not loads(path / "m/1/model.onnx")
    (found,) = [one for one in lint(path, Options(release="26.03")).findings if one.rule == "O2"]
    assert words in found.message


@pytest.mark.parametrize("location", ["w.bin", "../w.bin"])
def test_data_that_nothing_uses_is_not_read(location, tmp_path):
    files = external(16, location, there=False, used=False)
    path = make(files, tmp_path)
    assert loads(path / "m/1/model.onnx")
    archive = packed(files)(tmp_path)
    for place in (path, archive):
        assert "O2" not in {one.rule for one in lint(place, Options(release="26.03")).findings}


def test_older_releases_load_data_from_elsewhere(tmp_path):
    path = make(external(16, "../w.bin") | {"m/w.bin": bytes(16)}, tmp_path)
    assert not lint(path, Options(release="26.01")).errors
    assert [one.releases for one in lint(path, Options(release="26.02")).errors] == [">=26.02"]


def test_data_beside_the_graph_is_enough_and_a_folder_too(tmp_path):
    files = external(16)
    inside = {path.replace("/1/", "/1/model.onnx/"): content for path, content in files.items()}
    for name, what in (("beside", files), ("folder", inside)):
        folder = tmp_path / name
        folder.mkdir()
        assert not lint(make(what, folder), ANY).errors


def test_dims_and_types_of_the_config_are_compared_as_the_backend_does(tmp_path):
    from tests.tiny_graphs import config

    def errors(inputs, outputs, name, **options):
        folder = tmp_path / name
        folder.mkdir()
        text = config("onnxruntime", inputs, outputs, **options)
        return {one.rule for one in lint(make(onnx(text), folder), ANY).errors}

    # Inputs may be narrower than an open axis; outputs that the file leaves open are onnxruntime's to infer.
    assert errors({"A": "FP32 4", "B": "FP32 4"}, {"C": "FP32 4"}, "narrow") == set()
    assert errors({"A": "FP32 -1 -1", "B": "FP32 -1 -1"}, {"C": "FP32 -1 -1"}, "whole", max_batch_size=0) == set()
    assert errors({"A": "FP32 -1", "B": "FP32 -1"}, {"C": "FP32 -1"}, "no-batch", max_batch_size=0) == {"C6"}
    assert errors({"A": "FP32 -1"}, {"C": "FP32 -1"}, "missing") == {"C4"}
    assert errors({"A": "FP32 -1", "B": "FP32 -1"}, {}, "fewer") == set()


def test_a_session_has_the_tensors_of_the_header():
    import onnx as library
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    folder = Path(library.__file__).parent / "backend/test/data"
    compared = 0
    for path in sorted(folder.glob("*/*/model.onnx"))[::9]:
        if loads(path):
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            header = read_onnx_header(path)
            for ours, theirs in ((header.inputs, session.get_inputs()), (header.outputs, session.get_outputs())):
                assert [one.name for one in ours] == [one.name for one in theirs]
                shapes = [tuple(size if isinstance(size, int) else -1 for size in one.shape) for one in theirs]
                assert [one.dims for one in ours] == shapes
            compared += 1
    assert compared > 8


def test_what_auto_complete_refuses(tmp_path):
    fixed = graph({"A": ("FLOAT", [1, "n"])}, {"C": ("FLOAT", ["batch", "n"])})
    text = 'backend: "onnxruntime" max_batch_size: 4 dynamic_batching { }'
    path = make(onnx(text, content=fixed), tmp_path)
    (found,) = lint(path, ANY).errors
    assert found.rule == "C6"
    assert "first axis of A" in found.message
    assert [one.rule for one in lint(path, Options(mode="strict")).errors if one.rule == "C6"] == []

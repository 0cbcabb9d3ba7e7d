"""``--fix``: what it mends, and that it touches nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.errors import UserError
from builder.lint import Options, lint
from builder.lint.fix import fix
from builder.lint.spans import spans
from builder.tools import triton_proto
from tests.lint.hosting_cases import ANY, SINGLE, ensemble, make, onnx, packed, python
from tests.tiny_graphs import config

if TYPE_CHECKING:
    from pathlib import Path

STEPS = """\
# An ensemble, with a comment: name: "no"
platform: "ensemble"  # "quoted" { braces
max_batch_size: 8
input { name: "A" data_type: TYPE_FP32 dims: 1 }
output { name: "C" data_type: TYPE_FP32 dims: 1 }
ensemble_scheduling {
  step [
    {
      model_name: "m"   # the first
      input_map { key: "A" value: "A" }
      output_map { key: "C", value: "B" }
    },
    { model_name: 'm' input_map { key: "A" value: "B" } output_map { key: "C" value: "C" } }
  ]
}
"""
MENDED = (
    STEPS.replace('platform: "ensemble"', 'name: "e"\nplatform: "ensemble"', 1)
    .replace('      model_name: "m"', '      model_name: "m"\n      model_version: -1', 1)
    .replace("model_name: 'm'", "model_name: 'm' model_version: -1", 1)
)


def apply(files, tmp_path: Path, options: Options = ANY):
    path = make(files, tmp_path)
    return path, fix(path, options)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_names_and_versions_are_added_and_all_else_stays(line_end, tmp_path):
    files = python() | {"e/config.pbtxt": STEPS.replace("\n", line_end), "e/1/keep": ""}
    path, mended = apply(files, tmp_path)
    assert (path / "e/config.pbtxt").read_bytes().decode() == MENDED.replace("\n", line_end)
    assert [one.rule for one in mended] == ["A31", "E15", "E15"]
    assert fix(path, ANY) == ()
    before, after = (triton_proto.parse_text(text, place="") for text in (STEPS, MENDED))
    after.ClearField("name")
    for step in after.ensemble_scheduling.step:
        step.ClearField("model_version")
    assert before == after


def test_a_wrong_name_becomes_the_folders(tmp_path):
    text = 'backend: "python" # b\nname : "other"\n'
    path, mended = apply({"m/config.pbtxt": text, "m/1/model.py": ""}, tmp_path)
    assert (path / "m/config.pbtxt").read_text() == 'backend: "python" # b\nname: "m"\n'
    assert {one.rule for one in mended} == {"A9"}


def test_batching_is_written_down_only_where_the_server_adds_it(tmp_path):
    added = 'backend: "onnxruntime"\nmax_batch_size: 8'  # no newline at the end
    never = config("onnxruntime", {"A": "FP32 -1", "B": "FP32 -1"}, {"C": "FP32 -1"})
    path, mended = apply(onnx(added, name="added") | onnx(never, name="never"), tmp_path)
    assert (path / "added/config.pbtxt").read_text() == f'name: "added"\n{added}\ndynamic_batching {{ }}\n'
    assert (path / "never/config.pbtxt").read_text() == f'name: "never"\n{never}'
    assert [(one.rule, one.path) for one in mended] == [("C11", "added/config.pbtxt")]
    left = [one for one in lint(path, ANY).findings if one.rule == "C11"]
    assert [one.path for one in left] == ["never/config.pbtxt"]


def test_junk_goes_and_empty_versions_get_a_file(tmp_path):
    files = python() | ensemble() | {"m/1/__pycache__/x.pyc": "", "m/.DS_Store": "", ".git/config": "", "e/2/": ""}
    del files["e/1/keep"]
    path, mended = apply(files, tmp_path, SINGLE)
    assert {(one.rule, one.path) for one in mended} == {
        ("A13", "m/1/__pycache__"), ("A13", "m/.DS_Store"), ("A13", ".git"), ("A12", "e/2"),
    }  # fmt: skip
    assert sorted(str(one.relative_to(path)) for one in path.rglob("*") if one.is_file()) == [
        "e/2/placeholder", "e/config.pbtxt", "m/1/model.py", "m/config.pbtxt",
    ]  # fmt: skip


def test_nothing_is_changed_behind_a_link(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    make_files = {"__pycache__/x": "", "config.pbtxt": 'backend: "python"\n', "1/model.py": ""}
    for name, content in make_files.items():
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / name).write_text(content)
    path = make(python(), tmp_path)
    (path / "linked").symlink_to(elsewhere)
    assert fix(path, ANY) == ()
    assert {str(one.relative_to(elsewhere)) for one in elsewhere.rglob("*") if one.is_file()} == set(make_files)
    assert (elsewhere / "config.pbtxt").read_text() == make_files["config.pbtxt"]


def test_configs_that_cannot_be_parsed_stay(tmp_path):
    path, mended = apply({"m/config.pbtxt": "naem: 1\n", "m/1/model.py": ""}, tmp_path)
    assert mended == ()
    assert (path / "m/config.pbtxt").read_text() == "naem: 1\n"


def test_bytes_that_are_no_utf8_stay(tmp_path):
    content = b'# caf\xe9\nbackend: "python"\n'
    path, mended = apply({"m/config.pbtxt": content, "m/1/model.py": ""}, tmp_path)
    assert (path / "m/config.pbtxt").read_bytes() == b'# caf\xe9\nname: "m"\nbackend: "python"\n'
    assert len(mended) == 1


def test_archives_are_not_changed(tmp_path):
    archive = packed(python())(tmp_path)
    before = archive.read_bytes()
    with pytest.raises(UserError, match="folders only"):
        fix(archive, ANY)
    assert archive.read_bytes() == before


def test_spans_are_the_text_of_each_field():
    text = 'a: 1 # c: 2\nb { c: "x" \'y\' d: [ -1, TYPE_FP32 ] }, b < c: "#" > e: [ { c: 1.5 }, { c: 2 } ]'
    found = [(".".join(one.path), text[one.begin : one.end]) for one in spans(text)]
    assert found == [
        ("a", "a: 1"),
        ("b.c", "c: \"x\" 'y'"),
        ("b.d", "d: [ -1, TYPE_FP32 ]"),
        ("b", "b { c: \"x\" 'y' d: [ -1, TYPE_FP32 ] }"),
        ("b.c", 'c: "#"'),
        ("b", 'b < c: "#" >'),
        ("e.c", "c: 1.5"),
        ("e.c", "c: 2"),
        ("e", "e: [ { c: 1.5 }, { c: 2 } ]"),
    ]
    assert len({one.parents for one in spans(text) if one.path[-1] == "c"}) == 4

from __future__ import annotations

import pytest

from builder.lint import Options, lint
from builder.lint.model import survey
from builder.lint.python_model import outcome
from builder.lint.python_source import read
from builder.lint.tree import FolderTree
from tests.lint.repositories import COMPLETE_PY, MODEL_PY, looped, python, write
from tests.tiny_graphs import config


@pytest.fixture
def source(tmp_path):
    def source(text, release=(3, 10)):
        (tmp_path / "model.py").write_bytes(text if isinstance(text, bytes) else text.encode())
        return read(FolderTree(tmp_path), "model.py", release)

    return source


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ("x = (\n", "'(' was never closed", 1),
        ("\n  x = 1\n", "unexpected indent", 2),
        ("return 1", "'return' outside function", 1),
        (b"\xff = 1", "utf-8", None),
        (b"x\0", "null bytes", None),
    ],
)
def test_what_does_not_compile(source, text, words, line):
    found, where = source(text).error
    assert words in found
    assert where == line or line is None


def test_what_only_newer_interpreters_compile(source):
    text = "type A = int\n" + MODEL_PY
    assert source(text, (3, 10)).error
    assert source(MODEL_PY, (3, 10)).error is None


@pytest.mark.parametrize(
    ("text", "has_model"),
    [
        (MODEL_PY, True),
        ("TritonPythonModel = object", True),
        ("from x import Y as TritonPythonModel", True),
        ("if 1:\n    class TritonPythonModel: pass", True),
        ("try:\n    1\nexcept E:\n    def TritonPythonModel(): pass", True),
        ("from x import *", None),
        ("globals()['Triton' + 'PythonModel'] = 1", None),
        ("", False),
        ("def f():\n    class TritonPythonModel: pass", False),
        ("from x import TritonPythonModel as Y", False),
    ],
)
def test_has_model(source, text, has_model):
    assert source(text).has_model is has_model


@pytest.mark.parametrize(
    ("text", "has_execute"),
    [
        (MODEL_PY, True),
        ("class TritonPythonModel:\n    execute = f", True),
        ("class TritonPythonModel(Base):\n    pass", None),
        ("class TritonPythonModel(object):\n    pass", False),
    ],
)
def test_has_execute(source, text, has_execute):
    assert source(text).has_execute is has_execute


@pytest.mark.parametrize(
    ("more", "is_open"),
    [
        ("", False),
        ("TritonPythonModel.auto_complete_config = f", True),
        ("setattr(TritonPythonModel, 'auto_' + 'complete_config', f)", True),
        ("from x import *", True),
        ("TritonPythonModel = f", True),
    ],
)
def test_a_function_in_the_place_of_the_class_completes_nothing(source, more, is_open):
    assert source(f"def TritonPythonModel():\n    return Model()\n{more}\n").is_open is is_open


def completed(tmp_path, body, more="", head="def auto_complete_config(c):", top=""):
    head = f"    @staticmethod\n    {head}\n"
    code = f"{top}class TritonPythonModel:\n    def execute(self, r): pass\n{head}        {body}\n"
    text = config("python", {"A": "FP32 2"}, {"C": "FP32 -1"}) + more
    write(python("m", text, code=code), tmp_path)
    world = survey(FolderTree(tmp_path), Options())
    return outcome(world.models["m"], world)


def test_a_completed_config(tmp_path):
    write(python("m", 'backend: "python"', code=COMPLETE_PY), tmp_path)
    world = survey(FolderTree(tmp_path), Options())
    found = outcome(world.models["m"], world).config
    assert (found.max_batch_size, found.HasField("dynamic_batching")) == (8, True)
    assert [(one.name, one.data_type, list(one.dims)) for one in found.input] == [("A", 11, [-1])]
    assert not world.models["m"].config.input  # what is in the file stays as it is


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("pass", "does not return the config"),
        ("return c.as_dict()", "does not return the config"),
        ("c.set_max_batch_size(4); return c", "sets max_batch_size 4, but the config has 8"),
        ("c.add_input({'name': 'A', 'data_type': 'TYPE_FP32', 'dims': [3]}); return c", "A has the dims [3]"),
        ("c.add_input({'name': 'A', 'data_type': 'TYPE_INT8', 'dims': [2]}); return c", "A is TYPE_INT8"),
        ("c.add_input({'name': 'A', 'data_type': 'INT8', 'dims': [2]}); return c", "'INT8' is no data type"),
        ("c.add_input({'name': 'A', 'dims': [2]}); return c", "needs data_type"),
        ("c.add_output({'name': 'C', 'optional': True}); return c", "takes only name, data_type, dims, got optional"),
    ],
)
def test_completions_that_fail(tmp_path, body, words):
    assert words in completed(tmp_path, body).problem


@pytest.mark.parametrize(
    "body", ["return f(c)", "return c if c else c", "c.add_input(x); return c", "raise ValueError"]
)
def test_completions_that_cannot_be_told(tmp_path, body):
    found = completed(tmp_path, body)
    assert found.config is None
    assert not found.problem or body.startswith("raise")


def test_a_completion_with_a_type_that_has_no_name_counts_for_nothing(tmp_path):
    """Server 2.51 goes on with what the config says, and refuses the model where there is none."""
    found = completed(tmp_path, "c.add_input({'name': 'B', 'data_type': 'INT8', 'dims': [2]}); return c").config
    assert [one.name for one in found.input] == ["A"]
    (tmp_path / "m/config.pbtxt").unlink()
    (tmp_path / "m/1/model.py").write_text(COMPLETE_PY.replace("TYPE_FP32", "FP32"))
    assert [one.rule for one in lint(tmp_path, Options()).errors] == ["P11"]
    (tmp_path / "m/config.pbtxt").touch()
    assert not lint(tmp_path, Options()).errors


@pytest.mark.parametrize("head", ["def auto_complete_config(self, c):", "def auto_complete_config():"])
def test_a_completion_that_cannot_be_called(tmp_path, head):
    assert "cannot be called" in completed(tmp_path, "return c", head=head).problem


def test_a_sequence_model_and_dynamic_batching(tmp_path):
    found = completed(tmp_path, "c.set_dynamic_batching(); return c", "sequence_batching { }")
    assert "sets dynamic batching" in found.problem


INPUT = "{'name': 'A', 'data_type': 'TYPE_FP32', 'dims': %s}"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (f"x = {INPUT % [3]}; c.add_input(x); return c", "A has the dims [3]"),
        (f"x: dict = {INPUT % []}; x['dims'] = [SIZE]; c.add_input(x); return c", "A has the dims [7]"),
        ("c.add_input(dict(name='A', dims=[2])); return c", "needs data_type"),
        ("p = {'invalid': 1}; c.set_model_transaction_policy(p); return c", "takes only decoupled, got invalid"),
        ("for n in range(3): c.add_output(dict(name=f'C{n}')); return c", "needs data_type, dims"),
        ("xs = []; xs.append({'name': 'B' + 'C'}); [c.add_input(xs[0])]; return c", ""),
        ("xs = []; xs.append({'name': 'B'}); c.add_input(xs[0]); return c", "needs data_type, dims"),
        ("names = [x['name'] for x in c.as_dict()['input']]\n        if 'A' in names: c.add_input({})", "needs name"),
        ("if c.as_dict()['max_batch_size'] > 4: c.set_max_batch_size(4); return c", "sets max_batch_size 4"),
        ("import json; print('x'); x = json.loads('1'); c.add_input({}); return c", "needs name"),
        ("d = c\n        if not True: return c\n        d.set_max_batch_size(9)", "does not return the config"),
    ],
)
def test_data_flow_of_a_completion(tmp_path, body, words):
    """Each is what the stub itself refuses; where it is not refused, nothing is said."""
    found = completed(tmp_path, body if "return c" in body else f"{body}\n        if 0: return c", top="SIZE = 7\n")
    assert words in found.problem
    assert bool(words) == bool(found.problem)


@pytest.mark.parametrize(
    "body",
    [
        f"x = f(c); c.add_input({INPUT % [3]}); return c",  # f may give the config another input
        f"x = {INPUT % [3]}; f(x); c.add_input(x); return c",
        f"x = {INPUT % [3]}; y = [f(z) for z in x]; c.add_input(x); return c",
        f"x = {INPUT % [2]}; c.add_input(x); x['dims'] = [3]; c.add_input(x); return c",  # the config has x itself
        f"def f(): x['dims'] = [2]\n        x = {INPUT % [3]}; f(); c.add_input(x); return c",
        f"try: c.add_input({INPUT % [3]})\n        except ValueError: pass\n        return c",
        f"with f(): c.add_input({INPUT % [3]})\n        return c",
        f"if f(): c.add_input({INPUT % [3]})\n        return c",
        f"if f(): return c\n        c.add_input({INPUT % [3]}); return c",
        f"while f(): c.add_input({INPUT % [3]})\n        return c",
        f"global SIZE; c.add_input({INPUT % [3]}); return c",
        "c.add_input(dict(name='A', dims=LIST)); return c",
        "c.as_dict()['input'].append(1); c.add_input({}); return c",
        "x = c.as_dict(); x['max_batch_size'] = 0; c.add_input({}); return c",
        "x = c.as_dict()['parameters']; c.add_input({}); return c",
        "x = c.as_dict(); c.set_max_batch_size(9)\n        if x['max_batch_size'] == 8: return c",
        "c.add_input(**{}); return c",
        "x = OTHER; c.add_input({'name': x}); return c",
        "for n in range(10**9): c.add_input({}); return c",
    ],
)
def test_data_flow_that_cannot_be_told(tmp_path, body):
    found = completed(tmp_path, body, top="SIZE = 7\nLIST = [2]\nOTHER = 'A'\nOTHER = 'B'\n")
    assert (found.config, found.problem) == (None, "")


def test_a_completion_with_loops_and_variables(tmp_path):
    base = looped("")
    write(base.files, tmp_path)
    world = survey(FolderTree(tmp_path), Options())
    found = outcome(world.models["looped"], world).config
    assert [(one.name, list(one.dims)) for one in (*found.input, *found.output)] == [("A", [2]), ("B", [4]), ("C", [4])]
    assert found.max_batch_size == 4

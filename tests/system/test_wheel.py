"""The wheel, installed into an empty environment outside the checkout, builds a recipe there."""

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from builder.settings import settings
from tests.models import make_tokenizer

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
RECIPE = """\
schema_version: 1
name: outside
source:
  architecture:
    config: {model_type: bert, vocab_size: 400, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2,
             intermediate_size: 64, max_position_embeddings: 64}
    seed: 0
    tokenizer: tokenizer
task: sentence-embedding
shapes: {batch: {max: 4}}
verify: {sweep: {concurrency: [2]}}
"""


def run(*command, folder, **environment):
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        # Nothing of the checkout: no PYTHONPATH, and a folder far from it.
        env={**{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}, **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.triton
def test_wheel_builds_a_recipe_in_an_empty_environment(tmp_path, toolchain, server_environment):
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT, folder=tmp_path)
    (wheel,) = tmp_path.glob("tritonsmith-*.whl")
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty/bin/python"
    torch = re.search(r"^torch==[^+\s]+", CONSTRAINTS.read_text(), re.MULTILINE).group()
    run(python, "-m", "pip", "install", "--quiet", torch, folder=tmp_path)
    run(
        python, "-m", "pip", "install", "--quiet", "--constraint", CONSTRAINTS, f"{wheel}[export]", folder=tmp_path
    )  # fmt: skip

    make_tokenizer("wordpiece", tmp_path / "tokenizer", "BertTokenizer")
    (tmp_path / "outside.yaml").write_text(RECIPE)
    where = run(python, "-c", "import builder; print(builder.__file__)", folder=tmp_path)
    assert str(tmp_path) in where, "the checkout's package was imported"
    answer = run(
        tmp_path / "empty/bin/tritonsmith", "build", "outside.yaml", "--json",
        folder=tmp_path, TRITONSMITH_CACHE=str(settings().cache),
    )  # fmt: skip
    (archive,) = json.loads(answer)["archives"]
    assert archive["status"] == "passed", archive["reasons"]
    assert Path(archive["archive"]).is_file()

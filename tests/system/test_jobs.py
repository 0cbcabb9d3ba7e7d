"""Several recipes in one build, side by side in worker processes."""

import pytest

from tests.models import make_model

LINE = "more than the"
"""Of what is said where a stage takes more memory than it said it needs: tests/core/test_workers.py sees it said."""

APART = {"tokenizer", "trace", "bind", "reference", "check"}


def recipe(command, name, **changes):
    text = command.recipe.read_text().replace("name: tiny", f"name: {name}")
    for old, new in changes.items():
        text = text.replace(f"{old}: ", f"{old}: {new} #")
    path = command.folder / f"{name}.yaml"
    path.write_text(text)
    return path


@pytest.mark.slow
def test_recipes_side_by_side_share_stages_and_keep_within_the_memory_that_they_say(command, built):
    medium = make_model(
        "bert", "sentence-embedding", command.folder / "medium-model",
        hidden_size=384, num_attention_heads=12, intermediate_size=1536, vocab_size=30522,
    )  # fmt: skip
    recipes = [
        command.recipe,
        recipe(command, "other", verify="{sweep: {concurrency: [3]}}"),
        recipe(command, "medium", source=f"{{path: {medium}}}", shapes="{batch: {max: 32}}"),
    ]
    done = command("build", *recipes, "--no-verify", "--json", "--jobs", "2")
    assert done.code == 0, done.err
    assert LINE not in done.err
    made = {archive["name"]: archive for archive in done.json["archives"]}
    assert list(made) == ["tiny", "other", "medium"]
    # Whichever of the two comes to a stage first makes it, and the other finds it.
    shared = {name: {made["tiny"]["stages"][name], made["other"]["stages"][name]} for name in APART}
    assert shared == {name: {"ran", "found"} for name in APART}
    for peaks in (made["tiny"]["peak_bytes"] | made["other"]["peak_bytes"], made["medium"]["peak_bytes"]):
        assert peaks.keys() == APART, "they ran in workers"
        assert min(peaks.values()) > 2**26
    assert made["tiny"]["archive"].endswith(built.name), "the name holds the tree's digest: one job made the same"


def test_of_several_failures_the_gravest_is_the_exit_code(command):
    nobody = "{hub: some/model, revision: " + "a" * 40 + "}"
    recipes = [recipe(command, "far", source=nobody), recipe(command, "lost", source="{path: nowhere}")]
    done = command("build", *recipes, "--no-verify", "--json", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.code == 3, done.err
    assert [failure["node"].partition("/")[0] for failure in done.json["failed"]] == ["far", "lost"]
    assert "nowhere: no such folder" in done.err
    assert "127.0.0.1:9 cannot be reached" in done.err
    assert command("build", recipes[1], "--no-verify").code == 2

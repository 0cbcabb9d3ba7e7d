"""Nothing is built twice, and a plan says why: on a tiny real model, as a user runs it."""

import json
import random
import shutil

import pytest

from builder.core.collect import verify
from builder.core.store import Store
from tests.models import make_model

pytestmark = pytest.mark.slow

EXPORT = ["source", "tokenizer", "trace", "bind", "reference", "check"]
ORDER = [*EXPORT, "warmup", "config", "package", "pack", "measure", "judge"]
HEAVY = {"torch", "transformers", "onnx", "onnx_ir", "onnxscript", "onnxruntime"}
SHARED = "tiny/path/sentence-embedding/-/-"
OF_CPU = "tiny/path/sentence-embedding/cpu/triton"


def ran(done):
    assert done.code == 0, done.err
    (archive,) = done.json["archives"]
    return [stage for stage in ORDER if archive["stages"].get(stage) == "ran"]


def build(command, *arguments):
    return command("build", command.recipe, "--no-verify", "--json", *arguments)


def plan(command, *arguments):
    done = command("plan", command.recipe, "--json", *arguments)
    return {node["node"]: (node["state"], node["why"]) for node in done.json["nodes"]}


def edit(command, old, new):
    text = command.recipe.read_text()
    assert old in text
    command.recipe.write_text(text.replace(old, new))


def store_of(command):
    return Store.at(command.cache / "store")


def test_what_is_built_again_and_what_is_not(command):
    first = build(command)
    assert ran(first) == [*EXPORT, "warmup", "config", "package", "pack"]
    (archive,) = first.json["archives"]

    again, modules = command.imported("build", command.recipe, "--no-verify", "--json")
    assert ran(again) == []
    assert not modules & {*HEAVY, "numpy"}
    assert again.json["archives"][0]["sha256"] == archive["sha256"]
    nothing = ("build", command.recipe, "--no-verify")
    assert command.hashed(*nothing) == (0, {"model.py"}), "of our own, part of the keys; all else is known by stat"
    copied, _ = command.hashed(*nothing, "--out", command.folder / "elsewhere")
    assert copied > archive["size"], "what is shipped is hashed"
    assert [state for state, _ in plan(command).values()] == ["hit"] * 10 + ["run", "depends"], (
        "nothing was measured yet"
    )

    cosmetic = command.recipe.read_text().replace("name: tiny", "# a comment\ndescription: Other words\nname: tiny")
    command.recipe.write_text("\n".join([*cosmetic.splitlines()[1:], cosmetic.splitlines()[0]]) + "\n")
    assert ran(build(command)) == [], "a comment, the order of keys, the description"

    edit(command, "task: sentence-embedding", "task: sentence-embedding\nserving: {max_batch_size: 4}")
    assert plan(command)[f"{OF_CPU}/config"] == ("run", "serving.max_batch_size: null → 4")
    assert plan(command)[f"{OF_CPU}/package"] == ("depends", "needs config")
    serving, modules = command.imported("build", command.recipe, "--no-verify", "--json")
    assert ran(serving) == ["config", "package", "pack"]
    assert not modules & {*HEAVY, "numpy", "tokenizers"}
    assert serving.json["archives"][0]["tree_digest"] != archive["tree_digest"]

    edit(command, "max_length: 48", "max_length: 32")
    assert plan(command)[f"{SHARED}/tokenizer"] == ("run", "max_length: 48 → 32")
    edit(command, "max_length: 32", "max_length: 48")

    config = command.folder / "model/config.json"
    content = json.loads(config.read_text())
    folder = shutil.copytree(command.folder / "model", command.folder / "copy")
    (command.folder / "model").unlink()
    folder.rename(command.folder / "model")
    assert ran(build(command)) == [], "the same files elsewhere"
    config.write_text(json.dumps(content | {"hidden_act": "relu"}))
    assert plan(command)[f"{SHARED}/source"] == ("run", "config.json changed")
    assert ran(build(command)) == [*EXPORT, "package", "pack"], "the configs of another graph may be the same"
    assert verify(store_of(command)).is_clean


def test_two_recipes_of_one_name_are_refused_unless_they_say_the_same(command):
    other = command.folder / "other.yaml"
    other.write_text("# the same\n" + command.recipe.read_text())
    assert command("plan", command.recipe, other).code == 0
    other.write_text(command.recipe.read_text().replace("max: 8", "max: 4"))
    for words in (["plan"], ["build", "--no-verify"]):
        refused = command(*words, command.recipe, other)
        assert refused.code == 2
        assert "name: 'tiny' is also the name of" in refused.err


def test_plan_check_is_for_ci(command):
    assert command("plan", command.recipe, "--check").code == 1
    shown = command("plan", command.recipe)
    assert shown.code == 0
    assert f"{SHARED}/source" in shown.out
    assert "never built" in shown.out
    assert shown.out.splitlines()[-1] == "12 stages: 1 run, 11 depends"
    assert not store_of(command).root.joinpath("blobs").exists(), "a plan builds nothing"


@pytest.mark.triton
def test_a_build_that_was_verified_has_nothing_to_do_and_a_tolerance_is_judged_again(command):
    assert ran(command("build", command.recipe, "--json"))[-2:] == ["measure", "judge"]
    assert command("plan", command.recipe, "--check").code == 0
    again, modules = command.imported("build", command.recipe, "--json")
    assert ran(again) == []
    assert not modules & {*HEAVY, "numpy"}
    assert again.json["archives"][0]["status"] == "passed"
    edit(command, "verify: {", "verify: {parity: {cosine: 0.99999}, ")
    assert plan(command)[f"{OF_CPU}/judge"] == ("run", "tolerances.cosine: 0.999999 → 0.99999")
    judged = command("build", command.recipe, "--json")
    assert ran(judged) == ["judge"]
    manifest = json.loads((command.folder / "dist").glob("*.manifest.json").__next__().read_text())
    assert manifest["gates"]["tolerances"] == {"cosine": 0.99999}
    proven = command("verify", judged.json["archives"][0]["archive"], "--json")
    assert set(proven.json["stages"].values()) == {"ran"}, "a proof that is asked for is repeated"


def test_two_clean_builds_give_the_same_bytes(command, tmp_path):
    elsewhere = tmp_path / "else where"
    (elsewhere / "home").mkdir(parents=True)
    shutil.copytree(command.folder / "model", elsewhere / "model")
    other = type(command)(elsewhere)
    other.recipe.write_text(command.recipe.read_text())
    other.cache.mkdir()
    (other.cache / "wheels").symlink_to(command.cache / "wheels")
    here = ran_and_found(build(command))
    there = other(
        "build", other.recipe, "--no-verify", "--json", "--out", tmp_path / "out",
        HOME=str(elsewhere / "home"), LC_ALL="C", LANG="C", TZ="Pacific/Kiritimati", PYTHONHASHSEED="17",
        OMP_NUM_THREADS="1", umask=0o077,
    )  # fmt: skip
    assert ran_and_found(there) == here


def ran_and_found(done):
    assert done.code == 0, done.err
    (archive,) = done.json["archives"]
    return archive["tree_digest"], archive["sha256"]


def test_damage_anywhere_is_found_and_never_shipped(command):
    (good,) = build(command).json["archives"]
    store, dice = store_of(command), random.Random(5)
    files = [path for path in sorted(store.root.rglob("*")) if path.is_file() and path.parent.name != "locks"]
    for path in files:
        content = bytearray(path.read_bytes())
        if content:
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
            path.chmod(0o644)
            path.write_bytes(content)
            path.chmod(0o444)
    shutil.rmtree(command.folder / "dist")
    again = build(command)
    assert again.code == 0, again.err
    assert again.json["archives"][0]["sha256"] == good["sha256"]
    assert "warning: " in again.err
    assert "Traceback" not in again.err
    verify(store)
    assert build(command).json["archives"][0]["sha256"] == good["sha256"]
    assert command("store", "verify").code == 0


def test_store_commands(command):
    build(command)
    stats = command("store", "stats", "--json").json
    assert stats["records"] == 9
    assert stats["stages"]["trace"]["records"] == 1
    assert command("store", "gc", "--keep", command.recipe, "--json").json["records"] == 0
    edit(command, "max_length: 48", "max_length: 32")
    kept = command("store", "gc", "--keep", command.recipe, "--json").json
    assert kept["records"] == 8, "the source is all that the recipe still reaches"
    gone = command("store", "gc", "--max-size", "0").out
    assert "removed 1 stage outputs" in gone
    assert "left: 0 B" in gone
    wrong = command("store", "gc", "--older-than", "soon")
    assert wrong.code == 2
    assert "write for example 30d" in wrong.err


def test_a_recipe_that_fails_stops_no_other(command):
    broken = command.folder / "broken.yaml"
    broken.write_text(command.recipe.read_text().replace("name: tiny", "name: broken").replace("model}", "nowhere}"))
    done = command("build", broken, command.recipe, "--no-verify", "--json")
    assert done.code == 2
    assert [archive["name"] for archive in done.json["archives"]] == ["tiny"]
    assert [failure["node"] for failure in done.json["failed"]] == ["broken/path/sentence-embedding/-/-/source"]
    assert "nowhere: no such folder" in done.err


def test_another_checkpoint_of_the_architecture_is_not_traced_again(command):
    build(command)
    (command.folder / "model").unlink()
    make_model("bert", "sentence-embedding", command.folder / "model", seed=9)
    done = build(command)
    assert "trace" not in ran(done)
    assert "bind" in ran(done)

"""Nothing is built twice, and a plan says why: on a tiny real model, as a user runs it."""

import json
import random
import shutil
import time
from pathlib import Path

import pytest

from builder.core.blobs import READ_ONLY
from builder.core.collect import verify
from builder.core.digest import digest_file
from builder.core.store import Store
from tests import damage
from tests.models import make_model
from tests.system.conftest import BRISK, KILL, make_command

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


def test_what_is_built_again_and_what_is_not(again, whole):
    command, first = again, whole[1]
    assert ran(first) == [*EXPORT, "warmup", "config", "package", "pack"]
    (archive,) = first.json["archives"]

    unchanged, modules = command.imported("build", command.recipe, "--no-verify", "--json")
    assert ran(unchanged) == []
    assert not modules & {*HEAVY, "numpy"}
    assert unchanged.json["archives"][0]["sha256"] == archive["sha256"]
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


MOMENTS = (
    ("source ...", 0.0, 1),
    ("trace ...", 1.5, 2),  # in a worker
    ("check ...", 0.05, 1),
    ("pack ...", 0.0, 1),
    ("serving", 2.0, 1),
    ("asking", 2.0, 1),
)
"""When a build is killed: a line of its talk, at most so many seconds after it; and how many jobs it has."""


@pytest.fixture(scope="module")
def survivor(tmp_path_factory, tiny_model, toolchain, server_environment):
    """A build that was killed again and again, each time a little later, and went on at last.

    Returns the command, what was left behind each time, and what the last run printed.
    """
    dice, left = random.Random(1), {}
    command = make_command(tmp_path_factory.mktemp("survivor"), tiny_model)
    temporary = command.folder / "tmp"
    temporary.mkdir()

    def leftovers(pid):
        files = (*temporary.iterdir(), *Path("/dev/shm").glob(f"tritonsmith-{pid}-*"))
        return [line for _, line in command.processes()] + [path.name for path in files]

    for when, longest, jobs in MOMENTS:
        after = dice.uniform(0, longest)
        words = ("build", command.recipe, "--json", "--jobs", jobs)
        ended = command.interrupt(KILL, when, *words, after_seconds=after, TMPDIR=str(temporary))
        deadline = time.monotonic() + 10
        while (found := leftovers(ended.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        left[when] = (
            ended.code,
            found,
            when != "asking" or "tritonserver" in ended.ran,  # the control: there was something to leave
            verify(store_of(command)).is_clean,
            (command.folder / "dist").exists(),
        )
    return command, left, command("build", command.recipe, "--json", program=BRISK)


@pytest.mark.triton
def test_killed_at_any_moment_nothing_is_left_and_the_next_build_goes_on(survivor, whole):
    command, left, last = survivor
    assert left == dict.fromkeys(left, (-KILL, [], True, True, False))
    assert ran(last) == ["measure", "judge"], "what was finished before is not made again"
    (archive,), (undisturbed,) = last.json["archives"], whole[1].json["archives"]
    assert archive["status"] == "passed"
    assert (archive["tree_digest"], archive["sha256"]) == (undisturbed["tree_digest"], undisturbed["sha256"])
    assert verify(store_of(command)).is_clean
    assert not list((command.cache / "store/builds").iterdir())
    assert len(list((command.folder / "dist").iterdir())) == 6


@pytest.mark.triton
def test_a_build_that_was_verified_has_nothing_to_do_and_a_tolerance_is_judged_again(survivor):
    command = survivor[0]
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
    assert meddled(store_of(command)) == [], "building, serving and asking write nothing into the store's files"


def meddled(store):
    """Blobs that are not what their name says, that could be written, or that are also a file elsewhere."""
    return [
        store.blobs.path(sha256)
        for sha256, found in store.blobs.all()
        if not store.blobs.is_whole(sha256) or found.st_mode & 0o777 != READ_ONLY or found.st_nlink != 1
    ]


def scribble(path):
    """Writes into a file, whether it may be written or not."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    with path.open("ab") as stream:
        stream.write(b"mine")
    path.chmod(mode)


@pytest.mark.triton
def test_what_is_delivered_unpacked_or_served_is_no_link_to_the_store(again):
    (archive,) = build(again).json["archives"]
    store = store_of(again)
    server = again.start("serve", archive["archive"], "--json")
    try:
        while not (line := server.stdout.readline()).startswith("}"):
            assert line, server.stderr.read()
        served = [path for path in (store.root / "builds").rglob("repository/**/*") if path.is_file()]
        assert any(path.name == "model.safetensors" for path in served)
        for path in (*served, *(again.folder / "dist").iterdir()):
            scribble(path)
    finally:
        server.terminate()
        server.communicate(timeout=60)
    assert meddled(store) == []
    assert again("store", "verify").code == 0

    # The control: through a link it would be the store's file that is written, and that is noticed.
    blob = max((path for path in damage.files(store) if store.blobs.holds(path)), key=lambda path: path.stat().st_size)
    (again.folder / "linked").hardlink_to(blob)
    scribble(again.folder / "linked")
    assert meddled(store) == [blob]
    noticed = again("store", "verify", "--json")
    assert noticed.code == 1
    assert noticed.json["damaged"] == [str(blob.relative_to(store.root))]


def test_two_clean_builds_give_the_same_bytes(command, whole, tmp_path):
    elsewhere = tmp_path / "else where"
    (elsewhere / "home").mkdir(parents=True)
    shutil.copytree(command.folder / "model", elsewhere / "model")
    other = type(command)(elsewhere)
    other.recipe.write_text(command.recipe.read_text())
    other.cache.mkdir()
    (other.cache / "wheels").symlink_to(command.cache / "wheels")
    here = ran_and_found(whole[1])
    there = other(
        "build", other.recipe, "--no-verify", "--json", "--out", tmp_path / "out", "--jobs", "2",
        HOME=str(elsewhere / "home"), LC_ALL="C", LANG="C", TZ="Pacific/Kiritimati", PYTHONHASHSEED="17",
        OMP_NUM_THREADS="1", umask=0o077,
    )  # fmt: skip
    assert ran_and_found(there) == here


def ran_and_found(done):
    assert done.code == 0, done.err
    (archive,) = done.json["archives"]
    return archive["tree_digest"], archive["sha256"]


def test_damage_anywhere_is_found_and_never_shipped(again, whole):
    """Of each kind, all at once; not one file of the store is left alone."""
    (good,) = whole[1].json["archives"]
    store, dice = store_of(again), random.Random(5)
    for path in damage.files(store):
        damage.strike(path, dice.choice(list(damage.KINDS)), dice)
    mended = build(again)
    assert mended.code == 0, mended.err
    assert digest_file(Path(mended.json["archives"][0]["archive"])) == good["sha256"]
    assert "warning: " in mended.err
    assert "Traceback" not in mended.err
    verify(store)
    assert build(again).json["archives"][0]["sha256"] == good["sha256"]
    assert again("store", "verify").code == 0


def test_store_commands(again):
    command = again
    stats = command("store", "stats", "--json").json
    assert stats["records"] == len(stats["stages"]) == 11
    assert {stage["records"] for stage in stats["stages"].values()} == {1}
    assert command("store", "gc", "--keep", command.recipe, "--json").json["records"] == 0
    edit(command, "max_length: 48", "max_length: 32")
    kept = command("store", "gc", "--keep", command.recipe, "--json").json
    assert kept["records"] == 10, "the source is all that the recipe still reaches"
    gone = command("store", "gc", "--max-size", "0").out
    assert "removed 1 stage outputs" in gone
    assert "left: 0 B" in gone
    wrong = command("store", "gc", "--older-than", "soon")
    assert wrong.code == 2
    assert "write for example 30d" in wrong.err


def test_a_recipe_that_fails_stops_no_other(again):
    command = again
    edit(command, "task: sentence-embedding", "task: sentence-embedding\nserving: {max_batch_size: 4}")
    broken = command.folder / "broken.yaml"
    broken.write_text(command.recipe.read_text().replace("name: tiny", "name: broken").replace("model}", "nowhere}"))
    done = command("build", broken, command.recipe, "--no-verify", "--json")
    assert done.code == 2
    assert [archive["name"] for archive in done.json["archives"]] == ["tiny"]
    assert done.json["archives"][0]["stages"]["pack"] == "ran"
    assert [failure["node"] for failure in done.json["failed"]] == ["broken/path/sentence-embedding/-/-/source"]
    assert "nowhere: no such folder" in done.err


def test_another_checkpoint_of_the_architecture_is_not_traced_again(again):
    command = again
    (command.folder / "model").unlink()
    make_model("bert", "sentence-embedding", command.folder / "model", seed=9)
    done = build(command)
    assert "trace" not in ran(done)
    assert "bind" in ran(done)

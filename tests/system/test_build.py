"""From recipe to verdict with the real parts, as a user runs it."""

import hashlib
import json
import tarfile

import pytest

from tests.system.conftest import BRISK, INTERRUPT, KILL, TERMINATE

pytestmark = [pytest.mark.triton, pytest.mark.slow]


def test_recipe_becomes_a_proven_archive_that_can_be_proven_again(command):
    built = command("build", command.recipe, "--out", "out", "--json")
    assert built.code == 0, built.err
    (archive,) = built.json["archives"]
    assert archive["status"] == "passed"
    assert archive["parity"]["ways"].keys() == {"alone", "batched", "concurrent"}
    assert archive["parity"]["controls"].keys() >= {"shuffled", "truncated", "wrong_pooling"}
    assert all(way["figures"]["cosine"] > 0.999999 for way in archive["parity"]["ways"].values())
    assert archive["perf"][0]["concurrency"] == 2
    told = [line[:-4] for line in built.err.splitlines() if line.endswith(" ...") and " " not in line[:-4]]
    for chain in ("source tokenizer trace bind check config package pack measure judge", "tokenizer reference check"):
        assert [stage for stage in told if stage in chain.split()] == chain.split()
    assert sorted(told) == sorted(archive["seconds"])

    path = command.folder / "out" / archive["archive"].rpartition("/")[2]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == archive["sha256"]
    assert archive["tree_digest"][:16] in path.name
    with tarfile.open(path) as tar:
        names = tar.getnames()
    assert {name.split("/")[0] for name in names} == {"tiny", "tiny-model", "tiny-tokenize"}
    assert "tiny/1/build.json" in names
    # The weights are the author's own file, byte for byte.
    manifest = json.loads((command.folder / "out" / archive["manifest"].rpartition("/")[2]).read_text())
    members, source = manifest["archive"]["members"], manifest["source"]["files"]
    assert members["tiny-model/1/model.safetensors"] == source["model.safetensors"]
    assert not list((command.cache / "store/builds").iterdir())

    again = command("verify", path, "--json", program=BRISK)
    assert again.code == 0, again.err
    assert again.json["status"] == "passed"
    assert set(again.json["stages"].values()) == {"ran"}, "a proof that is asked for is repeated"
    assert again.json["tree_digest"] == archive["tree_digest"]
    assert command.settled() == []

    # Negative control: an answer that is not the Hugging Face model's is noticed.
    expected = path.with_name(path.name.replace(".tar.gz", ".expected.safetensors"))
    expected.write_bytes(expected.read_bytes()[:-1] + b"\x40")
    damaged = command("verify", path)
    assert damaged.code == 2
    assert expected.name in damaged.err


def test_failed_gate_ends_with_1_and_is_kept_apart(again):
    command, constraint = again, "verify.constraints.p99_ms=0.001"
    built = command("build", command.recipe, "--out", "out", "--json", "--set", constraint, program=BRISK)
    assert built.code == 1, built.err
    (archive,) = built.json["archives"]
    assert archive["status"] == "failed"
    assert archive["reasons"][0].startswith("no measured concurrency meets all constraints: ")
    assert not list((command.folder / "out").glob("*.tar.gz"))
    assert len(list((command.folder / "out" / "rejected").glob("*.tar.gz"))) == 1


def test_tolerance_that_no_control_misses_is_no_pass(command, archive):
    path = archive(parity={"cosine": -1.0})
    verified = command("verify", path, "--json", program=BRISK)
    assert verified.code == 1, verified.err
    assert verified.json["status"] == "inconclusive"
    assert any("control" in reason for reason in verified.json["reasons"])


def test_unverified_is_said_and_two_recipes_share_a_command(again):
    command = again
    other = command.folder / "other.yaml"
    other.write_text(command.recipe.read_text().replace("name: tiny", "name: other"))
    built = command("build", command.recipe, other, "--no-verify", "--json")
    assert built.code == 0, "an archive that nobody asked to verify is no failure"
    assert [(one["name"], one["status"]) for one in built.json["archives"]] == [
        ("tiny", "unverified"),
        ("other", "unverified"),
    ]
    assert all("measure" not in one["seconds"] for one in built.json["archives"])
    assert len(list((command.folder / "dist").glob("*.tar.gz"))) == 2


@pytest.mark.parametrize(("number", "code"), [(INTERRUPT, 130), (TERMINATE, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_proof_that_is_ended_in_the_middle_leaves_nothing(command, archive, number, code):
    path = archive()
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    ended = command.interrupt(number, "asking", "verify", path)
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err
    assert command.settled() == []
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
    assert not list((command.cache / "store/builds").iterdir())


def test_server_that_is_killed_while_it_verifies_is_the_machines_failure(command, archive):
    ended = command.interrupt(KILL, "asking", "verify", archive(), victim="tritonserver")
    assert ended.code == 3, ended.err
    assert "tritonserver was killed by SIGKILL" in ended.err
    assert "Traceback" not in ended.err
    assert command.settled() == []

"""A sweep as a user runs it: measured, recorded, told, and gone on with."""

import json
import time

import pytest

from tests.system.conftest import INTERRUPT

pytestmark = [pytest.mark.triton, pytest.mark.slow]

SETTINGS = "verify.sweep={concurrency: [2], search: exhaustive, settings: {instance_group: {count: [1, 2]}}}"


def test_a_sweep_is_recorded_and_told(again):
    command = again
    told = ("--set", SETTINGS, "--seconds", "0.6", "--out", "found")
    stopped = command.interrupt(INTERRUPT, "point 1 ", "sweep", command.recipe, *told)
    assert stopped.code == 130
    assert "the same command goes on from there" in stopped.err

    files = ("--write-tuned", "best.yaml", "--junit", "junit.xml", "--summary", "summary.md")
    done = command("sweep", command.recipe, *told, *files, "--json")
    points = [one["point"] for one in done.json["tried"]]
    assert done.json["measured"] == len(points) - 1, "what was measured before it was interrupted is not lost"
    counts = [point["setting"].get("instance_group.count") for point in points]  # an unstable point is measured again
    assert list(dict.fromkeys(filter(None, counts))) == [1, 2]
    assert all(point["checked"] and not point["wrong"] for point in points)
    passed = [step["model"] for step in done.json["served"]["steps"]]
    for point in points:  # each part of a request's time counts once
        spent = sum(value for model in passed for key, value in point["steps"][model].items() if key.endswith("_ms"))
        assert 0.3 < spent / point["mean_ms"]["value"] < 1.15
    assert {path.name for path in (command.folder / "found").iterdir()} >= {"report.html", "results.json", "archives"}
    assert "<testsuite" in (command.folder / "junit.xml").read_text()
    assert json.loads((command.folder / "found/results.json").read_text())["tried"] == done.json["tried"]
    assert done.code == (0 if done.json["ranking"] else 1)
    assert (command.folder / "best.yaml").is_file() == bool(done.json["ranking"])

    # The same again, held to what nobody can reach: all of it is found, and there is no winner.
    began = time.monotonic()
    failed = command("sweep", command.recipe, *told, "--set", "verify.constraints.p99_ms=0.001")
    assert failed.code == 1, failed.err
    assert "No setting" in failed.out
    assert "point 2" in failed.err
    assert time.monotonic() - began < 60
    assert command.settled() == []


def test_what_is_wrong_is_said_before_anything_is_measured(again):
    command = again
    for arguments, what in (
        (("--load", "ramp:3"), "load 'ramp:3': is no profile"),
        (("--set", "verify.sweep.settings={max_batch_sise: [1]}"), "unknown knob"),
        (("--baseline", "nowhere.json"), "nowhere.json: cannot be read"),
        (("--baseline-archive", "a.tar.gz"), "is for --baseline"),
        (("--recipe", "tiny.yaml"), "is a recipe itself"),
        (("--target", "gpu"), "no such target"),
    ):
        done = command("sweep", command.recipe, *arguments)
        assert (done.code, what in done.err) == (2, True), done.err

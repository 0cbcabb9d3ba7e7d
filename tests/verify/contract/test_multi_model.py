"""The multi-model contract on a real front end: what keeps it, and archives that break it in each way."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import time

import pytest

from builder.artifacts import Repository
from builder.core.digest import describe_folder
from builder.package.formats import REGISTRY
from builder.tools.sagemaker_front_end import MODELS
from builder.verify.contract import Subject, probe, prove_multi_model
from builder.verify.contract.asking import judged
from builder.verify.contract.probe import config

LIVE = {"SAGEMAKER_TRITON_PING_MODE": "live"}
ENSEMBLE = """
name: "alone" platform: "ensemble" max_batch_size: 8
input { name: "X" data_type: TYPE_FP32 dims: [2] } output { name: "Y" data_type: TYPE_FP32 dims: [2] }
ensemble_scheduling { step { model_name: "elsewhere" model_version: -1
  input_map { key: "X" value: "X" } output_map { key: "Y" value: "Y" } } }
"""
STEP = """ensemble_scheduling {{ step {{ model_name: "{step}" model_version: -1
  input_map {{ key: "X" value: "X" }} output_map {{ key: "Y" value: "{out}" }} }} }}
"""


def nested_ensembles(folder):
    """An ensemble in an ensemble, as the format sagemaker-mme lays them out."""
    heads = ENSEMBLE[: ENSEMBLE.index("ensemble_scheduling")].replace('"alone"', '"{name}"')
    texts = probe.texts("last", folder="last/")
    for name, step in (("outer", "inner"), ("inner", "last")):
        out = "Z" if name == "outer" else "Y"  # so that it shows which of them answers
        head = heads.replace("{name}", name).replace('"Y"', f'"{out}"')
        texts |= {f"{name}/config.pbtxt": head + STEP.format(step=step, out=out), f"{name}/1/build.json": "{}"}
    probe.write(folder, texts)
    (servable,) = REGISTRY["sagemaker-mme"].arrange(Repository("outer", describe_folder(folder), {}))
    return texts | servable.rewritten


CODE = probe.texts("m")["1/model.py"]


def seen(proven):
    return {check.name: check for check in proven.checks}


@pytest.fixture(scope="module")
def proven(make_host, subject, tmp_path_factory):
    """All of it behind one front end: starting a server and loading models is what takes the time."""
    folder = tmp_path_factory.mktemp("archives")

    def pack(name, texts):
        from builder.tools import archive

        path = folder / f"{name}.tar.gz"
        archive.pack(probe.write(folder / f"{name}.files", texts), path)
        return Subject(path)

    subjects = {
        "ensemble": subject,
        "flat": Subject(probe.pack(folder / "flat.tar.gz")),
        "nested ensembles": pack("nested", nested_ensembles(folder / "repository")),
        # Negative controls: each breaks a rule of lint, which is left out here.
        "A5": pack("version-2", {"m/config.pbtxt": config("m"), "m/2/model.py": CODE}),
        "A8": pack("alone", {"config.pbtxt": ENSEMBLE, "1/build.json": "{}"}),
        "A10": pack("flat-without-config", {"1/model.py": CODE}),
        "no-version": pack("no-version", {"m/config.pbtxt": config("m"), "m/readme.txt": "nothing"}),
    }
    results = prove_multi_model(list(subjects.values()), make_host(**LIVE))
    return dict(zip([*subjects, "front end"], results, strict=True))


@pytest.mark.triton
def test_an_ensemble_keeps_the_contract_with_its_answers(proven):
    found = seen(proven["ensemble"])
    assert [one for one in proven["ensemble"].checks if not one.passed] == []
    assert {"load", "list", "invoke-json", "invoke-binary", "controls", "load-again", "unload", "gone-invoke"} <= set(
        found
    )
    assert proven["ensemble"].parity["ways"]["json"]["requests"] == 40
    assert "shuffled" in found["controls"].seen


@pytest.mark.triton
def test_a_flat_archive_keeps_it_and_is_asked_something(proven):
    assert [one for one in proven["flat"].checks if not one.passed] == []
    assert seen(proven["flat"])["invoke-binary"].seen == "200 with Y"
    assert not proven["flat"].parity


@pytest.mark.triton
def test_of_nested_ensembles_the_outermost_is_served(proven):
    assert [one for one in proven["nested ensembles"].checks if not one.passed] == []
    assert seen(proven["nested ensembles"])["invoke-json"].seen == "200 with Z"


@pytest.mark.triton
def test_the_front_end_tells_a_host_to_make_room(proven):
    found = seen(proven["front end"])
    assert [one for one in proven["front end"].checks if not one.passed] == []
    assert found["memory-short"].seen.startswith("507: ")
    assert "MemoryError" in found["memory-short"].seen
    assert found["probe-invoke"].passed


@pytest.mark.triton
def test_answers_out_of_tolerance_fail(proven):
    checks = judged(proven["ensemble"].parity, {"cosine": 1.1})
    assert [check.name for check in checks if not check.passed] == ["invoke-json", "invoke-binary"]


@pytest.mark.triton
def test_a_tolerance_that_refuses_nothing_fails(proven):
    checks = judged(proven["ensemble"].parity, {"cosine": -1.0})
    assert [check.name for check in checks if not check.passed] == ["controls"]


@pytest.mark.triton
@pytest.mark.parametrize(
    ("broken", "check", "says"),
    [("A5", "list", "None"), ("A8", "load", "400"), ("A10", "load", "400"), ("no-version", "load", "400")],
)
def test_what_breaks_a_rule_breaks_the_contract(proven, broken, check, says):
    failed = [one for one in proven[broken].checks if not one.passed]
    assert [one.name for one in failed][:1] == [check]
    assert says in failed[0].seen


@pytest.mark.triton
def test_nothing_is_left_where_sagemaker_unpacks(proven):
    told = seen(proven["flat"])["load-again"].seen
    prefix = re.search(r"/opt/ml/models/(tritonsmith\.\w+\.)", told)[1]
    assert not list(MODELS.glob(f"{prefix}*"))  # other proofs may run on this machine


KILLED = """
import sys, pickle
from builder.verify.contract import probe
from builder.verify.contract.multi_model import endpoint
host = pickle.loads(bytes.fromhex(sys.argv[1]))
with endpoint(host) as running, running.unpacked(probe.pack(host.folder / "flat.tar.gz")) as (name, url):
    print(name, flush=True)
    sys.stdin.read()
"""


@pytest.mark.triton
def test_a_proof_that_is_killed_leaves_no_link(make_host):
    host = pickle.dumps(make_host()).hex()
    command = [sys.executable, "-c", KILLED, host]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        link = MODELS / child.stdout.readline().strip()
        assert link.is_symlink()
        child.kill()
    deadline = time.monotonic() + 30
    while link.is_symlink() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not link.is_symlink()

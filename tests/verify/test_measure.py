"""The whole proof on a real server: a right archive passes, wrong ones fail, each for its own reason."""

import json
import logging
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from builder.artifacts import Sample
from builder.core.execute import Executor
from builder.core.store import Store
from builder.errors import ArchiveError, MachineError, ServerError
from builder.tools import python_env, templates
from builder.tools.perf_analyzer import Windows
from builder.verify import Judge, Measure, ask, verify_archive
from builder.verify.identity import describe_serving
from builder.verify.measure import Expected, measure_parity, read_expected

COSINE = {"cosine": 0.999999}
LABELS = {"label_agreement": 1.0, "max_probability_difference": 1e-4}
GOLDEN = Path(__file__).parent.parent / "golden/measure.json"
QUICK = Windows(interval_milliseconds=400, trials=3, stability_percent=500)


def served_below(folder):
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if any(str(folder) in word for word in process.cmdline())
    ]


def names(value):
    """Names of all that is in a value of JSON; of a list, those of its first element."""
    if isinstance(value, dict):
        return {name: names(value[name]) for name in sorted(value)}
    return [names(one) for one in value[:1]] if isinstance(value, list | tuple) else "…"


def changed_silently(kept, now):
    return kept["version"] == now["version"] and kept["output"] != now["output"]


def test_other_names_under_the_same_version_are_noticed():
    kept = json.loads(GOLDEN.read_text())
    renamed = json.loads(GOLDEN.read_text().replace('"ways"', '"roads"'))
    assert changed_silently(kept, renamed)
    assert not changed_silently(kept, renamed | {"version": kept["version"] + 1})


def check_names(stage, inputs, measured, request):
    """What can be golden of this stage: figures belong to the hour and the machine, their names to the version.

    ``judge`` reads them by these names, from a store that an older version may have written.
    """
    output = names({"parity": measured.parity, "perf": measured.perf})
    now = {"key": sorted(stage.fingerprint(inputs)), "output": output, "version": stage.version}
    kept = json.loads(GOLDEN.read_text())
    assert not changed_silently(kept, now), "what measure writes has changed: raise Measure.version"
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n")
    else:
        assert now == kept, "if that is meant, run pytest tests/verify/test_measure.py --update-golden"


@pytest.mark.triton
def test_a_right_archive_passes_and_the_figures_are_json(facts, cache, tmp_path, caplog, request):
    caplog.set_level(logging.INFO)
    stage = Measure(cache, concurrency=(2,), windows=QUICK)
    proof = verify_archive(facts, measure=stage, judge=Judge(COSINE), work=tmp_path)
    assert (proof.verdict.status, proof.verdict.reasons) == ("passed", ())
    measured = proof.measurement
    json.dumps([measured.parity, measured.perf, measured.server, measured.hardware], allow_nan=False)
    assert measured.parity["controls"].keys() == {"shuffled", "wrong_pooling", "truncated"}
    assert measured.perf[0]["status"] == "stable"
    assert measured.perf[0]["p99_ms"] >= measured.perf[0]["p50_ms"] > 0
    assert measured.perf[0]["load"]["texts"] == 16
    for control in measured.parity["controls"].values():
        assert control["ways"].keys() == measured.parity["ways"].keys()
        assert control["figures"]["cosine"] == max(way["figures"]["cosine"] for way in control["ways"].values())
    assert [one for one in measured.server["stand_ins"] if one["what"] != "python of the steps"] == [
        {"what": "tritonserver", "used": "2.51.0", "production": "2.61.0"},
        {
            "what": "backend onnxruntime",
            "used": "tritonsmith's Python-based backend",
            "production": "NVIDIA's C++ backend",
        },
    ]
    told = [record.getMessage() for record in caplog.records if record.name.startswith("builder.verify")]
    assert told[:3] == [
        "unpacking tiny-cpu.tar.gz",
        "serving tiny",
        "asking 40 texts, alone, in batches and concurrently",
    ]
    assert told[-1].startswith("concurrency 2: ")
    check_names(stage, facts, measured, request)
    # Evidence stays, the unpacked archive and the server do not.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["perf", "server.log"]
    assert served_below(tmp_path) == []


@pytest.mark.triton
def test_concurrent_requests_form_batches(asker, facts):
    counts = measure_parity(asker, facts, read_expected(facts))["executions"]["concurrent"]
    assert counts["tiny"] == {"texts": 40, "executions": 40}
    assert counts["tiny-tokenize"]["executions"] < counts["tiny-tokenize"]["texts"]


@pytest.mark.triton
@pytest.mark.parametrize("mistake", ["wrong_pooling", "truncated"])
def test_a_model_that_makes_a_mistake_fails(asker, facts, mistake):
    expected = read_expected(facts)
    # What the archive answers is what this mistake would bring, seen from a reference that does not make it.
    parity = measure_parity(asker, facts, replace(expected, answers=expected.controls[mistake]))
    found = parity["ways"]["batched"]["worst"]["cosine"]
    verdict = Judge(COSINE).judge(measured(parity))
    assert verdict.status == "failed"
    assert f"sample {found['sample'] + 1}, “{found['text']}”" in verdict.reasons[0]
    assert len([reason for reason in verdict.reasons if reason.startswith("cosine")]) == 3


@pytest.mark.triton
def test_one_wrong_sample_of_all_fails(asker, facts):
    expected = read_expected(facts)
    answers = {"EMBEDDING": expected.answers["EMBEDDING"].copy()}
    answers["EMBEDDING"][17] += np.float32(0.01)
    verdict = Judge(COSINE).judge(measured(measure_parity(asker, facts, replace(expected, answers=answers))))
    assert verdict.status == "failed"
    assert all("sample 18" in reason for reason in verdict.reasons)


@pytest.mark.triton
def test_texts_that_cannot_be_told_apart_are_inconclusive(asker, facts, tiny):
    samples = (Sample("Nevermore."),) * 4
    expected = Expected(samples, tiny.answer(samples), tiny.controls(samples))
    parity = measure_parity(replace(asker, samples=samples), facts, expected)
    verdict = Judge(COSINE).judge(measured(parity))
    assert verdict.status == "inconclusive"
    assert "negative control shuffled is within tolerance in cosine" in verdict.reasons[0]


@pytest.mark.triton
@pytest.mark.parametrize("metric", ["single-label", "multi-label"])
def test_classifiers_of_pairs_pass(make_tiny, make_archive, samples, cache, tmp_path, metric):
    tiny = make_tiny(metric, text_pair=metric == "single-label")
    asked = tuple(Sample(sample.text, "und dann") if tiny.text_pair else sample for sample in samples)
    facts = make_archive(tiny, asked)
    stage = Measure(cache, concurrency=(1,) if tiny.text_pair else (), windows=QUICK)
    executor = Executor(Store.at(tmp_path), "recipe/source/model/cpu/triton")
    found = executor.run(stage, facts)
    verdict = executor.run(Judge(LABELS), found)
    assert (verdict.status, verdict.reasons) == ("passed", ())
    assert [point["status"] for point in found.perf] == ["stable"] * len(stage.concurrency)


@pytest.mark.triton
def test_a_text_that_the_model_refuses_fails(make_archive, tiny, samples, cache, tmp_path):
    facts = make_archive(tiny, samples, broken_length=40)
    proof = verify_archive(facts, measure=Measure(cache, (1,)), judge=Judge(COSINE), work=tmp_path)
    assert proof.verdict.status == "failed"
    assert proof.measurement.perf == ()
    assert len(proof.verdict.reasons) == 3
    assert "request-refused, asked alone (sample 1, “" in proof.verdict.reasons[0]
    assert "this text is too long for me" in proof.verdict.reasons[0]


class Killer(logging.Handler):
    """Kills the server below a folder when a certain thing is logged."""

    def __init__(self, folder, message):
        super().__init__()
        self.folder, self.message, self.killed = folder, message, []

    def emit(self, record):
        if record.getMessage().startswith(self.message):
            self.killed = [process.pid for process in served_below(self.folder) if process.name() == "tritonserver"]
            for pid in self.killed:
                os.kill(pid, signal.SIGKILL)


@pytest.mark.triton
@pytest.mark.parametrize("moment", ["asking", "measuring"])
def test_a_server_that_is_killed_meanwhile_is_an_error_of_the_machine(facts, cache, tmp_path, moment):
    killer = Killer(tmp_path, moment)
    logger = logging.getLogger("builder.verify")
    logger.addHandler(killer)
    logger.setLevel(logging.INFO)
    try:
        with pytest.raises(ServerError, match="killed by SIGKILL") as caught:
            Measure(cache, concurrency=(1,), windows=QUICK).run(facts, tmp_path)
    finally:
        logger.removeHandler(killer)
        logger.setLevel(logging.NOTSET)
    assert caught.value.exit_code == 3
    assert len(killer.killed) == 1
    assert list(tmp_path.glob("unpacked-*")) == []
    assert served_below(tmp_path) == []


def test_an_archive_that_was_changed_is_refused_before_anything_runs(facts, cache, tmp_path):
    wrong = replace(facts, samples=replace(facts.samples, sha256="0" * 64))
    with pytest.raises(ArchiveError, match=r"samples\.jsonl: has sha256"):
        verify_archive(wrong, measure=Measure(cache), judge=Judge(COSINE), work=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "tolerances", "message"), [({"metric": "best"}, COSINE, "metric 'best'"), ({}, {}, "no cosine")]
)
def test_a_damaged_manifest_is_refused_before_anything_runs(facts, cache, tmp_path, change, tolerances, message):
    with pytest.raises(ArchiveError, match=message):
        verify_archive(replace(facts, **change), measure=Measure(cache), judge=Judge(tolerances), work=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_of_another_archive_is_refused(facts, cache, tmp_path):
    with pytest.raises(ArchiveError, match=r"holds the tree .*, the manifest says 1111111111111111"):
        Measure(cache).run(replace(facts, tree_digest="1" * 64), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "SafetensorError"),
        (lambda path: path.unlink(), "expected.safetensors"),
    ],
)
def test_expected_answers_that_cannot_be_read_are_refused(facts, tmp_path, change, message):
    path = tmp_path / "expected.safetensors"
    path.write_bytes(facts.expected.path.read_bytes())
    change(path)
    with pytest.raises(ArchiveError, match=message):
        read_expected(replace(facts, expected=replace(facts.expected, path=path)))


def test_expected_answers_to_other_samples_are_refused(facts, tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_text('{"text": "only one"}\n')
    with pytest.raises(ArchiveError, match=r"answers \[40\] samples, .* has 1"):
        read_expected(replace(facts, samples=replace(facts.samples, path=path)))


def test_the_key_of_the_stage_holds_what_can_change_its_figures(facts, cache):
    keys = [Measure(cache).fingerprint(facts), Measure(cache, (1,)).fingerprint(facts)]
    keys.append(Measure(cache).fingerprint(replace(facts, archive=replace(facts.archive, sha256="0" * 64))))
    assert len({json.dumps(key, sort_keys=True) for key in keys}) == 3
    assert str(facts.archive.path.parent) not in json.dumps(keys)
    assert ask.CLIENTS > 1


def test_the_key_of_the_stage_holds_what_serves(facts, cache, tmp_path, monkeypatch):
    def key():
        return json.dumps(Measure(cache).fingerprint(facts), sort_keys=True)

    keys = [key()]
    copy = tmp_path / "model_repo_template"
    shutil.copytree(templates.folder(), copy)
    monkeypatch.setattr(templates, "folder", lambda: copy)
    (copy / "steps/tokenize/model.py").write_text("# part of the archive, which has a digest of its own\n")
    assert key() == keys[0]
    (copy / "backends/onnxruntime/model.py").write_text("# nothing is answered\n")
    keys.append(key())
    monkeypatch.setattr(python_env, "NUMPY_VERSION", "1.26.3")
    keys.append(key())
    monkeypatch.setattr(python_env, "find_interpreter", lambda _: python_env.Interpreter(copy, (3, 99), "", "", None))
    keys.append(key())
    keys.append(json.dumps(Measure(cache).fingerprint(replace(facts, triton="25.10")), sort_keys=True))
    assert len(set(keys)) == len(keys) == 5
    assert describe_serving("25.10")["onnxruntime"] == "1.23.1"


def test_the_key_is_known_where_no_python_can_serve(monkeypatch):
    def refuse(_):
        raise MachineError("no Python here")

    monkeypatch.setattr(python_env, "find_interpreter", refuse)
    assert describe_serving("25.09")["python"] is None


def measured(parity):
    from builder.artifacts import Measurement

    return Measurement(parity, (), {}, {})

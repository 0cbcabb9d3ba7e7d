from copy import deepcopy

import numpy as np
import pytest

from builder.artifacts import Measurement
from builder.errors import ArchiveError
from builder.parity.compare import figures_of, telling_figures
from builder.verify.judge import Judge

COSINE = {"cosine": 0.999999}
LABELS = {"label_agreement": 1.0, "max_probability_difference": 1e-4}


def way(figures, sample=3, failures=()):
    worst = {name: {"sample": sample, "text": "Call me Ishmael.", "value": value} for name, value in figures.items()}
    return {"requests": 9, "figures": figures, "worst": worst, "failures": list(failures)}


def control(inapplicable="", **figures):
    return {"figures": figures, "inapplicable": inapplicable}


RIGHT = {"cosine": 0.99999999, "length_difference": 1e-7}
RIGHT_LABELS = {"label_agreement": 1.0, "max_probability_difference": 1e-6, "max_logit_difference": 1e-6}


def point(concurrency, throughput=100.0, p99=50.0, status="stable"):
    latency = {f"p{rank}_ms": p99 * rank / 99 for rank in (50, 90, 95, 99)}
    if status != "stable":
        throughput, latency = None, dict.fromkeys(latency)
    facts = {"concurrency": concurrency, "status": status, "throughput_per_second": throughput, "detail": "Pass\n no!"}
    return {**facts, **latency}


def measurement(metric="cosine", figures=None, controls=None, perf=()):
    figures = figures or (RIGHT if metric == "cosine" else RIGHT_LABELS)
    wrong = {"cosine": {"cosine": 0.3, "length_difference": 0.0}}.get(
        metric, {"label_agreement": 0.1, "max_probability_difference": 0.8, "max_logit_difference": 1.0}
    )
    return Measurement(
        parity={
            "metric": metric,
            "samples": 9,
            "ways": {name: way(figures) for name in ("alone", "batched", "concurrent")},
            "controls": controls or {"shuffled": control(**wrong), "wrong_pooling": control(**wrong)},
            "invalid_utf8": {"requests": 2, "errors": 2, "error": "not UTF-8"},
        },
        perf=tuple(perf),
        server={},
        hardware={},
    )


def test_right_answers_pass():
    verdict = Judge(COSINE).judge(measurement())
    assert (verdict.status, verdict.reasons) == ("passed", ())
    assert verdict.figures["limits"] == pytest.approx({"cosine": 0.999999, "length_difference": 1.4142e-3}, rel=1e-3)


@pytest.mark.parametrize("asked", ["alone", "batched", "concurrent"])
def test_one_way_out_of_tolerance_fails_and_names_the_worst_case(asked):
    measured = measurement()
    measured.parity["ways"][asked] = way({"cosine": 0.9998, "length_difference": 0.0})
    verdict = Judge(COSINE).judge(measured)
    assert verdict.status == "failed"
    assert verdict.reasons == (
        f"cosine 0.9998 is below 0.999999, asked {asked}; worst is sample 4, “Call me Ishmael.”: 0.9998",
    )


def test_the_length_of_an_embedding_counts():
    verdict = Judge(COSINE).judge(measurement(figures={"cosine": 1.0, "length_difference": 0.02}))
    assert verdict.status == "failed"
    assert "length_difference 0.02 is above 0.00141" in verdict.reasons[0]


def test_embeddings_in_few_bits_must_keep_their_nearest_neighbours():
    few_bits = Judge({"cosine": 0.99, "neighbour_agreement": 0.95})
    kept = {"cosine": 0.995, "length_difference": 0.0, "neighbour_agreement": 0.96}
    assert few_bits.judge(measurement(figures=kept)).status == "passed"
    for lost in ({**kept, "neighbour_agreement": 0.94}, {key: kept[key] for key in ("cosine", "length_difference")}):
        verdict = few_bits.judge(measurement(figures=lost))
        assert verdict.status == "failed"
        assert "neighbour_agreement" in verdict.reasons[0]
    # Nobody who did not ask for it is held against it.
    assert Judge({"cosine": 0.99}).judge(measurement(figures={**kept, "neighbour_agreement": 0.1})).status == "passed"


def test_the_tolerance_decides():
    measured = measurement(figures={"cosine": 0.9998, "length_difference": 0.0})
    assert Judge({"cosine": 0.999}).judge(measured).status == "passed"


@pytest.mark.parametrize("figure", ["label_agreement", "max_probability_difference", "max_logit_difference"])
def test_each_figure_of_a_classifier_can_fail(figure):
    figures = RIGHT_LABELS | {figure: 0.99}
    verdict = Judge(LABELS).judge(measurement("single-label", figures))
    assert verdict.status == "failed"
    assert len(verdict.reasons) == 3
    assert all(reason.startswith(figure) for reason in verdict.reasons)


def test_a_figure_that_is_nan_is_out_of_tolerance():
    verdict = Judge(COSINE).judge(measurement(figures={"cosine": float("nan"), "length_difference": 0.0}))
    assert verdict.status == "failed"


def test_answers_that_cannot_be_compared_fail():
    measured = measurement()
    failure = {"name": "not-finite", "what": "EMBEDDING holds NaN", "sample": 1, "text": "Nevermore."}
    measured.parity["ways"]["batched"] = way({}, failures=[failure])
    verdict = Judge(COSINE).judge(measured)
    assert verdict.status == "failed"
    assert verdict.reasons == ("not-finite, asked batched (sample 2, “Nevermore.”): EMBEDDING holds NaN",)


def test_text_that_is_not_utf8_must_be_refused():
    measured = measurement()
    measured.parity["invalid_utf8"]["errors"] = 1
    verdict = Judge(COSINE).judge(measured)
    assert verdict.status == "failed"
    assert verdict.reasons == ("1 requests whose text is not UTF-8 were answered, not refused",)


@pytest.mark.parametrize("name", ["shuffled", "wrong_pooling"])
def test_a_negative_control_that_passes_makes_the_verdict_inconclusive(name):
    measured = measurement()
    measured.parity["controls"][name] = control(**RIGHT)
    verdict = Judge(COSINE).judge(measured)
    assert verdict.status == "inconclusive"
    (reason,) = verdict.reasons
    assert f"negative control {name} is within tolerance" in reason


def test_one_label_for_every_text_is_inconclusive_though_the_probabilities_differ():
    measured = measurement("single-label")
    blind = control(label_agreement=1.0, max_probability_difference=0.3, max_logit_difference=0.5)
    measured.parity["controls"]["shuffled"] = blind
    verdict = Judge(LABELS).judge(measured)
    assert verdict.status == "inconclusive"
    (reason,) = verdict.reasons
    assert "within tolerance in label_agreement" in reason


def test_a_tolerance_that_lets_everything_pass_is_inconclusive():
    verdict = Judge(LABELS | {"max_probability_difference": 1.0}).judge(measurement("single-label"))
    assert verdict.status == "inconclusive"
    assert "within tolerance in max_probability_difference" in verdict.reasons[0]


def test_a_control_that_changes_no_answer_is_left_out():
    measured = measurement()
    measured.parity["controls"]["truncated"] = control("no sample is answered differently by this mistake", **RIGHT)
    assert Judge(COSINE).judge(measured).status == "passed"


def test_but_one_control_of_the_reference_must_change_an_answer():
    measured = measurement()
    measured.parity["controls"]["wrong_pooling"] = control("no sample is answered differently by this mistake", **RIGHT)
    verdict = Judge(COSINE).judge(measured)
    assert verdict.status == "inconclusive"
    assert verdict.reasons == ("no negative control of the reference changes any answer (wrong_pooling)",)


def test_a_failure_is_not_softened_by_a_blind_control():
    measured = measurement(figures={"cosine": 0.5, "length_difference": 0.0})
    measured.parity["controls"]["shuffled"] = control(**RIGHT)
    assert Judge(COSINE).judge(measured).status == "failed"


def test_one_concurrency_that_meets_all_constraints_is_enough():
    perf = [point(1, throughput=60, p99=20), point(4, throughput=110, p99=45), point(16, throughput=120, p99=140)]
    verdict = Judge(COSINE, {"p99_ms": 50, "min_throughput": 100}).judge(measurement(perf=perf))
    assert verdict.status == "passed"
    assert verdict.figures["concurrency_within_constraints"] == [4]


def test_constraints_that_are_only_met_apart_fail():
    perf = [point(1, throughput=60, p99=20), point(16, throughput=120, p99=140)]
    verdict = Judge(COSINE, {"p99_ms": 50, "min_throughput": 100}).judge(measurement(perf=perf))
    assert verdict.status == "failed"
    (reason,) = verdict.reasons
    assert reason.startswith("no measured concurrency meets all constraints: ")
    assert reason.endswith(
        "concurrency 1: min_throughput 100, measured 60.0; concurrency 16: p99_ms 50, measured 140.0"
    )


@pytest.mark.parametrize(("key", "limit"), [("p50_ms", 20), ("p95_ms", 40), ("p99_ms", 49), ("min_throughput", 101)])
def test_each_constraint_can_fail(key, limit):
    assert Judge(COSINE, {key: limit}).judge(measurement(perf=[point(1)])).status == "failed"


@pytest.mark.parametrize("perf", [[], [point(1, status="unstable"), point(4, status="unstable")]])
def test_constraints_without_a_stable_point_are_inconclusive(perf):
    verdict = Judge(COSINE, {"p99_ms": 1}).judge(measurement(perf=perf))
    assert verdict.status == "inconclusive"
    assert verdict.reasons[0].startswith("there are constraints on speed, but ")


def test_without_constraints_unstable_points_are_no_failure():
    assert Judge(COSINE).judge(measurement(perf=[point(1, status="unstable")])).status == "passed"


def test_a_request_that_is_refused_under_load_is_a_failure():
    verdict = Judge(COSINE).judge(measurement(perf=[point(1), point(16, status="failed")]))
    assert verdict.status == "failed"
    assert verdict.reasons == ("under load, concurrency 16: Pass no!",)


def test_judging_changes_nothing():
    measured = measurement(perf=[point(1)])
    before = deepcopy(measured)
    Judge(COSINE, {"p99_ms": 1}).judge(measured)
    assert measured == before


@pytest.mark.parametrize(
    ("judge", "metric", "message"),
    [
        (Judge({}), "cosine", "gates.tolerances: no cosine"),
        (Judge({"label_agreement": 1.0}), "multi-label", "gates.tolerances: no max_probability_difference"),
        (Judge(COSINE), "best", "unknown metric 'best'; known: cosine, "),
        (Judge(COSINE, {"p42_ms": 1}), "cosine", "gates.constraints: unknown p42_ms; known: p50_ms, "),
    ],
)
def test_a_manifest_that_lacks_what_is_needed_is_refused(judge, metric, message):
    measured = measurement()
    measured.parity["metric"] = metric
    with pytest.raises(ArchiveError, match=message):
        judge.requires(measured)
    Judge(COSINE, {"p99_ms": 1}).requires(measurement())


@pytest.mark.parametrize("name", ["shuffled", "wrong_pooling"])
@pytest.mark.parametrize("asked", ["alone", "batched", "concurrent"])
def test_each_way_of_asking_needs_its_controls(name, asked):
    measured = measurement()
    wrong = measured.parity["controls"][name]
    ways = {way: {"figures": wrong["figures"]} for way in measured.parity["ways"]}
    measured.parity["controls"][name] = {**wrong, "ways": ways}
    assert Judge(COSINE).judge(measured).status == "passed"
    ways[asked] = {"figures": RIGHT}
    verdict = Judge(COSINE).judge(measured)
    assert verdict.status == "inconclusive"
    (reason,) = verdict.reasons
    assert f"negative control {name} is within tolerance" in reason
    assert f", asked {asked}:" in reason


def test_it_is_a_stage(tmp_path):
    from builder.core.execute import Executor
    from builder.core.store import Store

    verdict = Executor(Store.at(tmp_path), "recipe/source/model/cpu/triton").run(Judge(COSINE), measurement())
    assert verdict.status == "passed"
    assert len(list(tmp_path.glob("records/*/*.json"))) == 1


def test_numbers_in_texts_need_not_tell_samples_apart():
    """Of a pipeline that answers JSON alone: its scores are compared only where all else is the same."""
    right, wrong = {"max_difference": 0.0, "text_agreement": 1.0}, {"max_difference": 0.0, "text_agreement": 0.1}
    parity = {
        "metric": "pipeline",
        "ways": {"alone": {"figures": right, "worst": {}, "failures": []}},
        "controls": {"shuffled": {"figures": wrong, "inapplicable": ""}},
        "invalid_utf8": {"requests": 1, "errors": 1},
        "judged": ["max_difference", "text_agreement"],
    }
    judge = Judge({"max_difference": 1e-4, "text_agreement": 1.0})
    found = {
        telling: judge.judge(Measurement({**parity, "telling": telling.split()}, (), {}, {})).status
        for telling in ("text_agreement", "max_difference text_agreement")
    }
    assert found == {"text_agreement": "passed", "max_difference text_agreement": "inconclusive"}
    expected = {"ENTITIES": np.array([[b'[{"score": 0.5}]']], dtype=object)}
    assert (figures_of("pipeline", expected), telling_figures(expected)) == (
        ("max_difference", "text_agreement"),
        ("text_agreement",),
    )
    assert telling_figures({**expected, "SCORE": np.ones((1, 1))}) == ("max_difference", "text_agreement")

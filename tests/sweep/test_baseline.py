"""Holding today's build against an earlier sweep: what is compared, what is refused, and what CI is told."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from builder.errors import UserError
from builder.sweep import baseline, gate_report, swept
from builder.sweep.baseline import Held
from builder.sweep.load import Load
from builder.sweep.point import Interval, Point
from builder.sweep.setting import Setting
from builder.sweep.swept import Verdict
from builder.tools import hardware
from tests.sweep import points

if TYPE_CHECKING:
    from pathlib import Path

BEFORE = Interval(100.0, 98.0, 102.0)


def today(value: float, width: float = 2.0, status: str = "stable", reason: str = "") -> Point:
    figure = Interval(value, value - width, value + width)
    return Point(Setting(), Load(concurrency=4), status, reason, throughput=figure, p99_ms=figure)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "figure", "verdict"),
    [
        ((100, 101, 99), "throughput", "same"),
        ((93, 93, 93), "throughput", "same"),  # apart, but by no more than lies between two hours
        ((85, 85, 85), "throughput", "worse"),
        ((85, 85, 85), "p99_ms", "better"),
        ((118, 118, 118), "throughput", "better"),
        ((118, 118, 118), "p99_ms", "worse"),
        ((60, 100, 140), "throughput", "unstable"),  # today's own runs do not agree
    ],
)
def test_verdicts_against_a_file(values: tuple[float, ...], figure: str, verdict: str) -> None:
    found, reason = baseline.against(BEFORE, [today(value) for value in values], figure)
    assert (found.verdict, found.before) == (verdict, BEFORE)
    assert reason


def test_a_point_that_is_not_stable_is_no_figure() -> None:
    runs = [today(100), today(100, status="unstable", reason="the throughput drifts")]
    found, reason = baseline.against(BEFORE, runs, "throughput")
    assert (found.verdict, reason) == ("unstable", "the throughput drifts")
    assert baseline.against(None, [today(100)], "throughput")[0].verdict == "unstable"


class FakeBench:
    """Measures as it is told to: what holds two subjects against each other is tested here, not the server."""

    def __init__(self, subject: Any) -> None:
        self.rates, self.recipe = subject.rates, subject.recipe

    def __enter__(self) -> FakeBench:
        return self

    def __exit__(self, *_: object) -> None: ...

    def measure(self, setting: Setting, load: Load, seconds: float) -> Point:
        return today(self.rates.pop(0))


def test_an_archive_is_taken_as_it_was_built(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[object, set[Setting]] = {}

    class Bench(FakeBench):
        def measure(self, setting: Setting, load: Load, seconds: float) -> Point:
            asked.setdefault(self.recipe, set()).add(setting)
            return today(100)

    monkeypatch.setattr(baseline, "Bench", Bench)
    before = points.swept()
    assert before.winner is not None
    setting = before.winner.point.setting.with_({"@precision": "int8"})
    won = replace(before.winner, point=replace(before.winner.point, setting=setting))
    subjects = [SimpleNamespace(rates=[], recipe=recipe) for recipe in ("today.yaml", None)]
    baseline.hold(replace(before, ranking=(won,)), *subjects, seconds=1.0, told=lambda _: None)  # type: ignore[arg-type]
    assert asked == {"today.yaml": {setting}, None: {setting.served}}


@pytest.mark.parametrize(("side", "verdict"), [("today", "worse"), ("before", "unstable")])
def test_of_two_measured_in_turn_the_one_that_fails_is_said(
    monkeypatch: pytest.MonkeyPatch, side: str, verdict: str
) -> None:
    class Bench(FakeBench):
        def measure(self, setting: Setting, load: Load, seconds: float) -> Point:
            status = "failed" if self.rates == side else "stable"
            return today(100, status=status, reason="answers are wrong")

    monkeypatch.setattr(baseline, "Bench", Bench)
    subjects = [SimpleNamespace(rates=name, recipe=None) for name in ("today", "before")]
    held = baseline.hold(points.swept(), *subjects, seconds=1.0, told=lambda _: None)  # type: ignore[arg-type]
    assert {one.verdict for one in held.verdicts} == {verdict}
    assert set(held.reasons.values()) == {"failed: answers are wrong"}


@pytest.mark.parametrize("status", ["failed", "refused"])
def test_a_build_that_does_not_answer_is_worse_than_one_that_does(status: str) -> None:
    runs = [today(100), today(100, status=status, reason="3 of 212 requests failed")]
    found, reason = baseline.against(BEFORE, runs, "throughput")
    assert (found.verdict, reason) == ("worse", f"{status}: 3 of 212 requests failed")


class Subject:
    """Nothing may be measured on it."""

    recipe = None


def test_on_other_hardware_nothing_is_compared(caplog: pytest.LogCaptureFixture) -> None:
    before = points.swept()
    assert before.hardware.fingerprint != hardware.fingerprint()
    held = baseline.hold(before, Subject(), None, seconds=1.0, told=print)  # type: ignore[arg-type]
    assert held.unsure
    assert not held.worse
    assert "not comparable: the baseline was measured on AMD EPYC 9R14" in held.how
    assert gate_report.exit_code(before, held) == 4


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "same"), (0.85, "worse"), (1.15, "better")])
def test_measured_in_turn_no_drift_is_a_regression(
    monkeypatch: pytest.MonkeyPatch, factor: float, verdict: str
) -> None:
    monkeypatch.setattr(baseline, "Bench", FakeBench)
    drifting = iter([100 * 1.04**run for run in range(16)])  # 80 % in all
    rates: dict[str, list[float]] = {"a": [], "b": []}
    for name in "abba" * 4:
        rates[name].append(next(drifting) * (factor if name == "b" else 1))
    subjects = [SimpleNamespace(rates=rates[name], recipe=None) for name in "ba"]
    held = baseline.hold(points.swept(), *subjects, seconds=1.0, told=lambda _: None)  # type: ignore[arg-type]
    assert held.verdicts[0].verdict == verdict
    assert held.verdicts[1].verdict == {"worse": "better", "better": "worse"}.get(verdict, verdict)
    assert "in turn, 8 times" in held.how


def test_what_is_no_baseline_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with pytest.raises(UserError, match="cannot be read"):
        baseline.read(path)
    for text in ("no JSON", "[]", '{"schema_version": 99}'):
        path.write_text(text)
        with pytest.raises(UserError, match="is no result of a sweep"):
            baseline.read(path)
    whole = points.swept()
    path.write_text(json.dumps(whole.as_json()))
    assert baseline.read(path).winner.what == whole.winner.what  # type: ignore[union-attr]
    path.write_text(json.dumps(replace(whole, ranking=()).as_json()))
    with pytest.raises(UserError, match="has no winner"):
        baseline.read(path)


def held(*kinds: str) -> Held:
    figures = ("throughput", "p99_ms")
    verdicts = [swept.Verdict(figure, kind, BEFORE, BEFORE) for figure, kind in zip(figures, kinds, strict=True)]  # type: ignore[arg-type]
    return Held(tuple(verdicts), "in turn", {"throughput": "-15 % <&>"})


@pytest.mark.parametrize(
    ("kinds", "code", "tags"),
    [
        (("same", "better"), 0, ["system-out", "system-out", "system-out"]),
        (("worse", "better"), 1, ["system-out", "failure", "system-out"]),
        (("same", "unstable"), 4, ["system-out", "system-out", "skipped"]),
        (("worse", "unstable"), 1, ["system-out", "failure", "skipped"]),
    ],
)
def test_ci_is_told(kinds: tuple[str, str], code: int, tags: list[str]) -> None:
    whole, one = points.swept(), held(*kinds)
    assert gate_report.exit_code(whole, one) == code
    suite = ElementTree.fromstring(gate_report.junit(whole, one).encode())
    assert [case[0].tag for case in suite] == tags
    assert (suite.get("tests"), suite.get("failures")) == ("3", str(tags.count("failure")))
    if "failure" in tags:
        assert "-15 % <&>" in suite[1][0].get("message", "")
    marks = {"same": "✅", "better": "✅", "worse": "❌", "unstable": "❔"}
    text = gate_report.markdown(replace(whole, verdicts=one.verdicts), one)
    assert text.count("throughput, inferences/s") == 1
    assert [line.split(" |")[0] for line in text.splitlines() if line[:3] in {f"| {m}" for m in marks.values()}] == [
        f"| {marks[kind]}" for kind in kinds
    ]


def test_without_a_setting_that_holds_the_constraints_the_gate_fails() -> None:
    none = replace(points.swept(), ranking=())
    assert gate_report.exit_code(none, None) == 1
    assert gate_report.exit_code(points.swept(), None) == 0
    (case,) = ElementTree.fromstring(gate_report.junit(none, None).encode())
    assert case[0].tag == "failure"
    assert isinstance(points.swept().verdicts[0], Verdict)


def test_what_a_server_says_breaks_neither_xml_nor_markdown() -> None:
    ugly = "refused: a|b *c* \x1b[31m\x00 <d>\ntritonserver's log\n| e | f |"
    one = replace(held("same", "unstable"), reasons={"p99_ms": ugly}, how="in turn | twice\nand more")
    whole = replace(points.swept(), served=replace(points.swept().served, name="m\x00|n"))
    suite = ElementTree.fromstring(gate_report.junit(whole, one).encode())
    said = suite[2][0].get("message", "")
    assert "refused: a|b *c* �[31m� <d>" in said
    assert "log" not in said
    lines = gate_report.markdown(whole, one).splitlines()
    (row,) = [line for line in lines if line.startswith("| ❔")]
    assert row.endswith(r"| refused: a\|b \*c\* �\[31m� \<d\> |")
    assert r"#### Baseline (in turn \| twice)" in lines
    assert "| e | f |" not in lines

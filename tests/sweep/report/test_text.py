"""The ranking as text: for people in a terminal, and as Markdown."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from builder.sweep.point import Interval
from builder.sweep.report import summary, text
from builder.sweep.swept import Aim, Verdict

if TYPE_CHECKING:
    from builder.sweep.swept import Swept


def test_the_terminal_shows_the_best_the_gain_and_what_was_left_out(swept: Swept) -> None:
    assert swept.winner is not None
    lines = text.terminal(swept, most=3).splitlines()
    assert lines[0] == "minilm-embedder: highest throughput with p99 ≤ 60 ms, no errors"
    titles = "rank point inferences/s 95 % p50 ms p99 ms cost/million memory MB load setting"
    assert lines[2].split() == titles.split()
    assert [line.split()[0] for line in lines[3:6]] == ["1", "2", "3"]
    assert len({line.index("concurrency") for line in lines[3:6]}) == 1, "columns stand below one another"
    best = next(line for line in lines if line.startswith("best: "))
    assert best == f"best: {swept.varies(swept.winner.point.setting).label}, at {swept.winner.point.load.label}"
    said = next(line for line in lines if line.startswith("Beside the subject as it is: "))
    assert re.search(
        r": \d\.\d\d times the throughput, p99 [\d.]+ ms instead of [\d.]+ ms \(concurrency 4 instead", said
    )
    left = [line for line in lines if line.startswith("  #")]
    assert len(left) == sum(one.point.status != "stable" for one in swept.outcomes)
    assert "saturated: the client used 97 % of its processors" in "".join(left)


def test_columns_without_figures_are_left_out(swept: Swept) -> None:
    plain = replace(swept, aim=Aim({"throughput": 1.0}), verdicts=())
    assert "cost" not in text.terminal(plain)
    assert "cost" not in text.markdown(plain)


def test_no_gain_is_claimed_of_intervals_that_overlap(swept: Swept) -> None:
    assert swept.as_it_is is not None
    assert swept.winner is not None
    wide = replace(swept.as_it_is.point, throughput=Interval(100.0, 60.0, 140.0))
    said = summary.gain(replace(swept, as_it_is=replace(swept.as_it_is, point=wide)))
    assert ": the same throughput within the noise, p99 " in said
    unstable = replace(swept.as_it_is, point=replace(wide, status="unstable"))
    assert "could not be measured (unstable)" in summary.gain(replace(swept, as_it_is=unstable))
    assert "no gain is told" in summary.gain(replace(swept, as_it_is=None))
    assert "No setting is better" in summary.gain(replace(swept, as_it_is=swept.winner))


def test_what_is_unsure_does_not_win(swept: Swept) -> None:
    ranking = tuple(replace(one, verdict="unsure") for one in swept.ranking)
    said = text.terminal(replace(swept, ranking=ranking))
    assert "No setting surely meets the constraints; some may." in said
    assert "best:" not in said
    assert "No setting could be measured" in text.terminal(replace(swept, ranking=()))
    assert "Nothing was measured." in text.terminal(replace(swept, ranking=(), tried=(), as_it_is=None))


def test_an_unstable_verdict_has_no_figures() -> None:
    verdict = Verdict("throughput", "unstable", Interval(1, 1, 1), Interval(2, 2, 2))
    assert summary.verdict(verdict) == "throughput, inferences/s: unstable"


def test_markdown_is_a_table_whatever_the_names_are(swept: Swept) -> None:
    served = replace(swept.served, name="a|b<script>\n# `x`")
    said = text.markdown(replace(swept, served=served), most=2)
    heading, _, titles, rule, *rest = said.splitlines()
    assert heading.startswith(r"### Sweep of a\|b\<script\> # \`x\`: ")
    assert titles.count("|") == rule.count("|") == rest[0].count("|")
    assert "<details>" in said


def test_no_name_moves_the_terminals_cursor(swept: Swept) -> None:
    said = text.terminal(replace(swept, served=replace(swept.served, name="a\x1b[2Jb\rc")))
    assert "\x1b" not in said
    assert "\r" not in said


@pytest.mark.parametrize(
    ("value", "said"), [(1234.5, "1234"), (128.43, "128.4"), (9.714, "9.71"), (0.5264, "0.526"), (0.0, "0.000")]
)
def test_numbers_have_the_places_that_they_bear(value: float, said: str) -> None:
    assert summary.number(value) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(48.4, "48 s"), (192, "3 min 12 s"), (7501, "2 h 5 min"), (59.7, "1 min 0 s")]
)
def test_durations_are_said_as_people_do(seconds: float, said: str) -> None:
    assert summary.duration(seconds) == said


def test_constraints_are_said_with_units() -> None:
    found = [summary.bound(name, 0.01) for name in ("p99_ms", "memory_mb", "error_rate", "min_throughput")]
    assert found == ["p99 ≤ 0.01 ms", "memory ≤ 0.01 MB", "errors ≤ 1 %", "throughput ≥ 0.01/s"]


def test_the_gain_begins_with_what_was_sought(swept: Swept) -> None:
    sought = replace(swept, aim=Aim({"p50_ms": 1.0}))
    assert summary.gain(sought).startswith("Beside the subject as it is: p50 ")
    assert "MB instead of" in summary.gain(replace(swept, aim=Aim({"memory_mb": 1.0})))
    assert summary.aim(sought).startswith("lowest p50 with")
    both = summary.aim(replace(swept, aim=Aim({"throughput": 0.7, "p99_ms": 0.3})))
    assert both.startswith("best of 0.7 throughput and 0.3 p99 with")

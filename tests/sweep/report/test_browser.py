"""The report in a real browser: it draws, sorts, lets choose, asks for nothing, and runs nobody else's script."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from builder.sweep.report import PICTURES, rows
from builder.sweep.report import write_report as write
from builder.sweep.setting import Setting
from tests.sweep import points
from tests.sweep.points import BATCH, INSTANCES, KNOBS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from builder.sweep.point import Point
    from builder.sweep.swept import Swept
    from tests.browser import Browser, Page

DRAWN = "document.documentElement.dataset.drawn === 'yes'"


@pytest.fixture
def page(browser: Browser, report: Path) -> Page:
    browser.scheme("light")
    page = browser.open(report / "report.html")
    browser.until(DRAWN)
    return page


def test_every_plot_is_drawn_and_the_page_asks_for_nothing(
    browser: Browser, page: Page, report: Path, swept: Swept
) -> None:
    marks = browser.value(
        "Object.fromEntries([...document.querySelectorAll('[data-plot]')].map((place) => [place.dataset.plot,"
        " place.querySelectorAll('.role-mark path, .role-mark text').length]))"
    )
    assert list(marks) == list(PICTURES)
    stable = sum(one.point.status == "stable" for one in swept.outcomes)
    assert marks["throughput-p99"] >= stable
    assert marks["search"] >= stable
    assert marks["usage"] >= 2 * stable
    assert all(count > 5 for count in marks.values())
    assert browser.value("document.querySelectorAll('svg text').length") > 100
    assert page.requests == [(report / "report.html").as_uri()]
    assert page.problems == []


def test_nothing_hangs_over_the_window(browser: Browser, page: Page) -> None:
    for width in (1500, 1100, 400):
        browser.size(width, 900)
        assert browser.value("document.documentElement.scrollWidth") <= width
    browser.size(1100, 900)


def _column(browser: Browser, title: str) -> list[str | None]:
    """What stands in a column, from the top, by what it is sorted by."""
    found = browser.value(
        f"(() => {{ const table = document.getElementById('points');"
        f" const at = [...table.tHead.rows[0].cells].findIndex((one) => one.innerText.startsWith({json.dumps(title)}));"
        " return [...table.tBodies[0].rows].map((row) => row.cells[at].dataset.v ?? null); })()"
    )
    assert isinstance(found, list)
    return found


def _click(browser: Browser, title: str) -> None:
    browser.value(
        "[...document.querySelectorAll('#points th button')]"
        f".find((one) => one.innerText === {json.dumps(title)}).click()"
    )


def test_a_click_on_a_title_sorts_by_number(browser: Browser, page: Page, swept: Swept) -> None:
    stable = [one.point for one in swept.outcomes if one.point.p99_ms and one.point.status == "stable"]
    expected = sorted(point.figure("p99_ms") or 0.0 for point in stable)
    _click(browser, "p99 ms")
    found = _column(browser, "p99 ms")
    known = [float(one) for one in found if one is not None]
    assert known == expected
    assert sorted(map(str, known)) != [str(one) for one in known], "the test's figures sort alike as text"
    assert found[len(known) :] == [None] * (len(swept.outcomes) - len(stable)), "what has no figure stays at the end"
    _click(browser, "p99 ms")
    turned = _column(browser, "p99 ms")
    assert [float(one) for one in turned if one is not None] == expected[::-1]
    assert turned[len(known) :] == found[len(known) :]
    _click(browser, "max_batch_size")
    assert [int(one or 0) for one in _column(browser, "max_batch_size")] == sorted(
        int(one or 0) for one in _column(browser, "max_batch_size")
    )
    assert page.problems == []


def test_the_heat_map_shows_the_chosen_knobs(browser: Browser, page: Page, swept: Swept) -> None:
    place = "document.querySelector('[data-plot=heat-map] svg')"
    before = browser.value(f"{place}.outerHTML")
    axes = list(rows.axes(swept))
    choose = (
        f"(() => {{ const form = document.getElementById('choose'); form.across.value = {axes.index(BATCH)};"
        f" form.down.value = {axes.index(INSTANCES)}; form.figure.value = 1;"
        " form.dispatchEvent(new Event('change')); })()"
    )
    browser.value(choose)
    browser.until(f"{place}.textContent.includes('max_batch_size')")
    assert browser.value(f"{place}.outerHTML") != before
    best = {
        f"{max(point.throughput.value for point in found):.1f}"
        for batch in KNOBS[BATCH]
        for count in KNOBS[INSTANCES]
        if (found := _with(swept, {BATCH: batch, INSTANCES: count}))
    }
    texts = set(browser.value(f"[...{place}.querySelectorAll('.mark-text text')].map((one) => one.textContent)"))
    assert best <= texts
    assert page.problems == []


def _with(swept: Swept, values: dict[str, object]) -> list[Point]:
    stable = [one.point for one in swept.outcomes if one.point.status == "stable"]
    return [point for point in stable if values.items() <= point.setting.as_dict().items()]


def test_the_pointer_is_told_which_point_it_is(browser: Browser, page: Page, swept: Swept) -> None:
    at = browser.value(
        "(() => { const one = document.querySelector('[data-plot=search] .mark-symbol.role-mark path');"
        " one.scrollIntoView({block: 'center'}); const box = one.getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    browser.ask("Input.dispatchMouseEvent", type="mouseMoved", x=at[0], y=at[1])
    browser.until("!document.getElementById('tip').hidden")
    assert swept.varies(swept.tried[0].point.setting).label in browser.value("document.getElementById('tip').innerText")


def test_it_turns_dark_with_the_users_preference(browser: Browser, page: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    label = "document.querySelector('[data-plot=search] .role-axis-title text').getAttribute('fill')"
    light = browser.value(f"[{ground}, {label}]")
    browser.scheme("dark")
    browser.until(f"{label} !== {json.dumps(light[1])}")
    assert browser.value(ground) != light[0]
    assert page.problems == []


HOSTILE = "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 2'>${window.ran = 3}"


def test_what_the_user_wrote_is_text(browser: Browser, tmp_path: Path) -> None:
    swept = points.swept(count=14, name=HOSTILE)
    tried = tuple(
        replace(
            one,
            point=replace(one.point, reason=HOSTILE, setting=one.point.setting.with_({HOSTILE: f"{HOSTILE}{at % 2}"})),
            why=HOSTILE,
        )
        for at, one in enumerate(swept.tried)
    )
    knobs = {**swept.knobs, HOSTILE: (f"{HOSTILE}0", f"{HOSTILE}1")}
    ranking = tuple(one for one in tried if one.score is not None)
    hostile = replace(
        swept, tried=tried, ranking=ranking, as_it_is=tried[0], knobs=knobs, ended=HOSTILE, method={HOSTILE: HOSTILE}
    )
    write(hostile, tmp_path)
    page = browser.open(tmp_path / "report.html")
    browser.until(DRAWN)
    assert browser.value("document.querySelector('h1 code').textContent") == HOSTILE
    assert browser.value("document.querySelectorAll('script').length") == 3
    assert browser.value("document.querySelectorAll('img').length") == 0
    assert browser.value("window.ran ?? null") is None
    assert page.problems == []


def _damaged(report: Path, folder: Path, change: Callable[[str], str]) -> Path:
    text = (report / "report.html").read_text(encoding="utf-8")
    changed = change(text)
    assert changed != text
    path = folder / "report.html"
    path.write_text(changed, encoding="utf-8")
    return path


def _without_policy(text: str) -> str:
    return re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)


def test_control_a_page_that_breaks_is_seen(browser: Browser, report: Path, tmp_path: Path) -> None:
    path = _damaged(report, tmp_path, lambda text: text.replace('"mark":', '"mork":'))
    page = browser.open(path)
    browser.until("true")
    browser.value("new Promise((done) => setTimeout(done, 300))")
    assert page.problems
    assert not browser.value(DRAWN)


def test_control_a_script_that_is_not_ours_is_refused(browser: Browser, report: Path, tmp_path: Path) -> None:
    script = "<script>window.ran = 1</script></main>"
    page = browser.open(_damaged(report, tmp_path, lambda text: text.replace("</main>", script)))
    assert any("Content Security Policy" in one for one in page.problems)
    assert browser.value("window.ran ?? null") is None
    browser.open(_damaged(report, tmp_path, lambda text: _without_policy(text).replace("</main>", script)))
    assert browser.value("window.ran") == 1, "without the policy it runs: the test could have seen it"


def test_control_a_request_is_seen(browser: Browser, report: Path, tmp_path: Path) -> None:
    image = '<img src="http://127.0.0.1:9/pixel.png"></main>'
    page = browser.open(_damaged(report, tmp_path, lambda text: _without_policy(text).replace("</main>", image)))
    assert "http://127.0.0.1:9/pixel.png" in page.requests
    page = browser.open(_damaged(report, tmp_path, lambda text: text.replace("</main>", image)))
    assert any("Content Security Policy" in one for one in page.problems), "with the policy it is refused"


def test_settings_without_knobs_are_drawn_too(browser: Browser, tmp_path: Path) -> None:
    swept = points.swept(count=1)
    alone = replace(swept, knobs={}, constraints={}, verdicts=(), versions={})
    plain = replace(alone.tried[0], point=replace(alone.tried[0].point, setting=Setting(), steps={}), verdict="met")
    written = write(replace(alone, tried=(plain,), ranking=(plain,), as_it_is=plain), tmp_path)
    page = browser.open(tmp_path / "report.html")
    browser.until(DRAWN)
    assert {path.stem for path in written} == {"report", "results", "throughput-p99", "latency", "usage", "search"}
    assert page.problems == []


def test_a_sweep_of_which_nothing_came_says_so(browser: Browser, tmp_path: Path) -> None:
    swept = points.swept(count=3)
    failed = tuple(
        replace(one, score=None, point=replace(one.point, status="failed", reason="died")) for one in swept.tried
    )
    written = write(replace(swept, tried=failed, ranking=(), as_it_is=failed[0], verdicts=()), tmp_path)
    page = browser.open(tmp_path / "report.html")
    browser.until(DRAWN)
    assert {path.stem for path in written} == {"report", "results", "search"}
    assert "can be believed" in browser.value("document.querySelector('.gain').innerText")
    assert _column(browser, "state") == ["failed"] * 3
    assert page.problems == []

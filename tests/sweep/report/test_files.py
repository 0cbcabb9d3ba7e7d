"""The report's files: what is written, that it is whole, and that it needs nothing from elsewhere."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from builder.errors import MachineError
from builder.sweep import swept as results
from builder.sweep.report import PICTURES, write_report
from builder.tools import vega
from tests.sweep import points

if TYPE_CHECKING:
    from pathlib import Path

    from builder.sweep.swept import Swept

_FETCHED = re.compile(r"""(?:src|href|action|data)\s*=\s*["']?\s*(?:https?:)?//|url\(\s*["']?(?!data:)|@import""", re.I)


def test_it_holds_a_page_a_picture_of_each_plot_and_the_results(report: Path, swept: Swept) -> None:
    assert {path.name for path in report.iterdir()} == {
        "report.html", "results.json", *(f"{name}.png" for name in PICTURES)
    }  # fmt: skip
    read = results.from_json(json.loads((report / "results.json").read_text(encoding="utf-8")))
    assert read.as_json() == swept.as_json()


def test_pictures_show_something(report: Path) -> None:
    for name in PICTURES:
        picture = Image.open(io.BytesIO((report / f"{name}.png").read_bytes())).convert("RGB")
        assert picture.width > 400
        colours = picture.getcolors(1 << 24) or []
        assert len(colours) > 20, name
        assert max(count for count, _ in colours) < 0.995 * picture.width * picture.height, name


def test_the_page_names_no_address_to_fetch(report: Path) -> None:
    text = (report / "report.html").read_text(encoding="utf-8")
    bundle = vega.javascript()
    assert text.count(bundle.replace("</script", "<\\/script")) == 1, "the library stands in it once"
    own = text.replace(bundle, "")
    assert not _FETCHED.search(own)
    assert re.findall(r"https?://[^\s\"']+", own) == ["https://vega.github.io/schema/vega-lite/v6.json"] * len(PICTURES)
    assert _FETCHED.search('<script src="https://cdn.example/vega.js">'), "control"
    assert "default-src 'none'" in own


def test_pictures_that_are_no_longer_drawn_go(tmp_path: Path) -> None:
    (tmp_path / "heat-map.png").write_bytes(b"of an earlier report")
    (tmp_path / "mine.png").write_bytes(b"the user's")
    swept = points.swept(count=1)
    first, *rest = write_report(replace(swept, knobs={}), tmp_path)
    assert first.name == "report.html"
    assert rest[-1].name == "results.json"
    assert not (tmp_path / "heat-map.png").exists()
    assert (tmp_path / "mine.png").exists()


def test_without_the_library_the_results_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(MachineError, match="vl-convert is not installed") as raised:
        write_report(points.swept(count=2), tmp_path)
    assert "tritonsmith[sweep]" in str(raised.value.mend)
    with pytest.raises(MachineError, match="vl-convert is not installed"):
        vega.check()
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="file"):
        write_report(points.swept(count=1), tmp_path / "file" / "report")


def test_a_sweep_that_measured_nothing_has_a_page_all_the_same(tmp_path: Path) -> None:
    written = write_report(replace(points.swept(count=1), tried=(), ranking=(), as_it_is=None, verdicts=()), tmp_path)
    assert [path.name for path in written] == ["report.html", "results.json"]
    assert "Nothing was measured." in written[0].read_text(encoding="utf-8")

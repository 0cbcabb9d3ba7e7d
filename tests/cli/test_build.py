"""What `build` says of a stage that failed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from builder import building
from builder.cli import app

if TYPE_CHECKING:
    from pathlib import Path

NAMED = "tritonsmith: failed: two/path/sentence-embedding/-/-/source\n"


@pytest.mark.parametrize(("targets", "named"), [("a: {}", False), ("a: {}, b: {}", True)])
def test_the_stage_is_named_where_it_may_be_of_several_targets(
    targets: str, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nothing").mkdir()
    stated = targets.replace("{}", "{runtime: onnxruntime}")
    recipe = tmp_path / "two.yaml"
    recipe.write_text(
        f"schema_version: 1\nname: two\nsource: {{path: nothing}}\ntask: sentence-embedding\ntargets: {{{stated}}}\n",
        encoding="utf-8",
    )
    now = replace(building.settings(), cache=tmp_path / "cache")
    monkeypatch.setattr(building, "settings", lambda: now)
    ended = CliRunner().invoke(app, ["build", str(recipe), "--out", str(tmp_path / "dist"), "--jobs", "1"])
    assert ended.exit_code != 0
    assert (NAMED in ended.stderr) is named

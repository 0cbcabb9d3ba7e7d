"""What the benchmark of lint measures: many models, and nothing to find but advice."""

from __future__ import annotations

from benchmarks import lint as benchmark
from builder.lint import Options, lint


def test_the_repository_is_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "APPLICATIONS", 2)
    report = lint(benchmark._repository(tmp_path / "models"), Options())
    assert report.models == 10
    assert {found.rule for found in report.findings} == {"C10"}

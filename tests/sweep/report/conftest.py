"""One report, written once, and one browser for all tests that look at it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from builder.sweep.report import write_report
from tests.browser import Browser, program
from tests.sweep import points

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.sweep.swept import Swept


@pytest.fixture(scope="session")
def swept() -> Swept:
    return points.swept()


@pytest.fixture(scope="session")
def report(swept: Swept, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(swept, folder)
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium. CI has it (``.ci/run`` installs it), and says that tests may not go without."""
    executable = program()
    if executable is None:
        said = "no Chromium on PATH, so nobody looks at the report; Debian: apt-get install chromium"
        if os.environ.get("TRITONSMITH_TEST_BROWSER") == "required":
            pytest.fail(said)
        pytest.skip(said)
    with Browser(executable) as one:
        yield one

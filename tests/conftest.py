"""Fixtures that all tests share. What is slow to make lies in the user's real cache and is made once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.settings import settings
from builder.tools import releases
from builder.tools import toolchain as toolchains

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.tools.toolchain import Toolchain


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="Write tests/golden/stages.json anew.")


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    """The embedded toolchain. The installation itself locks, so parallel test processes wait for one another."""
    return toolchains.install(settings().cache)


@pytest.fixture(scope="session")
def server_environment(toolchain: Toolchain) -> Path:
    """The stubs' Python environment, with the onnxruntime of the default Triton release."""
    onnxruntime = releases.release("25.09").onnxruntime
    assert onnxruntime is not None
    return toolchains.python_environment(toolchain, settings().cache, onnxruntime)


@pytest.fixture(scope="session")
def is_gone() -> Callable[[int], bool]:
    """Waits until a process is gone (a zombie that its new parent has not reaped counts as gone); False: it stays."""
    return _is_gone


def _is_gone(pid: int, *, timeout_seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        time.sleep(0.02)
    return False

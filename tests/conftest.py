"""Fixtures that all tests share. What is slow to make lies in the user's real cache and is made once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadFileScheduling

from builder.settings import settings
from builder.tools import releases
from builder.tools import toolchain as toolchains

if TYPE_CHECKING:
    from collections.abc import Callable

    from xdist.remote import Producer

    from builder.tools.toolchain import Toolchain


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="Write tests/golden/stages.json anew.")


TOGETHER = ("tests/export/", "tests/verify/")
"""Folders whose files share exports, archives and a server: one process makes them, not each."""


class ByFile(LoadFileScheduling):
    """``--dist loadfile``, but that some folders are not spread over several processes either."""

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in TOGETHER if nodeid.startswith(folder)), nodeid.partition("::")[0])


@pytest.hookimpl(optionalhook=True)  # there is none with -p no:xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile | None:
    return ByFile(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several processes, what takes long begins first: at the end all would wait for the one that has it.

    With ``--no-loadscope-reorder``: by itself, pytest-xdist begins with the files that have many tests.
    """
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


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

from __future__ import annotations

import logging
import os
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from builder.errors import MachineError, MissingError
from builder.settings import settings
from builder.tools import pip, toolchain
from builder.tools.process import run
from tests.tools.test_pip import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

INSTALL = """
import logging, os, sys
from builder.settings import settings
from builder.tools import toolchain
class Handler(logging.Handler):
    def emit(self, record):
        print(record.getMessage(), flush=True)
        if os.environ.get("KILL_AT") and os.environ["KILL_AT"] in record.getMessage():
            os.kill(os.getpid(), 9)
logging.basicConfig(level=logging.INFO, handlers=[Handler()])
print("installed", toolchain.install(settings().cache).root)
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two real wheels, in a folder; pip's cache may spare the network."""
    folder = tmp_path_factory.mktemp("wheels")
    for wheel in toolchain.WHEELS:
        path = pip.download(wheel.requirement, folder / wheel.requirement)
        path.rename(folder / path.name)
    return folder


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and an empty folder as the only source of packages; returns that folder."""
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("TRITONSMITH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "index"


def install_elsewhere(**environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", INSTALL]
    return subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.slow
def test_killed_in_the_middle_then_two_at_once(
    wheels: Path, offline: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    cache = settings().cache
    with install_elsewhere(KILL_AT="fetching tritonclient") as killed:
        assert killed.wait(120) == -9  # the server's wheel had been unpacked
    assert toolchain.status(cache) is None
    assert visible(cache / "toolchain") == []
    assert list((cache / "toolchain").glob(".*.tmp-*/server/pytriton"))  # the control: it was in the middle

    both = [install_elsewhere(), install_elsewhere()]
    said = [child.communicate(timeout=120)[0] for child in both]
    assert [child.returncode for child in both] == [0, 0]
    assert sum("installing tritonserver 2.51.0" in text for text in said) == 1
    found = toolchain.status(cache)
    assert found is not None
    assert all(f"installed {found.root}" in text for text in said)
    assert visible(cache / "toolchain") == [toolchain.digest()]
    assert not list((cache / "toolchain").glob(".*.tmp-*"))

    # What was installed runs.
    libraries = {"LD_LIBRARY_PATH": str(found.perf_libraries)}
    done = run([found.perf_analyzer, "--version"], what="x", timeout_seconds=60, env=libraries)
    assert "Perf Analyzer Version 2.51.0" in done.stderr
    with pytest.raises(MachineError, match=r"libb64.so.0d"):  # the control: the links are what makes it run
        run([found.perf_analyzer, "--version"], what="x", timeout_seconds=60, env={})
    assert "--model-repository" in run([found.tritonserver, "--help"], what="x", timeout_seconds=60, check=False).stderr
    with caplog.at_level(logging.INFO):
        assert toolchain.install(cache) == found
    assert caplog.messages == []  # the second time there is nothing to do, and to say


def test_no_index_has_it(offline: Path) -> None:
    cache = settings().cache
    with pytest.raises(MissingError, match=r"no index has a package named nvidia-pytriton") as caught:
        toolchain.install(cache)
    assert "name an index or a folder that has it" in caught.value.mend
    assert toolchain.status(cache) is None
    assert visible(cache / "toolchain") == []


def test_a_wheel_with_a_wrong_hash(offline: Path) -> None:
    make_wheel(offline, "nvidia_pytriton", "0.7.0")
    cache = settings().cache
    with pytest.raises(MachineError, match=r"nvidia_pytriton-0.7.0-py3-none-any.whl: its sha256 is [0-9a-f]{64}, that"):
        toolchain.install(cache)
    assert toolchain.status(cache) is None
    assert [path.name for path in (cache / "toolchain").iterdir()] == [f".{toolchain.digest()}.lock"]


@pytest.mark.parametrize(
    ("system", "machine", "libc", "message"),
    [
        ("darwin", "arm64", ("", ""), "runs on Linux x86-64; this is darwin arm64"),
        ("linux", "aarch64", ("glibc", "2.39"), "runs on Linux x86-64; this is linux aarch64"),
        ("linux", "x86_64", ("glibc", "2.31"), "needs glibc 2.35 or later; this machine has glibc 2.31"),
        ("linux", "x86_64", ("", ""), "needs glibc 2.35 or later; this machine has no glibc"),
    ],
)
def test_a_machine_that_cannot_run_it(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, libc: tuple[str, str], message: str
) -> None:
    toolchain.check_machine()  # the control: this one can
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    with pytest.raises(MachineError, match=message):
        toolchain.check_machine()


LIMITED = """
import resource, sys
from builder.tools import toolchain
resource.setrlimit(resource.RLIMIT_NOFILE, (64, int(sys.argv[1])))
toolchain.allow_open_files()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_the_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def limited(hard: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", LIMITED, str(hard)], capture_output=True, text=True, timeout=60)

    assert limited(1000).stdout == "1000\n"
    assert "MachineError: tritonserver needs 256 open files; this process may have 64" in limited(64).stderr
    infinite = (toolchain.resource.RLIM_INFINITY,) * 2
    monkeypatch.setattr(toolchain, "_file_limits", lambda: infinite)
    toolchain.allow_open_files()  # nothing to raise


def test_backends_are_composed_once_for_each_content(
    toolchain_copy: toolchain.Toolchain, server_environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = toolchain.backends(toolchain_copy, server_environment)
    assert visible(first) == sorted(["python", *(folder.name for folder in toolchain.templates.backends())])
    assert visible(first / "python") == [
        "libtriton_python.so",
        "triton_python_backend_stub",
        "triton_python_backend_utils.py",
    ]
    assert os.access(first / "python/triton_python_backend_stub", os.X_OK)
    assert toolchain.backends(toolchain_copy, server_environment) == first
    other = tmp_path / "other/backends/onnxruntime"
    other.mkdir(parents=True)
    (other / "model.py").write_text("# another")
    monkeypatch.setattr(toolchain.templates, "folder", lambda: tmp_path / "other")
    second = toolchain.backends(toolchain_copy, server_environment)
    assert second != first
    assert (second / "onnxruntime/model.py").read_text() == "# another"


@pytest.fixture
def toolchain_copy(toolchain: toolchain.Toolchain, tmp_path: Path) -> toolchain.Toolchain:
    """The installed toolchain in another cache, where a test may make folders."""
    root = tmp_path / "toolchain" / toolchain.digest
    root.parent.mkdir()
    root.symlink_to(toolchain.root)
    return type(toolchain)(root, toolchain.digest)


def test_a_python_without_a_stub(toolchain_copy: toolchain.Toolchain) -> None:
    assert toolchain_copy.stub((3, 12)).is_file()
    with pytest.raises(MachineError, match=r"has no Python backend for Python 3\.14"):
        toolchain_copy.stub((3, 14))

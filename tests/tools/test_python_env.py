from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.errors import MachineError
from builder.tools import libpython, python_env
from builder.tools.process import run

if TYPE_CHECKING:
    from builder.tools.toolchain import Toolchain


PROBE = f"import runpy; runpy.run_path({libpython.__file__!r}, run_name='__main__')"


def fake_python(folder: Path, name: str, minor: tuple[int, int], libpython: Path | None) -> Path:
    """A program that answers the probe as such a Python would."""
    facts = {"version": "x", "minor": list(minor), "prefix": "/opt/py", "libpython": libpython and str(libpython)}
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{json.dumps(facts)}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def only_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def answers(monkeypatch: pytest.MonkeyPatch, python: Path) -> None:
    """Makes the running Python be probed as if it were another."""
    real = python_env._probe
    monkeypatch.setattr(python_env, "_probe", lambda path: real(python if path == Path(sys.executable) else path))


def test_the_running_python_is_taken() -> None:
    found = python_env.find_interpreter()
    if sys.version_info[:2] in python_env.PYTHONS:
        assert (found.executable, found.minor) == (Path(sys.executable), sys.version_info[:2])
    assert found.libpython is not None
    assert found.libpython.is_file()


def test_the_running_python_says_of_itself_what_it_says_to_others() -> None:
    python = python_env._probe(Path(sys.executable))
    asked = json.loads(run([sys.executable, "-I", libpython.__file__], what="probe", timeout_seconds=60).stdout)
    assert python is not None
    assert asked == {
        "version": python.version,
        "minor": list(python.minor),
        "prefix": python.prefix,
        "libpython": str(python.libpython),
    }


def test_no_libpython(only_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, fake_python(tmp_path, "python", (3, 11), None))
    with pytest.raises(
        MachineError, match=r"libpython3.11.so.1.0 was not found: .* the one at /opt/py has none"
    ) as caught:
        python_env.find_interpreter()
    for word in ("apt install libpython3.11", "--enable-shared", "conda create"):
        assert word in caught.value.mend


def test_the_probe_sees_that_there_is_no_libpython(tmp_path: Path) -> None:
    # The real probe, in a Python whose folders and loader are made blind.
    blind = "import ctypes, os.path\nos.path.isfile = lambda path: False\n"
    blind += "def CDLL(name): raise OSError\nctypes.CDLL = CDLL\n"
    done = run([sys.executable, "-I", "-c", blind + PROBE], what="probe", timeout_seconds=60)
    assert json.loads(done.stdout)["libpython"] is None
    done = run([sys.executable, "-I", "-c", PROBE], what="probe", timeout_seconds=60)
    assert json.loads(done.stdout)["libpython"] is not None


def test_the_probe_asks_the_loader_when_the_folders_are_empty() -> None:
    blind = "import os.path\nos.path.isfile = lambda path: False\n"
    python = python_env.find_interpreter()
    env = {"LD_LIBRARY_PATH": str(python.libpython.parent) if python.libpython else ""}
    done = run([python.executable, "-I", "-c", blind + PROBE], what="probe", timeout_seconds=60, env=env)
    assert json.loads(done.stdout)["libpython"] == str(python.libpython)


def test_another_python_is_taken_when_the_running_one_is_too_new(
    only_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, fake_python(tmp_path, "python", (3, 13), tmp_path / "libpython3.13.so.1.0"))
    with pytest.raises(MachineError, match=r"needs Python 3.11 or 3.12 \(it works with numpy 1 only\)"):
        python_env.find_interpreter()
    shim = only_path / "python3.12"  # a shim of a version that is not active
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    other = fake_python(only_path, "python3.11", (3, 11), tmp_path / "libpython3.11.so.1.0")
    assert python_env.find_interpreter().executable == other


def test_the_environment_holds_what_was_asked(server_environment: Path) -> None:
    python = server_environment / "bin/python"
    script = "import numpy, onnxruntime, sys; print(numpy.__version__, onnxruntime.__version__, sys.prefix)"
    said = run([python, "-I", "-c", script], what="x", timeout_seconds=60).stdout.split()
    assert said == [python_env.NUMPY_VERSION, "1.23.0", str(server_environment)]
    major, minor = python_env.python_minor(server_environment)
    link = server_environment / f"lib-python/libpython{major}.{minor}.so.1.0"
    assert link.is_symlink()
    assert link.is_file()


def test_an_onnxruntime_that_does_not_exist_leaves_nothing(toolchain: Toolchain, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"onnxruntime==0.0.1"):
        python_env.python_environment(toolchain, tmp_path, "0.0.1")
    assert [path.name for path in (tmp_path / "environments").iterdir() if not path.name.startswith(".")] == []


def test_a_python_may_be_asked_for(only_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "libpython"
    library.touch()
    answers(monkeypatch, fake_python(tmp_path, "python", (3, 11), library))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "pythons/3.11.7"))
    assert python_env.find_interpreter((3, 11)).minor == (3, 11)
    with pytest.raises(MachineError, match=r"hold packages for Python 3.12 alone"):
        python_env.find_interpreter((3, 12))
    beside = tmp_path / "pythons/cpython-3.12.1/bin"
    beside.mkdir(parents=True)
    fake_python(beside, "python3.12", (3, 12), library)
    assert python_env.find_interpreter((3, 12)).executable == beside / "python3.12"
    assert python_env.find_interpreter().minor == (3, 11)

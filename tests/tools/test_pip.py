from __future__ import annotations

import functools
import http.server
import subprocess
import threading
import venv
import zipfile
from pathlib import Path

import pytest

from builder.errors import MachineError, MissingError, NetworkError
from builder.tools import pip


def make_wheel(folder: Path, name: str, version: str, *, tag: str = "py3-none-any", size: int = 0) -> Path:
    """A tiny wheel that pip takes for a real one; its module is ``size`` bytes long."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "#" * size)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only source of packages, said in pip's own way."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_download_uses_the_settings_of_the_users_pip(index: Path, tmp_path: Path) -> None:
    wheel = make_wheel(index, "tiny", "1.0")
    assert pip.download("tiny==1.0", tmp_path / "to").read_bytes() == wheel.read_bytes()


def test_settings_that_would_divert_an_installation_do_not(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(index, "tiny", "1.0")
    monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "1")
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
    venv.create(tmp_path / "venv", with_pip=False)
    pip.install(["tiny==1.0"], tmp_path / "venv/bin/python")
    assert list((tmp_path / "venv").glob("lib/*/site-packages/tiny.py"))
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("where", ["environment", "file"])
def test_pins_of_the_users_image_do_not_fight_with_ours(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    wheel = make_wheel(index, "tiny", "1.0")
    (tmp_path / "pins.txt").write_text("tiny==2.0\n")
    if where == "environment":
        monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "pins.txt"))
        monkeypatch.setenv("PIP_NO_BINARY", "tiny")
        monkeypatch.setenv("PIP_REQUIRE_HASHES", "1")
        monkeypatch.setenv("PIP_REQUIREMENT", str(tmp_path / "pins.txt"))
    else:
        (tmp_path / "pip.conf").write_text(f"[global]\nconstraint = {tmp_path / 'pins.txt'}\nrequire-hashes = true\n")
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert pip.download("tiny==1.0", tmp_path / "to").read_bytes() == wheel.read_bytes()
    harmless = {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    monkeypatch.setattr(pip, "_NEUTRAL", harmless)  # the control: they would
    with pytest.raises(MachineError, match="tiny"):
        pip.download("tiny==1.0", tmp_path / "again")


def test_progress_is_told(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = make_wheel(index, "tiny", "1.0", size=1_000_000).stat().st_size
    handler = functools.partial(Quiet, directory=index)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_FIND_LINKS", f"http://127.0.0.1:{server.server_address[1]}/")
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        told: list[tuple[str, int, int]] = []
        pip.download("tiny==1.0", tmp_path / "to", progress=lambda *step: told.append(step))
        server.shutdown()
    assert told[0] == ("tiny==1.0", 0, size)
    assert told[-1] == ("tiny==1.0", size, size)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_a_mistyped_name_is_not_the_networks_fault(index: Path, tmp_path: Path) -> None:
    wanted = (
        r"^pip: Hypothesys==1.0: no index has a package named Hypothesys \(looked for Python 3.12 on Linux x86-64\)"
    )
    options = ["--python-version=3.12", "--platform=manylinux_2_28_x86_64"]
    with pytest.raises(MissingError, match=wanted) as caught:
        pip.download("Hypothesys==1.0", tmp_path / "to", options=options)
    assert "did you mean hypothesis?" in caught.value.mend


def test_an_index_that_knows_no_such_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_address[1]}/")
        with pytest.raises(MissingError, match="no index has a package named tiny"):
            pip.download("tiny==1.0", tmp_path / "to")
        server.shutdown()


def test_an_index_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nobody listens
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(NetworkError) as caught:
        pip.download("tiny==1.0", tmp_path / "to")
    assert "pip config list" in caught.value.mend


def test_a_version_that_is_not_there_is_not_the_networks_fault(index: Path, tmp_path: Path) -> None:
    make_wheel(index, "tiny", "1.0")
    make_wheel(index, "tiny", "1.9")
    with pytest.raises(MissingError, match=r"no wheel of tiny==2\.0 for .*; the newest of it are 1\.0, 1\.9") as caught:
        pip.download("tiny==2.0", tmp_path / "to")
    assert caught.value.mend == "write tiny==1.0, or another that there is; or correct the name"


def test_a_python_without_pip(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    script = "from pathlib import Path; from builder.tools import pip; pip.download('tiny', Path('to'))"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [tmp_path / "venv/bin/python", "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True
    )
    assert b"MachineError: pip: tiny: this Python (" in done.stderr
    assert b"venv/bin/python) has no pip\n  mend: run " in done.stderr

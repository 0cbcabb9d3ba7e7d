from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from builder.core.digest import describe_folder
from builder.errors import InternalError, MachineError, UserError
from builder.settings import settings
from builder.tools import wheels
from builder.tools.wheels import Wanted

if TYPE_CHECKING:
    from pathlib import Path

TAG = "cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64"


def make_wheel(folder: Path, version: str, tag: str = TAG) -> Path:
    """A tiny wheel that pip takes for a real one."""
    path = folder / f"tiny-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr(f"tiny-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n")
        wheel.writestr(f"tiny-{version}.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        wheel.writestr(f"tiny-{version}.dist-info/RECORD", "")
    return path


TINY = Wanted("tiny", "1.0", (3, 12))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is pip's only source of packages."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.mark.parametrize(
    ("file_name", "fits"),
    [
        (f"tiny-1.0-{TAG}.whl", True),
        ("tiny-1.0-cp312-abi3-manylinux2014_x86_64.whl", True),
        ("tiny-1.0-cp313-abi3-manylinux2014_x86_64.whl", False),  # for a later Python
        ("tiny-1.0-cp39-abi3-manylinux2014_aarch64.whl", False),
        ("tiny-1.0-cp39-abi3-manylinux_2_28_x86_64.whl", False),  # for a later glibc
        ("tiny-1.0-cp39-abi3-macosx_11_0_arm64.whl", False),
        ("tiny-1.0-cp312-cp312-manylinux2014_x86_64.whl", False),  # for one Python alone
        (f"tiny-1.1-{TAG}.whl", False),
        (f"tidy-1.0-{TAG}.whl", False),
        ("tiny-1.0.tar.gz", False),
    ],
)
def test_which_wheel_fits(file_name: str, fits: bool) -> None:
    assert TINY.fits(file_name) == fits


def test_a_wheel_is_fetched_once(index: Path, tmp_path: Path) -> None:
    source = make_wheel(index, "1.0")
    fetched = wheels.fetch(TINY, tmp_path / "cache")
    source.unlink()  # pip would find nothing now
    assert wheels.fetch(TINY, tmp_path / "cache") == fetched
    assert fetched.path.parent.name == fetched.sha256
    assert [path.name for path in (tmp_path / "cache/wheels").iterdir() if path.is_dir()] == [fetched.sha256]


def test_a_damaged_wheel_is_fetched_again(index: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_wheel(index, "1.0")
    fetched = wheels.fetch(TINY, tmp_path / "cache")
    fetched.path.write_bytes(b"damaged")
    assert wheels.fetch(TINY, tmp_path / "cache") == fetched
    assert fetched.path.stat().st_size == fetched.size
    assert "damaged, fetching it again" in caplog.text


def test_a_wheel_of_another_machine_is_not_taken(index: Path, tmp_path: Path) -> None:
    make_wheel(index, "1.0", "cp39-abi3-manylinux2014_aarch64")
    with pytest.raises(MachineError, match=r"pip: tiny==1\.0: there is tiny, but no wheel of "):
        wheels.fetch(TINY, tmp_path / "cache")
    assert [path for path in (tmp_path / "cache/wheels").iterdir() if path.is_dir()] == []


def test_a_version_that_is_not_there_is_told_for_the_serving_machine(index: Path, tmp_path: Path) -> None:
    make_wheel(index, "0.9")
    with pytest.raises(MachineError, match=r"pip: tiny==1\.0: ") as caught:
        wheels.fetch(TINY, tmp_path / "cache")
    assert "Python 3.12 on Linux x86-64" in caught.value.mend


def test_a_cache_that_cannot_be_written(index: Path, tmp_path: Path) -> None:
    make_wheel(index, "1.0")
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(MachineError, match=r"cache/wheels: Not a directory"):
        wheels.fetch(TINY, tmp_path / "cache")


def test_only_what_a_program_needs_is_unpacked(index: Path, tmp_path: Path) -> None:
    path = make_wheel(index, "1.0")
    with zipfile.ZipFile(path, "a") as wheel:
        for name in ("tiny/a.so", "tiny/a.pyi", "tiny/__pycache__/a.pyc", "tiny-1.0.dist-info/licenses/LICENSE"):
            wheel.writestr(name, "x")
    names = wheels.unpack(wheels.fetch(TINY, tmp_path / "cache"), tmp_path / "vendor")
    assert names == ("tiny-1.0.dist-info/METADATA", "tiny-1.0.dist-info/licenses/LICENSE", "tiny.py", "tiny/a.so")
    assert tuple(sorted(describe_folder(tmp_path / "vendor"))) == names


def test_a_wheel_that_is_none(index: Path, tmp_path: Path) -> None:
    make_wheel(index, "1.0")
    fetched = wheels.fetch(TINY, tmp_path / "cache")
    fetched.path.write_bytes(b"no zip")
    with pytest.raises(MachineError, match="is no wheel"):
        wheels.unpack(fetched, tmp_path / "vendor")


def test_a_project_that_is_not_installed() -> None:
    assert wheels.installed_version("tokenizers")
    with pytest.raises(InternalError, match="nowhere-to-be-found is not installed"):
        wheels.installed_version("nowhere-to-be-found")


def test_the_real_tokenizers_run_from_the_folder_alone(tmp_path: Path) -> None:
    wanted = Wanted("tokenizers", wheels.installed_version("tokenizers"), (3, 10))
    wheels.unpack(wheels.fetch(wanted, settings().cache), tmp_path)
    script = "import sys; sys.path[:] = [sys.argv[1], *sys.path]; import tokenizers; print(tokenizers.__file__)"
    command = [sys.executable, "-I", "-S", "-B", "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "tokenizers/__init__.py")


def needing(folder: Path, needed: str) -> None:
    """A wheel of one Python that needs another package."""
    with zipfile.ZipFile(folder / "own_thing-2.0-cp312-cp312-manylinux_2_28_x86_64.whl", "w") as wheel:
        wheel.writestr("own_thing/__init__.py", "")
        head = "Metadata-Version: 2.1\nName: own-thing\nVersion: 2.0\n"
        wheel.writestr("own_thing-2.0.dist-info/METADATA", f"{head}Requires-Dist: {needed}\n")
        tag = "Tag: cp312-cp312-manylinux_2_28_x86_64"
        wheel.writestr("own_thing-2.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\n{tag}\n")
        wheel.writestr("own_thing-2.0.dist-info/RECORD", "")


def test_packages_come_with_all_that_they_need(index: Path, tmp_path: Path) -> None:
    needing(index, "tiny")
    source = make_wheel(index, "1.0", "py3-none-any")
    with pytest.raises(UserError, match=r"need tiny==1.0, too") as caught:
        wheels.fetch_all(["Own.Thing==2.0"], (3, 12), tmp_path / "cache")
    assert caught.value.mend.endswith(": own-thing==2.0, tiny==1.0")
    fetched = wheels.fetch_all(["Own.Thing==2.0", "tiny==1.0"], (3, 12), tmp_path / "cache")
    assert [wheel.path.name.partition("-")[0] for wheel in fetched] == ["own_thing", "tiny"]
    source.unlink()  # pip would find nothing now
    assert wheels.fetch_all(["tiny==1.0", "own.thing==2.0"], (3, 12), tmp_path / "cache") == fetched
    fetched[1].path.write_bytes(b"damaged")
    make_wheel(index, "1.0", "py3-none-any")
    again = wheels.fetch_all(["own.thing==2.0", "tiny==1.0"], (3, 12), tmp_path / "cache")
    assert again[1].size == again[1].path.stat().st_size > len(b"damaged")


def test_packages_of_another_python_are_not_taken(index: Path, tmp_path: Path) -> None:
    needing(index, "tiny")
    make_wheel(index, "1.0", "py3-none-any")
    with pytest.raises(UserError, match=r"no wheel of own-thing==2\.0 for Python 3\.10 on Linux x86-64"):
        wheels.fetch_all(["own-thing==2.0", "tiny==1.0"], (3, 10), tmp_path / "cache")


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ([f"tiny-1.0-{TAG}.whl", "idna-3.10-py3-none-any.whl"], None),
        ([f"tiny-1.0-{TAG}.whl", "pillow-13.0.0-cp312-cp312-manylinux_2_28_x86_64.whl"], (3, 12)),
    ],
)
def test_which_python_wheels_run_on_alone(names: list[str], wanted: tuple[int, int] | None) -> None:
    assert wheels.needed_python(names) == wanted

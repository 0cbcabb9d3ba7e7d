from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from builder.errors import MachineError
from builder.tools.atomic import disk_error, publish, replacing, replacing_folder

MAKE = """
import sys, time
from pathlib import Path
from builder.tools.atomic import publish
with publish(Path(sys.argv[1])) as folder:
    if folder is not None:
        print("made", flush=True)
        (folder / "half").touch()
        {rest}
"""


def test_it_appears_whole(tmp_path: Path) -> None:
    with publish(tmp_path / "deep/it") as folder:
        assert folder is not None
        (folder / "file").write_text("x")
        assert not (tmp_path / "deep/it").exists()
    assert (tmp_path / "deep/it/file").read_text() == "x"
    with publish(tmp_path / "deep/it") as folder:
        assert folder is None


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with publish(tmp_path / "it") as folder:
            assert folder is not None
            (folder / "half").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == [".it.lock"]


def test_a_killed_process_leaves_nothing_that_counts(tmp_path: Path) -> None:
    script = MAKE.format(rest="time.sleep(1000)")
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "it")], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"made\n"
        child.kill()
    assert not (tmp_path / "it").exists()
    assert list(tmp_path.glob(".it.tmp-*"))  # the control: it had begun
    with publish(tmp_path / "it") as folder:
        assert folder is not None
        assert list(folder.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [".it.lock", "it"]


REPLACE = """
import os, sys, time
from pathlib import Path
from builder.tools.atomic import replacing
with replacing(Path(sys.argv[1])) as descriptor:
    os.write(descriptor, b"half")
    print("made", flush=True)
    time.sleep(1000)
"""


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "it [1]"
    for text in (b"one", b"two"):
        with replacing(path) as descriptor:
            os.write(descriptor, text)
        assert path.read_bytes() == text
        assert path.stat().st_mode & 0o777 == 0o644

    def fail() -> None:
        with replacing(path) as descriptor:
            os.write(descriptor, b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [(one, one.read_bytes()) for one in tmp_path.iterdir()] == [(path, b"two")]


def test_half_a_file_of_a_killed_process_goes_and_that_of_a_running_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "it [1]"
    with subprocess.Popen([sys.executable, "-c", REPLACE, str(path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"made\n"
        with replacing(path) as descriptor:
            os.write(descriptor, b"other")
        assert len(list(tmp_path.iterdir())) == 2
        child.kill()
    with replacing(path) as descriptor:
        os.write(descriptor, b"whole")
    assert [(one, one.read_bytes()) for one in tmp_path.iterdir()] == [(path, b"whole")]


def test_of_many_at_once_one_does_the_work(tmp_path: Path) -> None:
    script = MAKE.format(rest="time.sleep(0.2)")
    command = [sys.executable, "-c", script, str(tmp_path / "it")]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    said = [child.communicate(timeout=60)[0] for child in children]
    assert sorted(said) == [b"", b"", b"", b"made\n"]
    assert [child.returncode for child in children] == [0, 0, 0, 0]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match=r"file/it: File exists"), publish(tmp_path / "file/it"):
        pass


def test_a_full_disk_is_named() -> None:
    full = disk_error(Path("/c/it"), OSError(errno.ENOSPC, "No space left on device"))
    assert (full.message, "TRITONSMITH_CACHE" in full.mend) == ("/c/it: no space left on the disk", True)


def stands(folder: Path) -> bool:
    return (folder / "file").exists() and (folder / "file").read_text() == "right"


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "it"
    for number in range(2):
        with replacing_folder(target, stands) as folder:
            (folder / "deep").mkdir(mode=0o700)
            (folder / "file").write_text(f"wrong {number}")
            assert (target / "file").exists() is bool(number), "the old one stays until the new one is whole"
    assert (target / "file").read_text() == "wrong 1"
    assert [path.stat().st_mode & 0o777 for path in (target, target / "deep")] == [0o755, 0o755]
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_of_two_that_make_a_folder_the_first_wins(tmp_path: Path) -> None:
    target = tmp_path / "it"
    with replacing_folder(target, stands) as second:
        (second / "file").write_text("right")
        with replacing_folder(target, stands) as first:
            (first / "file").write_text("right")
        inode = (target / "file").stat().st_ino
    assert (target / "file").stat().st_ino == inode
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_folder_is_replaced_too(tmp_path: Path, kind: str) -> None:
    target, other = tmp_path / "it", tmp_path / "other"
    other.mkdir()
    (other / "kept").touch()
    target.write_text("x") if kind == "file" else target.symlink_to(other)
    with replacing_folder(target, stands) as folder:
        (folder / "file").write_text("right")
    assert stands(target)
    assert not target.is_symlink()
    assert (other / "kept").exists()


def test_of_a_folder_a_killed_process_leaves_nothing_that_counts(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from builder.tools.atomic import replacing_folder\n"
        "with replacing_folder(Path(sys.argv[1]), Path.exists) as folder:\n"
        "    (folder / 'half').touch(); print('made', flush=True); time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "it")], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"made\n"
        with replacing_folder(tmp_path / "it", stands) as folder:
            (folder / "file").write_text("other")
        assert len(list(tmp_path.glob(".it.*.tmp"))) == 1  # the control: it had begun, and is not swept while it lives
        child.kill()
    with replacing_folder(tmp_path / "it", stands) as folder:
        (folder / "file").write_text("right")
    assert [path.name for path in tmp_path.iterdir()] == ["it"]
    assert stands(tmp_path / "it")

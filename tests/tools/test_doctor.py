from __future__ import annotations

import errno
import os
import platform
import shutil
from pathlib import Path

import pytest

from builder.errors import MachineError
from builder.tools import doctor, toolchain


def finding(subject: str, cache: Path) -> doctor.Finding:
    return next(found for found in doctor.examine(cache) if found.subject == subject)


def test_a_cache_that_can_be_made(tmp_path: Path) -> None:
    found = finding("disk", tmp_path / "not/yet/there")
    assert found.level in {"ok", "note"}
    assert "GiB free" in found.fact


def test_a_cache_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = finding("disk", tmp_path / "file/cache")
    assert (found.level, "TRITONSMITH_CACHE" in found.mend) == ("error", True)
    assert found.fact.endswith("file is no folder that one may write")


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache below a folder that one may not enter; root may enter all, so the refusal is put on."""
    real = Path.stat

    def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if tmp_path / "closed" in path.parents:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", stat)
    return tmp_path / "closed/cache"


def test_a_cache_that_one_may_not_look_into(closed: Path) -> None:
    for subject in ("disk", "toolchain"):
        found = finding(subject, closed)
        assert (found.level, "Permission denied" in found.fact) == ("error", True)
        assert "TRITONSMITH_CACHE" in found.mend
    for use in (toolchain.status, toolchain.install):
        with pytest.raises(MachineError, match=r"closed/cache/toolchain/.*: Permission denied") as caught:
            use(closed)
        assert "TRITONSMITH_CACHE" in caught.value.mend


def test_little_room_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MINIMUM_DISK_GIB", shutil.disk_usage(tmp_path).total)
    assert finding("disk", tmp_path).level == "note"


@pytest.mark.parametrize(
    ("libc", "level"), [(("glibc", "2.35"), "ok"), (("glibc", "2.34"), "error"), (("", ""), "error")]
)
def test_glibc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, libc: tuple[str, str], level: str) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    found = finding("glibc", tmp_path)
    assert found.level == level
    assert "Amazon Linux 2023" not in found.mend  # it has 2.34

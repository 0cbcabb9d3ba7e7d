from __future__ import annotations

import errno
import gc
import gzip
import io
import logging
import os
import random
import subprocess
import sys
import tarfile
import threading
from typing import TYPE_CHECKING

import pytest

from builder.core.digest import describe_file, describe_folder, digest_tree
from builder.errors import ArchiveError, MachineError
from builder.tools import archive, archive_write

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from builder.artifacts import File

NAMES = ("m/config.pbtxt", "m/1/model.onnx", "m/1/empty", "m/1/" + "long" * 40 + "/ü\u2028.bin", "a/1/build.json")


def make_tree(folder: Path, sizes: Mapping[str, int] | None = None) -> dict[str, File]:
    """Files of random bytes, the same each time; by default one is empty and one is larger than a block."""
    chosen = sizes or dict(zip(NAMES, (200, 2 * archive_write.BLOCK_BYTES + 17, 0, 999, 512), strict=True))
    source = random.Random(0)
    for name, size in chosen.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes(size))
    return describe_folder(folder)


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, File]:
    return make_tree(tmp_path / "tree")


def test_an_archive_is_equal_wherever_and_whenever_it_is_packed(tree: dict[str, File], tmp_path: Path) -> None:
    first = archive.pack(tree, tmp_path / "first.tar.gz")
    other = make_tree(tmp_path / "elsewhere")
    for file in other.values():
        os.utime(file.path, (1, 1))
        file.path.chmod(0o600)
    second = archive.pack(dict(reversed(other.items())), tmp_path / "second" / "renamed.tar.gz")
    assert first.path.read_bytes() == second.path.read_bytes()


GOLDEN = "c0e28e59f47b72e496fabeb39fb5e288"


def test_the_bytes_are_the_golden_ones(tree: dict[str, File], tmp_path: Path) -> None:
    """Bytes may change only on purpose: with another isal, raise Pack.version."""
    assert archive.pack(tree, tmp_path / "a.tar.gz").sha256[:32] == GOLDEN


def test_bytes_do_not_depend_on_the_number_of_threads(
    tree: dict[str, File], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = archive.pack(tree, tmp_path / "a.tar.gz").sha256
    monkeypatch.setattr(archive_write, "THREADS", 1)
    assert archive.pack(tree, tmp_path / "b.tar.gz").sha256 == packed
    monkeypatch.setattr(archive_write, "BLOCK_BYTES", archive_write.BLOCK_BYTES // 2)
    assert archive.pack(tree, tmp_path / "c.tar.gz").sha256 != packed  # what they do depend on


def test_digest_and_size_are_those_of_the_file(tree: dict[str, File], tmp_path: Path) -> None:
    packed = archive.pack(tree, tmp_path / "a.tar.gz")
    assert packed == describe_file(tmp_path / "a.tar.gz")
    assert (packed.path.stat().st_mode & 0o777) == 0o644
    assert [path.name for path in tmp_path.iterdir() if path.name != "tree"] == ["a.tar.gz"]


def test_gnu_tar_and_gzip_read_it(tree: dict[str, File], tmp_path: Path) -> None:
    path = archive.pack(tree, tmp_path / "a.tar.gz").path
    subprocess.run(["gzip", "-t", path], check=True)
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "xzf", path, "-C", tmp_path / "out"], check=True)
    assert digest_tree(describe_folder(tmp_path / "out")) == digest_tree(tree)


def test_members_are_plain_files_without_an_owner_or_a_time(tree: dict[str, File], tmp_path: Path) -> None:
    os.link(tree["m/1/model.onnx"].path, tmp_path / "tree/m/1/linked.onnx")
    with tarfile.open(archive.pack(describe_folder(tmp_path / "tree"), tmp_path / "a.tar.gz").path) as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == sorted([*NAMES, "m/1/linked.onnx"])
    facts = {(m.type, m.mode, m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members}
    assert facts == {(tarfile.REGTYPE, 0o644, 0, 0, "", "", 0)}


def test_the_gzip_header_holds_no_name_and_no_time(tree: dict[str, File], tmp_path: Path) -> None:
    header = archive.pack(tree, tmp_path / "a.tar.gz").path.read_bytes()[:10]
    assert header[:4] == b"\x1f\x8b\x08\x00"  # no flags: no name, no comment
    assert header[4:8] == bytes(4)  # no time


def test_unpacking_gives_the_tree_back(tree: dict[str, File], tmp_path: Path) -> None:
    path = archive.pack(tree, tmp_path / "a.tar.gz").path
    unpacked = archive.unpack(path, tmp_path / "out")
    assert digest_tree(unpacked) == digest_tree(tree) == digest_tree(describe_folder(tmp_path / "out"))
    assert list(unpacked) == sorted(tree)


def test_members_are_read_without_writing(tree: dict[str, File], tmp_path: Path) -> None:
    path = archive.pack(tree, tmp_path / "a.tar.gz").path
    before = sorted(tmp_path.rglob("*"))
    assert digest_tree(archive.read_members(path)) == digest_tree(tree)
    assert sorted(tmp_path.rglob("*")) == before


def change_content(file: File) -> None:
    content = bytearray(file.path.read_bytes())
    content[-1] ^= 1
    file.path.write_bytes(content)


def grow(file: File) -> None:
    with file.path.open("ab") as stream:
        stream.write(b"x")


def shrink(file: File) -> None:
    os.truncate(file.path, file.size - 1)


@pytest.mark.parametrize("change", [change_content, grow, shrink])
@pytest.mark.parametrize("name", ["m/1/model.onnx", "m/config.pbtxt"])
def test_a_file_that_changed_since_it_was_hashed_is_not_packed(
    tree: dict[str, File], tmp_path: Path, change: Callable[[File], None], name: str
) -> None:
    change(tree[name])
    with pytest.raises(MachineError, match=f"has changed while the build ran: .* was read for {name}"):
        archive.pack(tree, tmp_path / "out" / "a.tar.gz")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_is_gone_is_named(tree: dict[str, File], tmp_path: Path) -> None:
    tree["m/config.pbtxt"].path.unlink()
    with pytest.raises(MachineError, match=r"No such file or directory .*config\.pbtxt"):
        archive.pack(tree, tmp_path / "out" / "a.tar.gz")
    assert list((tmp_path / "out").iterdir()) == []


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from builder.core.digest import describe_folder
from builder.errors import MachineError
from builder.tools import archive
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
tree = describe_folder(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_000, 2_500_000))
try:
    archive.pack(tree, Path(sys.argv[2]))
except MachineError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: the real write fails, in the compressor's thread."""
    make_tree(tmp_path / "tree", {"m/1/model.onnx": 6_000_000})
    out = tmp_path / "out" / "a.tar.gz"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL_DISK, tmp_path / "tree", out],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "a.tar.gz: File too large" in done.stdout, done.stderr
    assert done.stderr == ""
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_full_disk_is_told_and_leaves_nothing(
    tree: dict[str, File], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    real, used, threads = os.write, [], threading.active_count()

    def write(descriptor: int, data: bytes) -> int:
        used.append(descriptor)
        if len(used) == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    gc.collect()
    monkeypatch.setattr(archive_write.os, "write", write)
    with pytest.raises(MachineError, match=r"a\.tar\.gz: no space left on the disk") as caught:
        archive.pack(tree, tmp_path / "out" / "a.tar.gz")
    assert "free some space" in caught.value.mend
    assert list((tmp_path / "out").iterdir()) == []
    assert threading.active_count() == threads
    # isal's writer writes once more when it is collected: never into a file that was opened meanwhile.
    del caught
    failed = len(used)
    gc.collect()
    assert set(used[failed:]) <= {-1}


def test_what_was_there_stays_when_packing_fails(tree: dict[str, File], tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(b"before")
    change_content(tree["m/1/model.onnx"])
    with pytest.raises(MachineError):
        archive.pack(tree, path)
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a", "a/../../b", "a//b", "a/./b", "", "a/", "n\0l", "x" * 256, "\udcff"]
)
def test_a_name_that_no_member_may_have_is_refused(tree: dict[str, File], tmp_path: Path, name: str) -> None:
    with pytest.raises(ArchiveError):
        archive.pack({**tree, name: next(iter(tree.values()))}, tmp_path / "out" / "a.tar.gz")
    assert not (tmp_path / "out").exists()


BOUNDED = """
import resource, sys
from pathlib import Path
from isal import igzip_threaded
from builder.artifacts import File
from builder.tools import archive
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[4]),) * 2)
archive.pack({"m": File(Path(sys.argv[1]), sys.argv[2], 400_000_000)}, Path(sys.argv[3]))
"""


@pytest.mark.parametrize(("room", "fits"), [(200_000_000, True), (20_000_000, False)])
def test_memory_is_bounded(tmp_path: Path, room: int, fits: bool) -> None:
    """400 MB, in 200 MB of address space more than the program has before (most of it for the stacks of threads)."""
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as stream:
        stream.truncate(400_000_000)
    command = [sys.executable, "-c", BOUNDED, sparse, describe_file(sparse).sha256, tmp_path / "a.tar.gz", str(room)]
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode == 0) == fits, done.stderr[-2000:]


def test_long_work_talks(
    tree: dict[str, File], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(archive_write, "_TALK_SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        archive.pack(tree, tmp_path / "a.tar.gz")
    assert "packed 1 of 2 MB" in caplog.messages


def foreign(path: Path, *members: tuple[tarfile.TarInfo, bytes], tail: bytes = b"") -> Path:
    """An archive that somebody else packed."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    path.write_bytes(gzip.compress(stream.getvalue() + tail))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def pax(info: tarfile.TarInfo, headers: dict[str, str]) -> tarfile.TarInfo:
    info.pax_headers = headers
    return info


@pytest.fixture(params=[True, False], ids=["filter", "no-filter"])
def python_filter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the filter that tarfile has from Python 3.11.4 on, and without it."""
    if not request.param:
        for name in ("data_filter", "FilterError"):
            monkeypatch.delattr(tarfile, name, raising=False)


@pytest.mark.usefixtures("python_filter")
@pytest.mark.parametrize(
    ("info", "message"),
    [
        (member("/etc/passwd"), "'/etc/passwd' is an absolute path"),
        (member("../escaped"), r"'\.\./escaped' leaves the archive's folder"),
        (member("m/../../escaped"), "leaves the archive's folder"),
        (member("m/link", tarfile.SYMTYPE, "/etc/passwd"), "'m/link' is a link to '/etc/passwd'"),
        (member("m/link", tarfile.SYMTYPE, "good"), "'m/link' is a link to 'good'"),
        (member("m/hard", tarfile.LNKTYPE, "m/good"), "'m/hard' is a link to 'm/good'"),
        (member("m/device", tarfile.CHRTYPE), "'m/device' is a device"),
        (member("m/device", tarfile.BLKTYPE), "'m/device' is a device"),
        (member("m/pipe", tarfile.FIFOTYPE), "'m/pipe' is a device, a pipe"),
        (member("m/sparse", tarfile.GNUTYPE_SPARSE), "'m/sparse' is a device, a pipe or a sparse file"),
        (member("m/good"), "holds 'm/good' twice"),
        (member("m/good/below"), "'m/good/below' is both a file and a folder"),
        (member("."), "'' is not a plain path"),
        (pax(member("m/sparse"), {"GNU.sparse.name": "m/other"}), "'m/other' is a device, a pipe or a sparse file"),
        (pax(member("m/sparse"), {"GNU.sparse.map": "0,1"}), "a sparse file"),
        (pax(member("m/less"), {"size": "-1000000"}), "'m/less' has a size of -1000000 bytes"),
    ],
)
def test_nothing_but_files_and_folders_inside_is_unpacked(tmp_path: Path, info: tarfile.TarInfo, message: str) -> None:
    path = foreign(tmp_path / "a.tar.gz", (member("m/good"), b"good"), (info, b""))
    with pytest.raises(ArchiveError, match=message) as refused:
        archive.unpack(path, tmp_path / "out" / "deep")
    assert refused.value.rule in {"A1", "A11"}  # of lint
    assert not (tmp_path / "out" / "deep").exists()
    assert not (tmp_path / "out" / "escaped").exists()


@pytest.mark.parametrize(
    "headers",
    [
        {"GNU.sparse.map": "x"},
        {"GNU.sparse.size": "x"},
        {"GNU.sparse.realsize": "x"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"},
    ],
)
def test_bad_values_of_a_sparse_file(tmp_path: Path, headers: dict[str, str]) -> None:
    path = foreign(tmp_path / "a.tar.gz", (pax(member("m/good"), headers), b"1\n" * 600))
    for read in (lambda: archive.unpack(path, tmp_path / "out"), lambda: archive.read_members(path)):
        with pytest.raises(ArchiveError, match=r"a\.tar\.gz"):
            read()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("chained", "refused"), [(3, False), (3_000, True)])
def test_a_chain_of_long_names(tmp_path: Path, chained: int, refused: bool) -> None:
    name = member("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    path = foreign(tmp_path / "a.tar.gz", *[(name, b"m/long\0")] * chained, (member("m/good"), b"good"))
    if refused:
        with pytest.raises(ArchiveError, match="is damaged"):
            archive.read_members(path)
    else:
        assert list(archive.read_members(path)) == ["m/long"]


@pytest.mark.usefixtures("python_filter")
def test_what_plain_tar_packs_is_unpacked(tree: dict[str, File], tmp_path: Path) -> None:
    """With entries for folders, and ``./`` before each name."""
    subprocess.run(["tar", "czf", tmp_path / "a.tar.gz", "-C", tmp_path / "tree", "."], check=True)
    assert digest_tree(archive.unpack(tmp_path / "a.tar.gz", tmp_path / "out")) == digest_tree(tree)


def test_limits(tree: dict[str, File], tmp_path: Path) -> None:
    path = archive.pack(tree, tmp_path / "a.tar.gz").path
    total = sum(file.size for file in tree.values())
    archive.unpack(path, tmp_path / "fits", limits=archive.Limits(members=len(tree), total_bytes=total))
    for limits in (archive.Limits(members=len(tree) - 1), archive.Limits(total_bytes=total - 1)):
        with pytest.raises(ArchiveError, match="holds more than"):
            archive.unpack(path, tmp_path / "out", limits=limits)
        assert not (tmp_path / "out").exists()


def test_a_header_cannot_fill_the_memory(tmp_path: Path) -> None:
    info = member("m/good")
    info.pax_headers = {"comment": "x" * 100_000}
    with pytest.raises(ArchiveError, match="a header of 100"):
        archive.unpack(foreign(tmp_path / "a.tar.gz", (info, b"")), tmp_path / "out")


def test_a_bomb_behind_the_end_is_not_swallowed(tmp_path: Path) -> None:
    path = foreign(tmp_path / "a.tar.gz", (member("m/good"), b"good"), tail=bytes(5_000_000))
    with pytest.raises(ArchiveError, match="something follows"):
        archive.unpack(path, tmp_path / "out", limits=archive.Limits(total_bytes=1_000_000))


def flip(content: bytes) -> bytes:
    return content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 0x55]) + content[len(content) // 2 + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content[:-8] + bytes(8),
        flip,
        lambda content: b"PK" + content[2:],
        lambda content: content + b"more",
        lambda content: content[:5],
        lambda content: b"",
        lambda content: gzip.compress(b"no tar at all" * 100),
        lambda content: gzip.compress(gzip.decompress(content) + b"tail"),
    ],
    ids=["half", "cut", "checksum", "flipped", "magic", "trailing", "header", "empty", "no-tar", "tail"],
)
def test_a_damaged_archive_is_refused_and_leaves_nothing(
    tree: dict[str, File], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = archive.pack(tree, tmp_path / "a.tar.gz").path
    path.write_bytes(damage(path.read_bytes()))
    for read in (lambda: archive.unpack(path, tmp_path / "out"), lambda: archive.read_members(path)):
        with pytest.raises(ArchiveError, match=r"a\.tar\.gz"):
            read()
    assert not (tmp_path / "out").exists()


def test_a_missing_archive(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"nowhere\.tar\.gz: cannot be read: No such file"):
        archive.unpack(tmp_path / "nowhere.tar.gz", tmp_path / "out")


def test_a_folder_that_holds_something_is_not_unpacked_into(tree: dict[str, File], tmp_path: Path) -> None:
    path = archive.pack(tree, tmp_path / "a.tar.gz").path
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(ArchiveError, match="is not empty"):
        archive.unpack(path, tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "mine"

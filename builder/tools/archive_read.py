"""Unpacking: safe by construction, because only plain files and folders are ever made."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import shutil
import tarfile
from typing import IO, TYPE_CHECKING, Final, Self, cast

from builder.artifacts import File
from builder.errors import ArchiveError, disk_error
from builder.tools.archive_names import LIMITS, PACKED, PLAIN_FILES, Limits, check_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_BLOCK_BYTES: Final = 1 << 20
_HEADER_BYTES: Final = 1 << 16  # of an extended header; ours have a few hundred
_EXTENDED: Final = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_MEND: Final = "fetch the archive again, or build it again"


def unpack(archive: Path, folder: Path, *, limits: Limits = LIMITS) -> dict[str, File]:
    """Unpacks an archive and hashes its members in the same pass.

    Args:
        archive: a ``.tar.gz``, from anybody.
        folder: where its members go; made if it does not exist, else it must be empty.
        limits: how much it may hold.

    Returns:
        member name → file below ``folder``, sorted.

    Raises:
        ArchiveError: it is missing, damaged or cut off; it holds something other than files and folders, a path that is
            absolute or leaves ``folder``, a name twice, or more than ``limits``. Nothing of it is left.
        MachineError: the disk is full or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ArchiveError(f"{folder}: is not empty: an archive is unpacked into a folder of its own")
        with _cleared_on_error(folder):
            return _read(archive, limits, folder)
    except OSError as error:
        raise disk_error(folder, error) from error


def read_members(archive: Path, *, limits: Limits = LIMITS) -> dict[str, File]:
    """The members of an archive, hashed, without writing anything.

    Returns:
        member name → size and sha256, sorted; ``path`` is the name inside the archive's own path, and does not exist.

    Raises:
        ArchiveError: as :func:`unpack`.
    """
    try:
        return _read(archive, limits, None)
    except OSError as error:
        raise disk_error(archive, error) from error


def read_small(archive: Path, suffix: str, *, limit_bytes: int, limits: Limits = LIMITS) -> dict[str, str]:
    """The texts of the members whose names end so, without writing anything.

    Args:
        archive: a ``.tar.gz``, from anybody.
        suffix: ``/config.pbtxt``.
        limit_bytes: how large one of them may be.
        limits: how much the archive may hold.

    Returns:
        member name → text.

    Raises:
        ArchiveError: as :func:`unpack`; or such a member is too large, or not UTF-8.
    """
    found: dict[str, str] = {}
    try:
        with opened(archive) as tar:
            for info in _files(archive, tar, limits):
                if info.name.endswith(suffix):
                    found[_new_name(archive, info, found)] = _text(archive, tar, info, limit_bytes)
            _check_rest(archive, tar, limits.total_bytes)
    except OSError as error:
        raise disk_error(archive, error) from error
    return found


def _files(archive: Path, tar: tarfile.TarFile, limits: Limits) -> Iterator[tarfile.TarInfo]:
    """The members that are files, each checked before it is given."""
    total = 0
    for index, info in enumerate(tar, start=1):
        _check(archive, info)
        total += info.size
        limits.check(archive, index, total)
        if info.isfile():
            yield info


def _text(archive: Path, tar: tarfile.TarFile, info: tarfile.TarInfo, limit_bytes: int) -> str:
    if info.size > limit_bytes:
        raise ArchiveError(f"{archive}: {info.name} has {info.size} bytes; allowed: {limit_bytes}")
    stream = tar.extractfile(info)
    assert stream is not None
    try:
        return stream.read().decode()
    except UnicodeDecodeError as error:
        raise ArchiveError(f"{archive}: {info.name} is not UTF-8") from error


@contextlib.contextmanager
def _cleared_on_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _read(archive: Path, limits: Limits, folder: Path | None) -> dict[str, File]:
    """Walks through an archive; with a folder, writes its members below it."""
    members: dict[str, File] = {}
    with opened(archive) as tar:
        for info in _files(archive, tar, limits):
            name = _new_name(archive, info, members)
            members[name] = _take(archive, tar, info, folder)
        _check_rest(archive, tar, limits.total_bytes)
    return dict(sorted(members.items()))


@contextlib.contextmanager
def opened(archive: Path, *, plain: bool = False) -> Iterator[tarfile.TarFile]:
    """Yields the archive, to be read once from begin to end; what is wrong with its bytes is an ArchiveError.

    Args:
        archive: the file.
        plain: it is a ``.tar`` without gzip.
    """
    from isal import igzip_threaded, isal_zlib

    damage: tuple[type[Exception], ...] = (
        gzip.BadGzipFile,
        EOFError,
        cast("type[Exception]", isal_zlib.error),
        tarfile.TarError,
        RecursionError,  # tarfile calls itself for each of a chain of extended headers
        ValueError,  # … and trusts their numbers
    )
    try:
        raw = archive.open("rb")
    except OSError as error:
        raise ArchiveError(f"{archive}: cannot be read: {error.strerror}", mend="check the path") from error
    try:
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(raw)
            if not plain:
                stream = stack.enter_context(igzip_threaded.open(raw, "rb", threads=1, block_size=_BLOCK_BYTES))
            yield stack.enter_context(
                tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK_BYTES, tarinfo=_CarefulInfo)
            )
    except damage as error:
        raise ArchiveError(
            f"{archive}: is damaged, cut off, or no .tar.gz: {error}", mend=_MEND, rule=PACKED
        ) from error


class _CarefulInfo(tarfile.TarInfo):
    """A header that does not let an extended header fill the memory."""

    def _proc_member(self, tar: tarfile.TarFile) -> Self:
        if self.type in _EXTENDED and not 0 <= self.size <= _HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        if self.type == tarfile.GNUTYPE_SPARSE:  # its map may be of any length; it is refused later, with its name
            return self._proc_builtin(tar)  # type: ignore[attr-defined,no-any-return]
        return super()._proc_member(tar)  # type: ignore[misc,no-any-return]

    def _proc_gnusparse_00(self, *_: object) -> None:
        raise tarfile.ReadError("a sparse file")  # the maps of these, too, may fill the memory

    _proc_gnusparse_01 = _proc_gnusparse_10 = _proc_gnusparse_00


def _check(archive: Path, info: tarfile.TarInfo) -> None:
    """Refuses whatever is not a plain file or folder inside the archive."""
    if info.issym() or info.islnk():
        raise ArchiveError(
            f"{archive}: {info.name!r} is a link to {info.linkname!r}; only files and folders are allowed",
            rule=PLAIN_FILES,
        )
    sparse = any(key.startswith("GNU.sparse") for key in info.pax_headers)
    if sparse or info.type not in {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE}:
        raise ArchiveError(
            f"{archive}: {info.name!r} is a device, a pipe or a sparse file; only files and folders are allowed",
            rule=PLAIN_FILES,
        )
    if info.size < 0:
        raise ArchiveError(f"{archive}: {info.name!r} has a size of {info.size} bytes", rule=PLAIN_FILES)
    name = _plain(info)
    if name or not info.isdir():
        check_name(name, place=str(archive))
    # A second opinion where there is one: Python 3.11 has it from 3.11.4 on, and Debian 12 has 3.11.2.
    if (second := getattr(tarfile, "data_filter", None)) is not None:
        try:
            second(info, "/unused")
        except tarfile.TarError as error:
            raise ArchiveError(f"{archive}: {error}", rule=PLAIN_FILES) from error


def _plain(info: tarfile.TarInfo) -> str:
    """The name without the ``./`` that ``tar -C folder .`` puts before each; empty for that folder itself."""
    return "" if info.name == "." else info.name.removeprefix("./")


def _new_name(archive: Path, info: tarfile.TarInfo, members: Mapping[str, object]) -> str:
    name = _plain(info)
    if name in members:
        raise ArchiveError(f"{archive}: holds {name!r} twice", rule=PLAIN_FILES)
    return name


def _take(archive: Path, tar: tarfile.TarFile, info: tarfile.TarInfo, folder: Path | None) -> File:
    source = tar.extractfile(info)
    assert source is not None  # a regular file
    if folder is None:
        digest = _copy(source, None)
        return File(path=archive / _plain(info), sha256=digest, size=info.size)
    path = folder / _plain(info)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as target:
            digest = _copy(source, target)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ArchiveError(f"{archive}: {info.name!r} is both a file and a folder", rule=PLAIN_FILES) from error
    return File(path=path.absolute(), sha256=digest, size=info.size)


def _copy(source: IO[bytes], target: IO[bytes] | None) -> str:
    digest = hashlib.sha256()
    while block := source.read(_BLOCK_BYTES):
        digest.update(block)
        if target is not None:
            target.write(block)
    return digest.hexdigest()


def _check_rest(archive: Path, tar: tarfile.TarFile, limit: int) -> None:
    """Reads to the end, where gzip's own checksum is compared; after the last member there is only padding."""
    seen = 0
    while block := tar.fileobj.read(_BLOCK_BYTES):
        seen += len(block)
        if seen > limit or any(block):
            raise ArchiveError(
                f"{archive}: something follows its last member, or a header is damaged", mend=_MEND, rule=PACKED
            )

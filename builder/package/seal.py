"""The seal of an archive: checksums of it and of all that lies beside it, and their signature.

``<stem>.sha256sums`` is what ``sha256sum --check`` reads, ``<stem>.sha256sums.sig`` its signature in OpenSSH's format:
whoever receives an archive can check both without tritonsmith.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Final

from builder.core.digest import digest_file
from builder.errors import ArchiveError, disk_error
from builder.tools.atomic import write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SIGNATURE: Final = ".sig"

_LINE: Final = re.compile(r"(?P<sha256>[0-9a-f]{64}) [ *](?P<name>(?!/)[^\\\0]+)")


def seal(path: Path, digests: Mapping[str, str], key: Path) -> None:
    """Writes the checksums, and signs them.

    Args:
        path: where the checksums go.
        digests: sha256 by path beside the checksums.
        key: the file of the private key.

    Raises:
        UserError: it cannot be signed with that key.
        MachineError: the disk is full or cannot be written, or there is no ssh-keygen.
    """
    from builder.tools import ssh_signature

    text = checksums(digests)
    signature = ssh_signature.sign(text, key)
    try:
        signature_of(path).unlink(missing_ok=True)
        write(path, text)
        write(signature_of(path), signature)
    except OSError as error:
        raise disk_error(path, error) from error


def unseal(path: Path, digests: Mapping[str, str]) -> None:
    """Removes the seal of other bytes, that an earlier build left.

    Raises:
        OSError: it cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == checksums(digests) and signature_of(path).is_file():
            return
        path.unlink()
    signature_of(path).unlink(missing_ok=True)


def checksums(digests: Mapping[str, str]) -> bytes:
    """What ``sha256sum`` writes."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()


def signature_of(path: Path) -> Path:
    """Where the signature of the checksums lies: beside them."""
    return path.with_name(path.name + SIGNATURE)


def is_sealed(path: Path) -> bool:
    """Whether checksums have a signature; nothing is said of its worth."""
    return path.is_file() and signature_of(path).is_file()


def check_seal(path: Path, trusted: Path) -> tuple[str, frozenset[str]]:
    """Checks that a trusted key signed the checksums, and that every file is what they say.

    Args:
        path: the checksums.
        trusted: a file with public keys.

    Returns:
        The key's fingerprint, and the paths, beside the checksums, of the files that the signature covers.

    Raises:
        ArchiveError: there is no signature, or it is not one of these keys', or a file is not what was signed.
        UserError: the keys cannot be read.
    """
    from builder.tools import ssh_signature

    keys = ssh_signature.read_keys(trusted)
    if not is_sealed(path):
        missing = signature_of(path) if path.is_file() else path
        raise ArchiveError(
            f"{missing}: no such file: the archive is not signed", mend="ask for a signed one, or leave out --trust"
        )
    signer = ssh_signature.check(path, signature_of(path), keys)
    stated = _read(path)
    for name, digest in stated.items():
        _check_file(path.parent / name, digest)
    return signer, frozenset(stated)


def _check_file(file: Path, digest: str) -> None:
    try:
        found = digest_file(file)
    except OSError as error:
        raise ArchiveError(
            f"{file}: was signed, and cannot be read: {error.strerror}",
            mend="keep the archive and the files beside it together",
        ) from error
    if found != digest:
        raise ArchiveError(f"{file}: is not what was signed", mend="fetch it again from whoever signed it")


def _read(path: Path) -> dict[str, str]:
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"), 1):
        match = _LINE.fullmatch(line)
        if match is None or ".." in match["name"].split("/"):
            raise ArchiveError(f"{path}:{number}: is no line of sha256sum: {line!r:.80}")
        found[match["name"]] = match["sha256"]
    return found

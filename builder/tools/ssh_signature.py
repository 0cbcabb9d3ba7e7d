"""Signatures of files in OpenSSH's format, made and checked by ``ssh-keygen -Y``.

The format is described in https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.sshsig; OpenSSH 8.1 and
later have it.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.errors import ArchiveError, MachineError, UserError
from builder.settings import environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.tools.process import Completed

NAMESPACE: Final = "tritonsmith"
"""What signatures are for: one that a key made for something else, an e-mail or a commit, is none of an archive."""

SIGNER: Final = "tritonsmith"

_PROGRAM: Final = "ssh-keygen"
_SECONDS: Final = 30.0
_KEY_TYPES: Final = ("ssh-", "ecdsa-", "sk-")
_NO_QUESTIONS: Final = {"SSH_ASKPASS_REQUIRE": "force", "SSH_ASKPASS": "/bin/false"}  # a passphrase cannot be given


def sign(content: bytes, key: Path) -> bytes:
    """The signature of some bytes, as text between ``-----BEGIN SSH SIGNATURE-----`` and its end.

    Args:
        content: what is signed.
        key: a file with a private key that has no passphrase. What is in it is read by ssh-keygen alone.

    Raises:
        UserError: the file holds no such key, or others can read it.
        MachineError: there is no ssh-keygen.
    """
    if not key.is_file():
        raise UserError(f"{key}: no such file", mend="name the file of a private key")
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, "signed")
        file.write_bytes(content)
        done = _ask(["-Y", "sign", "-f", key.absolute(), "-n", NAMESPACE, file])
        if done.returncode != 0:
            why = "; ".join(line.strip() for line in done.stderr.splitlines() if line.strip(" @\n"))
            raise UserError(
                f"{key}: ssh-keygen cannot sign with it: {why}",
                mend="name a private key without a passphrase that only you can read: ssh-keygen -t ed25519 -N '' -f …",
            )
        return file.with_name("signed.sig").read_bytes()


def check_key(key: Path) -> None:
    """Tries a private key, so that nobody builds for an hour first.

    Raises:
        UserError: it cannot sign.
        MachineError: there is no ssh-keygen.
    """
    sign(b"", key)


def read_keys(path: Path) -> tuple[str, ...]:
    """The public keys in a file: one in each line, as in ``id_ed25519.pub``.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}", mend="name the signer's public key") from None
    keys = [" ".join(line.split()[:2]) for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not keys or not all(key.startswith(_KEY_TYPES) and " " in key for key in keys):
        raise UserError(
            f"{path}: holds something that is no public key of OpenSSH: <type> <base64>",
            mend="name the signer's .pub file; of a private key: ssh-keygen -y -f KEY > KEY.pub",
        )
    return tuple(keys)


def check(file: Path, signature: Path, keys: Sequence[str]) -> str:
    """Checks that one of some keys signed a file, as it is now.

    Returns:
        The key's kind and fingerprint: ``ED25519 SHA256:…``.

    Raises:
        ArchiveError: it was another key; or the file or the signature was changed.
        MachineError: there is no ssh-keygen.
    """
    signer = signed_by(file, signature)
    if signer is None:
        raise ArchiveError(
            f"{signature}: is not the signature of {file.name} as it is: one of the two was changed",
            mend="fetch both again from whoever signed them",
        )
    with tempfile.TemporaryDirectory() as name:
        allowed = Path(name, "allowed_signers")
        allowed.write_text("".join(f'{SIGNER} namespaces="{NAMESPACE}" {key}\n' for key in keys), encoding="utf-8")
        done = _ask(["-Y", "verify", "-f", allowed, "-I", SIGNER, "-n", NAMESPACE, "-s", signature], file)
    if done.returncode != 0:
        raise ArchiveError(
            f"{signature}: was made by {signer}, which is none of the trusted keys",
            mend="ask whoever signed it for the public key",
        )
    return signer


def signed_by(file: Path, signature: Path) -> str | None:
    """Which key signed a file as it is now, whoever's it may be; None: the two do not belong together."""
    done = _ask(["-Y", "check-novalidate", "-n", NAMESPACE, "-s", signature], file)
    _, _, told = done.stdout.strip().partition(" signature with ")
    return told.replace(" key ", " ") if done.returncode == 0 and told else None


def _ask(arguments: Sequence[str | Path], stdin: Path | None = None) -> Completed:
    from builder.tools.process import run

    if shutil.which(_PROGRAM) is None:
        raise MachineError(f"{_PROGRAM} is not installed", mend="install OpenSSH's client: apt install openssh-client")
    # A shell only to open the file: ssh-keygen reads what was signed from its standard input.
    opened: list[str | Path] = ["/bin/sh", "-c", 'exec "$@" < "$0"', (stdin or Path("/dev/null")).absolute()]
    command = [*opened, _PROGRAM, *arguments]
    env = {**environment(), **_NO_QUESTIONS}
    return run(command, what=_PROGRAM, timeout_seconds=_SECONDS, env=env, check=False)

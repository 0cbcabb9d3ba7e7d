"""Every exception that tritonsmith raises on purpose, and the exit codes of the command line.

Two roots, because they mean different things to the reader:

    TritonsmithError            expected: shown as one message, without a traceback
    ├── UserError          (2)  what the user gave is wrong
    │   ├── RecipeError         … the recipe (file:line:column, value, what is allowed)
    │   ├── ModelError          … the model's files, or what the recipe asks of them
    │   └── ArchiveError        … an archive or model repository; with the rule that it breaks
    │       └── BombError       … it holds more than anybody should unpack
    ├── GateError          (1)  a gate failed: parity, a constraint, lint, ``--check``
    ├── UnverifiedError    (4)  what nobody could prove is not handed off
    └── MachineError       (3)  a tool or the machine failed: disk, network, process
        ├── NetworkError        … a download or a hub
        ├── MissingError        … no index has a package that fits
        ├── DamagedError        … a file is not what its digest says
        ├── ServerError         … tritonserver did not start, did not load, or died
        └── BlockedError   (4)  … this machine lacks what another one has: a GPU, a library
    InternalError          (70) a bug of ours: keeps its traceback

A message says where, which value, what is allowed; ``mend`` says what to do about it.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from pathlib import Path

EXIT_DONE: Final = 0
EXIT_GATE_FAILED: Final = 1
EXIT_USER_ERROR: Final = 2
EXIT_MACHINE_ERROR: Final = 3
EXIT_UNVERIFIED: Final = 4
EXIT_INTERNAL_ERROR: Final = 70
EXIT_INTERRUPTED: Final = 130
EXIT_TERMINATED: Final = 143


class TritonsmithError(Exception):
    """An expected failure.

    Args:
        message: what is wrong, with the place and the value.
        mend: what the reader can do about it, as one imperative sentence; empty where nothing is known.
    """

    exit_code: ClassVar[int] = EXIT_MACHINE_ERROR

    def __init__(self, message: str, *, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.message}\n  mend: {self.mend}" if self.mend else self.message


class UserError(TritonsmithError):
    """What the user gave is wrong."""

    exit_code = EXIT_USER_ERROR


class RecipeError(UserError):
    """The recipe is wrong; the message begins with ``file:line:column``."""


class ModelError(UserError):
    """The model's files cannot be built, or not as the recipe asks."""


class ArchiveError(UserError):
    """An archive or model repository is not what it must be.

    Args:
        message: see :class:`TritonsmithError`.
        mend: see :class:`TritonsmithError`.
        rule: the id of the rule of ``lint`` that it breaks, ``A11``; empty where none is about it.
    """

    def __init__(self, message: str, *, mend: str = "", rule: str = "") -> None:
        super().__init__(message, mend=mend)
        self.rule = rule

    def __str__(self) -> str:
        told = super().__str__()
        return f"{told}\n  rule: {self.rule} (tritonsmith lint --explain {self.rule})" if self.rule else told


class BombError(ArchiveError):
    """An archive holds more members or bytes than anybody should unpack."""


class GateError(TritonsmithError):
    """A gate failed: parity, a constraint, lint, ``--check``."""

    exit_code = EXIT_GATE_FAILED


class UnverifiedError(TritonsmithError):
    """Nobody could prove an archive, and nobody said that it may be handed off all the same."""

    exit_code = EXIT_UNVERIFIED


class MachineError(TritonsmithError):
    """A tool or the machine failed."""

    exit_code = EXIT_MACHINE_ERROR


class NetworkError(MachineError):
    """A download or a hub failed."""


class MissingError(MachineError):
    """The indexes answered, and none has a package that fits."""


class DamagedError(MachineError):
    """A file is no longer what it was when it was hashed.

    Args:
        path: the file.
        message: see :class:`TritonsmithError`.
        mend: see :class:`TritonsmithError`.
    """

    def __init__(self, path: Path, message: str, *, mend: str = "") -> None:
        super().__init__(message, mend=mend)
        self.path = path


class ServerError(MachineError):
    """The tritonserver did not start, did not load a model, or died."""


class BlockedError(MachineError):
    """This machine lacks what a stage needs: a GPU, a library. The rest of a build goes on without it.

    Another machine that has it goes on from the same store, for the keys of stages are declared facts.
    """

    exit_code = EXIT_UNVERIFIED


class InternalError(Exception):
    """A bug of tritonsmith: never the user's fault, so it is no ``TritonsmithError``."""

    exit_code: ClassVar[int] = EXIT_INTERNAL_ERROR


def disk_error(what: object, error: OSError) -> MachineError:
    """The message for an operating-system error while ``what``, a stage or a path, is written or read."""
    place = f" ({error.filename})" if error.filename and str(error.filename) != str(what) else ""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return MachineError(
            f"{what}: no space left on the disk{place}",
            mend="free some space, or set TRITONSMITH_CACHE (the store) or --out (archives) to a larger disk",
        )
    return MachineError(f"{what}: {error.strerror or error}{place}")

"""What ``huggingface_hub`` raises → one message of ours: which request, what the hub said, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.errors import ModelError, NetworkError

if TYPE_CHECKING:
    from pathlib import Path

    from huggingface_hub.errors import HfHubHTTPError

    from builder.errors import TritonsmithError

_MEND: Final = "check the network, HTTPS_PROXY, and HF_ENDPOINT (the mirror, if you use one), and try again"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked of a hub."""

    endpoint: str
    folder: Path  # the cache
    model_id: str
    revision: str
    what: str  # a file's name, or its list of files
    with_token: bool

    def __str__(self) -> str:
        return f"hub model {self.model_id}@{self.revision[:12]}"


def translate(error: Exception, request: Request) -> Exception:
    """Our error for one of ``huggingface_hub``; ``error`` itself when the disk failed or there is a bug."""
    from huggingface_hub import errors

    cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ else error
    transport: type[Exception] = errors.HfHubHTTPError.__bases__[0]  # httpx's HTTPError, whichever httpx it is
    if isinstance(cause, errors.HfHubHTTPError):
        return _refused(cause, request)
    if isinstance(cause, errors.OfflineModeIsEnabled):
        words = f"{request}: HF_HUB_OFFLINE is set, and {request.what} is not in {request.folder}"
        return NetworkError(words, mend="unset HF_HUB_OFFLINE, or copy the cache from a machine that has the model")
    if isinstance(cause, transport):
        words = f"{request}: {request.what}: {request.endpoint} cannot be reached, or broke off: {_line(cause)}"
        return NetworkError(words, mend=_MEND)
    if isinstance(cause, errors.FileMetadataError | errors.LocalEntryNotFoundError | ValueError | KeyError | TypeError):
        words = f"{request}: {request.what}: {request.endpoint} does not answer like a model hub: {_line(cause)}"
        return NetworkError(words, mend=_MEND)
    if isinstance(cause, OSError) and cause.errno is None:  # huggingface_hub's own: the size is not the stated one
        return NetworkError(f"{request}: {request.what}: {_line(cause)}", mend=_MEND)
    return error


def _refused(error: HfHubHTTPError, request: Request) -> TritonsmithError:
    from huggingface_hub import errors

    status = error.response.status_code
    page = f"{request.endpoint}/{request.model_id}"
    if isinstance(error, errors.GatedRepoError):
        return _gated(request, page, status)
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(
            f"{request}: the model has no commit {request.revision} ({status})",
            mend=f"take one of {page}/commits/main",
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return ModelError(f"{request}: it has no file {request.what!r} ({status})", mend=f"see {page}/tree/main")
    if status == 401:
        return _unauthorised(request, page)
    if status == 403:
        words = f"{request}: the hub forbids {request.what} (403)"
        return ModelError(words, mend=f"give the token the right to read this model; see {page}")
    if status == 404:
        words = f"{request}: {request.endpoint} has no such model (404), or shows it to others only"
        return ModelError(words, mend="check the id; for a private model set HF_TOKEN")
    return NetworkError(f"{request}: {request.endpoint} failed with status {status} for {request.what}", mend=_MEND)


def _gated(request: Request, page: str, status: int) -> ModelError:
    account = "the account of HF_TOKEN" if request.with_token else "your account, and set HF_TOKEN to a token of it"
    return ModelError(
        f"{request}: the model is gated: its authors want conditions to be accepted first ({status})",
        mend=f"accept them at {page} with {account}",
    )


def _unauthorised(request: Request, page: str) -> ModelError:
    if request.with_token:
        return ModelError(
            f"{request}: the hub refuses the token (401): it is wrong, or has expired",
            mend=f"make a new one at {request.endpoint}/settings/tokens, and set HF_TOKEN to it",
        )
    return ModelError(
        f"{request}: the hub wants a token (401): the model is private, gated, or does not exist",
        mend=f"check that {page} exists; if it does, set HF_TOKEN to a token that may read it",
    )


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

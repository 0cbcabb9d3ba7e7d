"""boto3: clients that keep what they know to themselves, and uploads that never replace anything.

Credentials are found by boto3, where it always looks. They are in no message of ours: what AWS says may quote a request
with its token, so they are cut out of it.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from builder.errors import DamagedError, MachineError, NetworkError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

log = logging.getLogger(__name__)

PART_BYTES: Final = 16 << 20
_MOST_PARTS: Final = 9_000  # S3 takes 10,000
_THREADS: Final = 4
_ABSENT: Final = ("404", "NoSuchKey", "NotFound", "ResourceNotFound", "ObjectNotFoundException")
_NOT_ALLOWED: Final = ("AccessDenied", "AccessDeniedException", "403", "UnrecognizedClientException")
_TALK_BYTES: Final = 256 << 20


class AwsError(MachineError):
    """AWS refused a request, or could not answer it.

    Args:
        message: see :class:`builder.errors.TritonsmithError`.
        code: as AWS calls the error: ``ValidationException``.
        mend: see :class:`builder.errors.TritonsmithError`.
    """

    def __init__(self, message: str, *, code: str = "", mend: str = "") -> None:
        super().__init__(message, mend=mend)
        self.code = code


@dataclass(frozen=True, slots=True)
class Aws:
    """The clients of one account and region."""

    session: Any
    _clients: dict[str, Any] = field(default_factory=dict)  # making one takes 0.1 s

    def client(self, service: str) -> Any:  # noqa: ANN401 - botocore has no types
        """A client of a service, as boto3 calls it."""
        from botocore.config import Config

        if service not in self._clients:
            options = Config(retries={"mode": "standard", "max_attempts": 5})
            self._clients[service] = self.session.client(service, config=options)
        return self._clients[service]

    def secrets(self) -> tuple[str, ...]:
        """What must be in no message."""
        found = self.session.get_credentials()
        frozen = found.get_frozen_credentials() if found else None
        return tuple(filter(None, (frozen.secret_key, frozen.token, frozen.access_key))) if frozen else ()


def connect(region: str) -> Aws:
    """The account whose credentials boto3 finds.

    Raises:
        MachineError: boto3 is not installed.
        UserError: there are no credentials.
    """
    try:
        import boto3
    except ImportError as error:
        raise MachineError("boto3 is not installed", mend="pip install 'tritonsmith[handoff]'") from error
    aws = Aws(boto3.Session(region_name=region))
    with answered(aws, "credentials"):
        if aws.session.get_credentials() is None:
            raise UserError("no AWS credentials were found", mend="aws configure, or set AWS_PROFILE")
    return aws


@contextmanager
def answered(aws: Aws, what: str) -> Iterator[None]:
    """Turns what botocore raises into our errors, without secrets in their words.

    Raises:
        AwsError: AWS refused.
        NetworkError: it could not be asked.
    """
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    try:
        yield
    except ClientError as error:
        said = error.response.get("Error", {})
        code = str(said.get("Code", ""))
        mend = "ask for the permission, or take other credentials" if code in _NOT_ALLOWED else ""
        message = f"{what}: {code}: {_without(aws.secrets(), str(said.get('Message', '')))}"
        raise AwsError(message, code=code, mend=mend) from None  # its cause would show the request
    except HTTPClientError as error:
        raise NetworkError(f"{what}: {_without(aws.secrets(), str(error))}") from None
    except BotoCoreError as error:
        raise AwsError(f"{what}: {_without(aws.secrets(), str(error))}") from None


def was_faster(error: AwsError) -> bool:
    """Whether a creation was refused because there is such a thing by now."""
    return (
        error.code in {"PreconditionFailed", "ConditionalRequestConflict"} or "already exist" in error.message.lower()
    )


def digest_in_s3(aws: Aws, bucket: str, key: str) -> str | None:
    """The sha256 that an object was uploaded with; empty where it says none; None where there is no object.

    Raises:
        AwsError: S3 does not answer.
    """
    try:
        with answered(aws, f"s3://{bucket}/{key}"):
            head = aws.client("s3").head_object(Bucket=bucket, Key=key)
    except AwsError as error:
        if error.code in _ABSENT:
            return None
        raise
    return str(head.get("Metadata", {}).get("sha256", ""))


def upload(aws: Aws, path: Path, bucket: str, key: str, sha256: str) -> None:
    """Uploads a file where there is none yet; S3 checks each part against its sha256.

    Args:
        aws: the account.
        path: the file.
        bucket: where it goes.
        key: its key.
        sha256: of its content; it is kept with the object.

    Raises:
        AwsError: S3 refused; ``PreconditionFailed`` where somebody was faster.
        DamagedError: the file is not what it was; nothing is left in S3.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    client, size = aws.client("s3"), path.stat().st_size
    place = {"Bucket": bucket, "Key": key}
    with answered(aws, f"s3://{bucket}/{key}"):
        if size <= PART_BYTES:
            data = path.read_bytes()
            _check(path, hashlib.sha256(data).hexdigest(), sha256)
            more = {"ChecksumSHA256": _base64(bytes.fromhex(sha256)), "Metadata": {"sha256": sha256}}
            client.put_object(**place, Body=data, IfNoneMatch="*", **more)
            return
        begun = client.create_multipart_upload(**place, ChecksumAlgorithm="SHA256", Metadata={"sha256": sha256})
        place["UploadId"] = begun["UploadId"]
        try:
            parts = _send_parts(client, place, path, size, sha256)
            client.complete_multipart_upload(**place, MultipartUpload={"Parts": parts}, IfNoneMatch="*")
        except BaseException:
            with suppress(BotoCoreError, ClientError):  # what went wrong is told, not that parts of it are left
                client.abort_multipart_upload(**place)
            raise


def remove(aws: Aws, bucket: str, key: str) -> None:
    """Removes an object.

    Raises:
        AwsError: S3 refused.
    """
    with answered(aws, f"s3://{bucket}/{key}"):
        aws.client("s3").delete_object(Bucket=bucket, Key=key)


def _send_parts(client: Any, place: dict[str, str], path: Path, size: int, sha256: str) -> list[dict[str, Any]]:  # noqa: ANN401
    """Reads a file once, in order, and sends its parts side by side."""
    part_bytes = max(PART_BYTES, -(-size // _MOST_PARTS))
    whole, sent, waiting = hashlib.sha256(), 0, []
    done: list[dict[str, Any]] = []
    with path.open("rb") as stream, ThreadPoolExecutor(_THREADS) as pool:
        number = 0
        while data := stream.read(part_bytes):
            number += 1
            whole.update(data)
            waiting.append(pool.submit(_send_part, client, place, number, data))
            if len(waiting) > _THREADS:  # so many parts are in memory at most
                done.append(_result(waiting))
            if (sent + len(data)) // _TALK_BYTES > sent // _TALK_BYTES:
                log.info("%s: %.1f of %.1f GB", path.name, (sent + len(data)) / 1e9, size / 1e9)
            sent += len(data)
        while waiting:
            done.append(_result(waiting))
    _check(path, whole.hexdigest(), sha256)
    return done


def _result(waiting: list[Future[dict[str, Any]]]) -> dict[str, Any]:
    return waiting.pop(0).result()


def _send_part(client: Any, place: dict[str, str], number: int, data: bytes) -> dict[str, Any]:  # noqa: ANN401
    checksum = _base64(hashlib.sha256(data).digest())
    made = client.upload_part(**place, PartNumber=number, Body=data, ChecksumSHA256=checksum)
    return {"PartNumber": number, "ETag": made["ETag"], "ChecksumSHA256": checksum}


def _check(path: Path, found: str, wanted: str) -> None:
    if found != wanted:
        raise DamagedError(path, f"{path}: is not what it was when it was checked", mend="hand it off again")


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _without(secrets: tuple[str, ...], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text

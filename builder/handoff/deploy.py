"""``handoff --deploy``: what the plan says is sent, in order; what was made is removed again when a step fails."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from builder.errors import TritonsmithError, UserError
from builder.handoff import resources
from builder.tools import aws as tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from builder.handoff.gather import Shipped
    from builder.handoff.plan import Call, Plan, Upload
    from builder.tools.aws import Aws

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Deployed:
    """What a deployment made, and what was there already."""

    made: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)


def deploy(plan: Plan, shipped: Sequence[Shipped], aws: Aws) -> Deployed:
    """Uploads the archives and sends the calls. What is there already is left: nothing is ever replaced.

    Args:
        plan: what is sent.
        shipped: the archives of its uploads, in the same order.
        aws: the account.

    Raises:
        AwsError: AWS refused something, or an endpoint did not come up; what was made before is removed again, and the
            message tells what could not be.
        UserError: something else stands where this was to go.
        DamagedError: an archive was changed.
    """
    done, undo = Deployed(), _Undo()
    try:
        for upload, one in zip(plan.uploads, shipped, strict=True):
            for path, key, sha256 in _objects(upload, one):
                _upload(aws, path, (upload.bucket, key, sha256), done, undo)
        for call in plan.calls:
            _send(aws, call, done, undo)
            resources.wait(aws, call)
    except BaseException as error:
        left = undo.run()
        if isinstance(error, TritonsmithError):
            said = f"; could not be removed: {'; '.join(left)}" if left else "; what was made is removed again"
            error.args = (f"{error.message}{said if undo.steps else ''}",)
            error.message = str(error.args[0])
        raise
    return done


def _send(aws: Aws, call: Call, done: Deployed, undo: _Undo) -> None:
    if resources.exists(aws, call):
        done.found.append(call.name)
        return
    log.info("%s %s", call.operation, call.name)
    back = resources.undoing(aws, call)
    try:
        resources.send(aws, call)
    except tools.AwsError as error:
        if not tools.was_faster(error):
            raise
        done.found.append(call.name)  # somebody else's, under a name that carries its digest: it is the same
        return
    undo.add(call.name, back)
    done.made.append(call.name)


class _Undo:
    """What removes what was made, last first."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, Callable[[], None]]] = []

    def add(self, name: str, step: Callable[[], None]) -> None:
        self.steps.append((name, step))

    def run(self) -> list[str]:
        """Removes all; gives what could not be, and why."""
        left = []
        for name, step in reversed(self.steps):
            log.info("removing %s", name)
            try:
                step()
            except TritonsmithError as error:
                left.append(f"{name} ({error.message})")
        return left


def _objects(upload: Upload, one: Shipped) -> Iterator[tuple[Path, str, str]]:
    """File, key and sha256 of all that an upload consists of."""
    if not one.path.is_dir():
        yield one.path, upload.key, upload.sha256
        return
    for name, file in one.manifest.archive.members.items():
        yield one.path / name, f"{upload.key}{name}", file.sha256


def _upload(aws: Aws, path: Path, where: tuple[str, str, str], done: Deployed, undo: _Undo) -> None:
    bucket, key, sha256 = where
    uri = f"s3://{bucket}/{key}"
    if _is_there(aws, where):
        done.found.append(uri)
        return
    log.info("uploading %s", uri)
    try:
        tools.upload(aws, path, bucket, key, sha256)
    except tools.AwsError as error:
        if not tools.was_faster(error) or not _is_there(aws, where):
            raise
        done.found.append(uri)
        return
    undo.add(uri, partial(tools.remove, aws, bucket, key))
    done.made.append(uri)


def _is_there(aws: Aws, where: tuple[str, str, str]) -> bool:
    """Whether an object is there, and is this one.

    Raises:
        UserError: it is another one.
    """
    bucket, key, sha256 = where
    there = tools.digest_in_s3(aws, bucket, key)
    if there is not None and there != sha256:
        raise UserError(
            f"s3://{bucket}/{key}: is there, and is not this archive "
            f"({'sha256 ' + there if there else 'it tells no sha256'})",
            mend="take another prefix: handoff.sagemaker.prefix",
        )
    return there is not None

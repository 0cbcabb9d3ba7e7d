"""What the API takes: shapes of requests, the environment, keys in S3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.handoff.rule import ERROR, Problem, rule
from builder.tools import botocore_shapes, sagemaker_checks, sagemaker_images
from builder.tools.releases import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.handoff.rule import Problems, World

_DIGITS: Final = 16  # of the tree's digest, in the names of archives
_SEGMENT_BYTES: Final = 255


_SHAPES: Final = "botocore/data/*/service-2.json"


def _misfits(world: World, *, names: bool) -> Problems:
    for call in world.plan.calls:
        for wrong in botocore_shapes.check(call.service, call.operation, call.parameters):
            if wrong.path.rpartition(".")[2].endswith("Name") == names:
                yield Problem(f"{call.operation}.{wrong.path}", wrong.message, "change it")


@rule(
    "H10",
    ERROR,
    "each name is one that the API takes",
    why="the API refuses others: at most 63 letters, digits and hyphens",
    source=_SHAPES,
)
def shapes_of_names(world: World) -> Problems:
    yield from _misfits(world, names=True)


@rule(
    "H11",
    ERROR,
    "each request is one that the API takes",
    why="the API refuses it; botocore's client checks neither enums, nor maxima, nor patterns",
    source=_SHAPES,
)
def shapes(world: World) -> Problems:
    yield from _misfits(world, names=False)


def _asks(rule_id: str) -> Callable[[World], Problems]:
    """One of the rules about the container's environment, which lint asks, too."""

    def check(world: World) -> Problems:
        for container in world.plan.containers:
            given = container.get("Environment", {})
            if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
                continue  # H11 says so
            multi = container.get("Mode") == "MultiModel"
            for one in sagemaker_checks.check(given, multi=multi, release=_release(world)):
                if one.rule == rule_id:
                    yield Problem(f"Environment.{one.variable}", one.message, one.mend)

    return check


for _one in sagemaker_checks.RULES:
    rule(_one.id, _one.severity, _one.title, why=_one.why, source=_one.source)(_asks(_one.id))


def _release(world: World) -> str:
    known = sagemaker_images.release_of(world.plan.image)
    return known or (world.plan.archives[0].triton if world.plan.archives else names()[-1])


@rule(
    "A15",
    ERROR,
    "the key of each archive tells its content",
    why="an object that is replaced under a running endpoint is loaded by some instances and not by others",
    source="developer guide, add-models-to-endpoint",
)
def keys(world: World) -> Problems:
    digests = {one.file: one.tree_digest[:_DIGITS] for one in world.plan.archives}
    for upload in world.plan.uploads:
        if digests.get(upload.file, "") not in upload.key:
            yield Problem(upload.uri, "does not hold the digest of the archive's tree", "keep the archive's own name")


@rule(
    "A17",
    ERROR,
    "the place of a folder in S3 is one that the loader takes",
    why="the loader fails on empty segments, . and .., long names, and on a URI without a slash at its end",
    source="SageMaker API, S3ModelDataSource",
)
def prefixes(world: World) -> Problems:
    folders = {one.file for one in world.plan.archives if one.is_folder}
    for upload in world.plan.uploads:
        if upload.file not in folders:
            continue
        if not upload.key.endswith("/"):
            yield Problem(upload.uri, "does not end with a slash", "add it")
        for part in upload.key.removesuffix("/").split("/"):
            if part in {"", ".", ".."} or len(part.encode()) > _SEGMENT_BYTES:
                yield Problem(upload.uri, f"has the segment {part[:40]!r}", "name segments of 1 to 255 bytes")

"""What the API takes: shapes of requests, the environment, keys in S3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.handoff.plan import PREFIX
from builder.handoff.rule import ADVICE, ERROR, Problem, rule
from builder.tools import botocore_shapes, sagemaker_environment, sagemaker_images
from builder.tools.releases import names

if TYPE_CHECKING:
    from builder.handoff.rule import Problems, World

_DIGITS: Final = 16  # of the tree's digest, in the names of archives
_SEGMENT_BYTES: Final = 255
_SERVE: Final = "server docker/sagemaker/serve at e1db8a6"


@rule(
    "H11",
    ERROR,
    "each request is one that the API takes",
    why="the API refuses it; botocore's client checks neither enums, nor maxima, nor patterns",
    source="botocore/data/*/service-2.json",
)
def shapes(world: World) -> Problems:
    for call in world.plan.calls:
        for wrong in botocore_shapes.check(call.service, call.operation, call.parameters):
            name = wrong.path.rpartition(".")[2].endswith("Name")
            where = f"{call.operation}.{wrong.path}"
            yield Problem(where, wrong.message, "change it", rule="H10" if name else "H11")


@rule(
    "H1",
    ERROR,
    "the environment is one that serve and the API take",
    why="serve ends, or silently does something else",
    source=_SERVE,
)
def environment(world: World) -> Problems:
    image = world.plan.image
    release = sagemaker_images.release_of(image) or (
        world.plan.archives[0].triton if world.plan.archives else names()[-1]
    )
    for container in world.plan.containers:
        given = container.get("Environment", {})
        if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
            continue  # H11 says so
        for one in sagemaker_environment.check(given, multi=container.get("Mode") == "MultiModel", release=release):
            severity = ERROR if one.refused else ADVICE
            yield Problem(f"Environment.{one.variable}", one.message, one.mend, severity, one.rule)


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
    folders = {one.file for one in world.plan.archives if one.format == PREFIX}
    for upload in world.plan.uploads:
        if upload.file not in folders:
            continue
        if not upload.key.endswith("/"):
            yield Problem(upload.uri, "does not end with a slash", "add it")
        for part in upload.key.removesuffix("/").split("/"):
            if part in {"", ".", ".."} or len(part.encode()) > _SEGMENT_BYTES:
                yield Problem(upload.uri, f"has the segment {part[:40]!r}", "name segments of 1 to 255 bytes")

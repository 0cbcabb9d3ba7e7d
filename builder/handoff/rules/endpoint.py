"""What kinds of endpoints can do, and how large requests may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.handoff.rule import ADVICE, ERROR, Problem, rule
from builder.handoff.sizing import HEALTH_SECONDS, seconds_to_load
from builder.tools.sagemaker_environment import INFERENCE_TYPE

if TYPE_CHECKING:
    from builder.handoff.plan import Facts, Plan
    from builder.handoff.rule import Problems, World

_GUIDE: Final = "SageMaker developer guide"
_GB: Final = 1_000_000_000
_SERVERLESS_DISK_BYTES: Final = 5 * _GB
_LIMIT: Final = "ContainerStartupHealthCheckTimeoutInSeconds"
_SERVERLESS_SECONDS: Final = 180  # until the first ping
_MME_LOAD_SECONDS: Final = (60, 360)
"""After which a multi-model endpoint answers ModelNotReadyException, and after which it gives up."""

_REAL_TIME_BYTES: Final = 6_291_456  # BodyBlob of InvokeEndpoint in botocore
_SERVERLESS_BYTES: Final = 4 << 20
_ASYNC_BYTES: Final = _GB
_HTTP_BYTES: Final = 64 << 20  # --http-max-input-size
_WIDTHS: Final = {"BOOL": 1, "INT8": 1, "UINT8": 1, "INT16": 2, "UINT16": 2, "FP16": 2, "BF16": 2, "INT32": 4}
_WIDTHS_MORE: Final = {"UINT32": 4, "FP32": 4, "INT64": 8, "UINT64": 8, "FP64": 8}
_CHARACTERS_PER_TOKEN: Final = 6  # of European texts, blanks included, seldom more: WordPiece has 4 to 5
_JSON_FACTOR: Final = 3  # digits, comma and point for each number; escapes in texts


@rule(
    "H9",
    ERROR,
    "GPUs only where the kind of endpoint has them, and one for each instance of a multi-model endpoint",
    why="the endpoint is refused, or models are not found on the GPU that they were loaded on",
    source=f"{_GUIDE}, multi-model-endpoints and serverless-endpoints; AWS post on hosting patterns",
)
def gpus_of_kinds(world: World) -> Problems:
    plan = world.plan
    with_plans = [one for one in plan.archives if one.capabilities]
    if plan.serverless:
        for one in with_plans:
            yield Problem(one.file, f"is for GPUs ({one.runtime}); serverless endpoints have none", "name an instance")
        if plan.multi or any("Containers" in model for model in plan.of("CreateModel")):
            yield Problem("ServerlessConfig", "takes no multi-model endpoint and no containers", "name an instance")
    for instance in world.on_gpus:
        if plan.multi and instance.gpus > 1:
            said = f"has {instance.gpus} GPUs; multi-model endpoints use instances with one"
            yield Problem(instance.name, said, "take a smaller instance of the family")
        if any("Containers" in model for model in plan.of("CreateModel")):
            yield Problem(instance.name, "has a GPU; models of several containers run on CPUs", "take a CPU instance")


@rule(
    "H15",
    ERROR,
    "what a serverless endpoint hosts is small, and it says nothing of networks or capture",
    why="5 GB of disk, an image of at most 10 GB; no VPC, network isolation or data capture",
    source=f"{_GUIDE}, serverless-endpoints",
)
def serverless(world: World) -> Problems:
    plan = world.plan
    if not plan.serverless:
        return
    for one in plan.archives:
        if one.unpacked_bytes and one.packed_bytes and one.unpacked_bytes + one.packed_bytes > _SERVERLESS_DISK_BYTES:
            said = (
                f"takes {(one.unpacked_bytes + one.packed_bytes) / _GB:.1f} GB packed and unpacked; the disk has 5 GB"
            )
            yield Problem(one.file, said, "name an instance")
    for model in plan.of("CreateModel"):
        for key in ("VpcConfig", "EnableNetworkIsolation"):
            if model.get(key):
                yield Problem(f"CreateModel.{key}", "is not for serverless endpoints", "leave it out")
    if any("DataCaptureConfig" in config for config in plan.of("CreateEndpointConfig")):
        yield Problem("DataCaptureConfig", "is not for serverless endpoints", "leave it out")
    said = "is not known to fit into 10 GB, which serverless endpoints need"
    yield Problem(plan.image, said, "look at its size in ECR, or name a smaller image", ADVICE)


@rule(
    "A16",
    ERROR,
    "the disk holds the archive, packed and unpacked",
    why="the download fails",
    source="SageMaker API, VolumeSizeInGB",
)
def disk(world: World) -> Problems:
    needed = sum((one.unpacked_bytes or 0) + (one.packed_bytes or 0) for one in world.plan.archives)
    for variant in world.plan.variants:
        volume = variant.get("VolumeSizeInGB")
        if isinstance(volume, int) and volume * _GB < needed:
            said = f"is {volume}; the archives need {needed / _GB:.1f} GB packed and unpacked"
            yield Problem("VolumeSizeInGB", said, "raise it")


@rule(
    "H14",
    ADVICE,
    "the container has time to load its models",
    why="SageMaker ends containers that are not healthy in time (4 minutes), and loads of a multi-model endpoint "
    "that take over 60 seconds make requests fail",
    source=f"{_GUIDE}, your-algorithms-inference-code; add-models-to-endpoint",
)
def in_time(world: World) -> Problems:
    for one in world.plan.archives:
        seconds = seconds_to_load(one.unpacked_bytes or 0)
        if one.is_multi:
            slow, hopeless = _MME_LOAD_SECONDS
            if seconds > slow:
                said = f"may take {seconds} s to load; requests fail after {slow} s, the load after {hopeless} s"
                yield Problem(one.file, said, "make it smaller, or host it on an endpoint of its own")
            continue
        limits = _of_variants(world.plan) + _of_components(world.plan)
        for limit in {limit for limit in limits if seconds > limit}:
            said = f"may take {seconds} s to load; the container has {limit} s"
            yield Problem(one.file, said, "set endpoint.startup_timeout_seconds")


@rule(
    "R1",
    ADVICE,
    "the largest request fits the host's limit",
    why="larger ones are refused: 6 MB in real time, 4 MB serverless, 1 GB asynchronously, and 64 MiB by the server",
    source="botocore sagemaker-runtime BodyBlob; developer guide; sagemaker_server.cc",
)
def payload(world: World) -> Problems:
    plan = world.plan
    if not plan.variants:
        return
    limit = _payload_limit(plan)
    for one in plan.archives:
        size = request_bytes(one)
        if size is not None and size > limit:
            said = (
                f"a request of {one.max_batch_size} at once may have {size / 1e6:.1f} MB as JSON; the limit is "
                f"{limit / 1e6:.1f} MB"
            )
            yield Problem(one.file, said, "send fewer at once, use the binary format, or an asynchronous endpoint")


@rule(
    "E9",
    ERROR,
    "models with several answers are asked for them",
    why="the front end refuses plain requests to them, and multi-model endpoints refuse them altogether",
    source="server src/sagemaker_server.cc:445-460; server#8047",
)
def decoupled(world: World) -> Problems:
    for one in world.plan.archives:
        if not one.decoupled:
            continue
        if one.is_multi:
            yield Problem(one.file, "is decoupled, which multi-model endpoints refuse", "use a single-model endpoint")
        elif not any("generate" in str(_environment(each).get(INFERENCE_TYPE, "")) for each in world.plan.containers):
            yield Problem(one.file, "is decoupled, and /invocations infers", "set inference_type: generate_stream")


def request_bytes(one: Facts) -> int | None:
    """The largest request, as JSON; None where a tensor has no bound that is known."""
    total = 0
    for tensor in one.inputs:
        kind = str(tensor.get("data_type", "")).removeprefix("TYPE_")
        dims = [int(size) for size in tensor.get("dims", ())]
        if kind == "STRING":
            width = (one.max_length or 0) * _CHARACTERS_PER_TOKEN
        else:
            width = {**_WIDTHS, **_WIDTHS_MORE}.get(kind, 0) * _JSON_FACTOR
        if not width:
            return None
        for size in dims:
            width *= size if size > 0 else one.max_length or 1
        total += width
    return total * max(1, one.max_batch_size) if one.inputs else None


def _payload_limit(plan: Plan) -> int:
    if plan.max_payload_mb is not None:
        return int(plan.max_payload_mb * 1_000_000)
    if plan.serverless:
        return _SERVERLESS_BYTES
    if any("AsyncInferenceConfig" in config for config in plan.of("CreateEndpointConfig")):
        return min(_ASYNC_BYTES, _HTTP_BYTES)
    return _REAL_TIME_BYTES


def _of_variants(plan: Plan) -> list[int]:
    """How long containers of variants may take; those of components have limits of their own."""
    with_models = [one for one in plan.variants if "ModelName" in one]
    return [
        _SERVERLESS_SECONDS if "ServerlessConfig" in one else int(one.get(_LIMIT, HEALTH_SECONDS))
        for one in with_models
    ]


def _of_components(plan: Plan) -> list[int]:
    each = (part.get("Specification", {}).get("StartupParameters", {}) for part in plan.of("CreateInferenceComponent"))
    return [int(given.get(_LIMIT, HEALTH_SECONDS)) for given in each]


def _environment(container: dict[str, Any]) -> dict[str, Any]:
    found = container.get("Environment")
    return found if isinstance(found, dict) else {}

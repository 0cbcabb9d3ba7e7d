"""What SageMaker's container and its limits mean for the models in it.

Sources are files and lines of github.com/triton-inference-server/server at e1db8a6.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from builder.lint.finding import ADVICE, HOSTING_ERROR
from builder.lint.graphs import TENSORRT, backend, dtype_name
from builder.lint.rule import Problem, model_rule, repository_rule
from builder.lint.rules.hosts import (
    ARGUMENTS,
    DEFAULT_MODEL,
    ENVIRONMENT,
    FRONT_END,
    HOSTS,
    MULTI,
    PREFIX,
    SERVE,
    SINGLE,
    closure,
    environment,
    served,
    steps,
    values_of,
)

if TYPE_CHECKING:
    from builder.lint.model import Model, World
    from builder.lint.rule import Problems

_PAYLOAD_BYTES: Final = 6_291_456
_ITEM_BYTES: Final = {"BOOL": 1, "UINT8": 1, "INT8": 1, "UINT16": 2, "INT16": 2, "FP16": 2, "BF16": 2, "UINT32": 4,
                      "INT32": 4, "FP32": 4, "UINT64": 8, "INT64": 8, "FP64": 8}  # fmt: skip
_IMAGES: Final = frozenset({"23.12", "24.01", "24.03", "24.05", "24.09", "25.04", "25.09", "26.03"})
_CUDA_13_SINCE: Final = "25.08"


@model_rule(
    "C15",
    HOSTING_ERROR,
    "response_cache comes with a cache of the server",
    why="without --cache-config the server has no cache, and answers nothing from it",
    source=f"{SERVE}:132; server#6643",
    hosts=HOSTS,
)
def cache(model: Model, world: World) -> Problems:
    if model.config is not None and model.config.response_cache.enable and not values_of(world, "--cache-config"):
        yield Problem(
            "response_cache is on, but the server has no cache",
            f"add --cache-config=local,size=BYTES to {ARGUMENTS}",
            "response_cache",
        )


@model_rule(
    "C17",
    HOSTING_ERROR,
    "rate_limiter comes with the server's rate limiter",
    why="without --rate-limit the server ignores it",
    source="server docs/user_guide/rate_limiter.md",
    hosts=HOSTS,
)
def rate_limiter(model: Model, world: World) -> Problems:
    if model.config is None or values_of(world, "--rate-limit"):
        return
    for index, group in enumerate(model.config.instance_group):
        if group.HasField("rate_limiter"):
            yield Problem(
                "rate_limiter is set, but the server's is off",
                f"add --rate-limit=execution_count to {ARGUMENTS}",
                f"instance_group[{index}].rate_limiter",
            )


@repository_rule(
    "E8",
    HOSTING_ERROR,
    "the default model is the ensemble, not a step of it",
    why="only the default model and what it is composed of are loaded: the ensemble would not be there",
    source=f"{SERVE}:157-160",
    hosts=(SINGLE,),
)
def default_is_ensemble(world: World) -> Problems:
    name = environment(world).get(DEFAULT_MODEL, "")
    above = [model.name for model in world.models.values() if name and name in steps(model)]
    loaded = {model for value in values_of(world, "--load-model") for model in closure(world, (value,))}
    if above and not loaded & set(above):
        yield Problem(
            f"{DEFAULT_MODEL} is {name!r}, a step of the ensemble {above[0]!r}, which is then not loaded",
            f"set it to {above[0]}",
            path=ENVIRONMENT,
        )


@model_rule(
    "E9",
    HOSTING_ERROR,
    "decoupled models are asked in a way that can give many answers",
    why="the front end refuses decoupled models, but for generate and generate_stream on a single-model endpoint",
    source=f"{FRONT_END}:445-460; server#8047",
    hosts=HOSTS,
)
def decoupled(model: Model, world: World) -> Problems:
    if model not in served(world):
        return
    parts = [world.models[name] for name in closure(world, (model.name,)) if name in world.models]
    if not any(part.config is not None and part.config.model_transaction_policy.decoupled for part in parts):
        return
    if world.options.host == MULTI:
        yield Problem(
            "is decoupled, which a multi-model endpoint refuses",
            "serve it from a single-model endpoint",
            "model_transaction_policy",
        )
    elif not environment(world).get(f"{PREFIX}INFERENCE_TYPE", "").startswith("generate"):
        yield Problem(
            "is decoupled, which /invocations refuses for infer",
            f"set {PREFIX}INFERENCE_TYPE=generate or generate_stream",
            "model_transaction_policy",
        )


@model_rule(
    "R1",
    ADVICE,
    "the largest batch fits into one request",
    why="real-time endpoints take bodies of up to 6 MB; serverless ones of 4 MB",
    source="SageMaker API, BodyBlob (botocore 1.43.11)",
    hosts=HOSTS,
)
def request_size(model: Model, world: World) -> Problems:
    if model.config is None or model not in served(world):
        return
    batch = max(model.config.max_batch_size, 1)
    known = [
        (_ITEM_BYTES.get(dtype_name(model.config, tensor.data_type), 0), tuple(tensor.dims))
        for tensor in model.config.input
    ]
    size = batch * sum(item * math.prod(dims) for item, dims in known if min(dims, default=1) > 0)
    if size > _PAYLOAD_BYTES:
        yield Problem(
            f"a batch of {batch} takes {size} bytes; a request has at most {_PAYLOAD_BYTES}",
            "send smaller batches, or smaller types",
            "max_batch_size",
        )


@repository_rule(
    "V1",
    ADVICE,
    "SageMaker has an image of the release",
    why="an endpoint with an image that does not exist fails to start",
    source="aws/deep-learning-containers, sagemaker-tritonserver, as of 2026-11",
    hosts=HOSTS,
)
def image(world: World) -> Problems:
    if world.options.release not in _IMAGES:
        yield Problem(
            f"no sagemaker-tritonserver image of {world.options.release} is known; there are "
            f"{', '.join(sorted(_IMAGES))}",
            "lint for one of them: --release",
            path=ENVIRONMENT,
        )


@repository_rule(
    "V3",
    ADVICE,
    "the endpoint's machine image has a driver for the container's CUDA",
    why="containers since 25.08 hold CUDA 13, which needs driver 580",
    source="server docs/introduction/compatibility.md; SageMaker API, InferenceAmiVersion",
    hosts=HOSTS,
)
def driver(world: World) -> Problems:
    on_gpu = [model.name for model in world.models.values() if _on_gpu(model)]
    if on_gpu and world.options.release >= _CUDA_13_SINCE:
        yield Problem(
            f"{on_gpu[0]} runs on a GPU, and the container of {world.options.release} holds CUDA 13",
            "set InferenceAmiVersion to an al2023 image with gpu-4-1",
            path=ENVIRONMENT,
        )


def _on_gpu(model: Model) -> bool:
    if model.config is None:
        return False
    groups = model.config.instance_group
    return backend(model) == TENSORRT or any(group.kind == group.KIND_GPU for group in groups)

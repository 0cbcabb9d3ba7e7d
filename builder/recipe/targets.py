"""Section ``targets``: what the archive is built for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler

from builder.recipe.base import Reserved, Section, not_yet, wrong
from builder.recipe.suggest import did_you_mean, show
from builder.tools import releases

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

    from builder.artifacts import Json


class Hardware(Section):
    """The machine that will serve. Threads and instances follow it, never the machine that builds."""

    vcpus: Annotated[int, Field(ge=1, le=4096)] | None = None
    """The number of virtual CPUs."""

    local: bool = False
    """This machine, whatever it has; `hardware: local` says the same."""

    instance: Reserved = None
    """Reserved: a cloud instance type, such as ml.g4dn.xlarge."""

    gpu: Reserved = None
    """Reserved: a GPU, such as L4."""

    compute_capability: Reserved = None
    """Reserved: a GPU's compute capability, such as "8.9"."""


def _expand_local(value: Json) -> Json:
    if isinstance(value, str):
        if value != "local":
            raise wrong(f"must be a mapping such as {{vcpus: 2}}, or 'local' (this machine); got {value!r}")
        return {"local": True}
    return value


class _LocalInSchema:
    """Tells editors that a word may stand for the mapping."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"const": "local"}, handler(schema)]}


def _check_one(value: Hardware) -> Hardware:
    if value.local == (value.vcpus is not None):
        raise wrong("give either vcpus (a number) or local (this machine)")
    return value


def _check_release(value: str) -> str:
    known = releases.names()
    if value not in known:
        hint = did_you_mean(value, known)
        raise wrong(f'must be a Triton release, from "{known[0]}" to "{known[-1]}"; got {show(value)}{hint}')
    return value


class Target(Section):
    """One thing to build for: a runtime at a precision, on a machine, in a Triton release."""

    runtime: Annotated[Literal["onnxruntime"], not_yet("tensorrt", "tensorrt-rtx", what="runtime")]
    """What runs the model inside Triton."""

    precision: Annotated[Literal["fp32"], not_yet("fp16", "bf16", "fp8", "int8", what="precision")] = "fp32"
    """The number format of weights and computation."""

    hardware: Annotated[
        Hardware,
        BeforeValidator(_expand_local),
        AfterValidator(_check_one),
        _LocalInSchema(),
    ] = Hardware(vcpus=2)
    """The machine that will serve: {vcpus: 2}, or local for this one."""

    triton: Annotated[
        str, AfterValidator(_check_release), Field(json_schema_extra={"enum": list(releases.names())})
    ] = "25.09"
    """The Triton release that will serve, in quotes: "25.09"."""

"""RELEASE.md: what is handed off, how it was proven, what it costs, and the commands that send it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.handoff.plan import PASSED
from builder.package.places import stem
from builder.tools.ssh_signature import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.handoff.plan import Facts, Plan
    from builder.handoff.rule import Problem
    from builder.tools.gpus import Instance

_MB: Final = 1_000_000
_AWS: Final = {
    "CreateModel": "create-model",
    "CreateEndpointConfig": "create-endpoint-config",
    "CreateEndpoint": "create-endpoint",
    "CreateInferenceComponent": "create-inference-component",
    "RegisterScalableTarget": "register-scalable-target",
    "PutScalingPolicy": "put-scaling-policy",
    "CreateTransformJob": "create-transform-job",
    "CreateInferenceRecommendationsJob": "create-inference-recommendations-job",
}
"""Commands of the AWS command line."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Instance types, and where their prices come from."""

    instances: Mapping[str, Instance]
    sources: Mapping[str, str]


def text(plan: Plan, advice: Sequence[Problem], prices: Prices, *, sealed: bool = False) -> str:
    """The page, as Markdown.

    Args:
        plan: what is handed off.
        advice: what rules have said.
        prices: of instance types.
        sealed: whether an archive is signed.
    """
    title = ", ".join(dict.fromkeys(one.name for one in plan.archives))
    parts = [f"# {title}", _archives(plan.archives), _makes(plan), _cost(plan, prices), _advice(advice)]
    return (
        "\n\n".join(part for part in [*parts, _commands(plan), _proof(plan, sealed=sealed), _files(plan)] if part)
        + "\n"
    )


def _archives(archives: Sequence[Facts]) -> str:
    rows = [
        "## Archives",
        "",
        "| archive | target | Triton | proof | unpacked MB | tree |",
        "|---|---|---|---|---|---|",
    ]
    for one in archives:
        proof = one.status if one.status == PASSED else f"**{one.status}**"
        rows.append(
            f"| `{one.file}` | {one.target} ({one.runtime}) | {one.triton} | {proof} | "
            f"{(one.unpacked_bytes or 0) / _MB:.1f} | `sha256:{one.tree_digest}` |"
        )
    if any(one.status != PASSED for one in archives):
        rows += ["", "Not every archive was proven on a server: it was handed off with `--unverified`."]
    return "\n".join(rows)


def _makes(plan: Plan) -> str:
    rows = ["## What is made", "", f"Region `{plan.region}`, image `{plan.image}`.", ""]
    return "\n".join([*rows, *(f"1. {call.operation} `{call.name}`" for call in plan.calls)])


def _cost(plan: Plan, prices: Prices) -> str:
    rows = []
    for name in plan.instances:
        known = prices.instances.get(name)
        own = plan.usd_per_hour.get(name)
        price = own if own is not None else known.usd_per_hour if known else None
        told = prices.sources.get(known.price_source or "", "source unknown") if known else ""
        source = "as the recipe says" if own is not None else told
        said = f"{price:g} USD an hour ({source})" if price is not None else "price unknown"
        rows.append(f"* `{name}`: {said}")
    return "\n".join(["## Instances", "", *rows]) if rows else ""


def _advice(advice: Sequence[Problem]) -> str:
    return "\n".join(["## Advice", "", *(f"* {one.text}" for one in advice)]) if advice else ""


def _commands(plan: Plan) -> str:
    lines = [
        "## Sending it",
        "",
        "`tritonsmith handoff … --deploy` does all of this, and undoes it when a step fails.",
        "",
        "```sh",
    ]
    folders = {one.file for one in plan.archives if one.is_folder}
    for upload in plan.uploads:
        whole = "--recursive " if upload.file in folders else ""
        lines.append(f"aws s3 cp {whole}{shlex.quote(upload.file)} {shlex.quote(upload.uri)}")
    for index, call in enumerate(plan.calls, 1):
        path = f"requests/{index:02}-{call.service}-{call.operation}.json"
        command = f"aws {call.service} {_AWS[call.operation]} --region {plan.region}"
        lines.append(f"{command} --cli-input-json file://{path}")
        if call.operation == "CreateEndpoint":
            lines.append(f"aws sagemaker wait endpoint-in-service --region {plan.region} --endpoint-name {call.name}")
    return "\n".join([*lines, "```"])


def _proof(plan: Plan, *, sealed: bool) -> str:
    """How a receiver repeats the proof: on copies, for a new proof is written into the manifest."""
    lines = [
        "## Proving it again",
        "",
        "Samples and expected answers are in `archives/`: `tritonsmith verify` asks an archive that lies beside them.",
        "",
        "```sh",
        "cp -r archives proof",
    ]
    for upload in plan.uploads:
        folder = stem(upload.file) == upload.file
        options = "--recursive " if folder else ""
        lines.append(f"aws s3 cp {options}{shlex.quote(upload.uri)} {shlex.quote(f'proof/{upload.file}')}")
    if sealed:
        lines.append("# keys.txt has a line `tritonsmith KEYTYPE KEY` for each key that you trust")
        lines += [line for upload in plan.uploads for line in _signed(upload.file)]
    lines += [f"tritonsmith verify {shlex.quote(f'proof/{upload.file}')}" for upload in plan.uploads]
    return "\n".join([*lines, "```"])


def _signed(name: str) -> list[str]:
    sums = shlex.quote(f"{stem(name)}.sha256sums")
    check = f"ssh-keygen -Y verify -f keys.txt -I tritonsmith -n {NAMESPACE} -s proof/{sums}.sig < proof/{sums}"
    return [check, f"(cd proof && sha256sum --check {sums})"]


def _files(plan: Plan) -> str:
    rows = [
        "## Files",
        "",
        "* `requests/`: the calls, in order; `template.json`: the same for CloudFormation, but for jobs.",
        "* `environment.json`: the variables of the container.",
        "* `client.py`: asks the endpoint, `python client.py TEXT`; `client.json` says which.",
        "* `archives/`: manifests, samples and expected answers, provenance and signatures of the archives.",
        "* `plan.json`: all of it, for `tritonsmith handoff`; `SHA256SUMS`: `sha256sum -c SHA256SUMS`.",
    ]
    return "\n".join(rows) if plan.calls else ""

"""What served the archive, and where that differs from production."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from builder.tools import python_env, templates, toolchain
from builder.tools.releases import release

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from builder.artifacts import Json
    from builder.tools.releases import Release
    from builder.tools.triton_client import Client
    from builder.verify.facts import ArchiveFacts

_SETTLING_SECONDS: Final = 0.1
_SETTLING_READS: Final = 20
_OURS: Final = {"tensorrt_rtx"}
"""Backends that are ours in production too."""

_COUNTS: Final = {"texts": "inference_count", "executions": "execution_count"}


def describe_server(client: Client, facts: ArchiveFacts, environment: Path) -> dict[str, Json]:
    """Provider, versions, stand-ins and overrides, for the manifest.

    Args:
        client: a connection to the server.
        facts: the archive that it serves.
        environment: the Python environment of its stubs.

    Raises:
        ServerError: the server does not answer.
    """
    target = release(facts.triton)
    version = client.server_metadata()["version"]
    configs = [client.config(model) for model in models(client, facts.name, *facts.load_models)]
    python = python_env.python_minor(environment)
    return {
        "provider": "embedded",
        "version": version,
        "onnxruntime": target.onnxruntime,
        "python": _dotted(python),
        "perf_analyzer": toolchain.PERF_ANALYZER_VERSION,
        "toolchain": toolchain.digest(),
        "target": {"triton": target.name, "version": target.server_version, "onnxruntime": target.onnxruntime},
        "stand_ins": stand_ins(configs, version, python, target),
        "overrides": [],
    }


def models(client: Client, *names: str) -> tuple[str, ...]:
    """Models and the steps that they consist of, and the steps of these, each once.

    Raises:
        ServerError: the server does not answer.
    """
    found: dict[str, None] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = None
            waiting += [
                step["model_name"] for step in client.config(name).get("ensemble_scheduling", {}).get("step", [])
            ]
    return tuple(found)


def executions(client: Client, name: str) -> dict[str, dict[str, int]]:
    """For each model: how many texts it has answered, and in how many executions.

    Fewer executions than texts mean that batches were formed. A backend reports an execution only after it has
    sent the answers (``TRITONBACKEND_ModelInstanceReportBatchStatistics``): so it is read until nothing is added.

    Raises:
        ServerError: the server does not answer.
    """
    names = models(client, name)
    counts = _counts(client, names)
    for _ in range(_SETTLING_READS):
        time.sleep(_SETTLING_SECONDS)
        before, counts = counts, _counts(client, names)
        if counts == before:
            break
    return counts


def _counts(client: Client, names: Sequence[str]) -> dict[str, dict[str, int]]:
    read = {model: client.statistics(model) for model in names}
    return {model: {key: int(found.get(field, 0)) for key, field in _COUNTS.items()} for model, found in read.items()}


def stand_ins(
    configs: Sequence[Mapping[str, Json]], version: str, python: tuple[int, int], target: Release
) -> list[dict[str, str]]:
    """In what the verified server differs from production.

    Args:
        configs: of the served models, with the protobuf's field names.
        version: of the server that was used.
        python: minor version of the Python that its stubs ran on.
        target: the target's Triton release. Its numpy is not listed: no source says which one the container has.
    """
    found = [("tritonserver", version, target.server_version)] if version != target.server_version else []
    backends = {str(config.get("backend", "")) for config in configs}
    if "python" in backends and python != target.python:
        production = _dotted(target.python) if target.python else "not known"
        found.append(("python of the steps", _dotted(python), production))
    for backend in sorted(backends & {folder.name for folder in templates.backends()} - _OURS):
        found.append((f"backend {backend}", "tritonsmith's Python-based backend", "NVIDIA's C++ backend"))
    # Answers from the cache would be compared and measured in place of the model's.
    if any(config.get("response_cache", {}).get("enable") for config in configs):
        found.append(("response cache", "off", "as the server's --cache-config says"))
    return [dict(zip(("what", "used", "production"), difference, strict=True)) for difference in found]


def _dotted(minor: tuple[int, int]) -> str:
    return ".".join(map(str, minor))

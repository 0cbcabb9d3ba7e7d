"""A host that serves here, and archives in the layouts that SageMaker takes or refuses."""

from __future__ import annotations

import pytest

from builder.tools import archive as archives
from builder.verify.contract import Subject, probe
from builder.verify.contract.report import Host

QUIET = {"SAGEMAKER_TRITON_LOG_VERBOSE": "false"}


@pytest.fixture(scope="session")
def make_host(toolchain, server_environment, tmp_path_factory):
    """A host with these variables: ``make_host(**variables)``."""
    return lambda **variables: Host(
        toolchain, server_environment, {**QUIET, **variables}, tmp_path_factory.mktemp("host")
    )


@pytest.fixture
def pack_texts(tmp_path):
    """Packs small files: ``pack_texts(name, {path: text})``."""

    def pack(name, texts):
        path = tmp_path / f"{name}.tar.gz"
        archives.pack(probe.write(tmp_path / f"{name}.files", texts), path)
        return path

    return pack


@pytest.fixture(scope="session")
def subject(facts):
    """An ensemble of two models, nested, with samples and answers beside it."""
    return Subject(facts.archive.path, facts, {"cosine": 0.999999})

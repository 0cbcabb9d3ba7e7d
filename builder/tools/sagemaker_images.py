"""AWS's images of Triton: dated facts, taken down on 2026-11-20.

Sources: the registries of each region are those of ``image_uri_config/sagemaker-tritonserver.json`` in
github.com/aws/sagemaker-python-sdk (07ceb4a5e2); the tags those of github.com/aws/deep-learning-containers (e0ecede).
"""

from __future__ import annotations

import re
from typing import Final

from builder.errors import UserError

TAGS: Final = ("23.12", "24.01", "24.03", "24.05", "24.09", "25.04", "25.09", "26.03")
"""Releases of Triton that AWS has an image of."""

_USUAL: Final = "763104351884"
_REGISTRIES: Final = {
    **dict.fromkeys(
        (
            *("ap-northeast-1", "ap-northeast-2", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ca-central-1"),
            *("eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1"),
            *("us-east-1", "us-east-2", "us-west-1", "us-west-2"),
        ),
        _USUAL,
    ),
    "af-south-1": "626614931356",
    "ap-east-1": "871362719292",
    "ap-northeast-3": "364406365360",
    "ap-southeast-3": "907027046896",
    "ca-west-1": "204538143572",
    "cn-north-1": "727897471807",
    "cn-northwest-1": "727897471807",
    "eu-south-1": "692866216735",
    "il-central-1": "780543022126",
    "me-south-1": "217643126080",
}
_IMAGE: Final = re.compile(r"(?P<registry>[^/]+)/(?:.*/)?(?P<name>[\w.-]*tritonserver):(?P<release>\d\d\.\d\d)\b.*")


def image(region: str, release: str) -> str:
    """AWS's image of a Triton release.

    Raises:
        UserError: no image of that release, or none in that region, is known.
    """
    mend = "name one yourself: handoff.sagemaker.image (an image of yours in ECR)"
    if release not in TAGS:
        raise UserError(f"AWS has no image of Triton {release} that is known; known: {', '.join(TAGS)}", mend=mend)
    if region not in _REGISTRIES:
        raise UserError(
            f"region {region}: no registry of AWS's images is known; known: {', '.join(sorted(_REGISTRIES))}", mend=mend
        )
    suffix = ".cn" if region.startswith("cn-") else ""
    host = f"{_REGISTRIES[region]}.dkr.ecr.{region}.amazonaws.com{suffix}"
    return f"{host}/sagemaker-tritonserver:{release}-py3"


def release_of(image: str) -> str | None:
    """The Triton release that an image's tag names; None where it names none."""
    found = _IMAGE.fullmatch(image)
    return found["release"] if found else None


def is_aws(image: str) -> bool:
    """Whether it is one of AWS's own images."""
    return any(image.startswith(f"{registry}.") for registry in _REGISTRIES.values())

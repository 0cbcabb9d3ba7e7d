"""Where the section ``handoff`` comes from: the manifest of an archive, or a recipe, with ``--set`` written over it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from builder.errors import UserError
from builder.recipe import handoff
from builder.recipe.document import Problem, refuse, to_data
from builder.recipe.files import read_text
from builder.recipe.load import SIZE_LIMIT_BYTES
from builder.recipe.overrides import apply
from builder.recipe.reader import parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.handoff.gather import Shipped
    from builder.recipe.handoff import SageMaker

_SECTION = "handoff"
_MEND = (
    "write the section handoff into the recipe and build it, or give one: --recipe FILE, --set handoff.sagemaker.…=…"
)


def settings(shipped: Sequence[Shipped], recipe: Path | None, overrides: Sequence[str]) -> SageMaker:
    """How archives are to be handed to SageMaker.

    Args:
        shipped: the archives; their manifests hold the section of the recipes that they were built from.
        recipe: a file whose section ``handoff`` is taken instead; other keys mean nothing.
        overrides: ``KEY=VALUE`` strings of ``--set``, as in ``build``: ``handoff.sagemaker.region=eu-central-1``.

    Raises:
        RecipeError: the section is wrong; with its place.
        UserError: there is none, or archives differ in theirs.
    """
    text, place = (
        _of_archives(shipped) if recipe is None else (read_text(recipe, limit_bytes=SIZE_LIMIT_BYTES), str(recipe))
    )
    problems: list[Problem] = []
    root = apply(parse(text, place, problems), overrides, problems)
    data = to_data(root, problems)
    if not isinstance(data, dict) or data.get(_SECTION) is None:
        if problems:
            raise refuse(problems)
        raise UserError(f"{place}: has no section {_SECTION}", mend=_MEND)
    read = handoff.read(data[_SECTION], root, problems)
    if problems or read is None:
        raise refuse(problems)
    return read.sagemaker


def _of_archives(shipped: Sequence[Shipped]) -> tuple[str, str]:
    """The section that manifests hold, as a document, and where it comes from."""
    stated = {json.dumps({_SECTION: one.manifest.recipe.view.get(_SECTION)}, sort_keys=True) for one in shipped}
    if len(stated) > 1:
        raise UserError(
            f"{len(shipped)} archives were built with different sections {_SECTION}", mend="give one: --recipe FILE"
        )
    first = shipped[0].manifest.recipe
    return stated.pop(), first.file

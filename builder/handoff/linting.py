"""The rules for those who lint: of a release folder, and of a recipe before anything is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.handoff import release
from builder.handoff.plan import PASSED, Facts
from builder.handoff.planning import plan as make_plan
from builder.handoff.rule import check
from builder.package.formats import named
from builder.recipe import handoff
from builder.recipe.document import Problem as RecipeProblem
from builder.recipe.document import refuse

if TYPE_CHECKING:
    from pathlib import Path

    from builder.handoff.rule import Problem
    from builder.recipe import AnyRecipe

_NOBODY_KNOWS: Final = "0" * 64


def of_release(folder: Path) -> tuple[tuple[str, Problem], ...]:
    """What is wrong with a release folder: the file that it is in, and the problem.

    Raises:
        ArchiveError: it is none, or its files are not what was written.
    """
    plan = release.read(folder)
    return tuple((release.file_of(plan, one.where), one) for one in check(plan, folder=release.look(folder)))


def of_recipe(recipe: AnyRecipe, target: str) -> tuple[Problem, ...]:
    """What would be wrong with the hand-off of a target, as far as the recipe tells; nothing without the section.

    Raises:
        RecipeError: the section is wrong.
        UserError: what names or instances need is missing.
    """
    if recipe.handoff is None:
        return ()
    problems: list[RecipeProblem] = []
    read = handoff.read(recipe.handoff, recipe.root, problems)
    if read is None:
        raise refuse(problems)
    return check(make_plan(read.sagemaker, [_facts(recipe.for_target(target), target)]))


def _facts(recipe: AnyRecipe, target: str) -> Facts:
    asked = recipe.targets[target]
    form = named(recipe.package.formats[0])
    shapes = recipe.shapes.batch.max if recipe.models is None and recipe.shapes is not None else 1
    return Facts(
        name=recipe.name,
        target=target,
        format=form.name,
        status=PASSED,
        file=f"{recipe.name}-{target}-{_NOBODY_KNOWS[:16]}{form.suffix}",
        tree_digest=_NOBODY_KNOWS,
        sha256=_NOBODY_KNOWS,
        packed_bytes=None,
        unpacked_bytes=None,
        triton=asked.triton,
        runtime=asked.runtime,
        max_batch_size=recipe.serving.max_batch_size or shapes,
        capabilities=asked.hardware.capabilities if asked.runtime != "onnxruntime" else (),
        backends=("tensorrt_rtx",) if asked.runtime == "tensorrt-rtx" else (),
        response_cache=recipe.serving.response_cache.enable,
        vcpus=asked.hardware.declared_vcpus,
        instance=asked.hardware.instance,
    )

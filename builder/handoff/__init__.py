"""Archives → a release folder for Amazon SageMaker: what is sent, checked before anybody sends it.

Read :func:`hand_off` first, then :mod:`~builder.handoff.planning` (what is sent) and :mod:`~builder.handoff.rule`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.errors import GateError
from builder.handoff import release
from builder.handoff.gather import gather
from builder.handoff.letter import Prices
from builder.handoff.planning import plan as make_plan
from builder.handoff.rule import ERROR, check
from builder.handoff.settings import settings
from builder.tools import gpus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.handoff.gather import Shipped
    from builder.handoff.plan import Plan
    from builder.handoff.rule import Problem

__all__ = ["HandedOff", "check", "hand_off", "make_plan"]


@dataclass(frozen=True, slots=True)
class HandedOff:
    """A release folder and what is in it."""

    folder: Path
    plan: Plan
    shipped: tuple[Shipped, ...]
    advice: tuple[Problem, ...]


def hand_off(
    archives: Sequence[Path],
    folder: Path,
    *,
    recipe: Path | None = None,
    overrides: Sequence[str] = (),
    unverified: bool = False,
    instances: Path | None = None,
) -> HandedOff:
    """Writes the release folder of archives.

    Args:
        archives: what is handed off; manifests lie beside them.
        folder: where the release folder is made.
        recipe: whose section ``handoff`` is taken; None: that of the recipe that the archives were built from.
        overrides: ``KEY=VALUE`` strings of ``--set``.
        unverified: whether archives may go out that nobody could prove.
        instances: a table of instance types that is written over tritonsmith's own.

    Raises:
        GateError: an archive failed its verification, or the host would refuse what is written.
        UnverifiedError: an archive was not verified.
        UserError: an archive or the section is wrong.
        MachineError: botocore is not installed, an archive is damaged, or the disk is full.
    """
    table = dict(gpus.load_instances(instances))
    shipped = gather(archives, unverified=unverified)
    plan = make_plan(settings(shipped, recipe, overrides), [one.facts for one in shipped])
    found = check(plan, table, release.intended(shipped))
    if errors := [one for one in found if one.severity == ERROR]:
        raise GateError("the host would refuse it:\n" + "\n".join(one.text for one in errors))
    prices = Prices(table, gpus.price_sources(instances))
    return HandedOff(release.write(plan, shipped, found, folder, prices), plan, shipped, found)

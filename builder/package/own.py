"""The stage ``own``: the user's own steps with the packages that they import, for this machine.

Who answers the samples without Triton runs them, too.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from builder.artifacts import OwnSteps
from builder.core.digest import describe_folder
from builder.errors import InternalError
from builder.package.user_step import UserStep, user_steps, write_environment, write_user_step
from builder.tools import fetching

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.artifacts import File, Json
    from builder.recipe.composed import Composed

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Own:
    """Puts each step of the user's beside its packages.

    Args:
        steps: by name.
        cache: the user's cache folder, where wheels are kept; no part of the key.
    """

    steps: Mapping[str, UserStep]
    cache: Path
    name: ClassVar[str] = "own"
    version: ClassVar[int] = 1

    def fingerprint(self, inputs: None) -> Mapping[str, Json]:  # noqa: ARG002 - a stage's signature
        return {
            "steps": {name: step.key() for name, step in self.steps.items()},
            "python": list(sys.version_info[:2]),
        }

    def requires(self, inputs: None) -> None:
        pass

    def reads(self, inputs: None) -> list[File]:  # noqa: ARG002 - a stage's signature
        """Nothing of the store."""
        return []

    def run(self, inputs: None, out: Path) -> OwnSteps:  # noqa: ARG002 - a stage's signature
        for name, step in self.steps.items():
            write_user_step(step, out / name, sys.version_info[:2], self.cache)
            if step.environment:
                write_environment(step.environment, step.environment_sha256, out / name)
        return OwnSteps(describe_folder(out))

    def ensures(self, inputs: None, output: OwnSteps) -> None:  # noqa: ARG002 - a stage's signature
        missing = [name for name, step in self.steps.items() if f"{name}/{step.file.name}" not in output.files]
        if missing:
            raise InternalError(f"no file of {', '.join(missing)}")


def own_steps(recipe: Composed, cache: Path) -> Own | None:
    """The stage for a recipe; None where it has no step of the user's own. Tells of packages that fetch something.

    Raises:
        UserError: a file cannot be used.
    """
    steps = user_steps(recipe)
    for name, step in steps.items():
        packages = [requirement.partition("==")[0] for requirement in step.requirements]
        for found in fetching.advice(packages, step.file.read_text(encoding="utf-8", errors="replace")):
            log.warning("step %r: %s %s: %s (%s)", name, found.name, found.what, found.mend, found.source)
    return Own(steps, cache) if steps else None

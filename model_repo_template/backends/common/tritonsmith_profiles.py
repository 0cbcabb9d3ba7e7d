"""Optimisation profiles of an engine: which of them an instance has, and which one runs a batch. No GPU is needed here.

The rules are those of NVIDIA's C++ backend (tensorrt_backend e2ef6d7, ``src/instance_state.cc``), so that what is
measured with ours is what production does: ``InitOptimizationProfiles`` and ``GetMostOptimizedProfile``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]
Shapes = dict[str, Shape]  # of the inputs, with the batch axis


@dataclass(frozen=True)
class Profile:
    """One optimisation profile: for each input its least, optimal and largest shape."""

    index: int
    least: Shapes
    optimal: Shapes
    largest: Shapes

    def misfit(self, shapes: Shapes) -> str | None:
        """Which input does not fit and what it should be; None where all fit."""
        for name, shape in shapes.items():
            low, high = self.least[name], self.largest[name]
            fits = len(low) == len(shape) and all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True))
            if not fits:
                return f"'{name}' must be {span(low, high)}"
        return None

    def distance(self, shapes: Shapes) -> tuple[int, int]:
        """How far shapes are from the optimal ones, as the sum over all axes; then how large the profile is."""
        steps = (
            abs(best - size)
            for name, shape in shapes.items()
            for best, size in zip(self.optimal[name], shape, strict=True)
        )
        return sum(steps), sum(math.prod(shape) for shape in self.largest.values())


def span(low: Shape, high: Shape) -> str:
    """Shapes between two: ``[1..32, 128]``."""
    return "[" + ", ".join(f"{a}" if a == b else f"{a}..{b}" for a, b in zip(low, high, strict=True)) + "]"


def choose(profiles: list[Profile], shapes: Shapes) -> Profile:
    """The profile that runs these shapes: of those that they fit, the one with the nearest optimal shapes.

    Raises:
        ValueError: they fit none; names the tensor, its shape, and what each profile takes.
    """
    fitting = [profile for profile in profiles if profile.misfit(shapes) is None]
    if fitting:
        return min(fitting, key=lambda profile: profile.distance(shapes))
    given = ", ".join(f"'{name}' {list(shape)}" for name, shape in shapes.items())
    wanted = "; ".join(f"profile {profile.index}: {profile.misfit(shapes)}" for profile in profiles)
    raise ValueError(f"the shape of {given} is outside every optimisation profile of this instance: {wanted}")


def of_instance(config: dict[str, Any], instance_name: str, count: int) -> list[int]:
    """The profiles that an instance uses: those that its instance group names, else the first one.

    A model of ``tensorrt_rtx`` cannot name any, for Triton's core refuses that of all platforms but ``tensorrt_plan``
    (core 73aad7c, ``src/model_config_utils.cc:1792``): its instances use all.

    Args:
        config: the model's config.
        instance_name: ``<group>_<number>``, as Triton calls the instance.
        count: how many profiles the engine has.

    Raises:
        ValueError: the group names a profile that the engine does not have.
    """
    groups = config.get("instance_group", [])
    ours = [group for group in groups if re.fullmatch(re.escape(group.get("name", "")) + r"(_\d+)*", instance_name)]
    named = [str(name) for group in (ours or groups)[:1] for name in group.get("profile", [])]
    for name in named:
        if not name.isdecimal() or int(name) >= count:
            raise ValueError(
                f"instance_group: the profile '{name}' is none of the engine's {count}: 0 to {count - 1} are allowed"
            )
    unnamed = list(range(count)) if config.get("backend") == "tensorrt_rtx" else [0]
    return list(dict.fromkeys(int(name) for name in named)) or unnamed


def largest_batch(profiles: list[Profile]) -> int:
    """How many rows the profiles take at most."""
    return max(min(shape[0] for shape in profile.largest.values()) for profile in profiles)

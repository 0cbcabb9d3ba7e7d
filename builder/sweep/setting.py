"""What is tried: a value for each knob."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from builder.core.digest import digest_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import Json

Value: TypeAlias = "int | float | str | bool | tuple[int, ...] | None"
"""Of a knob. None: it is left out, and Triton or the recipe's rules decide."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Knobs and their values, sorted by knob; what is not named stays as the subject has it.

    A knob is called by its path in a recipe's section ``serving``: ``instance_group.count``,
    ``dynamic_batching.max_queue_delay_microseconds``, ``parameters.intra_op_thread_count``. That is the main model's;
    another step's has the step before it: ``tokenize:instance_group.count``. A knob that needs a build of its own
    has ``@`` before its name: ``@precision``, ``@padding``, ``@buckets``, ``@target``.
    """

    values: tuple[tuple[str, Value], ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Value]) -> Setting:
        """The setting of a mapping."""
        return cls(tuple(sorted(values.items())))

    def as_dict(self) -> dict[str, Value]:
        """Knob → value."""
        return dict(self.values)

    def get(self, knob: str, default: Value = None) -> Value:
        """The value of a knob."""
        return self.as_dict().get(knob, default)

    def with_(self, changes: Mapping[str, Value]) -> Setting:
        """Another one, with these values in place of its own."""
        return Setting.of({**self.as_dict(), **changes})

    @property
    def build(self) -> Setting:
        """Its knobs that need a build of their own."""
        return Setting(tuple(pair for pair in self.values if pair[0].startswith("@")))

    @property
    def served(self) -> Setting:
        """Its other knobs, which a running server can be given."""
        return Setting(tuple(pair for pair in self.values if not pair[0].startswith("@")))

    @property
    def digest(self) -> str:
        """sha256 of what it says."""
        return digest_json(self.as_json())

    @property
    def label(self) -> str:
        """For people: ``count 2 · max_batch_size 8``; knobs of other steps with the step's name."""
        words = [f"{knob_label(knob)} {value_label(value)}" for knob, value in self.values]
        return " · ".join(words) or "as it is"

    def as_json(self) -> dict[str, Json]:
        """Knob → value as JSON data."""
        return {knob: list(value) if isinstance(value, tuple) else value for knob, value in self.values}


def from_json(data: Mapping[str, Json]) -> Setting:
    """The setting that :meth:`Setting.as_json` wrote."""
    return Setting.of({knob: tuple(value) if isinstance(value, list) else value for knob, value in data.items()})


def knob_label(knob: str) -> str:
    """For people: the last word of its path, with the step before it: ``count``, ``tokenize:count``."""
    step, colon, path = knob.rpartition(":")
    return f"{step}{colon}{path.rpartition('.')[2]}".removeprefix("@")


def value_label(value: Value) -> str:
    """For people: ``2``, ``on``, ``[4, 8]``, ``default``."""
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "on" if value else "off"
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, tuple) else str(value)

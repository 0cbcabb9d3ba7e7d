"""Under which load a setting is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from builder.errors import InternalError

if TYPE_CHECKING:
    from builder.artifacts import Json


@dataclass(frozen=True, slots=True)
class Load:
    """A load that does not change while it is measured: closed loop or open loop.

    Two are equal where they say the same: in a closed loop nobody arrives, so it does not matter how. A closed one
    keeps its arrivals all the same: profiles make open ones of it.

    Args:
        concurrency: closed loop: so many requests are in flight at any time.
        rate: open loop: so many requests are sent per second, whatever becomes of them.
        arrivals: open loop: the times between requests are exponential, or all the same.
        batch: items in one request.
        protocol: of the requests.
        shared_memory: inputs and outputs go through the system's shared memory.
    """

    concurrency: int | None = None
    rate: float | None = None
    arrivals: Literal["poisson", "constant"] = "poisson"
    batch: int = 1
    protocol: Literal["grpc", "http"] = "grpc"
    shared_memory: bool = False

    def __post_init__(self) -> None:
        if (self.concurrency is None) == (self.rate is None):
            raise InternalError(f"a load has a concurrency or a rate: {self}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Load) and self._said == other._said

    def __hash__(self) -> int:
        return hash(self._said)

    @property
    def _said(self) -> tuple[object, ...]:
        arrivals = self.arrivals if self.rate is not None else None
        return self.concurrency, self.rate, arrivals, self.batch, self.protocol, self.shared_memory

    @property
    def label(self) -> str:
        """For people: ``concurrency 4``, ``100/s poisson``; with what is not usual."""
        words = [f"concurrency {self.concurrency}" if self.rate is None else f"{self.rate:g}/s {self.arrivals}"]
        words += [f"batch {self.batch}"] if self.batch > 1 else []
        words += [self.protocol] if self.protocol != "grpc" else []
        words += ["shared memory"] if self.shared_memory else []
        return ", ".join(words)

    def as_json(self) -> dict[str, Json]:
        """All that it says."""
        return {
            "concurrency": self.concurrency,
            "rate": self.rate,
            "arrivals": self.arrivals if self.rate is not None else None,
            "batch": self.batch,
            "protocol": self.protocol,
            "shared_memory": self.shared_memory,
        }


def from_json(data: dict[str, Json]) -> Load:
    """The load that :meth:`Load.as_json` wrote."""
    return Load(**{key: value for key, value in data.items() if value is not None})

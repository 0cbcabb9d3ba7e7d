"""How long the texts of a load are: what padding and buckets cost depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from builder.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from builder.artifacts import Json


@dataclass(frozen=True, slots=True)
class Lengths:
    """A distribution of lengths, in tokens where the subject has a tokenizer, else in words between white space.

    Special tokens, which the tokenizer adds, do not count. A length is at least 1.

    Args:
        kind: uniform, between ``low`` and ``high``, both included; or log-normal, with ``median`` and ``sigma``, the
            standard deviation of the logarithm.
    """

    kind: Literal["uniform", "log_normal"]
    low: int = 1
    high: int = 1
    median: float = 1.0
    sigma: float = 0.0

    def __post_init__(self) -> None:
        if self.kind == "uniform" and not 1 <= self.low <= self.high:
            raise UserError(f"lengths: from {self.low} to {self.high}: the lower one is 1 at least, the other no less")
        if self.kind == "log_normal" and (self.median < 1 or self.sigma < 0):
            raise UserError(f"lengths: median {self.median}, sigma {self.sigma}: at least 1, and at least 0")

    def as_json(self) -> dict[str, Json]:
        """As a recipe has it in ``verify.sweep.lengths``."""
        if self.kind == "uniform":
            return {"uniform": {"min": self.low, "max": self.high}}
        return {"log_normal": {"median": self.median, "sigma": self.sigma}}

    def draw(self, count: int, seed: int) -> tuple[int, ...]:
        """Lengths of a load: the distribution's quantiles, evenly, in random order.

        Sixteen texts of random lengths would be sixteen accidents: so they differ as the distribution does.
        """
        import numpy as np

        at = (np.arange(count) + 0.5) / count
        if self.kind == "uniform":
            lengths = np.floor(self.low + at * (self.high - self.low + 1))
        else:
            from statistics import NormalDist

            z = np.array([NormalDist().inv_cdf(float(share)) for share in at])
            lengths = np.round(self.median * np.exp(self.sigma * z))
        mixed = np.random.default_rng(seed).permutation(np.maximum(1, lengths).astype(int))
        return tuple(int(length) for length in mixed)


def from_json(data: Mapping[str, Json]) -> Lengths:
    """Of a recipe's ``verify.sweep.lengths``: ``uniform`` with min and max, or ``log_normal`` with median and sigma.

    Raises:
        UserError: it is neither; ``samples`` are no distribution, but :class:`~builder.sweep.subject.Options` has them.
    """
    if uniform := data.get("uniform"):
        return Lengths("uniform", low=int(uniform["min"]), high=int(uniform["max"]))
    if log_normal := data.get("log_normal"):
        return Lengths("log_normal", median=float(log_normal["median"]), sigma=float(log_normal["sigma"]))
    raise UserError(f"lengths: {', '.join(data)}: not known; allowed: uniform, log_normal")


def words(text: str) -> list[tuple[int, int]]:
    """Where the words of a text begin and end."""
    import re

    return [found.span() for found in re.finditer(r"\S+", text)]


def make_texts(
    texts: Sequence[str], lengths: Sequence[int], seed: int, spans: Callable[[str], Sequence[tuple[int, int]]] = words
) -> tuple[str, ...]:
    """Texts of given lengths, out of others: joined in random order, and cut.

    Args:
        texts: what they are made of; at least one of them is not empty.
        lengths: of each text that is wanted.
        seed: of where they begin.
        spans: where the pieces of a text begin and end: its tokens or words.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    joined = " ".join(texts[int(index)] for index in random.permutation(len(texts)))
    pieces = [span for span in spans(joined) if span[1] > span[0]]
    if not pieces:
        raise UserError("lengths: the samples hold no text to make others of", mend="name a file with texts")
    return tuple(_cut(joined, pieces, length, int(random.integers(len(pieces)))) for length in lengths)


def _cut(joined: str, pieces: Sequence[tuple[int, int]], length: int, start: int) -> str:
    """So many pieces from one on; at the end of all it goes on at the beginning."""
    parts = []
    while length > 0:
        part = pieces[start : start + length]
        parts.append(joined[part[0][0] : part[-1][1]])
        length -= len(part)
        start = 0
    return " ".join(parts)

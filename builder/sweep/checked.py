"""What came of comparing answers with expected ones: how many are wrong, and of what only a share must agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Share:
    """A figure of which a share of the answers must agree, as with labels: one by itself is neither right nor wrong.

    Each request counts once, however often its answers were looked at. A load has few requests: where not all need to
    agree, one of them may differ though that is more than the limit leaves, as one of 16 is with a limit of 97 %.

    Args:
        limit: the share that must agree.
        requests: by a request's number, the sum of the agreement of its answers (each from 0 to 1), and their number.
        differing: answers that do not agree in everything.
    """

    limit: float
    requests: Mapping[int, tuple[float, int]]
    differing: int

    @classmethod
    def of(cls, limit: float, number: int, agreement: float) -> Share:
        """That of one answer."""
        return cls(limit, {number: (agreement, 1)}, int(agreement < 1 - _ROUNDING))

    def __add__(self, other: Share) -> Share:
        requests = dict(self.requests)
        for number, (total, count) in other.requests.items():
            before, counted = requests.get(number, (0.0, 0))
            requests[number] = (before + total, counted + count)
        return Share(self.limit, requests, self.differing + other.differing)

    @property
    def agreement(self) -> float:
        """The mean over the requests."""
        return fmean(total / count for total, count in self.requests.values())

    @property
    def holds(self) -> bool:
        """Whether so much agrees as must."""
        if self.agreement >= self.limit - _ROUNDING:
            return True
        off = sum(total / count < 1 - _ROUNDING for total, count in self.requests.values())
        return self.limit < 1 and off <= 1 < len(self.requests)


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of all answers that were compared.

    Args:
        checked: how many.
        off: how many of them differ by more than any answer may.
        why: in what the first of these did.
        shares: by figure, what is judged over all of them; of those that are not ``off``.
    """

    checked: int = 0
    off: int = 0
    why: str = ""
    shares: Mapping[str, Share] = field(default_factory=dict)

    def __add__(self, other: Checked) -> Checked:
        shares = dict(self.shares)
        for figure, share in other.shares.items():
            shares[figure] = shares[figure] + share if figure in shares else share
        return Checked(self.checked + other.checked, self.off + other.off, self.why or other.why, shares)

    @property
    def differing(self) -> int:
        """How many are not wholly as expected, whether they may be so or not."""
        return self.off + sum(share.differing for share in self.shares.values())

    @property
    def wrong(self) -> int:
        """How many are wrong: also those that differ where too many of them do."""
        return self.off + sum(share.differing for share in self.shares.values() if not share.holds)

    @property
    def reason(self) -> str:
        """In what they are wrong; empty: in nothing."""
        shares = (
            f"{figure} is {share.agreement:.4g} over {len(share.requests)} requests, not {share.limit:.4g}"
            for figure, share in self.shares.items()
            if not share.holds
        )
        return self.why or next(shares, "")

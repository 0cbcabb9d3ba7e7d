"""The parity ledger: after which step of a build the model's answers were compared, what was seen, and if it will do.

The same samples each time, against the same reference, by the task's metric: the entry in which the figures drop names
the step that did it. Whoever can run a model asks it with :mod:`builder.parity.questions`: ``optimise`` in onnxruntime,
``engine`` on its GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder.parity.compare import CRITERIA, compare
from builder.parity.neighbours import agreement
from builder.recipe.tasks import NEIGHBOURS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import Json
    from builder.parity.compare import Answers


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger."""

    after: str  # export, the name of a pass, engine
    figures: Mapping[str, float]
    missed: Mapping[str, float] = field(default_factory=dict)  # figure → the limit that it does not keep
    failures: tuple[str, ...] = ()  # why answers cannot be compared at all

    @property
    def within(self) -> bool:
        """Whether all limits are kept."""
        return not self.missed and not self.failures

    def as_json(self) -> dict[str, Json]:
        """For the record."""
        made: dict[str, Json] = {"after": self.after, "figures": dict(self.figures), "within": self.within}
        return made | ({"failures": list(self.failures)} if self.failures else {})

    def why(self) -> str:
        """What is wrong, for people; empty where nothing is."""
        missed = (f"{name} {self.figures[name]:.6g}, limit {limit:.6g}" for name, limit in self.missed.items())
        return "; ".join([*self.failures, *missed])


def entry(after: str, metric: str, expected: Answers, actual: Answers, tolerances: Mapping[str, float]) -> Entry:
    """Compares a model's answers with the reference's.

    Args:
        after: the step that was done last.
        metric: as in :func:`builder.parity.compare.compare`, which also says what ``expected`` and ``actual`` hold.
        expected: the reference's answers.
        actual: the model's.
        tolerances: by key, as in :func:`builder.recipe.tasks.tolerances`; with ``neighbour_agreement``, of embeddings,
            the least share of samples that must keep their nearest neighbour.
    """
    compared = compare(metric, expected, actual)
    if compared.failures:
        return Entry(after, {}, failures=tuple(failure.what for failure in compared.failures))
    figures = dict(compared.figures)
    missed = {
        one.figure: one.limit(tolerances) for one in CRITERIA[metric] if not one.holds(compared.figures, tolerances)
    }
    if NEIGHBOURS in tolerances and metric == "cosine":
        figures[NEIGHBOURS] = agreement(expected["EMBEDDING"], actual["EMBEDDING"])
        if figures[NEIGHBOURS] < tolerances[NEIGHBOURS]:
            missed[NEIGHBOURS] = tolerances[NEIGHBOURS]
    return Entry(after, figures, missed)

"""What is said of a rule, whoever asks it: lint of a repository, or of what is handed off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LOAD_ERROR: Final = "load-error"
"""The server refuses to load the model, in the releases that the finding names."""

HOSTING_ERROR: Final = "hosting-error"
"""A server loads it, but the host (SageMaker) refuses it or does something else with it."""

ADVICE: Final = "advice"
"""It loads and can be hosted, but works badly or by chance."""

SEVERITIES: Final = (LOAD_ERROR, HOSTING_ERROR, ADVICE)

ALL_RELEASES: Final = "all"


@dataclass(frozen=True, slots=True)
class RuleFacts:
    """One thing that must hold, in words.

    Args:
        id: ``C9``: letter of the chapter (A archive and tree, C config, E ensemble, P Python, O graph, H R V host).
        severity: one of :data:`SEVERITIES`.
        title: what must hold, as a sentence without a full stop.
        why: what happens otherwise.
        source: file and line, or document, that says so.
        releases: the Triton releases for which it holds: ``all``, ``>=24.11``, ``<24.11``.
        hosts: the hosts for which it holds; empty for all.
    """

    id: str
    severity: str
    title: str
    why: str
    source: str
    releases: str = ALL_RELEASES
    hosts: tuple[str, ...] = ()

"""The registry of rules over the plan of a hand-off: one rule is one function and one id.

Ids and classes are those of ``lint``: H host, R request, V version, A archive, E ensemble and model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from builder.errors import InternalError
from builder.rulebook import ADVICE, HOSTING_ERROR, RuleFacts
from builder.tools import gpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from builder.handoff.plan import Plan
    from builder.tools.gpus import Instance

__all__ = ["ADVICE", "ERROR", "RULES", "Folder", "Problem", "Problems", "Rule", "World", "check", "rule"]

ERROR: Final = HOSTING_ERROR


@dataclass(frozen=True, slots=True)
class Problem:
    """What a rule found.

    Args:
        where: the call and the place in it, or the archive.
        message: what is wrong, with the value and what is allowed.
        mend: what to do about it, as an imperative sentence.
        severity: overrides the rule's; empty: the rule's.
        rule: its id, filled in by :func:`check`.
    """

    where: str
    message: str
    mend: str
    severity: str = ""
    rule: str = ""

    @property
    def text(self) -> str:
        """``rule class place message — how to mend``, in one line."""
        return f"{self.rule} {self.severity} {self.where} {self.message} — {self.mend}"


@dataclass(frozen=True, slots=True)
class Folder:
    """What lies in a release folder, beside the plan.

    Args:
        client: the text of ``client.py``.
        beside: the names of the files that lie beside the archives.
        members: of each archive, by its name: the paths of its files.
    """

    client: str
    beside: frozenset[str]
    members: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class World:
    """What rules look at: a plan, the instance types that are known, and what lies beside the plan."""

    plan: Plan
    instances: Mapping[str, Instance]
    folder: Folder | None = None

    @property
    def known(self) -> tuple[Instance, ...]:
        """The instance types of the plan that are known."""
        return tuple(self.instances[name] for name in self.plan.instances if name in self.instances)

    @property
    def on_gpus(self) -> tuple[Instance, ...]:
        """Those of them that have a GPU."""
        return tuple(one for one in self.known if one.gpus)


Problems: TypeAlias = "Iterator[Problem]"


@dataclass(frozen=True, slots=True)
class Rule(RuleFacts):
    """One thing that must hold, and who asks it: ``(world) -> Iterator[Problem]``."""

    check: Callable[[World], Problems] = field(kw_only=True)


RULES: Final[dict[str, Rule]] = {}
"""Id → rule; filled by importing :mod:`builder.handoff.rules`."""


def rule(
    rule_id: str, severity: str, title: str, *, why: str, source: str
) -> Callable[[Callable[[World], Problems]], Callable[[World], Problems]]:
    """Registers a function ``(world) -> Iterator[Problem]``; see :class:`Rule`."""

    def register(check: Callable[[World], Problems]) -> Callable[[World], Problems]:
        if rule_id in RULES:
            raise InternalError(f"rule {rule_id}: registered twice")
        RULES[rule_id] = Rule(rule_id, severity, title, why, source, check=check)
        return check

    return register


def check(
    plan: Plan, instances: Mapping[str, Instance] | None = None, folder: Folder | None = None
) -> tuple[Problem, ...]:
    """All that is wrong with a plan, errors first.

    Args:
        plan: of a hand-off.
        instances: the known instance types; None: those that ship with tritonsmith.
        folder: what lies, or will lie, beside it; None: that is not known yet.
    """
    from builder.handoff import rules

    world = World(plan, gpus.load_instances() if instances is None else instances, folder)
    found = [
        Problem(one.where, one.message, one.mend, one.severity or each.severity, each.id)
        for each in rules.all_rules()
        for one in each.check(world)
    ]
    return tuple(sorted(dict.fromkeys(found), key=lambda one: (one.severity != ERROR, one.rule, one.where)))

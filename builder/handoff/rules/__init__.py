"""The rules over the plan of a hand-off. A new one is a function in one of these modules, and a case in the tests."""

from builder.handoff.rule import RULES, Rule
from builder.handoff.rules import endpoint, machines, requests, scaling, versions

__all__ = ["all_rules"]

_MODULES = (requests, endpoint, machines, scaling, versions)


def all_rules() -> tuple[Rule, ...]:
    """All of them, by id."""
    return tuple(RULES[name] for name in sorted(RULES))

"""What a build would do, and why: without doing any of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder.core.digest import digest_json
from builder.core.execute import fingerprint_of
from builder.core.versions import FIELD
from builder.errors import MachineError, disk_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.artifacts import Json
    from builder.core.graph import Node
    from builder.core.store import Store

HIT: Final = "hit"
RUN: Final = "run"
DEPENDS: Final = "depends"
BLOCKED: Final = "blocked"

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_LONGEST: Final = 40  # characters of a value that are shown
_MOST: Final = 6  # differences that are shown


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """One line of a plan.

    ``state``: hit (it is in the store), run, depends (unknown until a node that it needs has run), blocked (something
    that it needs is missing).
    """

    node: str  # recipe/source/model/target/format/stage
    stage: str
    state: str
    why: str
    key: str | None = None  # None: unknown until its inputs are built
    changes: tuple[str, ...] = ()  # since the node was last built


@dataclass(slots=True)
class _Planner:
    store: Store
    lacking: Mapping[str, str]
    values: dict[str, Any] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)

    def plan(self, node: Node) -> PlannedNode:
        found, why = self._plan(node), self.lacking.get(node.id)
        if why is None or found.state not in {RUN, DEPENDS}:
            return found
        return PlannedNode(node.id, node.stage, BLOCKED, why, found.key)

    def _plan(self, node: Node) -> PlannedNode:
        for state in (BLOCKED, DEPENDS):
            wanting = BLOCKED if state == BLOCKED else RUN
            for needed in node.needs.values():
                if self.states[needed] in {state, wanting}:
                    return PlannedNode(node.id, node.stage, state, f"needs {needed.rpartition('/')[2]}")
        if node.prepare is None:
            return PlannedNode(node.id, node.stage, HIT, "")
        try:
            stage, inputs = node.prepare(node.inputs(self.values))
            fingerprint = fingerprint_of(stage, inputs)
        except OSError as error:  # a file of the user's that cannot be read
            place = Path(str(error.filename)) if error.filename else self.store.root
            return PlannedNode(node.id, node.stage, BLOCKED, disk_error(place, error).message)
        except MachineError as error:
            return PlannedNode(node.id, node.stage, BLOCKED, error.message)
        key = digest_json(fingerprint)
        self.values[node.id] = self.store.find(key)
        if self.values[node.id] is not None:
            return PlannedNode(node.id, node.stage, HIT, "", key)
        why, changes = self._why(node.id, key, fingerprint)
        return PlannedNode(node.id, node.stage, RUN, why, key, changes)

    def _why(self, node: str, key: str, fingerprint: Json) -> tuple[str, tuple[str, ...]]:
        last = self.store.last(node)
        if last is None:
            return "never built", ()
        if last.get("key") == key:
            return "built before, but not in the store any more", ()
        changes = tuple(differences(last["fingerprint"], fingerprint))
        more = f", and {len(changes) - _MOST} more" if len(changes) > _MOST else ""
        return ", ".join(changes[:_MOST]) + more, changes


def plan(nodes: Sequence[Node], store: Store, lacking: Mapping[str, str] | None = None) -> tuple[PlannedNode, ...]:
    """The state of each stage, in order. Nodes that only act are left out.

    Args:
        nodes: each after those that it needs.
        store: where outputs are kept.
        lacking: node id → what this machine lacks to run it. What another machine made is found all the same.

    Raises:
        UserError: what the user gave is wrong.
    """
    planner, planned = _Planner(store, lacking or {}), []
    for node in {node.id: node for node in nodes}.values():
        found = planner.plan(node)
        planner.states[node.id] = found.state
        if node.prepare is not None:
            planned.append(found)
    return tuple(planned)


def differences(old: Json, new: Json) -> Iterator[str]:
    """What changed between two fingerprints, in words: ``serving.max_batch_size: 32 → 64``, ``numpy 2.0 → 2.1``.

    A digest is no news to anybody: what has another one is said to have changed.
    """
    for path, before, after in _leaves((), old, new):
        yield _words(path, before, after)


_ABSENT: Final = object()


def _leaves(path: tuple[str, ...], old: Json, new: Json) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    old = {} if old is _ABSENT and isinstance(new, dict) else old
    new = {} if new is _ABSENT and isinstance(old, dict) else new
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from _leaves((*path, name), old.get(name, _ABSENT), new.get(name, _ABSENT))
    elif old != new:
        yield path, old, new


def _words(path: tuple[str, ...], before: object, after: object) -> str:
    if path[0] == FIELD:
        return f"{path[-1]} {_shown(before)} → {_shown(after)}"
    if path == ("version",):
        return f"stage version {before} → {after}"
    if _is_digest(before) or _is_digest(after):
        verb = "added" if before is _ABSENT else "removed" if after is _ABSENT else "changed"
        return f"{path[-1]} {verb}"
    return f"{'.'.join(path)}: {_shown(before)} → {_shown(after)}"


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _shown(value: object) -> str:
    if value is _ABSENT:
        return "(none)"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    text = value if isinstance(value, str) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"

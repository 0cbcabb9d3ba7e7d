"""What the commands ask for: build and plan. The order of the stages is in :mod:`builder.pipeline`."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, cast

from builder import pipeline, targeting
from builder.core import graph
from builder.core.execute import Executor
from builder.core.plan import HIT, PlannedNode
from builder.core.plan import plan as plan_nodes
from builder.core.report import Reporter, Silent, StageTime
from builder.core.store import NAME, Store
from builder.errors import (
    BlockedError,
    DamagedError,
    MachineError,
    RecipeError,
    TritonsmithError,
)
from builder.package import check_trust, deliver, with_verdict
from builder.package.attest import Attest, AttestInputs
from builder.package.formats import TRITON
from builder.pipeline import Surroundings, selected_targets
from builder.recipe import Recipe
from builder.results import UNVERIFIED, BuildResult, Built, exit_code, unproven
from builder.settings import settings
from builder.tools import toolchain
from builder.verify import PASSED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from builder.artifacts import Reference
    from builder.core.graph import Node, Values
    from builder.package import Manifest
    from builder.recipe import AnyRecipe

log = logging.getLogger(__name__)

__all__ = [
    "BuildResult",
    "Built",
    "PlannedNode",
    "build",
    "build_all",
    "check_trust",
    "exit_code",
    "plan",
    "reached",
    "selected_targets",
]

REJECTED: Final = "rejected"
"""Folder below ``--out`` for archives that failed their gate: never beside the good ones."""

_PROOF: Final = ("measure", "judge")
"""Stages that are left out where this machine cannot run what they serve."""

_COSMETIC: Final = frozenset({"description"})

_HEALINGS: Final = 100
"""Damaged files that one build mends: more than that, and it is the disk."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Passes the executor's reports on, and keeps the times. Several threads report."""

    reporter: Reporter
    times: dict[str, StageTime] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def started(self, node: str) -> None:
        self.reporter.started(node)

    def finished(self, time: StageTime) -> None:
        with self._lock:
            again = time.node in self.times
            self.times.setdefault(time.node, time)
        if not again:  # after something was mended, all that is whole is found again: no news
            self.reporter.finished(time)

    def failed(self, node: str, seconds: float) -> None:
        self.reporter.failed(node, seconds)

    def blocked(self, node: str) -> None:
        self.reporter.blocked(node)


class Order(Protocol):
    """What :mod:`builder.pipeline` and :mod:`builder.composition` have: nodes, and what their end is made of."""

    def node_id(self, recipe: AnyRecipe, target: str, stage: str, form: str = "") -> str: ...

    def nodes(
        self, recipe: AnyRecipe, targets: Sequence[str], surroundings: Surroundings, *, verify: bool = True
    ) -> list[Node]: ...

    def needs(self, recipe: AnyRecipe, target: str, form: str, *, verify: bool) -> dict[str, str]: ...

    def described(self, recipe: AnyRecipe, target: str, made: Values) -> tuple[Manifest, Reference]: ...


@dataclass(frozen=True, slots=True)
class _Destination:
    """Where results go, and whether they are proven first."""

    out: Path
    form: str  # the format
    verify: bool
    unverified: str = ""  # why not, where it was asked for
    key: Path | None = None  # who signs

    def folder(self, *, passed: bool) -> Path:
        """Where an archive goes. Formats with equal trees have equal names: so each but the plain one has a folder."""
        folder = self.out if passed else self.out / REJECTED
        return folder if self.form == TRITON else folder / self.form


def plan(recipes: Sequence[AnyRecipe], targets: Sequence[str] = ()) -> tuple[PlannedNode, ...]:
    """What a build would do, in order, and why, without doing any of it.

    Raises:
        UserError: a recipe names a target, a Triton release or a field that does not exist.
    """
    _check_names(recipes)
    cache = settings().cache
    store = open_store(cache)
    around = Surroundings(cache, store.describe)
    nodes = [node for recipe in recipes for node in _order(recipe).nodes(recipe, targets, around)]
    return plan_nodes(nodes, store, _lacking(recipes, targets))


def reached(recipes: Sequence[AnyRecipe]) -> frozenset[str]:
    """Keys of all that recipes still reach, as far as it is in the store.

    Raises:
        UserError: a recipe names a target, a Triton release or a field that does not exist.
    """
    planned, store = plan(recipes), open_store(settings().cache)
    # What lies beside an archive is no node of a plan: it is made when the archive is handed out.
    packed = [node.node.removesuffix(node.stage) for node in planned if node.stage == "pack" and node.state == HIT]
    beside = [last["key"] for node in packed if (last := store.last(node + Attest.name))]
    return frozenset({*beside, *(node.key for node in planned if node.key is not None)})


def _lacking(recipes: Sequence[AnyRecipe], targets: Sequence[str]) -> dict[str, str]:
    """Node id → what this machine lacks to run it."""
    try:
        _check_machine()
        unserved: dict[str, str] = {}
    except MachineError as error:
        unserved = {"measure": error.message}
    return {
        _order(recipe).node_id(recipe, target, stage, form): why
        for recipe in recipes
        for target in selected_targets(recipe, targets)
        for form in recipe.package.formats
        for stage, why in (unserved | targeting.lacking(recipe.for_target(target), target)).items()
    }


def _check_machine() -> None:
    """That this machine can serve: the proof comes last, and would fail after all the work.

    Raises:
        MachineError: it cannot.
    """
    toolchain.check_machine()
    toolchain.find_interpreter()


def build(
    recipe: AnyRecipe,
    targets: Sequence[str] = (),
    *,
    out: Path,
    verify: bool = True,
    reporter: Reporter = Silent(),  # noqa: B008 - it has no state
) -> tuple[BuildResult, ...]:
    """Builds, proves and delivers one archive for each target of a recipe: see :func:`build_all`.

    Raises:
        TritonsmithError: a stage failed; nothing of that target is delivered.
    """
    built = build_all([recipe], targets, out=out, verify=verify, reporter=reporter)
    for error in built.errors.values():
        raise error
    return built.results


def build_all(
    recipes: Sequence[AnyRecipe],
    targets: Sequence[str] = (),
    *,
    out: Path,
    verify: bool = True,
    sign: Path | None = None,
    limits: graph.Limits = graph.Limits(),  # noqa: B008 - frozen
    reporter: Reporter = Silent(),  # noqa: B008 - it has no state
) -> Built:
    """Builds, proves and delivers one archive for each target of each recipe. What is in the store is not made again.

    Args:
        recipes: what to build.
        targets: names of targets; empty: all of each recipe.
        out: folder for the archives; those that fail their gate go to ``out/rejected``.
        verify: serve, compare and measure; without it the archives are *unverified*.
        sign: file of the private key that signs them; None: what each recipe says.
        limits: what may run side by side.
        reporter: who is told of each stage.

    Returns:
        The archives, and the errors of what failed: that stops only what depends on it.

    Raises:
        UserError: a recipe is wrong in a way that shows before anything runs.
        MachineError: the store cannot be written, or this machine cannot serve what is to be verified.
    """
    _check_names(recipes)
    _check_keys({sign or _signer(recipe) for recipe in recipes})
    cache, clock = settings().cache, Clock(reporter)
    store = open_store(cache)
    around = Surroundings(cache, store.ingest)
    made: list[Node] = []
    lacking: dict[str, str] = {}  # node id → what this machine lacks to run it
    proven = False
    for recipe in recipes:
        order, unproven = _order(recipe), set[str]()
        nodes = order.nodes(recipe, targets, around, verify=verify)
        for target in selected_targets(recipe, targets):
            lacks = targeting.lacking(recipe.for_target(target), target)
            why = lacks.get("measure", "") if verify else ""
            proven |= verify and not why
            for form in recipe.package.formats:
                lacking |= {order.node_id(recipe, target, stage, form): what for stage, what in lacks.items()}
                unproven |= {order.node_id(recipe, target, stage, form) for stage in _PROOF if why}
                destination = _Destination(out, form, verify and not why, why, sign or _signer(recipe))
                nodes.append(_delivery(recipe, target, store, destination, clock))
        made += [node for node in nodes if node.id not in unproven]
    if proven:
        _check_machine()
    executor = Executor(store, reporter=clock)
    with store.lease():
        outcome = _healed(made, executor, limits)
    for error in outcome.errors.values():
        if not isinstance(error, TritonsmithError):
            raise error  # a bug of ours
    results = [outcome.values[node.id] for node in made if node.act is not None and node.id in outcome.values]
    return Built(tuple(results), {node: _in_full(error, lacking.get(node)) for node, error in outcome.errors.items()})


def _signer(recipe: AnyRecipe) -> Path | None:
    return recipe.package.sign.key if recipe.package.sign else None


def _check_keys(keys: AbstractSet[Path | None]) -> None:
    """Tries the keys that sign: a build may take an hour, and signs at its end."""
    for key in filter(None, keys):
        from builder.tools import ssh_signature

        ssh_signature.check_key(key)


def _in_full(error: Exception, lacks: str | None) -> Exception:
    """An error; of what is blocked, all that is missing and not only what was found first."""
    return BlockedError(lacks, mend=error.mend) if isinstance(error, BlockedError) and lacks else error


def _order(recipe: AnyRecipe) -> Order:
    """Where the order of a recipe's stages is: what it makes for several models is imported only for those."""
    if isinstance(recipe, Recipe):
        return cast("Order", pipeline)
    from builder import composition

    return cast("Order", composition)


def _check_names(recipes: Sequence[AnyRecipe]) -> None:
    """One name, one recipe: nodes and archives are called by it. The same recipe may be named twice."""
    seen: dict[str, AnyRecipe] = {}
    for recipe in recipes:
        for one in _named(recipe):
            other = seen.setdefault(one.name, one)
            if type(one) is not type(other) or any(
                getattr(one, name) != getattr(other, name) for name in type(one).model_fields if name not in _COSMETIC
            ):
                raise RecipeError(
                    f"{one.path}: name: {one.name!r} is also the name of {other.path}, which says something else",
                    mend="give each recipe of one build a name of its own",
                )


def _named(recipe: AnyRecipe) -> tuple[AnyRecipe, ...]:
    """A recipe, and its models, whose nodes are called by names of their own."""
    return (recipe,) if isinstance(recipe, Recipe) else (recipe, *map(recipe.single, recipe.models))


def open_store(cache: Path) -> Store:
    """The user's store."""
    return Store.at(cache / NAME, owned=(cache / "hub",))


def _healed(made: Sequence[Node], executor: Executor, limits: graph.Limits) -> graph.Outcome:
    """Runs the nodes; where a file of the store was found damaged and removed, again: what made it is missed then."""
    for _ in range(_HEALINGS):
        outcome = _run(made, executor, limits)
        damaged = [error for error in outcome.errors.values() if isinstance(error, DamagedError)]
        if not any(executor.store.blobs.holds(error.path) for error in damaged):
            break
    return outcome


def _run(made: Sequence[Node], executor: Executor, limits: graph.Limits) -> graph.Outcome:
    if limits.jobs == 1:
        return graph.run(made, executor.run, limits)
    from builder.core.workers import Workers

    with Workers(executor, limits.memory) as workers:
        return graph.run(made, workers.run, limits, workers.prefers, executor.found)


def _delivery(recipe: AnyRecipe, target: str, store: Store, destination: _Destination, clock: Clock) -> Node:
    """The last node of a target: the manifest, and the files where the user wants them."""
    order, verify = _order(recipe), destination.verify
    needs = order.needs(recipe, target, destination.form, verify=verify)

    def act(made: Values) -> BuildResult:
        manifest, reference = order.described(recipe, target, made)
        node = order.node_id(recipe, target, Attest.name, destination.form)
        attested = Executor(store).run(Attest(), AttestInputs(manifest, made["package"]), node).files
        if verify:
            manifest = with_verdict(manifest, made["measure"], made["judge"])
            _ask_again(manifest, store, needs["measure"])
        elif destination.unverified:
            manifest = with_verdict(manifest, None, unproven(manifest, destination.unverified))
        passed = manifest.verification.status in {PASSED, UNVERIFIED}
        folder = destination.folder(passed=passed)
        try:
            delivery = deliver(
                made["pack"], reference, manifest, folder, store.stats, attested=attested, key=destination.key
            )
        except DamagedError as error:
            raise store.blobs.discard(error.path) from error
        return BuildResult(delivery, tuple(clock.times[node] for node in needs.values() if node in clock.times))

    return graph.Node(order.node_id(recipe, target, "deliver", destination.form), needs, act=act)


def _ask_again(manifest: Manifest, store: Store, node: str) -> None:
    """A verdict that hangs on speed that did not settle is not kept: the next build measures again."""
    settled = all(point["status"] == "stable" for point in manifest.measured.perf)
    if manifest.verification.status != PASSED and not settled:
        store.forget(node)

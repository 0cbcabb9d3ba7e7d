"""What a build takes where little or nothing has changed: the whole command, each time in a fresh process."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import machine, many_recipes
from benchmarks.child import Usage, cost, cost_in_order
from benchmarks.paths import RECIPE, scratch
from benchmarks.progress import say
from benchmarks.report import Comparison, Goal, Result
from benchmarks.statistics import interleave
from builder.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from benchmarks.options import Options

    _Run: TypeAlias = Callable[[int], Usage]
    """Runs a side once; it is told the number of the round."""

ABOUT = (
    "`tritonsmith` from the start of its process to the end, files warm in the page cache, byte code compiled as pip "
    "does when it installs. *No change*: `build` of the MiniLM recipe, which was built and verified before. *Another "
    "queue delay*: `build --no-verify` of the same recipe with a `max_queue_delay_microseconds` that no earlier round "
    "had: configs, repository, archive (87 MB) and the files beside it are new, and on the disk when it ends (fsync). "
    "*200 recipes*: four tiny architectures with random weights, fifty serving options each; all are in the store, "
    "verified (one measurement was taken, and its figures put down for all), and delivered. What stands beside them "
    "is a floor: `python -c pass`, or `cp` and `sha256sum` of the same archive, which write and hash it once."
)
OURS, START, COPY = "tritonsmith", "python -c pass", "cp + sha256sum"
_ROUNDS = 11
_WARM_UPS = 2  # byte code is written, files come into the page cache
_RECIPES, _QUICK_RECIPES = 200, 8
_DELAY = "serving.dynamic_batching.max_queue_delay_microseconds"


def run(name: str, options: Options) -> Result:
    """Measures each of them beside its floor."""
    facts = machine.describe(("typer", "pydantic", "isal"))
    rounds = options.rounds or (2 if options.quick else _ROUNDS)
    count = _QUICK_RECIPES if options.quick else _RECIPES
    with scratch() as folder:
        bench = _Bench(folder, rounds)
        rows = [bench.no_change(), bench.another_delay(), *bench.many(count)]
    settings_ = {"rounds": rounds, "warm-ups": _WARM_UPS, "recipes": count}
    return Result(name, "Incremental builds", ABOUT, tuple(rows), facts, settings_, tuple(bench.raw))


class _Bench:
    """Runs commands with a cache of their own, whose toolchain and wheels are the user's."""

    def __init__(self, folder: Path, rounds: int) -> None:
        self.folder, self.out, self.rounds = folder, folder / "dist", rounds
        self.raw: list[dict[str, Any]] = []
        self._cache = folder / "cache"
        self._cache.mkdir()
        for name in ("toolchain", "environments", "wheels"):
            shared = settings().cache / name
            shared.mkdir(exist_ok=True)
            (self._cache / name).symlink_to(shared)
        self._env = {
            "TRITONSMITH_CACHE": str(self._cache),
            "PYTHONDONTWRITEBYTECODE": "",  # empty: not set
            "PYTHONPYCACHEPREFIX": str(folder / "byte-code"),
        }

    def no_change(self) -> Comparison:
        """The recipe is built and verified first."""
        say("incremental: building and verifying MiniLM, once")
        self._ours("build", RECIPE)
        return self._row("no change", lambda _: self._ours("build", RECIPE), START, self._start, 0.3)

    def another_delay(self) -> Comparison:
        """Each round has a value of its own, from 1001 on."""

        def ours(number: int) -> Usage:
            shutil.rmtree(self.out)
            os.sync()  # what was written before must not be waited for by whoever comes next
            return self._ours("build", RECIPE, "--no-verify", "--set", f"{_DELAY}={1001 + number}")

        def copy(_: int) -> Usage:
            (archive,) = self.out.glob("*.tar.gz")
            target = self.folder / "copy"
            os.sync()
            return cost_in_order([["cp", "--reflink=never", archive, target], ["sha256sum", target]], what=COPY)

        row = self._row("another queue delay", ours, COPY, copy, 1.0)
        shutil.rmtree(self.out)
        return row

    def many(self, count: int) -> list[Comparison]:
        """All are built, and verified as far as their measurements are another's."""
        recipes = many_recipes.write(self.folder / "recipes", count)
        say("incremental: building and verifying a tiny model, once")
        self._ours("build", recipes[0])
        say(f"incremental: building {count} recipes, once")
        self._ours("build", "--no-verify", *recipes)
        many_recipes.share_measurement(recipes, self._cache)
        self._ours("build", *recipes)
        return [self._all_found(command, recipes) for command in ("build", "plan")]

    def _all_found(self, command: str, recipes: Sequence[Path]) -> Comparison:
        what = f"{len(recipes)} recipes, all found: `{command}`"
        return self._row(what, lambda _: self._ours(command, *recipes), START, self._start, 3.0)

    def _row(self, what: str, ours: _Run, peer: str, floor: _Run, limit: float) -> Comparison:
        sides = {OURS: ours, peer: floor}
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        for number, side in interleave(list(sides), self.rounds + _WARM_UPS):
            usage = sides[side](number)
            say(f"incremental: {what}: round {number + 1}, {side}: {usage.wall_seconds:.3f} s")
            if number >= _WARM_UPS:
                seconds[side].append(usage.wall_seconds)
                self.raw.append({"what": what, "side": side, **usage.to_json()})
        return Comparison(what, "s", peer, tuple(seconds[OURS]), tuple(seconds[peer]), goal=Goal("value", limit))

    def _ours(self, command: str, *arguments: str | Path) -> Usage:
        out = ("--out", self.out) if command == "build" else ()
        program = Path(sys.executable).with_name("tritonsmith")
        return cost([program, command, *arguments, *out], what=f"tritonsmith {command}", env=self._env)

    def _start(self, _: int) -> Usage:
        return cost([sys.executable, "-c", "pass"], what=START, env=self._env)

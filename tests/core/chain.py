"""A build of cheap stages through the real graph, executor and store: ``python -m tests.core.chain STORE``.

The graph is a chain with a branch for each recipe, as in the pipeline: what recipes share is made once. Prints the
digest of each recipe's last tree. Every stage takes a moment, so that a signal can hit it anywhere.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.artifacts import Repository
from builder.core.codec import files_in
from builder.core.digest import describe_folder, digest_tree
from builder.core.execute import Executor
from builder.core.graph import Limits, Node, Outcome, run
from builder.core.report import Silent
from builder.core.store import Store, write_atomically
from builder.errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARED = ("source", "trace", "bind")
OWN = ("config", "package", "pack")


@dataclass(frozen=True)
class Work:
    """Reads its inputs, writes some files a little at a time, and passes the input's files on."""

    name: str
    text: str
    seconds: float
    diary: Path
    version: int = 1

    def fingerprint(self, inputs: tuple[Repository, ...]) -> dict[str, Any]:
        return {"text": self.text, "inputs": [file.sha256 for file in files_in(inputs)]}

    def requires(self, inputs: tuple[Repository, ...]) -> None: ...

    def run(self, inputs: tuple[Repository, ...], out: Path) -> Repository:
        with (self.diary / f"{self.name}.{self.text}").open("a") as diary:
            diary.write("x")
        before = [file.path.read_bytes()[:40].decode() for file in files_in(inputs)]
        for piece in range(4):
            with (out / f"{self.name}.{piece}").open("w") as stream:
                stream.write(f"{self.name} {piece} {self.text} {len(before)} ")
                stream.flush()
                time.sleep(self.seconds / 4)
                stream.write("x" * 20_000 * (piece + 1) + json.dumps(before))
        passed_on = {} if not inputs else dict(inputs[0].files)
        return Repository(self.name, {**passed_on, **describe_folder(out)}, {})

    def ensures(self, inputs: tuple[Repository, ...], output: Repository) -> None: ...


def nodes(store: Store, recipes: Sequence[str], seconds: float, diary: Path) -> list[Node]:
    """Each recipe's chain begins with somebody's file, which is taken into the store."""
    theirs = diary / "theirs"
    made: list[Node] = []
    for recipe in recipes:
        made.append(Node(f"{recipe}/theirs", {}, act=lambda _: Repository("theirs", {"it": store.ingest(theirs)}, {})))
        needs = {"it": f"{recipe}/theirs"}
        for stage in (*SHARED, *OWN):
            text = "shared" if stage in SHARED else recipe
            made.append(Node(f"{recipe}/{stage}", needs, _prepare(Work(stage, text, seconds, diary))))
            needs = {"it": f"{recipe}/{stage}"}
        made.append(Node(f"{recipe}/deliver", needs, act=_deliver(store)))
    return made


class Talk(Silent):
    """Says which stage runs, as the command does."""

    def started(self, node: str) -> None:
        sys.stderr.write(f"{node.rpartition('/')[2]} ...\n")
        sys.stderr.flush()


def _deliver(store: Store) -> Any:
    """What is shipped is hashed."""

    def act(values: Any) -> str:
        for file in values["it"].files.values():
            store.blobs.check(file)
        return digest_tree(values["it"].files)

    return act


def _prepare(stage: Work) -> Any:
    return lambda values: (stage, tuple(values.values()))


def build(
    store: Store, recipes: Sequence[str], seconds: float, diary: Path, jobs: int = 1, *, mend: bool = True
) -> Outcome:
    """As the pipeline does it: what was found damaged is made again, unless ``mend`` is false."""
    diary.mkdir(parents=True, exist_ok=True)
    if not (diary / "theirs").exists():
        write_atomically(diary / "theirs", b"theirs")
    executor = Executor(store, reporter=Talk())
    with store.lease():
        while True:
            outcome = run(nodes(store, recipes, seconds, diary), executor.run, Limits(jobs))
            if not mend or not any(isinstance(error, DamagedError) for error in outcome.errors.values()):
                return outcome


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("--recipes", nargs="+", default=["a"])
    parser.add_argument("--seconds", type=float, default=0.02)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--no-mending", action="store_true", help="fail where anything is damaged or gone")
    options = parser.parse_args()
    store = Store.at(options.store)
    diary, mend = options.store.parent / "diary", not options.no_mending
    outcome = build(store, options.recipes, options.seconds, diary, options.jobs, mend=mend)
    for error in outcome.errors.values():
        raise error
    sys.stdout.write(json.dumps({recipe: outcome.values[f"{recipe}/deliver"] for recipe in options.recipes}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

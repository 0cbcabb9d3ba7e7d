"""One export by tritonsmith, as a process of its own: ``python -m benchmarks.export_ours RECIPE FOLDER``.

Runs the stages source, tokenizer, trace and bind, and writes ``FOLDER/export.json``: the model's files and the seconds
of each stage.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from builder.core.codec import to_json
from builder.core.execute import Executor
from builder.core.report import Silent, StageTime
from builder.core.store import Store
from builder.export.bind import Bind
from builder.export.source import Resolve
from builder.export.tokenizer import Tokenizer
from builder.export.trace import Trace
from builder.recipe import load


class Times(Silent):
    """Keeps how long each stage took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def finished(self, time: StageTime) -> None:
        self.seconds[time.stage] = time.seconds


def main(recipe_path: Path, folder: Path) -> None:
    """Exports the recipe's model below ``folder``."""
    recipe = load(recipe_path)
    times = Times()
    store = Store.at(folder)
    executor = Executor(store, recipe.name, times)
    source = executor.run(Resolve(recipe.task, store.ingest), recipe.source)
    tokenizer = executor.run(Tokenizer(recipe.task, recipe.inputs.max_length), source)
    graph = executor.run(Trace(recipe.task), (source, tokenizer))
    model = executor.run(Bind(recipe.task), (graph, source))
    (folder / "export.json").write_text(json.dumps({"model": to_json(model), "seconds": times.seconds}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

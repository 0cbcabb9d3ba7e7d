"""One export by tritonsmith, as a process of its own: ``python -m benchmarks.export_ours RECIPE FOLDER [--check]``.

Runs the stages source, tokenizer, trace and bind, with a store in ``FOLDER``, as a build does; with ``--check`` also
reference and check, which prove the model. Writes ``FOLDER/export.json``: the model's files, and of each stage the
seconds and whether it ran or was found.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

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
    """Keeps how each stage went."""

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, Any]] = {}

    def finished(self, time: StageTime) -> None:
        self.stages[time.stage] = {"seconds": time.seconds, "state": time.state}


def main(recipe_path: Path, folder: Path, *options: str) -> None:
    """Exports the recipe's model below ``folder``."""
    recipe, store, times = load(recipe_path), Store.at(folder), Times()
    executor, task = Executor(store, recipe.name, times), recipe.task
    source = executor.run(Resolve(task, store.ingest), recipe.source)
    tokenizer = executor.run(Tokenizer(task, recipe.inputs.max_length), source)
    graph = executor.run(Trace(task), (source, tokenizer))
    model = executor.run(Bind(task), (graph, source))
    if "--check" in options:
        from builder.export.check import Check
        from builder.export.reference import Refer
        from builder.verify import load_samples

        samples = load_samples(recipe.verify.samples, text_pair=recipe.inputs.text_pair)
        shapes = (recipe.shapes.batch.min, recipe.shapes.batch.max), (2, tokenizer.max_length)
        reference = executor.run(Refer(task, *shapes), (source, tokenizer, samples))
        model = executor.run(Check(), (model, reference))
    (folder / "export.json").write_text(json.dumps({"model": to_json(model), "stages": times.stages}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])

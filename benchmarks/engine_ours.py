"""The engine stage on one model: ``python -m benchmarks.engine_ours ORDER``.

``ORDER``, JSON: ``model`` (an OnnxModel), ``stages`` (for each its capability, profiles and store). Writes to its
``answer``, for each, the seconds of the whole stage: fingerprint, hashes of what it reads, compiling, and the plan in
the store.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from builder.artifacts import OnnxModel, Profile
from builder.core.codec import from_json
from builder.core.execute import Executor
from builder.core.store import Store
from builder.engine import Compile
from builder.tools.compatibility import TENSORRT_RTX_VERSION
from builder.tools.gpus import TENSORRT_RTX


def main(order_path: Path) -> None:
    """Runs the stages that the order names."""
    order = json.loads(order_path.read_text(encoding="utf-8"))
    model = from_json(OnnxModel, order["model"])
    seconds = []
    for asked in order["stages"]:
        profiles = tuple(from_json(Profile, profile) for profile in asked["profiles"])
        stage = Compile(TENSORRT_RTX, TENSORRT_RTX_VERSION, asked["capability"], profiles)
        began = time.monotonic()
        engine = Executor(Store.at(Path(asked["store"])), "benchmark").run(stage, model)
        seconds.append({"seconds": time.monotonic() - began, "sha256": engine.files["model.plan"].sha256})
    Path(order["answer"]).write_text(json.dumps(seconds), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

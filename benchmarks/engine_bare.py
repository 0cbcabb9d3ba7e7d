"""What TensorRT-RTX's builder needs by itself: ``python benchmarks/engine_bare.py ORDER``; see ``engine_ours.py``.

It reads the ONNX file, compiles it for one compute capability and writes the plan: no key, no hash, no log, no store.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(order: dict[str, Any]) -> None:
    """Builds each plan, and writes down the seconds from parsing to the written file."""
    import tensorrt_rtx_bindings as trt

    seconds = []
    for asked in order["stages"]:
        began = time.monotonic()
        logger = trt.Logger(trt.Logger.ERROR)
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse_from_file(order["path"]):
            sys.exit("not parsed")
        config = builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{asked['capability'].replace('.', '')}"), 0)
        for wanted in asked["profiles"]:
            profile = builder.create_optimization_profile()
            shapes = list(zip(wanted["batch"], wanted["sequence"], strict=True))
            for index in range(network.num_inputs):
                profile.set_shape(network.get_input(index).name, *shapes)
            config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            sys.exit("not built")
        Path(order["plan"]).write_bytes(plan)
        seconds.append({"seconds": time.monotonic() - began})
    Path(order["answer"]).write_text(json.dumps(seconds), encoding="utf-8")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))

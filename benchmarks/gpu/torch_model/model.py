"""The PyTorch rows: BERT in Triton's Python backend, the requests of a batch as one forward pass.

Model parameters: ``size`` (a name of ``bert.SIZES``), ``weights``, ``precision`` (fp32 | fp16), ``sequence``,
``threads``, ``graphs`` (true: a CUDA graph for each of a few batch sizes; a batch is filled up to the next of them).
"""

from __future__ import annotations

import json
from typing import Any

import bert
import numpy as np
import torch
from tritonsmith_batches import Arrays, BatchedModel, parameter

GRAPH_SIZES = (1, 2, 4, 8, 12, 16, 24, 32)


class TritonPythonModel(BatchedModel):
    """Triton's interface."""

    runtime = "PyTorch"
    batched = True
    output_names = ("EMBEDDING",)

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the model once per instance."""
        config = json.loads(args["model_config"])
        torch.set_num_threads(int(parameter(config, "threads")))
        torch.set_float32_matmul_precision("highest")  # fp32 is fp32: no TF32
        self.device = torch.device("cuda", int(args["model_instance_device_id"])) if has_gpu(args) else "cpu"
        model = bert.load(bert.SIZES[parameter(config, "size")], parameter(config, "weights"))
        kind = {"fp32": torch.float32, "fp16": torch.float16}[parameter(config, "precision")]
        self.model = model.to(self.device, kind)
        sizes = [size for size in GRAPH_SIZES if size <= config["max_batch_size"]]
        wanted = parameter(config, "graphs") == "true"
        sequence = int(parameter(config, "sequence"))
        self.graphs = [(size, *self.capture(size, sequence)) for size in (sizes if wanted else [])]

    @torch.inference_mode()
    def run(self, members: list[Arrays], *, last: bool) -> list[np.ndarray]:  # noqa: ARG002 - the outputs are new ones
        """One forward pass."""
        ids, mask = (
            torch.from_numpy(np.concatenate([arrays[name] for arrays in members]))
            for name in ("input_ids", "attention_mask")
        )
        for size, graph, inputs, output in self.graphs:
            if size >= len(ids):
                inputs[0][: len(ids)].copy_(ids)
                inputs[1][: len(ids)].copy_(mask)
                graph.replay()
                return [output[: len(ids)].cpu().numpy()]
        return [self.model(ids.to(self.device), mask.to(self.device)).cpu().numpy()]

    @torch.inference_mode()
    def capture(self, size: int, sequence: int) -> tuple[Any, tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
        """A CUDA graph of one batch size, with the tensors that it reads and writes."""
        inputs = tuple(torch.ones((size, sequence), dtype=torch.int64, device=self.device) for _ in range(2))
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.model(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = self.model(*inputs)
        return graph, inputs, output


def has_gpu(args: dict[str, str]) -> bool:
    """Whether this instance is to run on a GPU: also where the server has none, but this process has."""
    return args["model_instance_kind"] == "GPU" or torch.cuda.is_available()

"""The peer: a sentence-embedding model in Triton's Python backend, PyTorch eager, fp32.

Written as one would for production: requests that the dynamic batcher gathered run as one forward pass per sequence
length, in inference mode, with the attention that transformers picks (SDPA) and without the pooling layer that nobody
asks for.

Model parameters: ``model_folder``, ``threads``.
"""

import json
from typing import Any

import numpy as np
import torch
import triton_python_backend_utils as pb_utils
from transformers import AutoModel

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class TritonPythonModel:
    """Triton's interface."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the model once per instance."""
        parameters = json.loads(args["model_config"])["parameters"]
        torch.set_num_threads(int(parameters["threads"]["string_value"]))
        torch.set_num_interop_threads(1)
        folder = parameters["model_folder"]["string_value"]
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False).eval()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers each request; those of one sequence length run together."""
        fed = [[pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in INPUTS] for request in requests]
        lengths: dict[int, list[int]] = {}
        for index, arrays in enumerate(fed):
            lengths.setdefault(arrays[0].shape[1], []).append(index)
        responses = [None] * len(requests)
        for indices in lengths.values():
            batch = [_stack([fed[index][position] for index in indices]) for position in range(len(INPUTS))]
            sizes = [len(fed[index][0]) for index in indices]
            for index, part in zip(indices, self.embed(*batch).split(sizes), strict=True):
                responses[index] = pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("EMBEDDING", part)])
        return responses

    @torch.inference_mode()
    def embed(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        """Token ids, [batch, sequence] → mean of the token vectors under the mask, of length 1, [batch, dimension]."""
        states = self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        pooled = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(pooled, dim=1)


def _stack(arrays: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))

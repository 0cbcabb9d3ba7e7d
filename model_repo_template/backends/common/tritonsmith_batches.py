"""What our Python-based backends share: requests of one ``execute`` call run as batches, and each gets its own part.

One ``execute`` call brings all requests that Triton's scheduler put into one batch. Running them one by one would throw
dynamic batching away. One bad request does not spoil the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

Arrays = dict[str, np.ndarray]
Config = dict[str, Any]  # the model's config, as JSON data with the protobuf's field names


class BatchedModel:
    """``execute`` of a model that can run several requests at once; a backend's model adds :meth:`run`."""

    runtime: str  # who answers, for messages: ``onnx runtime``
    batched: bool  # the first axis of every tensor is the batch's
    output_names: list[str]

    def run(self, members: list[Arrays], *, last: bool) -> list[np.ndarray]:
        """Runs requests of equal item shapes as one batch.

        Args:
            members: the inputs of each request, by name; their batch axes are to be joined in this order.
            last: nothing else runs before the answers are sent, so these may be views of a buffer that the next run
                overwrites.

        Returns:
            the outputs of the whole batch, in the order of ``output_names``.
        """
        raise NotImplementedError

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers the requests of one batch, in order."""
        responses = [None] * len(requests)
        groups = {}  # names and shapes without the batch axis → [(index, arrays)]
        for index, request in enumerate(requests):
            try:
                arrays = self.read(request)
            except ValueError as error:
                responses[index] = self.failure(error)
                continue
            key = tuple((name, array.shape[1:]) for name, array in arrays.items()) if self.batched else index
            groups.setdefault(key, []).append((index, arrays))
        for number, group in enumerate(groups.values(), start=1):
            self.answer(group, responses, last=number == len(groups))
        return responses

    def read(self, request: Any) -> Arrays:
        """The request's inputs by name.

        Raises:
            ValueError: this request cannot be answered.
        """
        return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}

    def answer(self, group: list[tuple[int, Arrays]], responses: list[Any], *, last: bool) -> None:
        """Runs a group of requests with equal item shapes as one batch and writes their responses."""
        try:
            outputs = self.run([arrays for _, arrays in group], last=last)
            # Only now is anything written: a failure in the middle would answer a request twice.
            answered = self.split(group, outputs)
        except Exception as error:  # the runtimes have no common base class; nothing may escape from execute
            if len(group) == 1:
                responses[group[0][0]] = self.failure(error)
                return
            # Somebody in the batch is guilty: asked one by one, only that one gets the error.
            for member in group:
                self.answer([member], responses, last=False)
            return
        for (index, _), response in zip(group, answered, strict=True):
            responses[index] = response

    def split(self, group: list[tuple[int, Arrays]], outputs: list[np.ndarray]) -> list[Any]:
        """One response for each request of the group, from the outputs of the whole batch."""
        if not self.batched:
            return [self.respond(outputs)]
        sizes = [next(iter(arrays.values())).shape[0] for _, arrays in group]
        for name, output in zip(self.output_names, outputs, strict=True):
            if output.shape[:1] != (sum(sizes),):
                raise ValueError(f"output '{name}' has the shape {list(output.shape)} for a batch of {sum(sizes)}")
        if len(group) == 1:
            return [self.respond(outputs)]
        stops = np.cumsum(sizes).tolist()
        return [
            self.respond([output[stop - size : stop] for output in outputs])
            for size, stop in zip(sizes, stops, strict=True)
        ]

    def respond(self, outputs: list[np.ndarray]) -> Any:
        """The response that carries these outputs."""
        tensors = [pb_utils.Tensor(name, output) for name, output in zip(self.output_names, outputs, strict=True)]
        return pb_utils.InferenceResponse(tensors)

    def failure(self, error: Exception) -> Any:
        """The response that carries an error to one client."""
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"{self.runtime} error: {error}"))


def parameter(config: Config, key: str) -> str | None:
    """A string of the config's ``parameters``, or None."""
    return config.get("parameters", {}).get(key, {}).get("string_value")


def dims_agree(stated: list[int], actual: list[int]) -> bool:
    """Whether a shape of the config fits one of the model; -1 fits all. The config shows a scalar as [1]."""
    if not actual:
        return stated in ([], [1])
    return len(stated) == len(actual) and all(-1 in (a, b) or a == b for a, b in zip(stated, actual, strict=True))


def stated_dims(tensor: dict[str, Any], *, batched: bool) -> list[int]:
    """The shape of a config's tensor as the model sees it: reshaped, with the batch axis."""
    dims = tensor.get("reshape", {}).get("shape", tensor["dims"])
    return [*([-1] if batched else []), *(int(size) for size in dims)]

"""The side of our TensorRT backends that faces Triton: requests in, one run for each batch, responses out.

What is needed of an engine is small: ``inputs``, ``outputs``, ``profiles``, pinned memory (``host``), and ``run``. So
all of this is tested without a GPU, on a real server, with an engine of numpy's in its place.

Configs have to be complete: this backend fills in nothing (``--disable-auto-complete-config``, or all of ``input``,
``output`` and ``max_batch_size`` stated).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import triton_python_backend_utils as pb_utils
from tritonsmith_batches import Arrays, BatchedModel, Config, dims_agree, stated_dims
from tritonsmith_profiles import Shapes, choose, largest_batch

if TYPE_CHECKING:
    from tritonsmith_plans import Runtime

INTEGERS = ("TYPE_INT32", "TYPE_INT64")  # token ids: either is taken for the other


class EngineModel(BatchedModel):
    """One instance of one model: one process, one engine."""

    library: Runtime

    def open_runner(self, folder: Path, config: Config, instance: str, device: int) -> Any:
        """Loads the engine. The import waits until here: it is what needs a GPU."""
        from tritonsmith_engine import Runner

        return Runner(self.library, folder, config, instance, device)

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the plan and checks it against the config."""
        config = json.loads(args["model_config"])
        self.runtime = self.library.title
        folder = Path(args["model_repository"], args["model_version"])
        # A server without GPU support has no GPU instances, but its Python processes can use the GPU all the same.
        device = int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else 0
        try:
            self.runner = self.open_runner(folder, config, args["model_instance_name"], device)
            self.batched = config["max_batch_size"] > 0
            for kind, tensors in (("input", self.runner.inputs), ("output", self.runner.outputs)):
                check_tensors(config, kind, tensors, batched=self.batched)
            check_batch_size(config["max_batch_size"], largest_batch(self.runner.profiles))
        except (ValueError, RuntimeError) as error:
            raise pb_utils.TritonModelException(f"model '{config['name']}': {error}") from error
        numpy_types = {tensor.name: tensor.numpy for tensor in [*self.runner.inputs, *self.runner.outputs]}
        self.numpy_types = {name: np.dtype(kind) for name, kind in numpy_types.items()}
        self.output_names = [tensor["name"] for tensor in config["output"]]

    def run(self, members: list[Arrays], *, last: bool) -> list[np.ndarray]:
        """Runs requests of equal item shapes as one batch, with one enqueue."""
        shapes = joined_shapes(members)
        profile = choose(self.runner.profiles, shapes)
        for name, shape in shapes.items():
            gather([arrays[name] for arrays in members], self.view(name, shape), name)
        results = self.runner.run(profile, shapes)
        outputs = [self.view(name, results[name]) for name in self.output_names]
        # Triton copies them out of the pinned memory when all requests of the call have been run.
        return outputs if last else [output.copy() for output in outputs]

    def view(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A tensor's pinned memory as an array."""
        kind = self.numpy_types[name]
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        return self.runner.host[name][:size].view(kind).reshape(shape)

    def finalize(self) -> None:
        """Gives the GPU's memory back before the process ends."""
        self.runner = None


def joined_shapes(members: list[Arrays]) -> Shapes:
    """The shapes of requests that are put together along the first axis."""
    first = members[0]
    if len(members) == 1:
        return {name: array.shape for name, array in first.items()}
    return {name: (sum(arrays[name].shape[0] for arrays in members), *array.shape[1:]) for name, array in first.items()}


def gather(parts: list[np.ndarray], into: np.ndarray, name: str) -> None:
    """Writes arrays one after the other into memory, INT64 and INT32 as it is there.

    Raises:
        ValueError: a number is too large for INT32.
    """
    if parts[0].dtype == np.int64 and into.dtype == np.int32:
        limits = np.iinfo(np.int32)
        for part in parts:
            if part.size and not limits.min <= part.min() <= part.max() <= limits.max:
                raise ValueError(f"'{name}' has a number beyond INT32, which the engine takes")
    if into.ndim == 0:
        into[...] = parts[0]
    else:
        np.concatenate(parts, out=into, casting="same_kind")


def check_tensors(config: Config, kind: str, tensors: list[Any], *, batched: bool) -> None:
    """Checks names, types and dims of the config against the engine's.

    Raises:
        ValueError: they differ.
    """
    engine = {tensor.name: tensor for tensor in tensors}
    stated = {tensor["name"]: tensor for tensor in config[kind]}
    if unknown := stated.keys() - engine.keys():
        raise ValueError(f"unexpected inference {kind} {sorted(unknown)}, allowed {kind}s are: {', '.join(engine)}")
    if kind == "input" and (missing := engine.keys() - stated.keys()):
        raise ValueError(f"the engine needs the inputs {sorted(missing)}, the config has no such")
    for name, tensor in stated.items():
        given, found = tensor["data_type"], engine[name].data_type
        if given != found and not (kind == "input" and given in INTEGERS and found in INTEGERS):
            raise ValueError(f"{kind} '{name}': data_type is {given}, the engine has {found}")
        dims = stated_dims(tensor, batched=batched)
        actual = list(engine[name].dims)
        if not dims_agree(dims, actual):
            raise ValueError(f"{kind} '{name}': the engine has the shape {actual}, the config says {dims}")


def check_batch_size(stated: int, largest: int) -> None:
    """Checks that every batch that Triton may form fits a profile.

    Raises:
        ValueError: it does not.
    """
    if stated > largest:
        raise ValueError(f"max_batch_size is {stated}, and the engine's profiles take at most {largest} rows")

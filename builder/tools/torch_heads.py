"""Torch modules for the steps of :mod:`builder.tools.heads`, written so that they trace into few, plain ONNX nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.errors import InternalError, ModelError
from builder.tools.heads import Classify, Dense, LayerNorm, Normalize, Pooling, Score, Step, Truncate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import torch

    from builder.tools.opaque import Array, TorchModule, TorchTensor


@dataclass(frozen=True, slots=True)
class State:
    """A parameter, or a buffer that a checkpoint may hold."""

    array: Array  # numpy, sharing the tensor's memory
    is_parameter: bool


def states(module: TorchModule, names: Iterable[str]) -> dict[str, State]:
    """Those of ``names`` that are the module's parameters or persistent buffers."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    tensors = module.state_dict(keep_vars=True)
    return {name: State(tensors[name].detach().numpy(), name in parameters) for name in names if name in tensors}


def load_step(module: TorchModule, index: int, path: Path) -> None:
    """Gives a step of a module that :func:`with_head` made its weights, FP32, from a safetensors file.

    Raises:
        ModelError: the file holds other names or shapes than the step has.
    """
    from safetensors.torch import load_file

    weights = {name: tensor.float() for name, tensor in load_file(path).items()}
    step = module.steps[index]
    expected = {name: tuple(tensor.shape) for name, tensor in step.state_dict().items()}
    actual = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if expected != actual:
        raise ModelError(f"{path}: holds {actual}, where the module's config.json asks for {expected}")
    step.load_state_dict(weights, assign=True)


def with_head(
    model: torch.nn.Module, takes: Sequence[str], steps: Sequence[Step], input_names: Sequence[str], padding_side: str
) -> TorchModule:
    """A module that takes the model's inputs by position, in the order of ``input_names``, and returns the outputs.

    The steps begin with the model's own outputs ``takes`` (``last_hidden_state``, ``logits``); without a step, these
    are the outputs. Its parameters are named ``model.<name in the model>`` and ``steps.<index of the step>.<name in
    the step>``. Those of the steps are on the ``meta`` device until :func:`load_step` fills them.
    """
    import torch

    class WithHead(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.steps = torch.nn.ModuleList(_module(step, padding_side) for step in steps)

        def forward(self, *inputs: TorchTensor) -> TorchTensor:
            named = dict(zip(input_names, inputs, strict=True))
            output = self.model(**named, return_dict=True)
            values = tuple(output[name] for name in takes)
            value = values[0] if len(values) == 1 else values
            for step in self.steps:
                value = step(value, named.get("attention_mask"))
            return value

    return WithHead().eval()


def _module(step: Step, padding_side: str) -> torch.nn.Module:
    match step:
        case Pooling(modes):
            return _pooling(modes, padding_side)
        case Dense():
            return _dense(step)
        case LayerNorm(_, width):
            return _layer_norm(width)
        case Normalize():
            return _stateless(_normalize)
        case Truncate(width):
            return _stateless(lambda value: value[:, :width])
        case Classify(activation):
            return _stateless(_classify(activation))
        case Score(activation):
            return _score(activation)
    raise InternalError(f"no torch module for {step!r}")  # pragma: no cover


def _stateless(function: Callable[[TorchTensor], TorchTensor]) -> torch.nn.Module:
    import torch

    class Stateless(torch.nn.Module):
        def forward(self, value: TorchTensor, _: TorchTensor) -> TorchTensor:
            return function(value)

    return Stateless()


def _normalize(value: TorchTensor) -> TorchTensor:
    import torch

    return torch.nn.functional.normalize(value, p=2.0, dim=-1)


def _classify(activation: str) -> Callable[[TorchTensor], TorchTensor]:
    import torch

    def classify(logits: TorchTensor) -> TorchTensor:
        if activation == "softmax":
            return logits, torch.softmax(logits, dim=-1)
        return (logits, torch.sigmoid(logits)) if activation == "sigmoid" else logits

    return classify


def _score(activation: str) -> torch.nn.Module:
    import torch

    class ScoreModule(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.activation = getattr(torch.nn, activation)()

        def forward(self, logits: TorchTensor, _: TorchTensor) -> TorchTensor:
            # A sum and not a copy where the two are the same: one tensor of a graph cannot be two outputs.
            return logits, logits + 0.0 if activation == "Identity" else self.activation(logits)

    return ScoreModule()


def _layer_norm(width: int) -> torch.nn.Module:
    import torch

    class Norm(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.LayerNorm(width, device="meta")

        def forward(self, value: TorchTensor, _: TorchTensor) -> TorchTensor:
            return self.norm(value)

    return Norm()


def _dense(step: Dense) -> torch.nn.Module:
    import torch

    class DenseModule(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(step.in_features, step.out_features, bias=step.bias, device="meta")
            self.activation = getattr(torch.nn, step.activation)()
            if step.residual and step.in_features != step.out_features:
                self.residual = torch.nn.Linear(step.in_features, step.out_features, bias=False, device="meta")

        def forward(self, value: TorchTensor, _: TorchTensor) -> TorchTensor:
            projected = self.activation(self.linear(value))
            if not step.residual:
                return projected
            return projected + (self.residual(value) if step.in_features != step.out_features else value)

    return DenseModule()


def _pooling(modes: Sequence[str], padding_side: str) -> torch.nn.Module:
    import torch

    class PoolingModule(torch.nn.Module):
        def forward(self, tokens: TorchTensor, mask: TorchTensor) -> TorchTensor:
            pooled = [pool(mode, tokens, mask, padding_side) for mode in modes]
            return pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=-1)

    return PoolingModule()


def pool(mode: str, tokens: TorchTensor, mask: TorchTensor, padding_side: str) -> TorchTensor:
    """One pooled vector per text, as sentence-transformers defines the modes.

    Args:
        mode: of :data:`builder.tools.heads.POOLING_MODES`.
        tokens: FP32 [batch, sequence, width].
        mask: INT64 [batch, sequence], 1 where a token is attended to; padding lies at ``padding_side`` alone.
        padding_side: left or right.

    Returns:
        FP32 [batch, width].
    """
    import torch

    left = padding_side == "left"
    if mode == "cls":
        return _at(tokens, mask.shape[1] - mask.sum(dim=1)) if left else tokens[:, 0]
    if mode == "lasttoken":
        return tokens[:, -1] if left else _at(tokens, mask.sum(dim=1) - 1)
    weights = mask.unsqueeze(-1).to(tokens.dtype)
    if mode == "max":
        return tokens.masked_fill(weights == 0, -torch.inf).amax(dim=1)
    if mode == "weightedmean":
        # cumsum counts the attended tokens: 1, 2, 3 … from the first one, wherever the padding lies.
        weights = weights * mask.cumsum(dim=1).unsqueeze(-1).to(tokens.dtype)
    total = weights.sum(dim=1).clamp(min=1e-9)
    return (tokens * weights).sum(dim=1) / (total.sqrt() if mode == "mean_sqrt_len_tokens" else total)


def _at(tokens: TorchTensor, index: TorchTensor) -> TorchTensor:
    where = index.clamp(min=0).reshape(-1, 1, 1).expand(-1, 1, tokens.shape[-1])
    return tokens.gather(1, where).squeeze(1)

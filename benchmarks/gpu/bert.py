"""BERT in plain PyTorch, with random weights from a seed: the same compute as the real one, and nothing to download.

It answers as ``transformers``' ``BertModel`` does with the same weights (``tests/benchmarks/test_gpu.py``), followed by
the mean of the token vectors under the mask, of length 1. Also imported by the served model, which lies beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

VOCABULARY = 30522
POSITIONS = 512
EPSILON = 1e-12


@dataclass(frozen=True)
class Size:
    """What tells one BERT from another."""

    layers: int
    hidden: int
    heads: int
    intermediate: int


SIZES = {
    "bert-large": Size(24, 1024, 16, 4096),
    "minilm": Size(6, 384, 12, 1536),  # all-MiniLM-L6-v2
    "tiny": Size(2, 32, 2, 64),
}


class Layer(nn.Module):
    """Attention and feed-forward."""

    def __init__(self, size: Size, *, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = size.heads, fused
        self.query, self.key, self.value, self.output = (nn.Linear(size.hidden, size.hidden) for _ in range(4))
        self.attention_norm = nn.LayerNorm(size.hidden, EPSILON)
        self.up = nn.Linear(size.hidden, size.intermediate)
        self.down = nn.Linear(size.intermediate, size.hidden)
        self.norm = nn.LayerNorm(size.hidden, EPSILON)

    def forward(self, states: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """[batch, tokens, hidden] → the same; ``bias`` is added to the attention's scores."""
        batch, tokens, hidden = states.shape
        query, key, value = (
            part(states).view(batch, tokens, self.heads, hidden // self.heads).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        if self.fused:
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        else:
            scores = query @ key.transpose(2, 3) * (hidden // self.heads) ** -0.5 + bias
            mixed = scores.softmax(-1) @ value
        mixed = mixed.transpose(1, 2).reshape(batch, tokens, hidden)
        states = self.attention_norm(self.output(mixed) + states)
        return self.norm(self.down(functional.gelu(self.up(states))) + states)


class Bert(nn.Module):
    """Token ids → sentence embeddings.

    Args:
        size: of the model.
        fused: attention as one call (SDPA), as PyTorch is run; else as plain products, which exporters know.
    """

    def __init__(self, size: Size, *, fused: bool = True) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, size.hidden)
        self.positions = nn.Embedding(POSITIONS, size.hidden)
        self.types = nn.Embedding(2, size.hidden)
        self.norm = nn.LayerNorm(size.hidden, EPSILON)
        self.layers = nn.ModuleList(Layer(size, fused=fused) for _ in range(size.layers))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Two INT64 [batch, tokens] → FP32 [batch, hidden]."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        states = self.norm(self.words(input_ids) + self.positions(places) + self.types.weight[0])
        bias = (1 - attention_mask[:, None, None, :].to(states.dtype)) * torch.finfo(states.dtype).min
        for layer in self.layers:
            states = layer(states, bias)
        weights = attention_mask.unsqueeze(-1).float()
        pooled = (states.float() * weights).sum(1) / weights.sum(1)
        return functional.normalize(pooled, dim=1)


def random_weights(size: Size, *, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights as BERT's own initialisation draws them (normal, 0.02), the same on every machine."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    with torch.device("meta"):
        names = Bert(size).state_dict()
    for name, like in names.items():
        if like.ndim > 1:
            weights[name] = torch.empty(like.shape).normal_(0, 0.02, generator=generator)
        else:
            weights[name] = torch.full(like.shape, float("norm" in name and name.endswith("weight")))
    return weights


def load(size: Size, weights: str, *, fused: bool = True) -> Bert:
    """A model with weights from a file of :func:`torch.save`, which is mapped and not read."""
    with torch.device("meta"):
        model = Bert(size, fused=fused)
    model.load_state_dict(torch.load(weights, mmap=True, weights_only=True), assign=True)
    return model.eval()

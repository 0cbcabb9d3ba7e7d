"""What is put behind a model, as data: the steps from its last hidden state, or its logits, to the outputs.

Sentence-transformers calls them modules. The trace builds torch modules from them (:mod:`builder.tools.torch_heads`);
the reference computes them with numpy, so that one mistake is not on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

POOLING_MODES: Final = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
ACTIVATIONS: Final = ("GELU", "Identity", "ReLU", "SiLU", "Sigmoid", "Tanh")
"""Classes of ``torch.nn``, with their default arguments, that a Dense step may name."""


@dataclass(frozen=True, slots=True)
class Pooling:
    """Token vectors [batch, sequence, width] → one vector [batch, modes * width], the modes concatenated."""

    modes: tuple[str, ...]  # of POOLING_MODES


@dataclass(frozen=True, slots=True)
class Dense:
    """activation(x W^T + b), plus x (or x R^T where the widths differ) if ``residual``."""

    folder: str  # where the model keeps this step's model.safetensors
    in_features: int
    out_features: int
    bias: bool = True
    activation: str = "Tanh"  # of ACTIVATIONS
    residual: bool = False


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """Layer normalisation with weight and bias, epsilon 1e-5."""

    folder: str
    width: int


@dataclass(frozen=True, slots=True)
class Normalize:
    """Division by the L2 norm (at least 1e-12)."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """The first ``width`` components."""

    width: int


@dataclass(frozen=True, slots=True)
class Classify:
    """Logits [batch, labels] → LOGITS, and PROBABILITIES by ``activation`` unless it is empty."""

    activation: str  # softmax | sigmoid | ""


@dataclass(frozen=True, slots=True)
class Score:
    """One logit for each pair [batch, 1] → LOGITS, and SCORE by ``activation``."""

    activation: str  # of ACTIVATIONS


Step = Pooling | Dense | LayerNorm | Normalize | Truncate | Classify | Score

"""The steps in numpy (for the reference) and in torch (for the trace) are those of sentence-transformers."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from builder.artifacts import File
from builder.export import numpy_heads
from builder.tools import torch_heads
from builder.tools.heads import (
    ACTIVATIONS,
    POOLING_MODES,
    Classify,
    Dense,
    LayerNorm,
    Normalize,
    Pooling,
    Score,
    Truncate,
)

random = np.random.default_rng(0)
TOKENS = random.normal(size=(3, 6, 8)).astype(np.float32)
MASKS = {
    "right": np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]]),
    "left": np.array([[1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1]]),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("side", MASKS)
@pytest.mark.parametrize("mode", POOLING_MODES)
def test_pooling(mode, side):
    from sentence_transformers.sentence_transformer.modules import Pooling as Theirs

    features = {"token_embeddings": torch.from_numpy(TOKENS), "attention_mask": torch.from_numpy(MASKS[side])}
    theirs = Theirs(8, mode)(features)["sentence_embedding"].numpy()
    traced = torch_heads.pool(mode, torch.from_numpy(TOKENS), torch.from_numpy(MASKS[side]), side).numpy()
    (reference,) = numpy_heads.apply((Pooling((mode,)),), {}, (TOKENS,), MASKS[side])

    assert np.abs(traced - theirs).max() < 1e-6
    assert np.abs(reference - theirs).max() < 1e-6
    # Control: another mode is noticed.
    wrong = POOLING_MODES[POOLING_MODES.index(mode) - 1]
    (other,) = numpy_heads.apply((Pooling((wrong,)),), {}, (TOKENS,), MASKS[side])
    assert np.abs(other - theirs).max() > 0.01


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("width", "bias", "residual"), [(5, True, False), (5, False, True), (8, True, True)])
def test_dense(tmp_path, activation, width, bias, residual):
    from sentence_transformers.base.modules import Dense as Theirs

    value = TOKENS[:, 0]
    module = Theirs(8, width, bias, getattr(torch.nn, activation)(), use_residual=residual)
    path = tmp_path / "model.safetensors"
    save_file({name: tensor.numpy() for name, tensor in module.state_dict().items()}, path)
    step = Dense("2_Dense", 8, width, bias, activation, residual)

    with torch.no_grad():
        theirs = module({"sentence_embedding": torch.from_numpy(value)})["sentence_embedding"].numpy()
        head = torch_heads.with_head(
            torch.nn.Identity(), ("last_hidden_state",), (Pooling(("cls",)), step), ("attention_mask",), "right"
        )
        torch_heads.load_step(head, 1, path)
        traced = head.steps[1](torch.from_numpy(value), None).numpy()
    weights = numpy_heads.step_weights({"2_Dense/model.safetensors": File(path, "", 0)}, (step,))
    (reference,) = numpy_heads.apply((step,), weights, (value,), None)

    assert np.abs(traced - theirs).max() < 1e-6
    assert np.abs(reference - theirs).max() < 1e-6


@pytest.mark.parametrize(
    "step",
    [
        *(Normalize(), Truncate(3), Classify("softmax"), Classify("sigmoid"), Classify("")),
        *(Score("Sigmoid"), Score("Identity"), Score("GELU")),
    ],
)
def test_steps_without_weights(step):
    value = TOKENS[:, 0] * 5
    head = torch_heads.with_head(torch.nn.Identity(), ("last_hidden_state",), (step,), ("attention_mask",), "right")
    traced = head.steps[0](torch.from_numpy(value), None)
    reference = numpy_heads.apply((step,), {}, (value,), None)

    traced = traced if isinstance(traced, tuple) else (traced,)
    assert [item.shape for item in reference] == [tuple(item.shape) for item in traced]
    for ours, theirs in zip(reference, traced, strict=True):
        assert np.abs(ours - theirs.numpy()).max() < 1e-6


def test_layer_norm(tmp_path):
    weights = {name: random.normal(size=8).astype(np.float32) for name in ("norm.weight", "norm.bias")}
    save_file(weights, tmp_path / "model.safetensors")
    step = LayerNorm("2_LayerNorm", 8)
    head = torch_heads.with_head(torch.nn.Identity(), ("last_hidden_state",), (step,), ("attention_mask",), "right")
    torch_heads.load_step(head, 0, tmp_path / "model.safetensors")

    with torch.no_grad():
        traced = head.steps[0](torch.from_numpy(TOKENS[:, 0]), None).numpy()
    (reference,) = numpy_heads.apply((step,), {0: weights}, (TOKENS[:, 0],), None)

    assert np.abs(traced - reference).max() < 1e-6

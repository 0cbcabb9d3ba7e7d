"""INT8 products with a scale for each row: close to the exact ones, and the same in whatever company a row is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.tools import onnx_proto, rowwise, switches
from builder.tools.onnxruntime import Session
from builder.tools.products import products, weights
from tests.tiny_graphs import onnx_model

if TYPE_CHECKING:
    from pathlib import Path

WIDTH = 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """GELU-like values times weights that are stored turned around."""
    import onnx

    nodes: list[Any] = [
        ("Transpose", ["dense.weight"], ["turned"], {"perm": [1, 0]}),
        ("MatMul", ["A", "turned"], ["C"], {}),
    ]
    weight = np.random.default_rng(1).normal(size=(48, WIDTH)).astype(np.float32)
    shape: list[int | str] = ["batch", "length", WIDTH]
    content = onnx_model(
        {"A": ("FLOAT", shape)}, {"C": ("FLOAT", ["batch", "length", 48])}, nodes, {"dense.weight": weight}
    )
    model = onnx.load_model_from_string(content)
    model.opset_import[0].version = 20
    onnx.save_model(model, tmp_path / "model.onnx", save_as_external_data=True, location="data", size_threshold=8)
    return tmp_path


def values(rows: int) -> Any:
    source = np.random.default_rng(2)
    made = source.normal(size=(1, rows, WIDTH)).astype(np.float32)
    made[..., 5] *= 30  # a column that is large in every row
    return np.where(made > 0, made, -0.1 * np.tanh(-made)).astype(np.float32)


def quantised(folder: Path, setting: rowwise.Setting | None = None, *, switch: bool = False) -> Session:
    model = onnx_proto.load(folder / "model.onnx")
    made = products(model)
    chosen = {"A": setting} if setting else {"A": choose(folder)}
    graph = rowwise.quantise(model, folder, made, chosen, folder)
    if switch:
        graph = switches.switched(model, graph, [one.name for one in made])
    onnx_proto.save(graph, folder / "int8.onnx")
    return Session(folder / "int8.onnx")


def choose(folder: Path) -> rowwise.Setting:
    model = onnx_proto.load(folder / "model.onnx")
    stored = weights(model, folder, products(model))
    return rowwise.settings({"A": values(200)[0]}, {"A": list(stored.values())})["A"]


def ask(session: Session, rows: Any, **more: Any) -> Any:
    return session.run({"A": rows, **more}, ["C"])["C"]


def test_it_is_close_and_knows_only_its_own_row(folder: Path) -> None:
    session, rows = quantised(folder), values(6)
    exact = ask(Session(folder / "model.onnx"), rows)
    answer = ask(session, rows)
    assert np.sqrt(np.square(answer - exact).mean() / np.square(exact).mean()) < 0.01
    loud = np.concatenate([rows, 1000 * rows], axis=1)
    assert np.array_equal(ask(session, loud)[:, :6], answer)
    assert np.array_equal(ask(session, np.zeros((1, 2, WIDTH), np.float32)), np.zeros((1, 2, 48)))


def test_settings_answer_to_the_values(folder: Path) -> None:
    """Without them the error is larger: the control that they do anything."""
    chosen, rows = choose(folder), values(200)
    assert chosen.zero_point < 64  # nearly all values are positive
    assert chosen.strength > 0
    exact = ask(Session(folder / "model.onnx"), rows)
    plain = quantised(folder, rowwise.Setting(np.ones(WIDTH, np.float32), 128, 0.0))
    assert np.square(ask(quantised(folder), rows) - exact).mean() < 0.5 * np.square(ask(plain, rows) - exact).mean()


def test_switches_choose_between_both(folder: Path) -> None:
    session, rows = quantised(folder, switch=True), values(3)
    exact = ask(Session(folder / "model.onnx"), rows)
    off, on = (ask(session, rows, **{switches.INPUT: np.array([state])}) for state in (False, True))
    assert np.allclose(off, exact, atol=1e-5)
    assert np.array_equal(on, ask(quantised(folder), rows))
    assert not np.array_equal(on, off)

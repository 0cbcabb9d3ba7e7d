"""What the tests of all steps share: their code as modules, Triton's side of a call, hard texts."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from builder.tools import templates

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pytest

COMMON = "tritonsmith_step"

HARD = (
    "",
    " ",
    "A plain sentence, with punctuation (and brackets).",
    "  leading and trailing white space \t\r\n",
    "Ünïcödé ÀÉÎ ﬁ Ⅷ İstanbul ΣΊΣΥΦΟΣ",
    "emoji 👩‍👩‍👧‍👦 🏳️‍🌈 ☕ 🌷",
    "今日は天気がいいですね。中文和日本語のテキスト 한국어",
    "שָׁלוֹם עולם مرحبا بالعالم",
    "\u200fright-to-left\u200e marks\u202e and \u2066isolates\u2069",
    "control \x01\x02\x1f\x7f\x85 characters \u200b\u200d\ufeff\u2028",
    "NUL \x00 inside, and at the end \x00",
    "e\u0301 combining a\u0300\u0323\u0327 marks Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!",
    "[CLS] [SEP] [MASK] <s> </s> <pad> <mask> <unk> special tokens",
    "\U0010ffff \ue000 beyond what is assigned",
    "word " * 2000,  # 10,000 characters
    "x" * 10_000,
    "今" * 10_000,
)


def load_step(kind: str) -> Any:
    """The module of a step, as Triton's stub imports it: with the files beside it on the path."""
    return templates.load_step(kind)


class Tensor:
    """Stands in for Triton's: a name and an array."""

    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> np.ndarray:
        return self.array


class Backend:
    """The three things of ``triton_python_backend_utils`` that the step uses; the real one runs in test_served.py."""

    Tensor = Tensor

    class TritonError:
        INTERNAL, INVALID_ARG = 1, 3

        def __init__(self, message: str, code: int) -> None:
            self.message, self.code = message, code

    class InferenceResponse:
        def __init__(self, output_tensors: list[Tensor], error: Any = None) -> None:
            self.tensors, self.error = {tensor.name: tensor.array for tensor in output_tensors}, error

    @staticmethod
    def get_input_tensor_by_name(request: dict[str, Tensor], name: str) -> Tensor | None:
        return request.get(name)


def request(**arrays: np.ndarray) -> dict[str, Tensor]:
    return {name: Tensor(name, array) for name, array in arrays.items()}


def model(module: Any, folder: Path, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The step's TritonPythonModel with those settings, for requests of :func:`request`."""
    (folder / "settings.json").write_text(json.dumps({"schema": 1, **values}), encoding="utf-8")
    for place in (sys.modules[COMMON], module):
        monkeypatch.setattr(place, "pb_utils", Backend, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    monkeypatch.setattr(module, "__file__", str(folder / "model.py"))
    served = module.TritonPythonModel()
    served.initialize({})
    return served

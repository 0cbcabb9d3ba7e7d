"""Whose plan it is, by its first bytes; and refitting, as far as it goes without a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.errors import BlockedError, ModelError
from builder.tools import hardware
from builder.tools.tensorrt_plan import check, refit

if TYPE_CHECKING:
    from pathlib import Path

RTX = "1.7.1.116"


def plan(path: Path, magic: bytes, version: tuple[int, ...]) -> Path:
    path.write_bytes(magic + bytes(20) + bytes(version) + bytes(64))
    return path


def test_a_plan_made_by_another_tensorrt(tmp_path: Path) -> None:
    rtx = plan(tmp_path / "rtx.plan", b"vtrt", (1, 7, 1, 116))
    tensorrt = plan(tmp_path / "trt.plan", b"ftrt", (10, 13, 3, 9))
    check(rtx, "tensorrt-rtx", RTX)
    check(tensorrt, "tensorrt", "10.13.3.9")
    refused = [
        (rtx, "tensorrt-rtx", "1.8.0.1", "rtx.plan: made by tensorrt-rtx 1.7.1; tensorrt-rtx 1.8.0.1 cannot load it"),
        (rtx, "tensorrt", "10.13.3.9", "rtx.plan: made by tensorrt-rtx 1.7.1; tensorrt 10.13.3.9 cannot load it"),
        (tensorrt, "tensorrt", "10.9.0.34", "trt.plan: made by tensorrt 10.13.3; tensorrt 10.9.0.34 cannot load it"),
        (plan(tmp_path / "no.plan", b"PK\3\4", ()), "tensorrt", "10.9", "no.plan: begins with b'PK"),
    ]
    for file, runtime, library, words in refused:
        with pytest.raises(ModelError) as raised:
            check(file, runtime, library)
        assert words in raised.value.message


@pytest.mark.skipif(bool(hardware.gpus()), reason="there is a GPU: the plan would be loaded")
def test_refitting_takes_a_gpu(tmp_path: Path) -> None:
    """The library itself says so; a plan of another version is refused before it is asked."""
    made = plan(tmp_path / "rtx.plan", b"vtrt", (1, 7, 1, 116))
    with pytest.raises(BlockedError, match="tensorrt-rtx needs a GPU with its driver"):
        refit(made, tmp_path / "model.onnx", "tensorrt-rtx", RTX, tmp_path / "whole.plan")
    with pytest.raises(BlockedError, match="tensorrt is not installed"):  # where tensorrt-stubs left a folder
        refit(plan(made, b"ftrt", (10, 13, 3, 9)), made, "tensorrt", "10.13.3.9", tmp_path / "whole.plan")
    with pytest.raises(ModelError, match="cannot load it"):
        refit(made, made, "tensorrt-rtx", RTX, tmp_path / "whole.plan")
    assert not (tmp_path / "whole.plan").exists()

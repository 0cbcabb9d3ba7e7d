"""The peer of the served benchmarks: the same model in Triton's Python backend, PyTorch eager (`torch_model/model.py`).

Its configs are tritonsmith's own with the model replaced, so batching, shapes and instances are equal by construction.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import MachineError
from builder.tools.python_env import python_minor

if TYPE_CHECKING:
    from builder.artifacts import Json

MODEL = "torch-model"
ENSEMBLE = "torch-embedder"
_CODE = Path(__file__).with_name("torch_model")


def make_environment(folder: Path, ours: Path) -> Path:
    """The stubs' environment with torch: tritonsmith's own (numpy 1), and behind it the packages of this Python.

    Args:
        folder: made here.
        ours: the environment of :func:`builder.tools.python_env.python_environment`.

    Raises:
        MachineError: the server's stubs run on another Python than this one, which has torch.
    """
    minor = python_minor(ours)
    if minor != sys.version_info[:2]:
        raise MachineError(
            f"the server's stubs run on Python {minor[0]}.{minor[1]}; torch is installed for {sys.version.split()[0]}",
            mend=f"make .venv with that Python: rm -r .venv; PYTHON=python{minor[0]}.{minor[1]} scripts/bench",
        )
    shutil.copytree(ours, folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # What a .pth file adds is searched last: numpy stays the one that the stubs can use.
    (packages / "torch.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder


def make_repository(folder: Path, tokenizer_step: Path) -> Path:
    """A model repository: the peer's model, its ensemble, and tritonsmith's own tokenizer step, all without configs.

    Args:
        folder: made here.
        tokenizer_step: the model folder ``<name>-tokenize`` of an unpacked archive; copied with its config.
    """
    shutil.copytree(tokenizer_step, folder / tokenizer_step.name)
    shutil.copytree(_CODE, folder / MODEL / "1", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ENSEMBLE / "1").mkdir(parents=True)
    return folder


def model_config(ours: Json, model_folder: Path, *, threads: int) -> Json:
    """Tritonsmith's config of ``<name>-model`` for the peer: one instance, ``threads`` threads of torch."""
    kept = {key: ours[key] for key in ("max_batch_size", "input", "output", "dynamic_batching") if key in ours}
    parameters = {"model_folder": {"string_value": str(model_folder)}, "threads": {"string_value": str(threads)}}
    return {
        **kept,
        "name": MODEL,
        "backend": "python",
        "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
        "parameters": parameters,
    }


def ensemble_config(ours: Json, model: str) -> Json:
    """Tritonsmith's config of the ensemble with the step ``model`` replaced by the peer."""
    steps = [
        {**step, "model_name": MODEL if step["model_name"] == model else step["model_name"]}
        for step in ours["ensemble_scheduling"]["step"]
    ]
    return {**ours, "name": ENSEMBLE, "ensemble_scheduling": {"step": steps}}

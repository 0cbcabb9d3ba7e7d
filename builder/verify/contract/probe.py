"""Two small models of ours: one that answers, and one that needs more memory than there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.artifacts import File
from builder.core.digest import digest_file
from builder.errors import ServerError
from builder.tools import archive as archives
from builder.tools import triton_proto
from builder.tools.sagemaker_front_end import Invoker
from builder.verify.contract.report import Check

if TYPE_CHECKING:
    from pathlib import Path

    from builder.tools.sagemaker_front_end import FrontEnd

FACTOR: Final = 3.0
_RELEASE: Final = "25.09"
_BYTES: Final = 1 << 60  # no machine has an exbibyte: numpy's own MemoryError comes at once, and nothing is allocated

_CODE: Final = '''
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Multiplies."""

    def initialize(self, args):
        if {too_large}:
            np.empty({bytes}, np.uint8)

    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(request, "X").as_numpy()) for request in requests]

    def answer(self, values):
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", values * np.float32({factor}))])
'''


def pack(path: Path, *, name: str = "probe", folder: str = "", too_large: bool = False, factor: float = FACTOR) -> Path:
    """Writes an archive of a model that multiplies ``X`` by a factor; or cannot be loaded.

    Args:
        path: of the archive.
        name: of the model.
        folder: in which it lies, with a slash; none for a flat archive.
        too_large: it asks for more memory than there is when it is loaded.
        factor: what it multiplies by.
    """
    sources = path.with_suffix("").with_suffix(".files")
    archives.pack(write(sources, texts(name, folder=folder, too_large=too_large, factor=factor)), path)
    return path


def texts(name: str, *, folder: str = "", too_large: bool = False, factor: float = FACTOR) -> dict[str, str]:
    """The files of such a model, as in :func:`pack`."""
    return {
        f"{folder}config.pbtxt": config(name),
        f"{folder}1/model.py": _CODE.format(too_large=too_large, bytes=_BYTES, factor=factor),
    }


def config(name: str) -> str:
    """The config of a model that multiplies."""
    tensor = {"data_type": "TYPE_FP32", "dims": [2]}
    message = triton_proto.build(
        {
            "name": name,
            "backend": "python",
            "max_batch_size": 8,
            "input": [{"name": "X", **tensor}],
            "output": [{"name": "Y", **tensor}],
            "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
        },
        release=_RELEASE,
    )
    return triton_proto.to_text(message)


def write(folder: Path, texts: dict[str, str]) -> dict[str, File]:
    """Writes small files, and describes them."""
    files = {}
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        files[name] = File(path=path, sha256=digest_file(path), size=path.stat().st_size)
    return files


def answers_right(check: str, front_end: FrontEnd, name: str, factor: float = FACTOR) -> Check:
    """Whether the model multiplies."""
    import numpy as np

    values = np.array([[1.5, -2.0]], np.float32)
    try:
        seen = Invoker(front_end, name, binary=True).infer({"X": values})["Y"].tolist()
    except ServerError as error:
        return Check(check, "200, and right", error.message, passed=False)
    wanted = (values * np.float32(factor)).tolist()
    return Check(check, f"200: {wanted}", f"200: {seen}", seen == wanted)

"""Running ONNX models with onnxruntime on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from builder.tools.opaque import Array


class Session:
    """A loaded model.

    Args:
        path: ``model.onnx``; its external data lies beside it (no symbolic links that leave the folder).
        as_written: Q/DQ pairs are computed as they stand. By default onnxruntime makes INT8 products of them, of FP8
            too, and then does not load what it has made.

    Raises:
        ModelError: onnxruntime does not take the model.
    """

    def __init__(self, path: Path, *, as_written: bool = False) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors: warnings are about optimisations that did not apply
        if as_written:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(f"onnxruntime cannot load the model: {_first_line(error)}") from error

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """The outputs, by name.

        Raises:
            ModelError: onnxruntime refuses the inputs, or fails.
        """
        try:
            values = self._session.run(list(outputs), dict(inputs))
        except Exception as error:
            raise ModelError(f"onnxruntime cannot run the model: {_first_line(error)}") from error
        return dict(zip(outputs, values, strict=True))


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]

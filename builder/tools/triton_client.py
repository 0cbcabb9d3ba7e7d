"""Talking to a Triton server: numpy in, numpy out, its own words in the errors."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from builder.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    import numpy as np

    from builder.artifacts import Json


_OPTIONS: Final = (
    # Servers are on this machine or named by hand: a proxy from the environment would only be in the way.
    ("grpc.enable_http_proxy", 0),
    # No limits, as in tritonclient itself, which leaves its own out when it is given options.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)


def connect(address: str) -> Client:
    """A client for the gRPC service at ``host:port``. Nothing is sent yet."""
    return Client(address)


class Client:
    """A connection to one server; may be shared by threads. Close it, or use it as a context manager."""

    def __init__(self, address: str) -> None:
        from tritonclient.grpc import InferenceServerClient

        self.address = address
        self._grpc: Any = InferenceServerClient(address, channel_args=list(_OPTIONS))

    def infer(
        self,
        model: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str] | None = None,
        *,
        timeout_seconds: float = 60.0,
    ) -> dict[str, np.ndarray]:
        """Sends one request.

        Args:
            model: the model's name.
            inputs: name → array; text is an array of dtype object that holds str or bytes.
            outputs: which outputs are wanted; default: all.
            timeout_seconds: how long the answer may take.

        Returns:
            name → array, for each output; BYTES come as dtype object holding bytes.

        Raises:
            ServerError: the server refused the request or did not answer; with the server's own text.
        """
        from tritonclient.grpc import InferRequestedOutput

        with _errors(f"{model}: infer"):
            result = self._grpc.infer(
                model,
                [_tensor(name, array) for name, array in inputs.items()],
                outputs=None if outputs is None else [InferRequestedOutput(name) for name in outputs],
                client_timeout=timeout_seconds,
            )
            names = [output.name for output in result.get_response().outputs]
            return {name: result.as_numpy(name) for name in names}

    def load(self, model: str, config: Mapping[str, Json] | None = None, *, timeout_seconds: float = 300.0) -> None:
        """Loads a model, or loads it again, with ``config`` (ModelConfig as JSON data) in place of its file.

        Raises:
            ServerError: it cannot be loaded; with the server's own text.
        """
        with _errors(f"{model}: load"):
            text = None if config is None else json.dumps(config)
            self._grpc.load_model(model, config=text, client_timeout=timeout_seconds)

    def unload(self, model: str, *, timeout_seconds: float = 60.0) -> None:
        """Unloads a model; models that an ensemble brought with it stay.

        Raises:
            ServerError: the server does not answer.
        """
        with _errors(f"{model}: unload"):
            self._grpc.unload_model(model, client_timeout=timeout_seconds)

    def is_ready(self, model: str, *, timeout_seconds: float = 10.0) -> bool:
        """Whether the model can be asked now.

        Raises:
            ServerError: the server does not answer.
        """
        with _errors(f"{model}: ready"):
            return bool(self._grpc.is_model_ready(model, client_timeout=timeout_seconds))

    def config(self, model: str, *, timeout_seconds: float = 10.0) -> dict[str, Json]:
        """The config that the server uses, completed by it, as JSON data with the protobuf's field names.

        Raises:
            ServerError: the model is not loaded.
        """
        with _errors(f"{model}: config"):
            return dict(self._grpc.get_model_config(model, as_json=True, client_timeout=timeout_seconds)["config"])

    def metadata(self, model: str, *, timeout_seconds: float = 10.0) -> dict[str, Json]:
        """Versions, platform, inputs and outputs of a model.

        Raises:
            ServerError: the model is not loaded.
        """
        with _errors(f"{model}: metadata"):
            return dict(self._grpc.get_model_metadata(model, as_json=True, client_timeout=timeout_seconds))

    def statistics(self, model: str, *, timeout_seconds: float = 10.0) -> dict[str, Json]:
        """Counts and times of a model's one loaded version; 64-bit integers are strings, as protobuf's JSON has them.

        Raises:
            ServerError: the model is not loaded.
        """
        with _errors(f"{model}: statistics"):
            answer = self._grpc.get_inference_statistics(model, as_json=True, client_timeout=timeout_seconds)
            return dict(answer["model_stats"][0])

    def server_metadata(self, *, timeout_seconds: float = 10.0) -> dict[str, Json]:
        """Name, version and extensions of the server.

        Raises:
            ServerError: the server does not answer.
        """
        with _errors("server metadata"):
            return dict(self._grpc.get_server_metadata(as_json=True, client_timeout=timeout_seconds))

    def close(self) -> None:
        """Ends the connection."""
        self._grpc.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _errors(what: str) -> Iterator[None]:
    """Turns the client library's exception into ours."""
    from tritonclient.utils import InferenceServerException

    try:
        yield
    except InferenceServerException as error:
        text = error.message() or error.status() or "no answer"
        mend = "the reason is in the server's log" if "failed to poll" in text else ""
        raise ServerError(f"{what}: {text}", mend=mend) from error


def _tensor(name: str, array: np.ndarray) -> Any:  # noqa: ANN401 - tritonclient has no types
    from tritonclient.grpc import InferInput
    from tritonclient.utils import np_to_triton_dtype

    tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor

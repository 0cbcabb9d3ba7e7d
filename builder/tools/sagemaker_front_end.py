"""SageMaker's side of Triton's front end: the calls that a multi-model and a single-model host make.

What the front end answers is in ``src/sagemaker_server.cc`` of triton-inference-server/server. Seen on 2.51:

* It listens on all interfaces: there is no option for its address.
* ``X-Amzn-SageMaker-Target-Model`` names the model in Triton; without it the hash does. With it, ``GET /models`` tells
  of a model that is there with an empty object, for it asks whether a model named like the *hash* is ready.
* A *flat* archive (``config.pbtxt`` at its root) is found only below ``/opt/ml/models/<hash>/model``; a nested one
  anywhere.
* An unload holds the list of models until the model is gone, half a second at least: no other model is invoked then.
"""

from __future__ import annotations

import http.client
import json
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.errors import MachineError, ServerError
from builder.tools import kserve_body

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np

JSON: Final = "application/json"
BINARY: Final = "application/vnd.sagemaker-triton.binary+json;json-header-size="
"""The front end takes a body for binary only if its content type begins with exactly this."""

TARGET_MODEL: Final = "X-Amzn-SageMaker-Target-Model"
MODELS: Final = Path("/opt/ml/models")
"""Where SageMaker unpacks; a part of the front end's own pattern, and so not to be chosen."""

_ATTEMPTS: Final = 3
_TIMEOUT_SECONDS: Final = 360.0  # SageMaker's own limit for loading and unloading


@dataclass(frozen=True, slots=True)
class Answer:
    """What the front end said."""

    status: int
    content_type: str
    body: bytes

    @property
    def error(self) -> str:
        """Its error, as text; empty where it tells none."""
        try:
            return str(json.loads(self.body)["error"])
        except (ValueError, LookupError, TypeError):
            return self.body.decode(errors="replace") if self.status != http.HTTPStatus.OK else ""

    def tensors(self) -> dict[str, np.ndarray]:
        """The outputs that it holds.

        Raises:
            ServerError: it is an error, or cannot be read.
        """
        if self.status != http.HTTPStatus.OK:
            raise ServerError(f"{self.status}: {self.error}")
        size = self.content_type.removeprefix(BINARY) if self.content_type.startswith(BINARY) else None
        if size is not None and not size.isdecimal():
            raise ServerError(f"content type {self.content_type!r}: its header size is no number")
        return kserve_body.decode(self.body, None if size is None else int(size))


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """A front end at ``host:port``. Each call is a connection of its own, so threads may share it.

    Every method raises ServerError where there is no answer.
    """

    address: str

    def ping(self) -> Answer:
        """``GET /ping``."""
        return self._call("GET", "/ping")

    def load(self, name: str, url: str, target: str = "") -> Answer:
        """``POST /models``: 200, 409 where it is loaded, 507 where memory is short, else 400."""
        return self._call("POST", "/models", json.dumps({"model_name": name, "url": url}).encode(), JSON, target)

    def models(self) -> Answer:
        """``GET /models``."""
        return self._call("GET", "/models")

    def model(self, name: str) -> Answer:
        """``GET /models/{name}``: 200 or 404."""
        return self._call("GET", f"/models/{name}")

    def unload(self, name: str, target: str = "") -> Answer:
        """``DELETE /models/{name}``: 200 or 404."""
        return self._call("DELETE", f"/models/{name}", target=target)

    def invoke(self, name: str, body: bytes, content_type: str = JSON, target: str = "") -> Answer:
        """``POST /models/{name}/invoke``: 200, 404, 507, else 400. Without a name: ``POST /invocations``."""
        path = f"/models/{name}/invoke" if name else "/invocations"
        return self._call("POST", path, body, content_type, target)

    def _call(self, method: str, path: str, body: bytes | None = None, kind: str = "", target: str = "") -> Answer:
        headers = ({"Content-Type": kind} if kind else {}) | ({TARGET_MODEL: target} if target else {})
        with closing(http.client.HTTPConnection(self.address, timeout=_TIMEOUT_SECONDS)) as connection:
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                return Answer(answer.status, answer.getheader("Content-Type", ""), answer.read())
            except (OSError, http.client.HTTPException) as error:
                what = str(error) or type(error).__name__
                raise ServerError(f"SageMaker's front end does not answer {method} {path}: {what}") from error


@dataclass(frozen=True, slots=True)
class Invoker:
    """Asks one model of a front end, in numpy.

    Args:
        front_end: the front end.
        name: of the loaded model; empty: the one behind ``/invocations``.
        binary: with binary tensors, not as JSON.
        target: what SageMaker names the archive.
    """

    front_end: FrontEnd
    name: str
    binary: bool
    target: str = ""

    def infer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One request.

        Raises:
            ServerError: it was refused, or cannot be read; or there is no answer.
        """
        if not self.binary:
            return self.front_end.invoke(self.name, kserve_body.encode_json(inputs), JSON, self.target).tensors()
        body, header_bytes = kserve_body.encode_binary(inputs)
        answer = self.front_end.invoke(self.name, body, f"{BINARY}{header_bytes}", self.target)
        if answer.status == http.HTTPStatus.OK and not answer.content_type.startswith(BINARY):
            raise ServerError(f"asked for binary tensors, the answer is {answer.content_type!r}")
        return answer.tensors()


@contextmanager
def placed(folder: Path, name: str) -> Iterator[str]:
    """Makes a folder ``<folder>/model`` reachable where SageMaker unpacks, while the block runs: as one link.

    Args:
        folder: holds ``model``.
        name: of the model, letters, digits, ``_`` and ``.`` only: the front end's pattern has no more.

    Yields:
        The url for :meth:`FrontEnd.load`.

    Raises:
        MachineError: ``/opt/ml/models`` cannot be written.
    """
    link = MODELS / name
    made = [path for path in (MODELS, MODELS.parent, MODELS.parent.parent) if not path.exists()]
    try:
        _link(link, folder.absolute())
    except OSError as error:
        raise MachineError(
            f"{MODELS}: cannot be written: {error.strerror}; the front end takes flat archives from nowhere else",
            mend=f"make the folder for yourself: sudo install -d -o $USER {MODELS}; or run in a container",
        ) from error
    try:
        yield f"{link}/model"
    finally:
        link.unlink(missing_ok=True)
        for path in made:
            _remove_empty(path)


def _link(link: Path, folder: Path) -> None:
    for left in reversed(range(_ATTEMPTS)):
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            link.symlink_to(folder)
        except FileNotFoundError:  # another proof has ended, and removed the folder that it had made
            if not left:
                raise
        else:
            return


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # somebody else has put something there
        folder.rmdir()

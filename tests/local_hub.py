"""A small Hugging Face hub on the loopback: what ``huggingface_hub`` asks of a hub, and the ways in which one fails."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from types import TracebackType

REVISION = "0123456789abcdef0123456789abcdef01234567"


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class LocalHub:
    """Serves one commit of one model.

    Files whose name ends with ``.safetensors`` or ``.bin`` are LFS files: they redirect to ``/blobs/<sha256>``.
    """

    files: dict[str, bytes]
    model_id: str = "owner/name"
    revision: str = REVISION
    token: str | None = None  # needed for everything
    gated: bool = False  # the list is public, the files are not
    forbidden: bool = False
    broken_status: int | None = None  # every request fails so
    cut_after: int | None = None  # bytes of an LFS file after which a connection breaks …
    cuts_left: int = 0  # … so many times; afterwards `Range` is answered
    reset: bool = False  # a cut is a TCP reset, not an orderly end
    sent: dict[str, bytes] = field(default_factory=dict)  # what is sent instead of a file
    page: bytes | None = None  # an answer to everything, as a captive portal gives it
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, Range
    user_agents: set[str] = field(default_factory=set)

    def __enter__(self) -> Self:
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def is_lfs(self, name: str) -> bool:
        return name.endswith((".safetensors", ".bin"))

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self.files[name]).hexdigest()

    def listing(self) -> dict[str, Any]:
        siblings = []
        for name, content in self.files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git_blob(content)}
            if self.is_lfs(name):
                entry["lfs"] = {"sha256": self.sha256(name), "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        return {"id": self.model_id, "sha": self.revision, "siblings": siblings, "private": False, "tags": []}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LocalHub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.user_agents.add(self.headers.get("User-Agent", ""))
        hub.requests.append((self.command, path, self.headers.get("Range")))
        if hub.page is not None:
            self._send(200, hub.page, {"Content-Type": "text/html"}, body=body)
        elif hub.broken_status is not None:
            self._refuse(hub.broken_status, "")
        elif path.startswith("/blobs/"):
            self._blob(path.removeprefix("/blobs/"), body=body)
        elif hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
            wrong = "Authorization" in self.headers
            self._refuse(
                401, "" if wrong else "RepoNotFound", "Invalid credentials in Authorization header" if wrong else ""
            )
        elif path == f"/api/models/{hub.model_id}/revision/{hub.revision}":
            self._send(200, json.dumps(hub.listing()).encode(), {"Content-Type": "application/json"}, body=body)
        elif path.startswith(f"/{hub.model_id}/resolve/{hub.revision}/"):
            self._file(path.removeprefix(f"/{hub.model_id}/resolve/{hub.revision}/"), body=body)
        elif path.startswith((f"/api/models/{hub.model_id}/revision/", f"/{hub.model_id}/resolve/")):
            self._refuse(404, "RevisionNotFound")
        else:
            self._refuse(404, "RepoNotFound")

    def _file(self, name: str, *, body: bool) -> None:
        hub = self.hub
        if hub.gated:
            self._refuse(403 if "Authorization" in self.headers else 401, "GatedRepo")
        elif hub.forbidden:
            self._refuse(403, "")
        elif name not in hub.files:
            self._refuse(404, "EntryNotFound")
        elif hub.is_lfs(name):
            headers = {
                "Location": f"/blobs/{hub.sha256(name)}",
                "X-Repo-Commit": hub.revision,
                "X-Linked-Etag": f'"{hub.sha256(name)}"',
                "X-Linked-Size": str(len(hub.files[name])),
            }
            self._send(302, b"", headers, body=body)
        else:
            headers = {"X-Repo-Commit": hub.revision, "ETag": f'"{git_blob(hub.files[name])}"'}
            self._send(200, hub.sent.get(name, hub.files[name]), headers, body=body)

    def _blob(self, sha256: str, *, body: bool) -> None:
        hub = self.hub
        name = next(name for name in hub.files if hub.sha256(name) == sha256)
        content = hub.sent.get(name, hub.files[name])
        headers = {"ETag": f'"{sha256}"', "X-Repo-Commit": hub.revision}
        start = 0
        if asked := self.headers.get("Range"):
            start = int(asked.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        part = content[start:]
        if body and hub.cut_after is not None and hub.cuts_left > 0:
            hub.cuts_left -= 1
            self._head(206 if asked else 200, len(part), headers)
            self.wfile.write(part[: hub.cut_after])
            if hub.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            return
        self._send(206 if asked else 200, part, headers, body=body)

    def _refuse(self, status: int, code: str, message: str = "") -> None:
        self._send(
            status, b"", {key: value for key, value in (("X-Error-Code", code), ("X-Error-Message", message)) if value}
        )

    def _send(self, status: int, content: bytes, headers: dict[str, str], *, body: bool = True) -> None:
        self._head(status, len(content), headers)
        if body:
            self.wfile.write(content)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")  # a connection that is kept would outlive the server
        self.end_headers()

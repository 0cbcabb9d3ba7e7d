"""The hub tool against a real HTTP server on the loopback."""

from __future__ import annotations

import hashlib
import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from builder.errors import ModelError, NetworkError, UserError
from builder.tools.hub import Hub
from tests.local_hub import REVISION, LocalHub

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = bytes(range(256)) * 4096  # 1 MiB
FILES = {"config.json": b'{"model_type": "bert"}', "model.safetensors": WEIGHTS, "1_Pooling/config.json": b"{}"}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """huggingface_hub waits a second before it resumes."""
    import huggingface_hub.file_download as download
    import huggingface_hub.utils._http as http

    for module in (download, http):
        monkeypatch.setattr(module.time, "sleep", lambda _seconds: None)


def hub_of(server: LocalHub, tmp_path: Path, token: str | None = None) -> Hub:
    return Hub(server.endpoint, token, tmp_path / "hub", pause_seconds=0)


def complete_files(folder: Path) -> list[str]:
    """Names that somebody would take for whole files of a snapshot."""
    return sorted(path.name for path in (folder / "hub").rglob("snapshots/*/**/*") if path.is_file())


class TestGoodHub:
    def test_files_are_fetched_resolved_hashed_and_listed_by_folder(self, tmp_path):
        with LocalHub(dict(FILES)) as server:
            model = hub_of(server, tmp_path).open("owner/name", REVISION)
            assert model.names("") == ["config.json", "model.safetensors"]
            assert model.names("1_Pooling") == ["config.json"]
            files = model.fetch(FILES)
        assert list(files) == sorted(FILES)
        for name, file in files.items():
            assert file.path.read_bytes() == FILES[name]
            assert file.sha256 == hashlib.sha256(FILES[name]).hexdigest()
            assert file.size == len(FILES[name])
            assert not file.path.is_symlink()

    def test_what_is_there_needs_no_hub(self, tmp_path):
        with LocalHub(dict(FILES)) as server:
            hub = hub_of(server, tmp_path)
            hub.open("owner/name", REVISION).fetch(["config.json"])
            asked = len(server.requests)
            hub.open("owner/name", REVISION).fetch(["config.json"])
            assert len(server.requests) == asked
        assert hub.open("owner/name", REVISION).fetch(["config.json"])  # the server is gone
        with pytest.raises(NetworkError):
            hub.open("owner/name", REVISION).fetch(["model.safetensors"])

    def test_only_what_is_asked_for_is_fetched(self, tmp_path):
        with LocalHub(dict(FILES)) as server:
            hub_of(server, tmp_path).open("owner/name", REVISION).fetch(["config.json"])
        assert complete_files(tmp_path) == ["config.json"]
        assert not any("blobs" in path for _, path, _ in server.requests)

    def test_a_token_is_sent_to_the_hub(self, tmp_path):
        with LocalHub(dict(FILES), token="good") as server:
            files = hub_of(server, tmp_path, "good").open("owner/name", REVISION).fetch(["model.safetensors"])
        assert files["model.safetensors"].size == len(WEIGHTS)

    def test_nothing_else_is_asked_of_the_hub(self, tmp_path):
        """No telemetry, and no second service beside it."""
        with LocalHub(dict(FILES)) as server:
            hub_of(server, tmp_path).open("owner/name", REVISION).fetch(FILES)
        assert all(agent.startswith("tritonsmith/") and "torch" not in agent for agent in server.user_agents)
        paths = {path.split("/")[1] for _, path, _ in server.requests}
        assert paths == {"api", "owner", "blobs"}
        assert {path for _, path, _ in server.requests if path.startswith("/api/")} == {
            f"/api/models/owner/name/revision/{REVISION}"
        }

    def test_the_library_is_imported_only_when_it_is_used(self):
        code = "import builder.tools.hub, sys; assert 'huggingface_hub' not in sys.modules"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestRefusals:
    def refusal(self, tmp_path: Path, server: LocalHub, *, token: str | None = None, model_id: str = "owner/name",
                revision: str = REVISION, names: tuple[str, ...] = ("config.json",)) -> ModelError:  # fmt: skip
        with pytest.raises(ModelError) as caught:
            hub_of(server, tmp_path, token).open(model_id, revision).fetch(names)
        assert complete_files(tmp_path) == []
        assert caught.value.mend
        assert "\n" not in caught.value.message
        return caught.value

    def test_no_token(self, tmp_path):
        with LocalHub(dict(FILES), token="good") as server:
            error = self.refusal(tmp_path, server)
        assert "the hub wants a token (401)" in error.message
        assert "HF_TOKEN" in error.mend

    def test_a_wrong_token(self, tmp_path):
        with LocalHub(dict(FILES), token="good") as server:
            error = self.refusal(tmp_path, server, token="bad")
        assert "the hub refuses the token (401)" in error.message
        assert f"{server.endpoint}/settings/tokens" in error.mend

    @pytest.mark.parametrize("token", [None, "mine"])
    def test_a_gated_model_names_the_page(self, tmp_path, token):
        with LocalHub(dict(FILES), gated=True) as server:
            error = self.refusal(tmp_path, server, token=token)
        assert (
            f"the model is gated: its authors want conditions to be accepted first ({403 if token else 401})"
            in error.message
        )
        assert f"{server.endpoint}/owner/name" in error.mend

    def test_a_forbidden_file(self, tmp_path):
        with LocalHub(dict(FILES), forbidden=True) as server:
            error = self.refusal(tmp_path, server, token="mine")
        assert "the hub forbids config.json (403)" in error.message

    def test_no_such_model(self, tmp_path):
        with LocalHub(dict(FILES)) as server:
            error = self.refusal(tmp_path, server, model_id="owner/other")
        assert "has no such model (404)" in error.message

    def test_no_such_commit(self, tmp_path):
        with LocalHub(dict(FILES)) as server:
            error = self.refusal(tmp_path, server, revision="f" * 40)
        assert f"the model has no commit {'f' * 40} (404)" in error.message
        assert f"{server.endpoint}/owner/name/commits/main" in error.mend

    def test_no_such_file(self, tmp_path):
        with LocalHub(dict(FILES)) as server, pytest.raises(ModelError, match=r"has no file 'x\.json'"):
            hub_of(server, tmp_path).open("owner/name", REVISION).fetch(["x.json"])

    def test_a_file_that_is_listed_and_not_there(self, tmp_path):
        with LocalHub(dict(FILES)) as server:
            model = hub_of(server, tmp_path).open("owner/name", REVISION)
            del server.files["config.json"]
            with pytest.raises(ModelError, match=r"it has no file 'config\.json' \(404\)"):
                model.fetch(["config.json"])


class TestBrokenNetwork:
    def failure(self, tmp_path: Path, server: LocalHub, name: str = "config.json") -> str:
        with pytest.raises(NetworkError) as caught:
            hub_of(server, tmp_path).open("owner/name", REVISION).fetch([name])
        assert complete_files(tmp_path) == []
        assert caught.value.mend
        return caught.value.message

    def test_a_cut_download_is_resumed_where_it_was_cut(self, tmp_path, monkeypatch):
        import huggingface_hub.constants as constants

        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)  # it resumes at whole chunks: 10 MiB
        with LocalHub(dict(FILES), cut_after=300_000, cuts_left=2) as server:
            files = hub_of(server, tmp_path).open("owner/name", REVISION).fetch(["model.safetensors"])
        assert files["model.safetensors"].path.read_bytes() == WEIGHTS
        ranges = [asked for method, path, asked in server.requests if method == "GET" and path.startswith("/blobs/")]
        assert ranges == [None, "bytes=300000-", "bytes=600000-"]

    def test_a_connection_that_is_reset_is_tried_again(self, tmp_path):
        with LocalHub(dict(FILES), cut_after=300_000, cuts_left=1, reset=True) as server:
            files = hub_of(server, tmp_path).open("owner/name", REVISION).fetch(["model.safetensors"])
        assert files["model.safetensors"].path.read_bytes() == WEIGHTS

    def test_a_download_that_is_always_cut(self, tmp_path):
        with LocalHub(dict(FILES), cut_after=0, cuts_left=10_000) as server:
            message = self.failure(tmp_path, server, "model.safetensors")
        assert "model.safetensors" in message
        assert f"{server.endpoint} cannot be reached, or broke off" in message
        assert not list((tmp_path / "hub").rglob("*.incomplete"))

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
    def test_another_size_than_stated(self, tmp_path, name):
        with LocalHub(dict(FILES), sent={name: FILES[name][:-1]}) as server:
            message = self.failure(tmp_path, server, name)
        assert "size" in message
        assert str(len(FILES[name])) in message

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
    def test_other_bytes_than_stated(self, tmp_path, name):
        other = FILES[name][:-1] + b"?"
        with LocalHub(dict(FILES), sent={name: other}) as server:
            message = self.failure(tmp_path, server, name)
            stated = server.sha256(name) if server.is_lfs(name) else "git blob"
        assert f"{name} is not what {server.endpoint} states" in message
        assert stated in message
        assert not list((tmp_path / "hub").rglob("blobs/*"))

    def test_a_file_that_was_damaged_in_the_cache_is_fetched_again(self, tmp_path):
        with LocalHub(dict(FILES)) as server:
            model = hub_of(server, tmp_path).open("owner/name", REVISION)
            path = model.fetch(["config.json"])["config.json"].path
            path.write_bytes(b"damaged")
            assert model.fetch(["config.json"])["config.json"].path.read_bytes() == FILES["config.json"]

    def test_a_damaged_listing_is_asked_for_again(self, tmp_path):
        with LocalHub(dict(FILES)) as server:
            hub = hub_of(server, tmp_path)
            hub.open("owner/name", REVISION)
            (listing,) = (tmp_path / "hub").rglob("listings/*.json")
            listing.write_text("{", encoding="utf-8")
            assert hub.open("owner/name", REVISION).names("") == ["config.json", "model.safetensors"]

    def test_a_hub_that_fails(self, tmp_path):
        with LocalHub(dict(FILES), broken_status=503) as server:
            assert f"{server.endpoint} failed with status 503" in self.failure(tmp_path, server)

    def test_a_page_instead_of_a_hub(self, tmp_path):
        with LocalHub(dict(FILES), page=b"<html>please log in</html>") as server:
            assert f"{server.endpoint} does not answer like a model hub" in self.failure(tmp_path, server)

    def test_another_commit_than_the_one_asked_for(self, tmp_path, monkeypatch):
        with LocalHub(dict(FILES)) as server:
            right = server.listing()
            monkeypatch.setattr(server, "listing", lambda: {**right, "sha": "f" * 40})
            with pytest.raises(NetworkError, match="answered commit ffff"):
                hub_of(server, tmp_path).open("owner/name", REVISION)

    def test_nobody_listens(self, tmp_path):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses
            endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(NetworkError, match=re.escape(f"{endpoint} cannot be reached")):
                Hub(endpoint, None, tmp_path / "hub").open("owner/name", REVISION)

    def test_offline_is_said(self, tmp_path, monkeypatch):
        import huggingface_hub.constants as constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with LocalHub(dict(FILES)) as server:
            assert "HF_HUB_OFFLINE is set" in self.failure(tmp_path, server)

    def test_an_endpoint_that_is_no_address(self, tmp_path):
        with pytest.raises(UserError, match=r"HF_ENDPOINT is 'huggingface\.co'"):
            Hub("huggingface.co", None, tmp_path / "hub").open("owner/name", REVISION)

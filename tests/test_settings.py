from __future__ import annotations

import pwd
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from builder.errors import MachineError
from builder.settings import settings
from builder.tools import toolchain

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs with a user id of its own."""
    for name in ("HOME", "XDG_CACHE_HOME", "TRITONSMITH_CACHE", "HF_HOME", "HF_TOKEN_PATH", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def unknown(uid: int) -> NoReturn:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(RuntimeError):  # the control: there is none
        Path.home()


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize(
    ("name", "cache"), [("TRITONSMITH_CACHE", "/x/cache"), ("XDG_CACHE_HOME", "/x/cache/tritonsmith")]
)
def test_without_a_home_the_cache_can_be_named(monkeypatch: pytest.MonkeyPatch, name: str, cache: str) -> None:
    monkeypatch.setenv(name, "/x/cache")
    assert settings().cache == Path(cache)


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize("use", [toolchain.install])
def test_without_any_place_who_needs_one_says_so(use: Callable[[Path], object]) -> None:
    found = settings()
    assert found.hub_token is None
    with pytest.raises(MachineError, match="no-home-folder") as caught:
        use(found.cache)
    assert "TRITONSMITH_CACHE" in caught.value.mend

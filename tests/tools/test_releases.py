from __future__ import annotations

import re

import pytest

from builder.errors import UserError
from builder.tools import releases, toolchain


def test_the_default_release() -> None:
    found = releases.release("25.09")
    assert (found.server_version, found.onnxruntime, found.python) == ("2.61.0", "1.23.0", (3, 12))


def test_the_embedded_server_is_one_of_them() -> None:
    assert toolchain.SERVER_VERSION in {known.server_version for known in releases.RELEASES}


def test_the_table_is_in_order_and_has_no_gap() -> None:
    months = [int(known.name[:2]) * 12 + int(known.name[3:]) - 1 for known in releases.RELEASES]
    assert months == list(range(months[0], months[0] + len(months)))
    versions = [tuple(int(part) for part in known.server_version.split(".")) for known in releases.RELEASES]
    assert versions == sorted(set(versions))
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\d", known.date) for known in releases.RELEASES)
    assert [known.date for known in releases.RELEASES] == sorted(known.date for known in releases.RELEASES)


@pytest.mark.parametrize(("name", "guess"), [("25.9", "did you mean 25.09?"), ("soon", "write the release")])
def test_an_unknown_release(name: str, guess: str) -> None:
    with pytest.raises(UserError) as caught:
        releases.release(name)
    assert f"'{name}' is not a known Triton release; known: 24.08, 24.09" in caught.value.message
    assert "26.07" in caught.value.message
    assert caught.value.mend.startswith(guess)

"""What a Python package says of itself: the ``METADATA`` in its ``.dist-info`` folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_LONGEST: Final = 80  # characters of a licence's name; what is longer is the licence itself
_UNKNOWN: Final = frozenset({"", "UNKNOWN"})


@dataclass(frozen=True, slots=True)
class Metadata:
    """Name, version, and what it says of its licence: an SPDX expression, or names in words."""

    name: str
    version: str
    expression: str | None
    licences: tuple[str, ...]


def parse(text: str) -> Metadata:
    """Reads ``METADATA``: https://packaging.python.org/en/latest/specifications/core-metadata/.

    ``License-Expression`` is what counts; older packages have the field ``License``, and classifiers.
    """
    from email.parser import HeaderParser

    head = HeaderParser().parsestr(text)
    stated = str(head.get("License", "")).strip()
    classified = [str(line).rpartition(" :: ")[2] for line in head.get_all("Classifier", ()) if "License ::" in line]
    short = stated not in _UNKNOWN and len(stated) <= _LONGEST and "\n" not in stated
    return Metadata(
        name=str(head.get("Name", "")),
        version=str(head.get("Version", "")),
        expression=head.get("License-Expression"),
        licences=(stated,) if short else tuple(classified),
    )

"""The licence that a model states: in the YAML at the head of its model card."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from builder.artifacts import File, Json

CARD: Final = "README.md"
_LIMIT_BYTES: Final = 1 << 20
LONGEST: Final = 200
"""Characters of a licence's name. What is longer is cut: it is a text, not a name."""
_FRONT_MATTER: Final = re.compile(r"\A---[ \t]*\r?\n(.*?)\r?\n---[ \t]*$", re.DOTALL | re.MULTILINE)


def licence_of_card(card: File | None) -> str | None:
    """What the YAML at the head of the model card says: an SPDX-like id, or the name of a licence of its own."""
    if card is None or card.size > _LIMIT_BYTES:
        return None
    head = _FRONT_MATTER.match(card.path.read_text(encoding="utf-8", errors="replace"))
    facts = _yaml(head[1]) if head else None
    if not isinstance(facts, dict):
        return None
    licence = facts.get("license")
    if licence == "other" and facts.get("license_name"):
        licence = facts["license_name"]
    named = licence if isinstance(licence, list) else [licence]
    # Names alone: a few aliases in YAML unfold nested lists to any length.
    return ", ".join(name for name in named if isinstance(name, str) and name)[:LONGEST] or None


def _yaml(text: str) -> Json:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    reader = YAML(typ="safe", pure=True)
    reader.allow_duplicate_keys = True
    try:
        return reader.load(text)
    except (YAMLError, ValueError, RecursionError):
        return None  # a card is prose for humans: a licence that cannot be read is one that is not stated

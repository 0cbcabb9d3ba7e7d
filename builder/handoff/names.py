"""Names in SageMaker: letters, digits and hyphens, at most 63; those of Triton may hold more."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder.core.digest import digest_json
from builder.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.artifacts import Json

LIMIT: Final = 63  # characters
_DIGITS: Final = 8
_OTHER: Final = re.compile(r"[^a-zA-Z0-9]+")


def slug(text: str, limit: int = LIMIT) -> str:
    """A name that SageMaker takes.

    Raises:
        UserError: the text has no letter and no digit.
    """
    made = _OTHER.sub("-", text).strip("-")[:limit].rstrip("-")
    if not made:
        raise UserError(f"{text!r} has no letter and no digit: no name in SageMaker can be made of it")
    return made


def with_digest(text: str, content: Json) -> str:
    """A name that tells what it names: the same content has the same name, another content another one."""
    return f"{slug(text, LIMIT - _DIGITS - 1)}-{digest_json(content)[:_DIGITS]}"


def distinct(texts: Iterable[str]) -> dict[str, str]:
    """The slug of each text.

    Raises:
        UserError: two of them would have the same.
    """
    found: dict[str, str] = {}
    for text in texts:
        made = slug(text)
        if (other := found.setdefault(made, text)) != text:
            raise UserError(
                f"{other!r} and {text!r} would both be called {made!r} in SageMaker",
                mend="give them names that differ in letters and digits",
            )
    return {text: made for made, text in found.items()}

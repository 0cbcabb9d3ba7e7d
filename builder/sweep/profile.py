"""``--load``: under which loads a sweep measures, in one word for the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.errors import UserError
from builder.sweep.load import Load

if TYPE_CHECKING:
    from builder.recipe.verify import Sweep

_MEND: Final = "such as closed:1,4,16 or open:50,100,http"


def loads_of(sweep: Sweep) -> tuple[Load, ...]:
    """The loads that a recipe's section ``verify.sweep`` means, ascending."""
    said = sweep.load
    more: dict[str, Any] = {"batch": said.batch, "protocol": said.protocol, "shared_memory": said.shared_memory}
    if said.rate is not None:
        return tuple(Load(rate=rate, arrivals=said.arrivals, **more) for rate in said.rate)
    return tuple(Load(concurrency=level, **more) for level in sweep.concurrency)


def parse(text: str) -> tuple[Load, ...]:
    """The loads that ``--load`` means, ascending.

    Raises:
        UserError: it is no such profile.
    """
    kind, _, rest = text.partition(":")
    if kind not in {"closed", "open"}:
        raise UserError(f"--load {text}: must begin with closed: or open:", mend=_MEND)
    words = [word.strip() for word in rest.split(",") if word.strip()]
    sizes = sorted({_number(text, word, whole=kind == "closed") for word in words if word[0].isdigit()})
    if not sizes:
        raise UserError(f"--load {text}: names no number", mend=_MEND)
    more = _more(text, [word for word in words if not word[0].isdigit()])
    if kind == "open":
        return tuple(Load(rate=size, **more) for size in sizes)
    if "arrivals" in more:
        raise UserError(f"--load {text}: in a closed loop requests come when others are answered", mend=_MEND)
    return tuple(Load(concurrency=int(size), **more) for size in sizes)


def _number(text: str, word: str, *, whole: bool) -> float:
    try:
        size = float(word)
    except ValueError:
        size = 0.0
    if not 0 < size < 2**31 or (whole and size != int(size)):
        what = "a whole number of requests in flight" if whole else "a number of requests per second"
        raise UserError(f"--load {text}: {word} is not {what}", mend=_MEND)
    return size


def _more(text: str, words: list[str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name == "batch" and value.isdecimal() and int(value) > 0:
            made["batch"] = int(value)
        elif word in {"poisson", "constant"}:
            made["arrivals"] = word
        elif word in {"http", "grpc"}:
            made["protocol"] = word
        elif word == "shared-memory":
            made["shared_memory"] = True
        else:
            allowed = "poisson, constant, grpc, http, shared-memory, batch=N"
            raise UserError(f"--load {text}: {word} is not known; allowed: {allowed}", mend=_MEND)
    return made

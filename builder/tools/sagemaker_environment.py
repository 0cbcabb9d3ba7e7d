"""The environment of Triton's container on SageMaker: planned in one place, and checked.

``serve``, the script that SageMaker starts, turns the variables ``SAGEMAKER_TRITON_*`` into options of tritonserver.
Sources are lines of ``docker/sagemaker/serve`` and ``src/sagemaker_server.*`` in
github.com/triton-inference-server/server at e1db8a6; limits are those of EnvironmentMap in SageMaker's API.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PREFIX: Final = "SAGEMAKER_TRITON_"
DEFAULT_MODEL: Final = f"{PREFIX}DEFAULT_MODEL_NAME"
ARGUMENTS: Final = f"{PREFIX}ADDITIONAL_ARGS"
PING: Final = (f"{PREFIX}PING_MODE", f"{PREFIX}OVERRIDE_PING_MODE")
LOG_VERBOSE: Final = f"{PREFIX}LOG_VERBOSE"
INFERENCE_TYPE: Final = f"{PREFIX}INFERENCE_TYPE"
NAMESPACING: Final = f"{PREFIX}DISABLE_MODEL_NAMESPACING"
MULTI_MODEL: Final = "SAGEMAKER_MULTI_MODEL"

ENTRIES_LIMIT: Final = 100
VALUE_LIMIT: Final = 1024  # characters
CACHE_BYTES: Final = 64 << 20
"""Size of the response cache where a config asks for one: Triton has none without a size."""

INFERENCE_TYPES: Final = ("infer", "generate", "generate_stream")
_GENERATE_SINCE: Final = "25.03"  # server#8047
_ARGUMENTS_SINCE: Final = "23.07"  # server#5910
_KEY: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SHELL: Final = re.compile(r"[\s\"'`\\;&|<>(){}$*?\[\]~]")
"""What ``serve`` does not pass on as it is: it splits at blanks and expands patterns; quotes become parts of words."""

_TAKEN: Final = ("--allow-sagemaker", "--allow-http", "--http", "--model-control-mode")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the container is to do.

    Args:
        default_model: what ``/invocations`` asks; empty on a multi-model endpoint.
        load_models: models that have to be loaded by name beside it: those that a step calls.
        response_cache: whether a config asks for it.
        rate_limiter: whether a config asks for it.
        inference_type: of ``/invocations``.
        arguments: further options of tritonserver.
        more: further variables; they win.
    """

    default_model: str = ""
    load_models: Sequence[str] = ()
    response_cache: bool = False
    rate_limiter: bool = False
    inference_type: str = "infer"
    arguments: Sequence[str] = ()
    more: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something in an environment that will not do what it says.

    Args:
        rule: its id, as lint's.
        refused: whether the host refuses it or does something else; else it is unwise.
        variable: the name.
        message: what is wrong, with the value and what is allowed.
        mend: what to do about it.
    """

    rule: str
    refused: bool
    variable: str
    message: str
    mend: str


def plan(wanted: Wanted) -> dict[str, str]:
    """The variables of the container, sorted by name. Hold them against :func:`check`: ``more`` may say anything."""
    multi = not wanted.default_model
    made = {LOG_VERBOSE: "false"}
    if multi:
        # serve sets the mode without exporting it (lines 32-57): the server reads the second.
        made |= dict.fromkeys(PING, "live")
    else:
        made[DEFAULT_MODEL] = wanted.default_model
    if wanted.inference_type != "infer":
        made[INFERENCE_TYPE] = wanted.inference_type
    words = _arguments(wanted)
    if words:
        made[ARGUMENTS] = " ".join(words)
    return dict(sorted({**made, **(wanted.more or {})}.items()))


def _arguments(wanted: Wanted) -> tuple[str, ...]:
    loads = [f"--load-model={name}" for name in wanted.load_models if name != wanted.default_model]
    cache = [f"--cache-config=local,size={CACHE_BYTES}"] if wanted.response_cache else []
    rate = ["--rate-limit=execution_count"] if wanted.rate_limiter else []
    stated = {word.partition("=")[0] for word in wanted.arguments}
    derived = [word for word in (*cache, *rate) if word.partition("=")[0] not in stated]
    return (*loads, *derived, *wanted.arguments)


def check(environment: Mapping[str, str], *, multi: bool, release: str) -> Iterator[Trouble]:
    """What will not do what it says.

    Args:
        environment: of the container.
        multi: whether it is one of a multi-model endpoint.
        release: of Triton, in the container: ``25.09``.
    """
    yield from _limits(environment)
    yield from _modes(environment, multi=multi)
    yield from _default_model(environment, multi=multi)
    yield from _words(environment, release)
    yield from _inference_type(environment, release)


def _limits(environment: Mapping[str, str]) -> Iterator[Trouble]:
    if len(environment) > ENTRIES_LIMIT:
        yield Trouble("H1", True, "", f"{len(environment)} variables; at most {ENTRIES_LIMIT}", "leave some out")
    for name, value in environment.items():
        if not _KEY.fullmatch(name):
            yield Trouble("H1", True, name, f"{name!r} is no name of a variable", "use letters, digits and _")
        if len(value) > VALUE_LIMIT:
            said = f"{name} has {len(value)} characters; at most {VALUE_LIMIT}"
            yield Trouble("H1", True, name, said, "shorten it")


def _modes(environment: Mapping[str, str], *, multi: bool) -> Iterator[Trouble]:
    value = environment.get(MULTI_MODEL, "")
    if value not in {"", "true"}:
        said = f"{MULTI_MODEL} is {value!r}; serve knows only 'true'"
        yield Trouble("H2", True, MULTI_MODEL, said, "leave it out: SageMaker sets it")
    elif value and not multi:
        yield Trouble("H2", True, MULTI_MODEL, f"{MULTI_MODEL} is set on a single-model endpoint", "leave it out")
    missing = [name for name in PING if environment.get(name) != "live"]
    if multi and missing:
        said = f"{' and '.join(missing)} is not live: one model that fails to load makes the endpoint unhealthy"
        yield Trouble("H3", False, missing[0], said, "set both to live")
    if environment.get(LOG_VERBOSE, "").lower() not in {"false", "0"}:
        yield Trouble("H4", False, LOG_VERBOSE, "logs are verbose by default", f"set {LOG_VERBOSE}=false")
    if (value := environment.get(NAMESPACING, "")) not in {"", "false"}:
        said = f"{NAMESPACING} is {value!r}, which leaves namespacing on"
        yield Trouble("H5", False, NAMESPACING, said, "write false to disable it, or leave it out")


def _default_model(environment: Mapping[str, str], *, multi: bool) -> Iterator[Trouble]:
    name = environment.get(DEFAULT_MODEL, "")
    if multi and name:
        yield Trouble("H18", False, DEFAULT_MODEL, "is ignored on a multi-model endpoint", "leave it out")
    elif not multi and not name:
        yield Trouble("H6", True, DEFAULT_MODEL, f"{DEFAULT_MODEL} is not set", "name the model that clients call")


def _words(environment: Mapping[str, str], release: str) -> Iterator[Trouble]:
    words = environment.get(ARGUMENTS, "").split()
    if words and release < _ARGUMENTS_SINCE:
        said = f"{ARGUMENTS} is not known to images before {_ARGUMENTS_SINCE}; this is {release}"
        yield Trouble("H7", True, ARGUMENTS, said, "take a newer release")
    for word in words:
        if _SHELL.search(word):
            said = f"{word!r}: quotes, patterns and shell characters do not reach the server as they are"
            yield Trouble("H7", True, ARGUMENTS, said, "write --option=value without them, and without blanks")
        elif not word.startswith("--"):
            yield Trouble("H7", True, ARGUMENTS, f"{word!r} is no option", "write --option=value")
        elif word.startswith(_TAKEN):
            yield Trouble("H7", True, ARGUMENTS, f"{word!r}: serve sets this itself", "leave it out")


def _inference_type(environment: Mapping[str, str], release: str) -> Iterator[Trouble]:
    value = environment.get(INFERENCE_TYPE) or "infer"
    if value not in INFERENCE_TYPES:
        said = f"{INFERENCE_TYPE} is {value!r}; allowed: {', '.join(INFERENCE_TYPES)}"
        yield Trouble("H8", True, INFERENCE_TYPE, said, "write one of them")
    elif value != "infer" and release < _GENERATE_SINCE:
        said = f"{INFERENCE_TYPE} is {value!r}, which images know since {_GENERATE_SINCE}; this is {release}"
        yield Trouble("H8", True, INFERENCE_TYPE, said, "take a newer release")

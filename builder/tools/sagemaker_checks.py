"""What an environment of Triton's container on SageMaker does not do, although it says so.

Sources are lines of ``docker/sagemaker/serve`` and ``src/sagemaker_server.*`` in
github.com/triton-inference-server/server at e1db8a6; limits are those of EnvironmentMap in SageMaker's API.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.rulebook import ADVICE, HOSTING_ERROR, RuleFacts
from builder.tools.sagemaker_environment import (
    ARGUMENTS,
    DEFAULT_MODEL,
    ENTRIES_LIMIT,
    INFERENCE_TYPE,
    INFERENCE_TYPES,
    LOG_VERBOSE,
    MULTI_MODEL,
    NAMESPACING,
    PING,
    VALUE_LIMIT,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SINGLE, MULTI = "sagemaker", "sagemaker-mme"
_HOSTS: Final = (SINGLE, MULTI)
_SERVE: Final = "server docker/sagemaker/serve"

RULES: Final = (
    RuleFacts(
        "H1",
        HOSTING_ERROR,
        "the environment fits SageMaker's API",
        "the API refuses more than 100 variables, other keys, and values over 1024 characters",
        "SageMaker API, EnvironmentMap (botocore 1.43.11)",
        hosts=_HOSTS,
    ),
    RuleFacts(
        "H2",
        HOSTING_ERROR,
        "SAGEMAKER_MULTI_MODEL is true for a multi-model endpoint, and absent for a single-model one",
        "serve compares with lower-case true: True and 1 silently start a single-model server",
        f"{_SERVE}:49-61",
        hosts=_HOSTS,
    ),
    RuleFacts(
        "H3",
        ADVICE,
        "a multi-model endpoint's ping asks whether the server lives",
        "serve sets the mode without exporting it, so the server asks whether all models are ready: one that fails to "
        "load makes the endpoint unhealthy",
        f"{_SERVE}:32-57, src/sagemaker_server.h:89",
        hosts=(MULTI,),
    ),
    RuleFacts(
        "H4",
        ADVICE,
        "SAGEMAKER_TRITON_LOG_VERBOSE is false",
        "serve turns verbose logs on by default: slow, and they cost",
        f"{_SERVE}:98-103",
        hosts=_HOSTS,
    ),
    RuleFacts(
        "H5",
        ADVICE,
        "SAGEMAKER_TRITON_DISABLE_MODEL_NAMESPACING is false where namespacing is to be off",
        "serve hands the value to --model-namespacing: true leaves it on",
        f"{_SERVE}:65-69",
        hosts=_HOSTS,
    ),
    RuleFacts(
        "H6",
        HOSTING_ERROR,
        "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME names the model that clients call, whose folder is there",
        'serve ends with "Directory … does not exist"; without a name, it takes the only folder there is',
        f"{_SERVE}:157-181",
        hosts=(SINGLE,),
    ),
    RuleFacts(
        "H7",
        HOSTING_ERROR,
        "SAGEMAKER_TRITON_ADDITIONAL_ARGS is words that the shell need not understand",
        "serve splits it at blanks and expands patterns: quotes become part of a word; and it sets some options itself",
        f"{_SERVE}:132,183; server#5910",
        hosts=_HOSTS,
    ),
    RuleFacts(
        "H8",
        HOSTING_ERROR,
        "SAGEMAKER_TRITON_INFERENCE_TYPE is known to serve",
        'serve ends with "Invalid SAGEMAKER_TRITON_INFERENCE_TYPE"; older images ignore it',
        f"{_SERVE}:143-155; server#8047 (2025-03)",
        hosts=_HOSTS,
    ),
    RuleFacts(
        "H18",
        ADVICE,
        "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME is left out on a multi-model endpoint",
        "it is ignored: the request names the model",
        f"{_SERVE}:157",
        hosts=(MULTI,),
    ),
)
"""The rules that :func:`check` asks."""

_GENERATE_SINCE: Final = "25.03"  # server#8047
_ARGUMENTS_SINCE: Final = "23.07"  # server#5910
_KEY: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SHELL: Final = re.compile(r"[\s\"'`\\;&|<>(){}$*?\[\]~]")
"""What ``serve`` does not pass on as it is: it splits at blanks and expands patterns; quotes become parts of words."""

_TAKEN: Final = ("--allow-sagemaker", "--allow-http", "--http", "--model-control-mode")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something in an environment that will not do what it says.

    Args:
        rule: its id, of one of :data:`RULES`.
        variable: the name.
        message: what is wrong, with the value and what is allowed.
        mend: what to do about it.
    """

    rule: str
    variable: str
    message: str
    mend: str


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
        yield Trouble("H1", "", f"{len(environment)} variables; at most {ENTRIES_LIMIT}", "leave some out")
    for name, value in environment.items():
        if not _KEY.fullmatch(name):
            yield Trouble("H1", name, f"{name!r} is no name of a variable", "use letters, digits and _")
        if len(value) > VALUE_LIMIT:
            said = f"{name} has {len(value)} characters; at most {VALUE_LIMIT}"
            yield Trouble("H1", name, said, "shorten it")


def _modes(environment: Mapping[str, str], *, multi: bool) -> Iterator[Trouble]:
    value = environment.get(MULTI_MODEL, "")
    if value not in {"", "true"}:
        said = f"{MULTI_MODEL} is {value!r}; serve knows only 'true'"
        yield Trouble("H2", MULTI_MODEL, said, "leave it out: SageMaker sets it")
    elif value and not multi:
        yield Trouble("H2", MULTI_MODEL, f"{MULTI_MODEL} is set on a single-model endpoint", "leave it out")
    missing = [name for name in PING if environment.get(name) != "live"]
    if multi and missing:
        said = f"{' and '.join(missing)} is not live: one model that fails to load makes the endpoint unhealthy"
        yield Trouble("H3", missing[0], said, "set both to live")
    if environment.get(LOG_VERBOSE, "").lower() not in {"false", "0"}:
        yield Trouble("H4", LOG_VERBOSE, "logs are verbose by default", f"set {LOG_VERBOSE}=false")
    if (value := environment.get(NAMESPACING, "")) not in {"", "false"}:
        said = f"{NAMESPACING} is {value!r}, which leaves namespacing on"
        yield Trouble("H5", NAMESPACING, said, "write false to disable it, or leave it out")


def _default_model(environment: Mapping[str, str], *, multi: bool) -> Iterator[Trouble]:
    name = environment.get(DEFAULT_MODEL, "")
    if multi and name:
        yield Trouble("H18", DEFAULT_MODEL, f"{DEFAULT_MODEL} is ignored on a multi-model endpoint", "leave it out")
    elif not multi and not name:
        yield Trouble("H6", DEFAULT_MODEL, f"{DEFAULT_MODEL} is not set", "name the model that clients call")


def _words(environment: Mapping[str, str], release: str) -> Iterator[Trouble]:
    words = environment.get(ARGUMENTS, "").split()
    if words and release < _ARGUMENTS_SINCE:
        said = f"{ARGUMENTS} is not known to images before {_ARGUMENTS_SINCE}; this is {release}"
        yield Trouble("H7", ARGUMENTS, said, "take a newer release")
    may_be_value = False
    for word in words:
        if _SHELL.search(word):
            said = (
                f"{ARGUMENTS} has {word!r}: quotes, patterns and shell characters do not reach the server as they are"
            )
            yield Trouble("H7", ARGUMENTS, said, "write --option=value without them, and without blanks")
        elif not word.startswith("--") and not may_be_value:
            yield Trouble("H7", ARGUMENTS, f"{ARGUMENTS} has {word!r}, which is no option", "write --option=value")
        elif word.startswith(_TAKEN):
            yield Trouble("H7", ARGUMENTS, f"{ARGUMENTS} has {word!r}, which serve sets itself", "leave it out")
        may_be_value = word.startswith("--") and "=" not in word


def _inference_type(environment: Mapping[str, str], release: str) -> Iterator[Trouble]:
    value = environment.get(INFERENCE_TYPE) or "infer"
    if value not in INFERENCE_TYPES:
        said = f"{INFERENCE_TYPE} is {value!r}; allowed: {', '.join(INFERENCE_TYPES)}"
        yield Trouble("H8", INFERENCE_TYPE, said, "write one of them")
    elif value != "infer" and release < _GENERATE_SINCE:
        said = f"{INFERENCE_TYPE} is {value!r}, which images know since {_GENERATE_SINCE}; this is {release}"
        yield Trouble("H8", INFERENCE_TYPE, said, "take a newer release")

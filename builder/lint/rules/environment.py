"""The environment of SageMaker's container, against the script that starts the server.

Sources are files and lines of github.com/triton-inference-server/server at e1db8a6.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder.lint.finding import ADVICE, HOSTING_ERROR
from builder.lint.rule import Problem, repository_rule
from builder.lint.rules.hosts import (
    ARGUMENTS,
    DEFAULT_MODEL,
    ENVIRONMENT,
    HOSTS,
    MULTI,
    PREFIX,
    SERVE,
    SINGLE,
    arguments,
    environment,
)

if TYPE_CHECKING:
    from builder.lint.model import World
    from builder.lint.rule import Problems

_API: Final = "SageMaker API, EnvironmentMap (botocore 1.43.11)"
_ENTRIES_LIMIT: Final = 100
_VALUE_LIMIT: Final = 1024
_KEY: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SHELL: Final = re.compile(r"[\"'`\\;&|<>(){}$]")
_TAKEN: Final = ("--allow-sagemaker", "--allow-http", "--http", "--model-control-mode")
_INFERENCE_TYPES: Final = ("infer", "generate", "generate_stream")
_GENERATE_SINCE: Final = "25.03"


@repository_rule(
    "H1",
    HOSTING_ERROR,
    "the environment fits SageMaker's API",
    why="the API refuses more than 100 variables, other keys, and values over 1024 characters",
    source=_API,
    hosts=HOSTS,
)
def fits_api(world: World) -> Problems:
    given = environment(world)
    if len(given) > _ENTRIES_LIMIT:
        yield Problem(
            f"{len(given)} variables; at most {_ENTRIES_LIMIT} are allowed", "leave some out", path=ENVIRONMENT
        )
    for key, value in given.items():
        if not _KEY.fullmatch(key):
            yield Problem(f"{key!r} is no name of a variable", "use letters, digits and _", path=ENVIRONMENT)
        if len(value) > _VALUE_LIMIT:
            yield Problem(
                f"{key} has {len(value)} characters; at most {_VALUE_LIMIT} are allowed", "shorten it", path=ENVIRONMENT
            )


@repository_rule(
    "H2",
    HOSTING_ERROR,
    "SAGEMAKER_MULTI_MODEL is true for a multi-model endpoint, and absent for a single-model one",
    why="serve compares with lower-case true: True and 1 silently start a single-model server",
    source=f"{SERVE}:49-61",
    hosts=HOSTS,
)
def multi_model(world: World) -> Problems:
    value = environment(world).get("SAGEMAKER_MULTI_MODEL", "")
    if value not in {"", "true"}:
        yield Problem(
            f"SAGEMAKER_MULTI_MODEL is {value!r}; serve knows only 'true'",
            "write true, or leave it out",
            path=ENVIRONMENT,
        )
    elif value == "true" and world.options.host == SINGLE:
        yield Problem("SAGEMAKER_MULTI_MODEL is 'true' on a single-model endpoint", "leave it out", path=ENVIRONMENT)


@repository_rule(
    "H3",
    ADVICE,
    "a multi-model endpoint's ping asks whether the server lives",
    why="serve sets the mode without exporting it, so the server asks whether all models are ready: one that fails to "
    "load makes the endpoint unhealthy",
    source=f"{SERVE}:32-57, src/sagemaker_server.h:89",
    hosts=(MULTI,),
)
def ping_mode(world: World) -> Problems:
    wanted = (f"{PREFIX}PING_MODE", f"{PREFIX}OVERRIDE_PING_MODE")
    missing = [name for name in wanted if environment(world).get(name) != "live"]
    if missing:
        yield Problem(
            f"{' and '.join(missing)} is not live", f"set {wanted[0]}=live and {wanted[1]}=live", path=ENVIRONMENT
        )


@repository_rule(
    "H4",
    ADVICE,
    "SAGEMAKER_TRITON_LOG_VERBOSE is false",
    why="serve turns verbose logs on by default: slow, and they cost",
    source=f"{SERVE}:98-103",
    hosts=HOSTS,
)
def quiet(world: World) -> Problems:
    if environment(world).get(f"{PREFIX}LOG_VERBOSE", "").lower() not in {"false", "0"}:
        yield Problem("logs are verbose by default", f"set {PREFIX}LOG_VERBOSE=false", path=ENVIRONMENT)


@repository_rule(
    "H5",
    ADVICE,
    "SAGEMAKER_TRITON_DISABLE_MODEL_NAMESPACING is false where namespacing is to be off",
    why="serve hands the value to --model-namespacing: true leaves it on",
    source=f"{SERVE}:65-69",
    hosts=HOSTS,
)
def namespacing(world: World) -> Problems:
    value = environment(world).get(f"{PREFIX}DISABLE_MODEL_NAMESPACING", "")
    if value not in {"", "false"}:
        yield Problem(
            f"{PREFIX}DISABLE_MODEL_NAMESPACING is {value!r}, which does not disable it",
            "write false to disable it, or leave it out",
            path=ENVIRONMENT,
        )


@repository_rule(
    "H6",
    HOSTING_ERROR,
    "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME names a folder",
    why='serve ends with "Directory … does not exist"',
    source=f"{SERVE}:157-163",
    hosts=(SINGLE,),
)
def default_model(world: World) -> Problems:
    name = environment(world).get(DEFAULT_MODEL, "")
    if name and not world.tree.is_folder(name):
        there = ", ".join(world.models) or "none"
        yield Problem(
            f"{DEFAULT_MODEL} is {name!r}, but there is no such folder; there are: {there}",
            "name one of them",
            path=ENVIRONMENT,
        )


@repository_rule(
    "H7",
    HOSTING_ERROR,
    "SAGEMAKER_TRITON_ADDITIONAL_ARGS is words that the shell need not understand",
    why="serve splits it at blanks and nothing else: quotes become part of a word; and it sets some options itself",
    source=f"{SERVE}:132,183",
    hosts=HOSTS,
)
def additional_arguments(world: World) -> Problems:
    words, may_be_value = arguments(world), False
    for word in words:
        if _SHELL.search(word):
            yield Problem(
                f"{ARGUMENTS} has {word!r}: quotes and shell characters are taken as they are",
                "write --option=value without quotes and blanks",
                path=ENVIRONMENT,
            )
        elif not word.startswith("--") and not may_be_value:
            yield Problem(f"{ARGUMENTS} has {word!r}, which is no option", "write --option=value", path=ENVIRONMENT)
        elif word.startswith(_TAKEN):
            yield Problem(f"{ARGUMENTS} has {word!r}, which serve sets itself", "remove it", path=ENVIRONMENT)
        may_be_value = word.startswith("--") and "=" not in word


@repository_rule(
    "H8",
    HOSTING_ERROR,
    "SAGEMAKER_TRITON_INFERENCE_TYPE is known to serve",
    why='serve ends with "Invalid SAGEMAKER_TRITON_INFERENCE_TYPE"; older images ignore it',
    source=f"{SERVE}:143-155; server#8047 (2025-03)",
    hosts=HOSTS,
)
def inference_type(world: World) -> Problems:
    value = environment(world).get(f"{PREFIX}INFERENCE_TYPE", "infer") or "infer"
    if value not in _INFERENCE_TYPES:
        yield Problem(
            f"{PREFIX}INFERENCE_TYPE is {value!r}; allowed: {', '.join(_INFERENCE_TYPES)}",
            "write one of them",
            path=ENVIRONMENT,
        )
    elif value != "infer" and world.options.release < _GENERATE_SINCE:
        yield Problem(
            f"{PREFIX}INFERENCE_TYPE is {value!r}, which images know since {_GENERATE_SINCE}; this is for "
            f"{world.options.release}",
            "take a newer image",
            path=ENVIRONMENT,
        )


@repository_rule(
    "H18",
    ADVICE,
    "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME is left out on a multi-model endpoint",
    why="it is ignored: the request names the model",
    source=f"{SERVE}:157",
    hosts=(MULTI,),
)
def default_model_unused(world: World) -> Problems:
    if environment(world).get(DEFAULT_MODEL):
        yield Problem(f"{DEFAULT_MODEL} is ignored on a multi-model endpoint", "leave it out", path=ENVIRONMENT)

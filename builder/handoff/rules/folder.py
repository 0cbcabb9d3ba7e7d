"""What lies in a release folder beside the plan: the client, and what tells where archives come from."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from builder.handoff.rule import ADVICE, ERROR, Problem, rule
from builder.package.attest import PROVENANCE
from builder.package.places import BESIDE, stem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.handoff.rule import Problems, World

BINARY: Final = "application/vnd.sagemaker-triton.binary+json;json-header-size="
"""What the front end compares the begin of a content type with: no blank, nothing else before the number."""

CLIENT: Final = "client.py"
_FAMILY: Final = "vnd.sagemaker-triton"
_RAW: Final = "application/octet-stream"
_SIZE: Final = "json-header-size"
_KINDS: Final = ("ContentType", "Content-Type", "content-type")
_FRONT_END: Final = "server src/sagemaker_server.cc:74"


@rule(
    "R2",
    ERROR,
    "the client sends the binary format under its exact content type",
    why="the front end takes a body of any other content type for JSON, and answers 400",
    source=f"{_FRONT_END}; server#5649",
)
def sends(world: World) -> Problems:
    """Read, never run: the number behind the type is what the tests hold against a real front end."""
    if world.folder is None:
        return
    tree = _parsed(world.folder.client)
    if tree is None:
        yield Problem(CLIENT, "is no Python", "hand the archives off again")
        return
    named = [text for text in _texts(tree) if _FAMILY in text or text == _RAW]
    if not any(_FAMILY in text for text in named):
        yield Problem(CLIENT, "names no content type of the binary format", f"send {BINARY}N")
    for text in dict.fromkeys(named):
        if text != BINARY:
            yield Problem(
                CLIENT, f"has the content type {text!r}", f"write {BINARY!r}, and the header's bytes behind it"
            )


@rule(
    "R3",
    ADVICE,
    "the client reads the size of an answer's header from the answer's content type",
    why="the answer's header is not as long as the request's: tensors are cut at the wrong byte",
    source="server src/sagemaker_server.cc, InferResponse",
)
def receives(world: World) -> Problems:
    """Somewhere the type of an answer is taken, and a number is read from behind the prefix."""
    tree = _parsed(world.folder.client) if world.folder is not None else None
    if tree is None:
        return
    names = _names(tree)
    if not any(_takes_kind(node) for node in ast.walk(tree)):
        yield Problem(CLIENT, "does not look at the content type of an answer", "read ContentType of the answer")
    elif not any(_reads_size(node, names) for node in ast.walk(tree)):
        yield Problem(CLIENT, f"reads no {_SIZE} from a content type", f"take int() of what follows {BINARY}")


@rule(
    "V5",
    ADVICE,
    "the provenance of each archive lies beside it, and not in it",
    why="nobody can say what it was made of; and in the archive, it would change the digest that it is about",
    source="SLSA v1, distributing provenance; docs/how-to/provenance.md",
)
def provenance(world: World) -> Problems:
    if world.folder is None:
        return
    for one in world.plan.archives:
        if stem(one.file) + BESIDE[PROVENANCE] not in world.folder.beside:
            yield Problem(one.file, "has no provenance beside it", "build it again, and keep the files beside it")
        for path in world.folder.members.get(one.file, ()):
            if path.endswith(PROVENANCE):
                yield Problem(one.file, f"holds {path}", "keep it beside the archive")


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _texts(tree: ast.AST) -> Iterator[str]:
    return (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def _names(tree: ast.AST) -> frozenset[str]:
    """The variables that hold the content type's prefix."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and _SIZE in "".join(_texts(node.value))]
    return frozenset(target.id for node in found for target in node.targets if isinstance(target, ast.Name))


def _takes_kind(node: ast.AST) -> bool:
    """``answer["ContentType"]``, or ``answer.headers.get("Content-Type")``."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        return any(text in _KINDS for text in _texts(node.slice))
    is_get = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr.startswith("get")
    return is_get and any(text in _KINDS for argument in node.args[:1] for text in _texts(argument))  # type: ignore[attr-defined]


def _reads_size(node: ast.AST, names: frozenset[str]) -> bool:
    """``int(…)`` of something that the prefix is taken from."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "int"):
        return False
    used = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return bool(used & names) or _SIZE in "".join(_texts(node))

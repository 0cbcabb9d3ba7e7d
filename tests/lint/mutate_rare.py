"""Mutations that no chance finds: what only one rule is about, and what is next to it and loads."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from builder.errors import UserError
from builder.tools import triton_proto
from tests.lint.repositories import MODEL_PY

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.lint.repositories import Base

HUGE = 2**63
VERSIONS = (f"{HUGE}", f"-{HUGE + 1}", "99999999999999999999x", f"{HUGE - 1}", f"-{HUGE}x", "-1", "-0", "00")
FILE_NAMES = (
    "own.py", "a.b.py", "own", ".py", "own.pyc", "sub/own.py", "./own.py", "a-b.py", "1.py", "a b.py", "é.py", "2.py",
    "sub//own.py", "a.b/own.py", "sub/.py", "a$.py", "a$b.py", "a{b,c}.py", "a|b.py",
)  # fmt: skip
CHARACTERS = " ;$'(*~,=%+@:#!&^é"
RUNTIMES = ("", "libtriton_python.so", "model.py", "libtriton_onnxruntime.so", "python", "config.pbtxt", "1/model.py",
            "../python/libtriton_python.so")  # fmt: skip


def in_rare(base: Base, dice: random.Random, prefix: str) -> str:
    """One of the rare changes, to the model that is asked for."""
    ways: tuple[Callable[[Base, random.Random, str], str], ...] = (
        cache, cache, batching_library, batching_library, no_target, file_name, file_name, file_name, runtime, runtime,
        version, model_name, warm_up,
    )  # fmt: skip
    path = f"{base.top}/config.pbtxt"
    if path not in base.files:
        return ""
    way = dice.choice(ways)
    what = way(base, dice, path)
    return f"{way.__name__} {what}".replace(prefix, "") if what else ""


def append(base: Base, path: str, text: str) -> str:
    base.files[path] = f"{base.files[path]}\n{text}\n"
    return text


def cache(base: Base, _dice: random.Random, path: str) -> str:
    return "" if "response_cache" in str(base.files[path]) else append(base, path, "response_cache { enable: true }")


def batching_library(base: Base, dice: random.Random, path: str) -> str:
    """Only what needs no library: another path is the machine's."""
    key = dice.choice(("TRITON_BATCH_STRATEGY_PATH", "TRITON_BATCH_STRATEGY_PATH", "triton_batch_strategy_path"))
    return append(base, path, f'parameters {{ key: "{key}" value {{ string_value: "" }} }}')


def no_target(base: Base, dice: random.Random, path: str) -> str:
    targets = dice.choice(("", "target_name: 'C'"))
    source = "source_input: 'A'"
    return append(base, path, f"batch_output {{ kind: BATCH_SCATTER_WITH_INPUT_SHAPE {source} {targets} }}")


def file_name(base: Base, dice: random.Random, path: str) -> str:
    """Calls ``model.py`` otherwise, in the config and, mostly, in the folder."""
    if "default_model_filename" in str(base.files[path]) or f"{base.top}/1/model.py" not in base.files:
        return ""
    name = dice.choice(FILE_NAMES)
    if dice.random() < 0.9:
        for one in [one for one in base.files if one.startswith(f"{base.top}/") and one.endswith("/model.py")]:
            base.files[posixpath.normpath(one.replace("model.py", name))] = base.files.pop(one)
    return append(base, path, f'default_model_filename: "{name}"')


def runtime(base: Base, dice: random.Random, path: str) -> str:
    return "" if "\nruntime" in str(base.files[path]) else append(base, path, f'runtime: "{dice.choice(RUNTIMES)}"')


def version(base: Base, dice: random.Random, _path: str) -> str:
    """One more version, with a number that is none, or nearly."""
    name = dice.choice(VERSIONS)
    base.files[f"{base.top}/{name}/model.py"] = MODEL_PY
    return name


def model_name(base: Base, dice: random.Random, _path: str) -> str:
    """Calls the model by a name with a character that a shell may read."""
    old = base.top
    base.top = f"{old}{dice.choice(CHARACTERS)}x"
    base.files = {
        path.replace(f"{old}/", f"{base.top}/"): text.replace(f'name: "{old}"', f'name: "{base.top}"')
        if isinstance(text, str)
        else text
        for path, text in base.files.items()
    }
    return base.top


def warm_up(base: Base, dice: random.Random, path: str) -> str:
    """A request with all that the model needs, and with something that is no input of it."""
    try:
        message = triton_proto.parse_text(str(base.files[path]), place="")
    except UserError:  # a mutation before this one broke it
        return ""
    sample = message.model_warmup.add(name="stray", batch_size=1)
    for tensor in message.input:
        given = sample.inputs[tensor.name]
        given.data_type, given.zero_data = tensor.data_type, True
        given.dims.extend(max(dim, 1) for dim in tensor.dims)
    stray = sample.inputs[dice.choice(("Z", "Z", "Z", "", "C"))]
    stray.data_type = dice.choice((0, 1, 8, 11, 13, 14, 99))
    stray.dims.extend(dice.choice(((1,), (2, 3), (0,), (), (-1,), (-2,))))
    if dice.random() < 0.5:
        stray.zero_data = True
    else:
        stray.random_data = True
    base.files[path] = triton_proto.to_text(message)
    return " ".join(str(stray).split())

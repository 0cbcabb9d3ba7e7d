"""Seeded mutations of repositories: configs (as messages and as text), model files, folders."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any

from builder.tools import triton_check, triton_proto
from tests.lint.fleet import Case
from tests.lint.repositories import BASES, MODEL_PY, Base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lint.repositories import Files

# What depends on the server's machine and not on the files: installed backends and agents, GPUs elsewhere.
NOT_FOR_MUTANTS = {"model_repository_agents", "runtime", "cc_model_filenames", "model_operations", "host_policy"}
INTEGERS = (-2, -1, 0, 1, 2, 3, 4, 8, 9, 16)
BACKENDS = ("", "python", "onnxruntime", "pyhton", "Python", "ensemble")
PLATFORMS = ("", "ensemble", "onnxruntime_onnx", "tensorrt_plan", "python", "pytorch_libtorch", "Ensemble")
PARAMETERS = ("", "yes", "no", "maybe", "env", "$$TRITON_MODEL_DIRECTORY/1", "$$TRITON_MODEL_DIRECTORY/env/bin/..")
FILES = ("", "model.py", "other.py", "model.onnx", "missing.txt", "labels.txt", "text", "state")
ENSEMBLES = ("serial", "fan", "nested", "streams")
MIX = (*BASES, *ENSEMBLES, "add", "plain", "sequence")  # ensembles have most rules, and cost least


def mutants(count: int, seed: int, bases: tuple[str, ...] = MIX) -> Iterator[Case]:
    """Different repositories, each a base with one to three mutations; the bases themselves come first."""
    dice = random.Random(seed)
    for number in range(count):
        name = f"m{number}_"
        kind = bases[number % len(bases)]
        base = BASES[kind](name)
        whole = dict(base.files)
        times = 0 if number < len(bases) else dice.choice((1, 1, 1, 2, 3))
        what = [mutate(base, dice, name) for _ in range(times)]
        yield Case(name, f"{kind}: {', '.join(what) or 'untouched'}", base.top, share(base, whole, name))


def config_mutants(count: int, seed: int) -> Iterator[Case]:
    """Configs alone, one model each, without version folders: what the core refuses of them, it refuses first."""
    dice = random.Random(seed)
    kinds = [kind for kind in BASES if kind != "bare"]
    for number in range(count):
        name = f"c{number}_"
        kind = kinds[number % len(kinds)]
        base = BASES[kind](name)
        base.files = {f"{base.top}/config.pbtxt": base.files[f"{base.top}/config.pbtxt"]}
        base.fixed = ()
        what = []
        while len(what) < dice.choice((1, 1, 2)):
            what.append(dice.choice((in_message, in_message, in_text, in_links))(base, dice, name) or "nothing")
        yield Case(name, f"{kind}: {', '.join(what)}", base.top, base.files)


def share(base: Base, whole: Files, prefix: str) -> Files:
    """Gives the models of steps that nobody changed a name without the case's: a server loads them once for all."""
    names = {path.partition("/")[0] for path in (*base.files, *whole)} - {base.top}
    same = {name for name in names if _files(base.files, name) == _files(whole, name)}
    same -= {name for name in same if any(other in str(_files(whole, name)) for other in names - same)}
    files = base.files
    for name in sorted(same):
        new = f"{name.removeprefix(prefix)}_of_{base.top.removeprefix(prefix)}"
        files = {
            path.replace(f"{name}/", f"{new}/"): text.replace(name, new) if isinstance(text, str) else text
            for path, text in files.items()
        }
    return files


def _files(files: Files, model: str) -> Files:
    return {path: content for path, content in files.items() if path.startswith(f"{model}/")}


def mutate(base: Base, dice: random.Random, prefix: str) -> str:
    """Changes the repository in one place; says how."""
    while True:
        ways: list[Callable[[Base, random.Random, str], str]] = [in_message] * 12
        if not base.fixed:
            ways += [in_text, in_text, in_files, in_files, in_python, in_links, in_links]
        if what := dice.choice(ways)(base, dice, prefix):
            return what


def configs(base: Base) -> list[str]:
    """The paths of the configs; the top model's counts as often as all others."""
    paths = [path for path in base.files if path.endswith("/config.pbtxt")]
    return paths + [path for path in paths if path.startswith(f"{base.top}/")] * max(1, len(paths) - 1)


# Messages


def in_message(base: Base, dice: random.Random, prefix: str) -> str:
    """Drops, doubles, changes or adds one field of a config."""
    if not (paths := configs(base)):
        return ""
    path = dice.choice(paths)
    try:
        message = triton_proto.parse_text(str(base.files[path]), place="")
    except Exception:  # a mutation before this one broke it
        return ""
    words = vocabulary(base, message, prefix)
    what = dice.choice((drop, drop, double, change, change, change, extend, extend))(message, dice, words, base.fixed)
    if not what:
        return ""
    base.files[path] = triton_proto.to_text(message)
    return f"{path.removeprefix(prefix)} {what}"


def vocabulary(base: Base, message: Any, prefix: str) -> list[str]:
    """Names that are worth putting somewhere: tensors, steps' tensors, models."""
    words = [item.name for item in (*message.input, *message.output)]
    for one in message.ensemble_scheduling.step:
        for mapped in (one.input_map, one.output_map):  # sorted: the order of a map is chance
            words += [*sorted(mapped), *sorted(mapped.values())]
    words += sorted({path.split("/")[0] for path in base.files})
    return [*words, "X", "", f"{prefix}none"]


def sites(message: Any, place: str = "") -> Iterator[tuple[Any, Any, str]]:
    """(message, field, place) of every field that is set, at any depth; map entries are left whole."""
    for field, value in message.ListFields():
        yield message, field, f"{place}{field.name}"
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key in sorted(value):
                    yield from sites(value[key], f"{place}{field.name}[{key}].")
        elif repeated(field):
            for index, item in enumerate(value):
                yield from sites(item, f"{place}{field.name}[{index}].")
        else:
            yield from sites(value, f"{place}{field.name}.")


def pick(message: Any, dice: random.Random, fixed: tuple[str, ...]) -> tuple[Any, Any, str] | None:
    found = [
        site
        for site in sites(message)
        if site[1].name not in NOT_FOR_MUTANTS and (not fixed or re.split(r"[.\[]", site[2])[0] in fixed)
    ]
    return dice.choice(found) if found else None


def repeated(field: Any) -> bool:
    return bool(triton_check.is_repeated(field))


def is_map(field: Any) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def drop(message: Any, dice: random.Random, _words: list[str], fixed: tuple[str, ...]) -> str:
    """Drops a field, or one of its values."""
    if (site := pick(message, dice, fixed)) is None:
        return ""
    owner, field, place = site
    value = getattr(owner, field.name)
    if is_map(field):
        del value[dice.choice(sorted(value))]
    elif repeated(field) and dice.random() < 0.7:
        del value[dice.randrange(len(value))]
    else:
        owner.ClearField(field.name)
    return f"drop {place}"


def double(message: Any, dice: random.Random, _words: list[str], fixed: tuple[str, ...]) -> str:
    """Repeats one of the values of a repeated field."""
    if (site := pick(message, dice, fixed)) is None or not repeated(site[1]) or is_map(site[1]):
        return ""
    owner, field, place = site
    values = getattr(owner, field.name)
    values.append(values[dice.randrange(len(values))])
    return f"double {place}"


def change(message: Any, dice: random.Random, words: list[str], fixed: tuple[str, ...]) -> str:
    """Gives a value that is set another one."""
    if (site := pick(message, dice, fixed)) is None:
        return ""
    owner, field, place = site
    value = getattr(owner, field.name)
    if is_map(field):
        entry = field.message_type.fields_by_name["value"]
        if entry.message_type is not None:
            return ""
        if entry.type == entry.TYPE_STRING and dice.random() < 0.5:
            key = dice.choice(sorted(value))
            value[key] = dice.choice(words)
            return f"map {place}[{key}] to {value[key]!r}"
        key = dice.choice(sorted(value))
        new = dice.choice(words) if isinstance(key, str) else dice.choice((0, 1, 2, 5))
        value[new] = value.pop(key)
        return f"rename {place}[{key}] to {new!r}"
    if field.message_type is not None:
        return ""
    new = scalar(field, dice, words)
    if repeated(field):
        value[dice.randrange(len(value))] = new
    else:
        setattr(owner, field.name, new)
    return f"set {place} to {new!r}"


def extend(message: Any, dice: random.Random, words: list[str], fixed: tuple[str, ...]) -> str:
    """Sets a field that is not set."""
    owners = [(message, "")] + [
        (value if not repeated(field) else value[dice.randrange(len(value))], f"{place}.")
        for owner, field, place in sites(message)
        if field.message_type is not None and not is_map(field) and (value := getattr(owner, field.name)) is not None
    ]
    owner, place = dice.choice(owners)
    choices = [
        field
        for field in owner.DESCRIPTOR.fields
        if field.name not in NOT_FOR_MUTANTS and (not fixed or (place or field.name).split(".")[0] in fixed)
    ]
    if not choices:
        return ""
    field = dice.choice(choices)
    fill(owner, field, dice, words)
    return f"add {place}{field.name}"


def fill(owner: Any, field: Any, dice: random.Random, words: list[str], depth: int = 0) -> None:
    """Sets a field to something random of its type."""
    if is_map(field):
        key = scalar(field.message_type.fields_by_name["key"], dice, words)
        value = field.message_type.fields_by_name["value"]
        if value.message_type is None:
            getattr(owner, field.name)[key] = scalar(value, dice, words)
        else:
            populate(getattr(owner, field.name)[key], dice, words, depth)
    elif field.message_type is not None:
        if repeated(field):
            populate(getattr(owner, field.name).add(), dice, words, depth)
        else:
            getattr(owner, field.name).SetInParent()
            populate(getattr(owner, field.name), dice, words, depth)
    elif repeated(field):
        getattr(owner, field.name).append(scalar(field, dice, words))
    else:
        setattr(owner, field.name, scalar(field, dice, words))


def populate(message: Any, dice: random.Random, words: list[str], depth: int) -> None:
    if depth > 3:
        return
    for field in message.DESCRIPTOR.fields:
        if field.name not in NOT_FOR_MUTANTS and dice.random() < 0.45:
            fill(message, field, dice, words, depth + 1)


def scalar(field: Any, dice: random.Random, words: list[str]) -> Any:
    """A value of the field's type, near to what is right."""
    if field.enum_type is not None:
        return dice.choice([value.number for value in field.enum_type.values])
    if field.type == field.TYPE_STRING:
        if field.name in {"backend", "platform"}:
            return dice.choice(BACKENDS if field.name == "backend" else PLATFORMS)
        if field.containing_type.name == "ModelParameter":
            return dice.choice(PARAMETERS)
        return dice.choice(FILES if "file" in field.name else words)
    if field.type == field.TYPE_BOOL:
        return dice.random() < 0.5
    if field.cpp_type in {field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE}:
        return dice.choice((-0.5, 0.0, 0.5, 1.0, 1.5))
    number = dice.choice(INTEGERS)
    if field.name in {"count", "batch_size"}:  # every instance is a process
        number = min(number, 2)
    if field.cpp_type in {field.CPPTYPE_UINT32, field.CPPTYPE_UINT64}:
        return abs(number)
    return number


# Text


def in_text(base: Base, dice: random.Random, prefix: str) -> str:
    """Breaks the spelling of a config, or writes it another way."""
    if not (paths := configs(base)):
        return ""
    path = dice.choice(paths)
    text = str(base.files[path])
    way = dice.choice(TEXT_WAYS)
    new = way(text, dice)
    if new == text:
        return ""
    base.files[path] = new
    return f"{path.removeprefix(prefix)} {way.__name__}"


def _replace(text: str, pattern: str, dice: random.Random, by: Callable[[str], str]) -> str:
    found = list(re.finditer(pattern, text))
    if not found:
        return text
    one = dice.choice(found)
    return text[: one.start()] + by(one[0]) + text[one.end() :]


def lower_enum(text: str, dice: random.Random) -> str:
    return _replace(text, r"\b(TYPE|KIND|FORMAT|CONTROL|BATCH)_[A-Z0-9_]+", dice, str.lower)


def enum_number(text: str, dice: random.Random) -> str:
    return _replace(text, r"\b(TYPE|KIND|FORMAT)_[A-Z0-9_]+", dice, lambda _: dice.choice(("1", "2", "11", "99", "-1")))


def quoted_enum(text: str, dice: random.Random) -> str:
    return _replace(text, r"\b(TYPE|KIND)_[A-Z0-9_]+", dice, lambda word: f'"{word}"')


def misspelt_field(text: str, dice: random.Random) -> str:
    return _replace(
        text, r"\b[a-z_]+(?=\s*[:{\[])", dice, lambda word: word[:-1] if dice.random() < 0.5 else f"{word}s"
    )


def upper_field(text: str, dice: random.Random) -> str:
    return _replace(text, r"\b[a-z_]+(?=\s*[:{\[])", dice, str.upper)


def no_brace(text: str, dice: random.Random) -> str:
    return _replace(text, r"[{}\[\]]", dice, lambda _: "")


def angle_brackets(text: str, dice: random.Random) -> str:
    return _replace(text, r"\{[^{}]*\}", dice, lambda word: f"<{word[1:-1]}>")


def no_quote(text: str, dice: random.Random) -> str:
    return _replace(text, r"[\"']", dice, lambda _: "")


def other_quotes(text: str, dice: random.Random) -> str:
    return _replace(text, r'"[^"\n]*"', dice, lambda word: f"'{word[1:-1]}'")


def split_string(text: str, dice: random.Random) -> str:
    return _replace(text, r'"[^"\n]+"', dice, lambda word: f'"{word[1:2]}" "{word[2:-1]}"')


def escaped(text: str, dice: random.Random) -> str:
    return _replace(text, r'"[^"\n]+"', dice, lambda word: f'"\\x{ord(word[1]):02x}{word[2:-1]}"')


def bad_escape(text: str, dice: random.Random) -> str:
    return _replace(text, r'"[^"\n]+"', dice, lambda word: dice.choice((f'"\\q{word[1:]}', f'"\\xff{word[1:]}')))


def no_colon(text: str, dice: random.Random) -> str:
    return _replace(text, r":", dice, lambda _: "")


def more_colon(text: str, dice: random.Random) -> str:
    return _replace(text, r"(?<=[a-z]) *(?=\{)", dice, lambda _: ":")


def separator(text: str, dice: random.Random) -> str:
    return _replace(text, r"(?<=[\]\"}\d]) ", dice, lambda _: dice.choice((", ", "; ", ",, ", " ; ; ")))


def trailing_comma(text: str, dice: random.Random) -> str:
    return _replace(text, r" \]", dice, lambda _: ", ]")


def other_number(text: str, dice: random.Random) -> str:
    new = (
        "1.0",
        "1e3",
        "0x8",
        "010",
        "1f",
        "99999999999",
        "- 1",
        "-0",
        "+1",
        '"1"',
        "true",
        "1_000",
        "0b1",
        "08",
        "0o7",
    )
    return _replace(text, r"(?<=[ :\[])-?\d+\b", dice, lambda _: dice.choice(new))


def other_bool(text: str, dice: random.Random) -> str:
    new = ("True", "t", "1", "0", "F", "false", "TRUE", "yes", "2", '"true"', "f", "False", "-1")
    return _replace(text, r"\b(true|false)\b", dice, lambda _: dice.choice(new))


def comment(text: str, dice: random.Random) -> str:
    return _replace(
        text, r"\n", dice, lambda _: dice.choice((" # said\n", " // said\n", "\n#\n", "\r\n", "\t\n", "\f\n"))
    )


def unknown_field(text: str, dice: random.Random) -> str:
    more = (
        "nonsense: 1",
        "max_batch_sizes: 2",
        "model_metrics { }",
        "[a.b] { }",
        "nonsense { a: 1 }",
        "dims: 3",
        "0: 1",
    )
    return f"{text}{dice.choice(more)}\n"


def twice(text: str, dice: random.Random) -> str:
    lines = text.split("\n")
    line = dice.choice(lines)
    return f"{text}{line}\n" if line.strip() else text


def second_scheduler(text: str, dice: random.Random) -> str:
    more = ("dynamic_batching { }", "sequence_batching { }", "ensemble_scheduling { }")
    return f"{text}{dice.choice(more)}\n"


def cut(text: str, dice: random.Random) -> str:
    return text[: dice.randrange(len(text) + 1)]


def one_character(text: str, dice: random.Random) -> str:
    if not text:
        return text
    index = dice.randrange(len(text))
    return (
        text[:index]
        + dice.choice(("", "x", "é", "\0", "{", '"', " ", "\\", "\ufeff", "$", "_", "."))
        + text[index + 1 :]
    )


def packed(text: str, dice: random.Random) -> str:
    return _replace(text, r"\[ *(-?\d+) *\]", dice, lambda word: word[1:-1])


def empty_list(text: str, dice: random.Random) -> str:
    return _replace(text, r"\[[^\[\]{}]*\]", dice, lambda _: dice.choice(("[]", "[ , ]", "[[1]]")))


TEXT_WAYS = (
    lower_enum, enum_number, quoted_enum, misspelt_field, upper_field, no_brace, angle_brackets, no_quote,
    other_quotes, split_string, escaped, bad_escape, no_colon, more_colon, separator, trailing_comma, other_number,
    other_number, other_bool, comment, unknown_field, twice, second_scheduler, cut, one_character, one_character,
    packed, empty_list,
)  # fmt: skip


# Files and folders


VERSIONS = ("0", "2", "3", "01", "1a", "v1", "-1", "+1", "10", " 1", "1.0", "latest", "configs", "warmup")
NAMES = ("model.py", "Model.py", "model.txt", "config.pbtx", "Config.pbtxt", "config.pbtxt", "x")
MORE = (".hidden/x", "__pycache__/x", "0/model.py", "5/", "configs/a.pbtxt", "README", "9/x.py", "!/model.onnx")
LINKS = ("link", "7", "1/link")


def in_files(base: Base, dice: random.Random, prefix: str) -> str:
    """Removes, renames, adds or empties a file or a folder."""
    if not base.files:
        return ""
    before = dict(base.files)
    path = dice.choice(sorted(base.files))
    way = dice.choice((remove, rename, empty, version, version, copy, rename_model, add_file, add_file, file_1, link))
    more = way(base, dice, path)
    if more is None or not consistent(base):
        base.files = before
        return ""
    return f"{way.__name__} {path.removeprefix(prefix)} {more}".strip()


def remove(base: Base, _dice: random.Random, path: str) -> str | None:
    del base.files[path]
    return ""


def rename(base: Base, dice: random.Random, path: str) -> str | None:
    new = dice.choice(NAMES)
    base.files[f"{path.rpartition('/')[0]}/{new}"] = base.files.pop(path)
    return f"to {new}"


def empty(base: Base, _dice: random.Random, path: str) -> str | None:
    base.files[path] = ""
    return ""


def version(base: Base, dice: random.Random, path: str, *, keep: bool = False) -> str | None:
    """Gives a folder of a model another name."""
    model, old = path.split("/")[:2]
    new = dice.choice(VERSIONS)
    for one in [one for one in base.files if one.startswith(f"{model}/{old}/")]:
        content = base.files[one] if keep else base.files.pop(one)
        base.files[f"{model}/{new}/{one.split('/', 2)[2]}"] = content
    return f"as {new}"


def copy(base: Base, dice: random.Random, path: str) -> str | None:
    return version(base, dice, path, keep=True)


def rename_model(base: Base, _dice: random.Random, path: str) -> str | None:
    model = path.partition("/")[0]
    if model == base.top:
        return None  # then nobody is asked for anything
    for one in [one for one in base.files if one.startswith(f"{model}/")]:
        base.files[f"{model}x/{one.partition('/')[2]}"] = base.files.pop(one)
    return ""


def add_file(base: Base, dice: random.Random, path: str) -> str | None:
    new = dice.choice(MORE)
    base.files[f"{path.partition('/')[0]}/{new}"] = MODEL_PY if new.endswith("model.py") else ""
    return new


def file_1(base: Base, _dice: random.Random, path: str) -> str | None:
    """A file in the place of version 1."""
    model = path.partition("/")[0]
    for one in [one for one in base.files if one.startswith(f"{model}/1/")]:
        del base.files[one]
    base.files[f"{model}/1"] = "a file"
    return ""


def link(base: Base, dice: random.Random, path: str) -> str | None:
    new, to = dice.choice(LINKS), dice.choice(("nowhere", "1", "."))
    base.files[f"{path.partition('/')[0]}/{new}"] = f"->{to}"
    return f"{new} to {to}"


def consistent(base: Base) -> bool:
    """Whether no path goes through a file."""
    files = {path for path in base.files if not path.endswith("/")}
    folders = {"/".join(path.split("/")[:depth]) for path in base.files for depth in range(1, path.count("/") + 1)}
    return not files & folders


def in_python(base: Base, dice: random.Random, prefix: str) -> str:
    """Breaks ``model.py``."""
    paths = [path for path in base.files if path.endswith(".py")]
    if not paths:
        return ""
    path = dice.choice(paths)
    text = str(base.files[path])
    old, new = dice.choice((
        ("class TritonPythonModel:", "class TritonModel:"),
        ("class TritonPythonModel:", "class TritonPythonModel"),
        ("def execute(self, requests):", "def run(self, requests):"),
        ("def execute(self, requests):", "def execute(self, requests)"),
        ("import json", "import json,"),
        ("import json", "# -*- coding: latin-1 -*-\nimport json"),
        ("import json", "\tx = 1\nimport json"),
        ("class TritonPythonModel:", "def TritonPythonModel():\n    return Model()\n\n\nclass Model:"),
        ("class TritonPythonModel:", "class Model:"),
        ("    @staticmethod\n", ""),
        ("        return config\n", ""),
        ("        return config\n", "        return config.as_dict()\n"),
        ('"dims": [4]', '"dims": [0]'),
        ('"dims": [4]', '"dimensions": [4]'),
        ('"data_type": "TYPE_FP32"', '"data_type": "FP32"'),
        ("config.set_max_batch_size(8)", "config.set_max_batch_size(0)"),
        ("config.set_dynamic_batching()", "pass"),
    ))  # fmt: skip
    if old not in text:
        return ""
    base.files[path] = text.replace(old, new)
    return f"{path.removeprefix(prefix)} {new.strip()[:30]!r} for {old.strip()[:30]!r}"


def in_links(base: Base, dice: random.Random, prefix: str) -> str:
    """Changes what the links of an ensemble, or the tensors of a model, say to one another."""
    path = dice.choice(configs(base) or [""])
    text = str(base.files.get(path, ""))
    words = re.findall(r'(?:value|key|name|model_name): "([^"]+)"', text)
    if len(words) < 2:
        return ""
    old, new = dice.choice(words), dice.choice([*words, "X"])
    if old == new:
        return ""
    base.files[path] = _replace(text, f'"{re.escape(old)}"', dice, lambda _: f'"{new}"')
    return f"{path.removeprefix(prefix)} {new!r} for {old!r}"

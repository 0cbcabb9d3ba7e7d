"""Mutations of files and folders, and of ``model.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lint.repositories import MODEL_PY

if TYPE_CHECKING:
    import random

    from tests.lint.repositories import Base

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
    if not any(one.startswith(f"{base.top}/") for one in base.files):
        base.files[f"{base.top}/"] = ""  # a folder that is not there is none to lint
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
        ("not in known", "in known"),
        ("output = dict(", "output = dict(optional=True, "),
        ('output["dims"] = [4]', 'output["dims"] = [2]'),
        ("size + 8", "size - 8"),
        ('{"decoupled": False}', '{"decoupled": True}'),
        ('{"decoupled": False}', '{"decouple": False}'),
        ('("A", "B")', '("A", "B", "A")'),
        ("if size == 0", "if size"),
    ))  # fmt: skip
    if old not in text:
        return ""
    base.files[path] = text.replace(old, new)
    return f"{path.removeprefix(prefix)} {new.strip()[:30]!r} for {old.strip()[:30]!r}"

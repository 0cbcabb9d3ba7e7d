"""What a Python model brings along: its environment, and what it would fetch when it starts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder.lint.backend import PYTHON
from builder.lint.finding import ADVICE, HOSTING_ERROR
from builder.lint.graphs import backend, parameter
from builder.lint.rule import Problem, model_rule
from builder.lint.rules.hosts import HOSTS
from builder.tools import archive_look, fetching, releases

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.lint.model import Model, World
    from builder.lint.rule import Problems

_KEY: Final = "EXECUTION_ENV_PATH"
_FOLDER: Final = "$$TRITON_MODEL_DIRECTORY/"
_PYTHON: Final = re.compile(r"(?:^|/)(?:lib/python|bin/python|conda-meta/python-)(3\.\d+)(?=[/.\-]|$)")
_HEAD_BYTES: Final = 4 << 20
_DOWNLOADS: Final = re.compile(
    r"""\b(?:from_pretrained|SentenceTransformer|pipeline)\(\s*(?:"[\w.\-]+/[\w.\-]+"|'[\w.\-]+/[\w.\-]+')"""
    r"""|\b(?:hf_hub_download|snapshot_download|urlretrieve|urlopen|load_state_dict_from_url)\("""
    r"""|\bnltk\.download\(|\brequests\.get\(|\bspacy\.cli\.download\("""
)


@model_rule(
    "P1",
    HOSTING_ERROR,
    "EXECUTION_ENV_PATH lies in the model's folder",
    why="the host has nothing but the artifact: any other path is not there",
    source="python_backend README (EXECUTION_ENV_PATH); server#3222, server#8290",
    hosts=HOSTS,
)
def inside(model: Model, _: World) -> Problems:
    value = _environment(model)
    if value and (not value.startswith(_FOLDER) or ".." in value.split("/")):
        yield Problem(
            f"{_KEY} is {value!r}, outside of the model's folder",
            f"put the environment into the folder and write {_FOLDER}NAME",
            "parameters",
        )


@model_rule(
    "P2",
    HOSTING_ERROR,
    "a packed environment has the Python of the release's container",
    why="the backend's stub is built for one Python: up to 24.10 for 3.10, since 24.11 for 3.12",
    source="server docs/introduction/compatibility.md; server#7121, server#4022",
)
def python_version(model: Model, world: World) -> Problems:
    release = next((one for one in releases.RELEASES if one.name == world.options.release), None)
    found = _python(model)
    if not found or release is None or release.python is None or _own_stub(model):
        return
    wanted = ".".join(map(str, release.python))
    if found != wanted:
        yield Problem(
            f"the environment has Python {found}; the container of {release.name} has {wanted}",
            f"pack an environment with Python {wanted}, inside that container",
            "parameters",
        )


@model_rule(
    "P3",
    ADVICE,
    "an unpacked environment can be activated",
    why="the backend sources bin/activate of it",
    source="python_backend src/stub_launcher.cc; server#5133",
)
def activated(model: Model, _: World) -> Problems:
    path = _environment_path(model)
    if path and model.tree.is_folder(path) and not model.tree.is_file(f"{path}/bin/activate"):
        yield Problem("has no bin/activate", "make the environment with conda-pack", path=path)


@model_rule(
    "P4",
    ADVICE,
    "a model fetches nothing when it starts",
    why="without a network, or with many instances starting at once, it fails or waits",
    source="AWS examples fetch a tokenizer in initialize(); SageMaker network isolation",
)
def no_downloads(model: Model, _: World) -> Problems:
    if model.config is None or backend(model) != PYTHON:
        return
    for version in model.loaded_versions:
        folder = model.path(str(version))
        texts = []
        for name in model.tree.children(folder):
            path = f"{folder}/{name}"
            if name.endswith(".py") and model.tree.is_file(path):
                texts.append(text := model.tree.read_text(path))
                for match in _DOWNLOADS.finditer(text):
                    yield Problem(
                        f"fetches at run time: {match[0]}…",
                        "ship the files in the version folder",
                        path=path,
                        line=text.count("\n", 0, match.start()) + 1,
                    )
        packages = dict(_packages(model, folder))
        for found in fetching.advice(packages, "\n".join(texts)):
            yield Problem(f"{found.name} {found.what} ({found.source})", found.mend, path=packages[found.name])


def _packages(model: Model, folder: str) -> Iterator[tuple[str, str]]:
    """Packages that lie in a version's folder or in one below it: name, in lower case with ``-``, and path."""
    for place in (folder, *(f"{folder}/{name}" for name in model.tree.children(folder))):
        for name in model.tree.children(place):
            if name.endswith(".dist-info"):
                yield name.partition("-")[0].replace("_", "-").replace(".", "-").lower(), f"{place}/{name}"


def _environment(model: Model) -> str:
    if model.config is None or backend(model) != PYTHON:
        return ""
    return parameter(model.config, _KEY) or ""


def _environment_path(model: Model) -> str:
    """The environment's path in the tree; empty where there is none, or it lies elsewhere."""
    value = _environment(model)
    path = model.path(value.removeprefix(_FOLDER)) if value.startswith(_FOLDER) else ""
    return path if path in model.tree.entries else ""


def _python(model: Model) -> str:
    """The Python of the environment, ``3.10``; empty where it is not known."""
    path = _environment_path(model)
    if not path:
        return ""
    if model.tree.is_folder(path):
        names = [f"lib/{name}" for name in model.tree.children(f"{path}/lib")]
        return _python_of(names)
    return _python_of(archive_look.first_names(model.tree.head(path, _HEAD_BYTES)))


def _python_of(names: Iterable[str]) -> str:
    found = (_PYTHON.search(name) for name in names)
    return next((match[1] for match in found if match), "")


def _own_stub(model: Model) -> bool:
    return model.tree.is_file(model.path("triton_python_backend_stub"))

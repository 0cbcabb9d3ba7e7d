"""What Triton's Python backend refuses. Lines of triton-inference-server/python_backend, r24.10.

``model.py`` is read, never run: what ``initialize`` raises is not seen here.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Final

from builder.lint.finding import ADVICE, LOAD_ERROR
from builder.lint.python_model import filename, is_python, module_path, outcome_of, source
from builder.lint.rule import Problem, model_rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.lint.model import Model, World
    from builder.lint.python_source import Source
    from builder.lint.rule import Problems

ENVIRONMENT: Final = "EXECUTION_ENV_PATH"
MODEL_FOLDER: Final = "$$TRITON_MODEL_DIRECTORY"
CPU_ONLY: Final = "FORCE_CPU_ONLY_INPUT_TENSORS"
_GZIP: Final = b"\x1f\x8b"
_REFUSED_IN_NAMES: Final = frozenset(";|&$`<>()[]{}\\\"'*?~#!")
_LIBRARY: Final = "libtriton_python.so"
_ELF: Final = b"\x7fELF"
_READ_BY_BASH: Final = re.compile(
    r"""[\s;&|<>()'"`\\]|\$[\w{@*#?!$-]|\{[^{}]*(,|\.\.)[^{}]*\}|[^\x00-\x7f]""", re.ASCII
)


def loaded_modules(model: Model, world: World) -> Iterator[tuple[str, Source]]:
    """(path, source) of the modules of the versions that are loaded."""
    if is_python(model):
        for version in model.loaded_versions:
            if (code := source(model, version, world)) is not None:
                yield module_path(model, version), code


def _parameter(model: Model, name: str) -> str:
    """A string parameter; empty where it is not set."""
    there = is_python(model) and name in model.config.parameters
    return str(model.config.parameters[name].string_value) if there else ""


@model_rule(
    "P6",
    LOAD_ERROR,
    "every version that is loaded has its model.py",
    why="The stub process ends when it does not find it. Up to 25.07 the server then waits for the stub without end;"
    " from 25.08 on it gives up after 10 s.",
    source="python_backend/src/pb_stub.cc:1987; r25.08, src/stub_launcher.cc (initialization_timeout_ms)",
)
def module_exists(model: Model, _world: World) -> Problems:
    """``default_model_filename`` in each version's folder."""
    for version in model.loaded_versions if is_python(model) else ():
        path = module_path(model, version)
        if not model.tree.is_file(path):
            yield Problem(f"there is no {filename(model)} in version {version}", "add it", path=path)


@model_rule(
    "P16",
    LOAD_ERROR,
    "the versions of a Python model are not negative",
    why="The core takes -1 for a version; the stub of such a version never answers, and the server waits without end.",
    source="seen on server 2.51 (24.10); core/src/model_repository_manager/model_lifecycle.cc:107",
)
def versions_are_natural(model: Model, _world: World) -> Problems:
    """No version that is loaded is below 0."""
    for version in model.loaded_versions if is_python(model) else ():
        if version < 0:
            yield Problem(f"version {version}; allowed: 0 or more", "rename the folder", path=model.place or ".")


@model_rule(
    "P9",
    LOAD_ERROR,
    "the model's file can be imported under its name",
    why="The stub imports <folder>.<file name without .py>, the folder being the one that holds the file: a name"
    " without .py, another dot in either, or a file that is called as its folder is no module of that name.",
    source="python_backend/src/pb_stub.cc:2000-2035; seen on server 2.51 (24.10)",
)
def module_has_a_name(model: Model, _world: World) -> Problems:
    """The name ends with ``.py`` and is one word, and so is its folder's."""
    for version in model.loaded_versions if is_python(model) else ():
        folder, name = f"{version}/{filename(model)}".split("/")[-2:]
        stem = name.removesuffix(".py")
        if not name.endswith(".py") or "." in stem or not folder or "." in folder or folder == stem:
            yield Problem(
                f"{filename(model)!r} cannot be imported; allowed: a name that ends with .py, without another dot",
                "call it model.py",
                "default_model_filename",
            )
            return


@model_rule(
    "P5",
    LOAD_ERROR,
    "model.py is Python that the containers' interpreter compiles",
    why="The stub imports it: 3.10 up to release 24.10, 3.12 from 24.11 on.",
    source="python_backend/src/pb_stub.cc:2030; NVIDIA's release notes",
)
def module_compiles(model: Model, world: World) -> Problems:
    """No syntax error."""
    for path, code in loaded_modules(model, world):
        if code.error is not None:
            yield Problem(code.error[0], "correct it", path=path, line=code.error[1])


@model_rule(
    "P7",
    LOAD_ERROR,
    "model.py defines TritonPythonModel",
    why="The stub makes an object of that class for each instance.",
    source="python_backend/src/pb_stub.cc:499,542",
)
def module_has_the_class(model: Model, world: World) -> Problems:
    """The name is bound in the module."""
    for path, code in loaded_modules(model, world):
        if code.error is None and code.has_model is False:
            yield Problem("it defines no TritonPythonModel", "name the class so", path=path)


@model_rule(
    "P8",
    ADVICE,
    "TritonPythonModel has execute",
    why="The model loads without it, and then answers every request with an error.",
    source="python_backend/src/pb_stub.cc:672",
)
def class_can_execute(model: Model, world: World) -> Problems:
    """``execute`` is bound in the class."""
    for path, code in loaded_modules(model, world):
        if code.error is None and code.has_execute is False:
            yield Problem("TritonPythonModel has no execute", "add execute(self, requests)", path=path)


@model_rule(
    "P11",
    LOAD_ERROR,
    "auto_complete_config gives back a config that does not contradict the one in the repository",
    why="The stub calls it before the model is loaded, unless the server was told to complete nothing.",
    source="python_backend/src/resources/triton_python_backend_utils.py; python_backend/src/pb_stub.cc:499-512",
)
def completion_works(model: Model, world: World) -> Problems:
    """What can be seen of it without running it."""
    if world.options.strict or not is_python(model):
        return
    for version in model.loaded_versions:
        found = outcome_of(model, version, world)
        if found.problem:
            yield Problem(found.problem, "mend auto_complete_config, or the config", path=found.path, line=found.line)


@model_rule(
    "P10",
    LOAD_ERROR,
    "FORCE_CPU_ONLY_INPUT_TENSORS is yes or no",
    why="The backend refuses any other value.",
    source="python_backend/src/python_be.cc:1835-1860",
)
def cpu_only_is_yes_or_no(model: Model, _world: World) -> Problems:
    """The parameter, where it is there."""
    if is_python(model) and CPU_ONLY in model.config.parameters:
        value = _parameter(model, CPU_ONLY)
        if value not in {"yes", "no"}:
            yield Problem(f"{CPU_ONLY} is {value!r}; allowed: yes, no", "write yes or no", "parameters")


@model_rule(
    "P14",
    LOAD_ERROR,
    "the execution environment is there",
    why="EXECUTION_ENV_PATH is a conda-pack archive or an unpacked environment with bin/activate, below"
    " $$TRITON_MODEL_DIRECTORY; another relative path is relative to wherever the server was started.",
    source="python_backend/src/stub_launcher.cc:486-515; python_backend/src/pb_env.cc:245-330; server#3222 #8290",
)
def environment_exists(model: Model, _world: World) -> Problems:
    """What ``EXECUTION_ENV_PATH`` names."""
    value = _parameter(model, ENVIRONMENT)
    if not value:
        return
    if not value.startswith(MODEL_FOLDER):
        if not value.startswith("/"):
            yield Problem(f"{ENVIRONMENT} is {value!r}", f"begin it with {MODEL_FOLDER}/", "parameters")
        return  # an absolute path is the machine's
    path = posixpath.normpath(model.path(value.removeprefix(MODEL_FOLDER).lstrip("/")))
    if model.tree.is_folder(path):
        if not model.tree.is_file(f"{path}/bin/activate"):
            yield Problem(f"the environment {path} has no bin/activate", "pack it with conda-pack", "parameters")
    elif not model.tree.is_file(path):
        yield Problem(
            f"there is no {path}", f"put the packed environment there, or correct {ENVIRONMENT}", "parameters"
        )
    elif model.tree.head(path, len(_GZIP)) != _GZIP:
        yield Problem(f"{path} is no gzip archive", "pack it with conda-pack", "parameters")


@model_rule(
    "P12",
    LOAD_ERROR,
    "a Python model's path has no character that a shell reads",
    why="The backend hands it to bash without quotes; the stub then does not start, and the server waits without end. A"
    " letter beyond ASCII is refused by the stub.",
    source="python_backend/src/stub_launcher.cc (Launch: bash -c); seen on server 2.51 (24.10)",
    releases="<25.08",
)
def path_is_plain(model: Model, _world: World) -> Problems:
    """The folder's name and the file's."""
    if is_python(model):
        for name in (model.name, filename(model)):
            if _READ_BY_BASH.search(name):
                allowed = "letters, digits and @%+=:,./-_"
                yield Problem(f"{name!r} holds a character that the shell reads; allowed: {allowed}", "rename it")


@model_rule(
    "P15",
    LOAD_ERROR,
    "the names of a Python model and of its instance groups have no character that the backend refuses",
    why="The backend names its stub processes so, and refuses names with characters that a shell reads.",
    source="python_backend r25.08, src/pb_utils.h (INVALID_CHARS), src/stub_launcher.cc:358",
    releases=">=25.08",
)
def names_are_plain(model: Model, _world: World) -> Problems:
    """The folder's name, and ``instance_group.name``."""
    if is_python(model):
        names = [("", model.name)]
        names += [(f"instance_group[{index}].name", one.name) for index, one in enumerate(model.config.instance_group)]
        for place, name in names:
            if wrong := sorted(set(name) & _REFUSED_IN_NAMES):
                yield Problem(f"{name!r} holds {' '.join(wrong)}, which the Python backend refuses", "rename it", place)


@model_rule(
    "P13",
    LOAD_ERROR,
    "a Python model's runtime is the Python backend's library",
    why="The core looks for another library in vain, unless the model's folder has it.",
    source="core/src/backend_model.cc:320-385",
)
def runtime_is_known(model: Model, _world: World) -> Problems:
    """``runtime`` is empty, ``libtriton_python.so`` or a library in the model's folder or a version's."""
    runtime = model.config.runtime if is_python(model) else ""
    if runtime in {"", _LIBRARY, f"./{_LIBRARY}", f"../python/{_LIBRARY}"}:
        return
    places = [f"{version}/{runtime}" for version in model.loaded_versions] + [runtime]
    if not any(model.has(place) and model.read(place, len(_ELF)) == _ELF for place in places):
        yield Problem(f"runtime is {runtime!r}; allowed: libtriton_python.so", "leave runtime out", "runtime")

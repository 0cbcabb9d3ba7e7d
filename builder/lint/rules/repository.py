"""What Triton's core refuses in the folders of a repository, before it looks at what configs say.

Lines are those of triton-inference-server/core, r24.10 (server 2.51).
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Final

from builder.lint.finding import LOAD_ERROR
from builder.lint.model import CONFIG_NAME, is_version
from builder.lint.rule import Problem, model_rule
from builder.lint.tree import LINK

if TYPE_CHECKING:
    from builder.lint.model import Model, World
    from builder.lint.rule import Problems

_NUMBER: Final = re.compile(r"\s*([+-]?\d+)", re.ASCII)
_INT64: Final = 2**63


@model_rule(
    "A4",
    LOAD_ERROR,
    "a model has at least one version folder, named by a number",
    why="The server takes versions from the names of folders, for ensembles too, and refuses a model without any. It"
    " skips names that begin with 0 (0 itself counts), warmup, initial_state and configs.",
    source="core/src/model_repository_manager/model_lifecycle.cc:84,455; server#3623",
)
def has_version(model: Model, _world: World) -> Problems:
    """At least one folder that the server takes for a version."""
    if not model.versions and not model.loaded_versions:
        seen = ", ".join(model.folders) or "none"
        yield Problem(
            f"no version folder; the folders here: {seen}",
            f"put the model's files into {posixpath.join(model.name, '1')}/ (an empty folder does for an ensemble)",
            path=model.place or ".",
        )


@model_rule(
    "A9",
    LOAD_ERROR,
    "the config's name is the folder's name",
    why="The server takes the folder's name for the model's, and refuses a config that says another one.",
    source="core/src/model_repository_manager/model_repository_manager.cc:1657",
)
def name_is_folder(model: Model, world: World) -> Problems:
    """``name`` is empty or the folder's name."""
    said = model.config.name if model.config is not None else ""
    # A single model may lie in a folder of any name: what it will be called is not known.
    if said and said != model.name and model.place and world.layout:
        yield Problem(
            f"name is {said!r}, but the folder is {model.name!r}", "give both one name, or leave name out", "name"
        )


@model_rule(
    "A19",
    LOAD_ERROR,
    "no link in a model's folder leads nowhere",
    why="The server asks of each entry of a model's folder whether it is a folder, and refuses the model when one"
    " cannot be followed.",
    source="core/src/filesystem/implementations/local.h:79 (GetDirectorySubdirs, IsDirectory)",
)
def links_lead_somewhere(model: Model, _world: World) -> Problems:
    """Direct children of the model's folder can be followed."""
    for name in model.tree.children(model.place):
        entry = model.tree.entries[model.path(name)]
        if entry.kind == LINK:
            yield Problem(f"the link leads to {entry.target!r}, where nothing is", "remove it", path=model.path(name))


@model_rule(
    "A20",
    LOAD_ERROR,
    "version numbers fit into 64 bits",
    why="The server reads them with std::stoll and does not catch that a number is too large: it ends.",
    source="core/src/model_repository_manager/model_lifecycle.cc:107",
)
def version_fits(model: Model, _world: World) -> Problems:
    """No version folder has a number that ``std::stoll`` refuses."""
    for name in model.folders:
        found = _NUMBER.match(name)
        if found and not (len(name) > 1 and name[0] == "0") and not -_INT64 <= int(found[1]) < _INT64:
            yield Problem(f"version folder {name!r}: allowed: 1 to {_INT64 - 1}", "rename it", path=model.path(name))


@model_rule(
    "A21",
    LOAD_ERROR,
    "the config is a file named config.pbtxt",
    why="Without one, a server that was started with --disable-auto-complete-config refuses the model; and a folder of"
    " that name cannot be read in either mode.",
    source="core/src/model_repository_manager/model_repository_manager.cc:1603",
)
def has_config(model: Model, world: World) -> Problems:
    """There is a config, where the server needs one."""
    if model.config_path and not model.tree.is_file(model.config_path):
        yield Problem(f"{CONFIG_NAME} is no file", "write the config into a file of that name")
    elif not model.config_path and world.options.strict and not _is_stray(model):
        yield Problem(f"no {CONFIG_NAME}, and the server completes no configs", "write one", path=model.place or ".")


def _is_stray(model: Model) -> bool:
    """Whether a folder looks like anything but a model."""
    return not any(is_version(name) for name in model.folders)

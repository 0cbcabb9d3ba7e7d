"""The layouts that SageMaker's front end of Triton takes: a single-model and a multi-model endpoint.

Sources are files and lines of github.com/triton-inference-server/server at e1db8a6.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder.lint.backend import ENSEMBLE
from builder.lint.finding import ADVICE, HOSTING_ERROR
from builder.lint.graphs import backend
from builder.lint.model import CONFIG_NAME, MODEL, NO_VERSIONS, is_version
from builder.lint.rule import Problem, model_rule, repository_rule
from builder.lint.rules.hosts import (
    DEFAULT_MODEL,
    FRONT_END,
    HOSTS,
    MULTI,
    SERVE,
    SINGLE,
    closure,
    environment,
    served,
    steps,
    top_folders,
)

if TYPE_CHECKING:
    from builder.lint.model import Model, World
    from builder.lint.rule import Problems

_ENSEMBLE: Final = re.compile(r'platform:(\s)*"ensemble"')
_COMMENT: Final = re.compile(r"#[^\n]*")
_FOLDERS_LIMIT: Final = 5


@repository_rule(
    "A2",
    HOSTING_ERROR,
    "a single-model endpoint's archive holds the model in a folder of its name",
    why='the root is the repository: where it holds a config.pbtxt, serve ends with "Incorrect directory structure", '
    "and a version folder is taken for a model called 1",
    source=f"{SERVE}:137",
    hosts=(SINGLE,),
)
def no_root_config(world: World) -> Problems:
    mend = "put the model into a folder of its name"
    if world.tree.is_file(CONFIG_NAME):
        yield Problem("stands at the root, which is the repository", mend, path=CONFIG_NAME)
        return
    for name in filter(is_version, top_folders(world)):
        yield Problem(f"is taken for a model called {name}: the root is the repository", mend, path=name)


@repository_rule(
    "A3",
    HOSTING_ERROR,
    "one folder at the root, or SAGEMAKER_TRITON_DEFAULT_MODEL_NAME",
    why='serve ends with "More than 1 model directory found"; it counts hidden folders, and no links',
    source=f"{SERVE}:164-179",
    hosts=(SINGLE,),
)
def one_folder(world: World) -> Problems:
    folders = top_folders(world)
    if environment(world).get(DEFAULT_MODEL) or len(folders) == 1:
        return
    found = f"{len(folders)} folders at the root: {', '.join(folders[:6])}" if folders else "no folder at the root"
    yield Problem(found, f"keep one, or set {DEFAULT_MODEL} (lint: --env {DEFAULT_MODEL}=NAME)", path=".")


@model_rule(
    "A5",
    HOSTING_ERROR,
    "a multi-model endpoint's model is served in version 1",
    why="the list of models asks for version 1 alone: any other never shows as ready",
    source=f"{FRONT_END}:857",
    hosts=(MULTI,),
)
def version_one(model: Model, world: World) -> Problems:
    if model.config is not None and model.versions and model in served(world) and 1 not in model.loaded_versions:
        yield Problem(
            f"version 1 is not served; there are {', '.join(map(str, model.versions))}", "name the version folder 1"
        )


@repository_rule(
    "A6",
    HOSTING_ERROR,
    "of several models in an archive, exactly one is seen to be the ensemble",
    why='the front end searches each config for platform: "ensemble", comments included; without one match, whichever '
    "folder it reads last is served",
    source=f"{FRONT_END}:1011-1022, src/sagemaker_server.h (platform_ensemble_regex_)",
    hosts=(MULTI,),
)
def one_ensemble(world: World) -> Problems:
    models = [world.models[name] for name in top_folders(world) if name in world.models]
    if world.layout == MODEL or len(models) < 2:
        return
    seen = [model for model in models if _ENSEMBLE.search(model.text)]
    # Ensembles in the one that is seen must not be seen themselves.
    inner = closure(world, (seen[0].name,)) if len(seen) == 1 else ()
    for model in models:
        if model in seen and not _ENSEMBLE.search(_COMMENT.sub("", model.text)):
            yield Problem("a comment reads as if it were the ensemble", "reword the comment", path=model.config_path)
        elif model not in seen and model.name not in inner and model.config is not None and backend(model) == ENSEMBLE:
            yield Problem(
                "is an ensemble that the front end does not see",
                'write platform: "ensemble", with double quotes and without a blank before the colon',
                path=model.where,
            )
    if len(seen) != 1:
        names = ", ".join(model.name for model in seen) or "none"
        yield Problem(
            f"{len(models)} models, of which the front end takes for the ensemble: {names}",
            "keep one ensemble, or one model, in an archive",
            path=".",
        )


@repository_rule(
    "A7",
    ADVICE,
    "at most five models in an archive of a multi-model endpoint",
    why="the front end warns: all of them are loaded and evicted together",
    source=f"{FRONT_END}:1024",
    hosts=(MULTI,),
)
def few_folders(world: World) -> Problems:
    folders = top_folders(world)
    if world.layout != MODEL and len(folders) > _FOLDERS_LIMIT:
        yield Problem(
            f"{len(folders)} folders at the root", "split it, or serve it from an endpoint of its own", path="."
        )


@model_rule(
    "A8",
    HOSTING_ERROR,
    "an ensemble is packed nested, beside its composing models",
    why="each archive of a multi-model endpoint is a repository and a namespace of its own: a flat one holds one model",
    source=f"{FRONT_END}:1068,1089; server#5540",
    hosts=(MULTI,),
)
def whole_ensemble(model: Model, world: World) -> Problems:
    if world.layout == MODEL and steps(model):
        yield Problem(
            f"is an ensemble at the root; the archive does not hold {', '.join(sorted(set(steps(model))))}",
            "pack the ensemble and its models as folders side by side",
        )


@repository_rule(
    "A10",
    HOSTING_ERROR,
    "an archive of a multi-model endpoint is flat or nested, not both",
    why="with config.pbtxt at the root, the root is the model and folders beside it are never seen; without, each real "
    "folder at the root is a model, also one called 1",
    source=f"{FRONT_END}:983,1068-1072",
    hosts=(MULTI,),
)
def flat_or_nested(world: World) -> Problems:
    tree, has_config = world.tree, world.tree.is_file(CONFIG_NAME)
    for name in tree.children(""):
        if not tree.is_folder(name):
            continue
        inner = tree.children(name)
        if tree.entries[name].target and not has_config:
            yield Problem("is a link, which the front end does not see", "pack the folder itself", path=name)
        elif has_config and name not in NO_VERSIONS and CONFIG_NAME in inner:
            yield Problem(
                "is a model beside a config.pbtxt at the root, which hides it",
                "put all models into folders, without a config at the root",
                path=name,
            )
        elif not has_config and is_version(name):
            yield Problem(
                f"is taken for a model called {name}, for there is no config.pbtxt at the root",
                "add config.pbtxt, or put the model into a folder of its name",
                path=name,
            )


@model_rule(
    "A12",
    HOSTING_ERROR,
    "each version folder of an ensemble holds a file",
    why="S3 has no empty folders, and some tools that pack leave them out; then the ensemble does not load",
    source="AWS examples put a file into it for that reason; core src/model_lifecycle.cc:456",
    hosts=HOSTS,
)
def placeholders(model: Model, _: World) -> Problems:
    if model.config is None or backend(model) != ENSEMBLE:
        return
    for version in model.versions:
        folder = model.path(str(version))
        if not model.tree.children(folder):
            yield Problem(
                "is an empty folder, which may be lost on the way", "put a file into it (--fix does)", path=folder
            )

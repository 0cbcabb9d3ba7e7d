"""The package stage: configs, model, tokenizer and step → a Triton model repository."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar, Final

from builder import __version__
from builder.artifacts import File, Repository
from builder.core.digest import describe_file, describe_folder, digest_file, digest_json
from builder.errors import InternalError
from builder.package.served import check_served, host_needs, shipped, tell_engine
from builder.tools import templates, wheels
from builder.tools.releases import release

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import Engine, Json, ModelConfigs, OnnxModel, Source, TokenizerFiles
    from builder.recipe import AnyRecipe, Recipe

BUILD_FILE: Final = "1/build.json"
BUILD_SCHEMA: Final = 1
STEP: Final = "steps/tokenize/model.py"
VENDORED: Final = "tokenizers"
OLDEST_PYTHON: Final = (3, 10)  # of any container that we know, for those whose Python is unknown

_JUNK: Final = ("__pycache__", ".ipynb_checkpoints", ".git", ".DS_Store")


@dataclass(frozen=True, slots=True)
class PackageInputs:
    """What the stage reads."""

    source: Source
    model: OnnxModel
    tokenizer: TokenizerFiles
    configs: ModelConfigs
    labels: tuple[str, ...] = ()
    engine: Engine | None = None  # shipped instead of the model


@dataclass(frozen=True, slots=True)
class Package:
    """Lays out a repository. :func:`package` makes one from a recipe.

    Args:
        target: the target's name.
        task: the recipe's task.
        recipe: what the recipe says of this repository, as JSON data.
        python: minor version of the Python in the serving container.
        cache: the user's cache folder, where wheels are kept; no part of the key.
        engine_options: the recipe's, of the target's engine.
    """

    target: str
    task: str
    recipe: Mapping[str, Json]
    python: tuple[int, int]
    cache: Path
    engine_options: Mapping[str, Json] = field(default_factory=dict)
    name: ClassVar[str] = "package"
    version: ClassVar[int] = 1

    def fingerprint(self, inputs: PackageInputs) -> Mapping[str, Json]:
        return {
            "target": self.target,
            "task": self.task,
            "recipe": dict(self.recipe),
            "tritonsmith": __version__,
            "wheel": [VENDORED, wheels.installed_version(VENDORED), list(self.python), list(wheels.PLATFORMS)],
            "step": digest_file(templates.path(STEP)),
            "source": [inputs.source.kind, inputs.source.model_id, inputs.source.revision, inputs.source.licence],
            "labels": list(inputs.labels),
            **({"engine": tell_engine(inputs.engine)} if inputs.engine else {}),
            "files": {
                group: {name: file.sha256 for name, file in files.items()}
                for group, files in (
                    ("model", self._shipped(inputs)),
                    ("tokenizer", inputs.tokenizer.files),
                    ("configs", inputs.configs.files),
                )
            },
        }

    def requires(self, inputs: PackageInputs) -> None:
        check_served(inputs.engine or inputs.model)

    def reads(self, inputs: PackageInputs) -> list[File]:  # noqa: ARG002 - a stage's signature
        """Nothing: files are referred to."""
        return []

    def run(self, inputs: PackageInputs, out: Path) -> Repository:
        name = inputs.configs.name
        step, model = PurePosixPath(f"{name}-tokenize/1"), PurePosixPath(f"{name}-model/1")
        wheel = self._write_step(out / step)
        files: dict[str, File] = dict(inputs.configs.files)
        files |= {str(step / path): file for path, file in inputs.tokenizer.files.items()}
        files |= {str(model / path): file for path, file in self._shipped(inputs).items()}
        files |= describe_folder(out)
        build = out / name / BUILD_FILE
        build.parent.mkdir(parents=True)
        build.write_bytes(pretty(self._build(inputs, {p: f for p, f in files.items() if "/vendor/" not in p})))
        files[f"{name}/{BUILD_FILE}"] = describe_file(build)
        return Repository(
            name=name,
            files=dict(sorted(files.items())),
            record={
                **inputs.configs.record,
                "labels": list(inputs.labels),
                "wheels": {wheel.path.name: wheel.sha256},
                **({"host": host_needs(inputs.engine, self.engine_options)} if inputs.engine else {}),
            },
        )

    def ensures(self, inputs: PackageInputs, output: Repository) -> None:
        """The layout that Triton and its hosts take: see :func:`layout_problem`."""
        names = inputs.configs.record["models"]
        if problem := layout_problem(list(output.files), names):
            raise InternalError(f"repository {output.name}: {problem}")

    def _shipped(self, inputs: PackageInputs) -> Mapping[str, File]:
        return shipped(inputs.model, inputs.engine, self.engine_options)

    def _write_step(self, folder: Path) -> File:
        """The step's code, and the package that it needs."""
        folder.mkdir(parents=True)
        shutil.copyfile(templates.path(STEP), folder / "model.py")
        wanted = wheels.Wanted(VENDORED, wheels.installed_version(VENDORED), self.python)
        wheel = wheels.fetch(wanted, self.cache)
        wheels.unpack(wheel, folder / "vendor")
        return wheel

    def _build(self, inputs: PackageInputs, files: Mapping[str, File]) -> Json:
        """What identifies an unpacked archive. No time, no host, no path of the machine that built it."""
        return {
            "schema": BUILD_SCHEMA,
            "name": inputs.configs.name,
            "target": self.target,
            "task": self.task,
            "source": origin(inputs.source),
            "recipe": digest_json(dict(self.recipe)),
            "labels": list(inputs.labels),
            **({"engines": {f"{inputs.configs.name}-model": tell_engine(inputs.engine)}} if inputs.engine else {}),
            "files": {path: file.sha256 for path, file in files.items()},
            "tritonsmith": __version__,
        }


def package(recipe: Recipe, target: str, cache: Path) -> Package:
    """The stage for one target of a recipe.

    Raises:
        UserError: the target's Triton release is unknown.
    """
    view = said_of_repository(recipe, target)
    return Package(
        target=target,
        task=recipe.task,
        recipe=view,
        python=serving_python(recipe.targets[target].triton),
        cache=cache,
        engine_options=view["targets"][target].get("engine") or {},
    )


def said_of_repository(recipe: AnyRecipe, target: str) -> dict[str, Json]:
    """What a recipe says of the repository for one target, as JSON data.

    How an archive is proven and handed off, and what else is built from the recipe, is not in the archive.
    """
    view = recipe.keyed()
    view.pop("verify", None)
    view["package"] = {"formats": ["triton"]}  # the repository is the same, whatever it is packed as
    view.pop("handoff", None)
    view["targets"] = {target: view["targets"][target]}
    return view


def origin(source: Source) -> dict[str, Json]:
    """Where a model comes from, without its files."""
    return {name: getattr(source, name) for name in ("kind", "model_id", "revision", "licence")}


def serving_python(triton: str) -> tuple[int, int]:
    """Minor version of the Python in the container of a Triton release.

    Raises:
        UserError: the release is unknown.
    """
    return release(triton).python or OLDEST_PYTHON


def pretty(value: Json) -> bytes:
    """JSON as the files of a repository have it."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def layout_problem(paths: list[str], models: list[str]) -> str:
    """What a host would stumble over; empty where there is nothing.

    One folder for each model and nothing else at the top; each with a config and a version ``1`` that is not empty
    (Triton finds no version in an empty folder, and object stores lose it); nothing hidden, which hosts take for a
    model.
    """
    tops = {path.split("/", 1)[0] for path in paths}
    if tops != set(models):
        return f"holds {sorted(tops)}, not {sorted(models)}"
    for name in models:
        if f"{name}/config.pbtxt" not in paths:
            return f"{name} has no config.pbtxt"
        if not any(path.startswith(f"{name}/1/") for path in paths):
            return f"{name} has no version 1"
    for path in paths:
        parts = path.split("/")
        if any(part in _JUNK or part.startswith(".") for part in parts):
            return f"{path} is hidden, or left by a tool"
    return ""

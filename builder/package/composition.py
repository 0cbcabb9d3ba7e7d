"""The package stage of a pipeline: configs, models, and the Python of each step → a Triton model repository."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from builder import __version__
from builder.artifacts import File, Repository
from builder.core.digest import describe_file, describe_folder, digest_file, digest_json
from builder.errors import InternalError, UserError
from builder.package.repository import (
    BUILD_FILE,
    BUILD_SCHEMA,
    VENDORED,
    layout_problem,
    origin,
    pretty,
    said_of_repository,
    serving_python,
)
from builder.package.user_step import user_steps, write_environment, write_user_step
from builder.tools import templates, wheels

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.artifacts import ImageFiles, Json, ModelConfigs, OnnxModel, Source, TokenizerFiles
    from builder.package.user_step import UserStep
    from builder.recipe.composed import Composed

PILLOW: Final = (((3, 11), "13.0.0"), ((3, 10), "12.3.0"))
"""The newest Pillow for each Python, from that one on. Fixed, so that the same recipe makes the same archive."""

_TEMPLATES: Final = {"tokenizer": "tokenize"}
"""Kinds of steps whose template has another name."""

_ALONE: Final = frozenset({"pipeline", "ensemble", "model"})
"""What has no Python of its own."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What of a model goes into the repository."""

    source: Source
    model: OnnxModel
    tokenizer: TokenizerFiles | ImageFiles
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CompositionInputs:
    """What the stage reads."""

    configs: ModelConfigs
    models: Mapping[str, Packed]


@dataclass(frozen=True, slots=True)
class PackageComposition:
    """Lays out the repository of a pipeline. :func:`package_composition` makes one from a recipe.

    Args:
        target: the target's name.
        recipe: what the recipe says of this repository, as JSON data.
        steps: the user's own, by name.
        python: minor version of the Python in the serving container.
        cache: the user's cache folder, where wheels are kept; no part of the key.
    """

    target: str
    recipe: Mapping[str, Json]
    steps: Mapping[str, UserStep]
    python: tuple[int, int]
    cache: Path
    name: ClassVar[str] = "package"
    version: ClassVar[int] = 1

    def fingerprint(self, inputs: CompositionInputs) -> Mapping[str, Json]:
        folders = inputs.configs.record["folders"]
        kinds = sorted({facts["kind"] for facts in folders.values()} - _ALONE)
        return {
            "target": self.target,
            "recipe": dict(self.recipe),
            "tritonsmith": __version__,
            "python": list(self.python),
            "platforms": [list(wheels.PLATFORMS), list(wheels.PLATFORMS_OF_CODE)],
            "packages": {kind: self._requirement(kind) for kind in kinds},
            "templates": {kind: {path.name: digest_file(path) for path in _template(kind)} for kind in kinds},
            "steps": {name: step.key() for name, step in self.steps.items()},
            "sources": {name: origin(made.source) for name, made in inputs.models.items()},
            "labels": {name: list(made.labels) for name, made in inputs.models.items()},
            "configs": {path: file.sha256 for path, file in inputs.configs.files.items()},
            "files": {
                name: {path: file.sha256 for path, file in (made.model.files | made.tokenizer.files).items()}
                for name, made in inputs.models.items()
            },
        }

    def requires(self, inputs: CompositionInputs) -> None:
        for name, made in inputs.models.items():
            if "model.onnx" not in made.model.files:
                raise InternalError(f"{name} has no model.onnx, only {', '.join(made.model.files)}")

    def reads(self, inputs: CompositionInputs) -> list[File]:  # noqa: ARG002 - a stage's signature
        """Nothing: files are referred to."""
        return []

    def run(self, inputs: CompositionInputs, out: Path) -> Repository:
        files: dict[str, File] = dict(inputs.configs.files)
        vendored: dict[str, str] = {}
        for folder, facts in inputs.configs.record["folders"].items():
            version = out / folder / "1"
            version.mkdir(parents=True)
            made = inputs.models[facts["model"]] if "model" in facts else None
            if facts["kind"] == "model" and made is not None:
                files |= {f"{folder}/1/{path}": file for path, file in made.model.files.items()}
            if facts["kind"] == "tokenizer" and made is not None:
                files |= {f"{folder}/1/{path}": file for path, file in made.tokenizer.files.items()}
            if facts["kind"] == "ensemble":  # object stores lose a version folder that is empty
                (version / "build.json").write_bytes(pretty({"schema": BUILD_SCHEMA, "part_of": inputs.configs.name}))
            if facts["kind"] not in _ALONE:
                vendored |= {wheel.path.name: wheel.sha256 for wheel in self._write_step(facts, version)}
        files |= describe_folder(out)
        shown = {path: file for path, file in files.items() if "/vendor/" not in path}
        build = out / inputs.configs.name / BUILD_FILE
        build.write_bytes(pretty(self._build(inputs, shown)))
        files[f"{inputs.configs.name}/{BUILD_FILE}"] = describe_file(build)
        labels = {name: list(made.labels) for name, made in inputs.models.items()}
        only = {"python": list(self.python)} if any(step.environment for step in self.steps.values()) else {}
        record = {**inputs.configs.record, "labels": labels, "wheels": dict(sorted(vendored.items())), **only}
        return Repository(inputs.configs.name, dict(sorted(files.items())), record)

    def ensures(self, inputs: CompositionInputs, output: Repository) -> None:
        """The layout that Triton and its hosts take."""
        if problem := layout_problem(list(output.files), inputs.configs.record["models"]):
            raise InternalError(f"repository {output.name}: {problem}")

    def _write_step(self, facts: Mapping[str, str], folder: Path) -> tuple[File, ...]:
        """A step's code, and the packages that it needs."""
        for path in _template(facts["kind"]):
            shutil.copyfile(path, folder / path.name)
        if facts["kind"] == "python":
            step = self.steps[facts["step"]]
            if step.environment:
                python = write_environment(step.environment, step.environment_sha256, folder.parent)
                self._check_python(step.environment, python)
            return write_user_step(step, folder, self.python, self.cache)
        found = self._wheels(facts)
        for wheel in found:
            wheels.unpack(wheel, folder / "vendor")
        return found

    def _check_python(self, environment: Path, python: tuple[int, int]) -> None:
        if python != self.python:
            wanted, found = (f"{major}.{minor}" for major, minor in (self.python, python))
            raise UserError(
                f"{environment}: holds Python {found}; the Triton of target {self.target!r} runs steps with {wanted}",
                mend=f"make the environment with Python {wanted}, or take another Triton release",
            )

    def _wheels(self, facts: Mapping[str, str]) -> tuple[File, ...]:
        match facts["kind"]:
            case "tokenizer":
                wanted = wheels.Wanted(VENDORED, wheels.installed_version(VENDORED), self.python)
                return (wheels.fetch(wanted, self.cache),)
            case "image":
                return wheels.fetch_all([self._requirement("image")], self.python, self.cache)
        return ()

    def _requirement(self, kind: str) -> str:
        """The package that a kind of step always needs; empty: none."""
        if kind == "image":
            return f"pillow=={next(version for least, version in PILLOW if self.python >= least)}"
        return f"{VENDORED}=={wheels.installed_version(VENDORED)}" if kind == "tokenizer" else ""

    def _build(self, inputs: CompositionInputs, files: Mapping[str, File]) -> Json:
        """What identifies an unpacked archive, and what its server has to load."""
        record = inputs.configs.record
        return {
            "schema": BUILD_SCHEMA,
            "name": inputs.configs.name,
            "target": self.target,
            "models": {name: origin(made.source) for name, made in inputs.models.items()},
            "load_models": record["load_models"],
            "recipe": digest_json(dict(self.recipe)),
            "labels": {name: list(made.labels) for name, made in inputs.models.items()},
            "files": {path: file.sha256 for path, file in files.items()},
            "tritonsmith": __version__,
        }


def package_composition(recipe: Composed, target: str, cache: Path) -> PackageComposition:
    """The stage for one target of a recipe.

    Raises:
        UserError: the target's Triton release is unknown, or a file of a step of the user's own cannot be used.
    """
    view, python = said_of_repository(recipe, target), serving_python(recipe.targets[target].triton)
    return PackageComposition(target, view, user_steps(recipe), python, cache)


def _template(kind: str) -> tuple[Path, ...]:
    return templates.step_files(_TEMPLATES.get(kind, kind))

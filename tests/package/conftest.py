"""A tiny repository, made by the real stages, and what a build has at hand beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from builder.config import ConfigureInputs, configure, warm_up
from builder.core.execute import Executor
from builder.core.stats import Stats
from builder.core.store import Store
from builder.package import Pack, PackageInputs, deliver, describe, package
from builder.package.attest import Attest, AttestInputs
from builder.recipe import load
from builder.settings import settings
from tests.parts import Parts, make_parts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from builder.artifacts import Archive, File, ModelConfigs, Repository
    from builder.package import Delivery, Manifest
    from builder.recipe import Recipe

RECIPE = """
schema_version: 1
name: tiny
description: A tiny model
source: {path: model}
task: sentence-embedding
verify: {sweep: {concurrency: [1, 2]}, constraints: {p99_ms: 100}}
"""


@dataclass(frozen=True)
class Built:
    """One build of a recipe, up to the archive."""

    recipe: Recipe
    parts: Parts
    configs: ModelConfigs
    repository: Repository
    archive: Archive

    def described(self) -> Manifest:
        """The manifest of the archive that nobody has verified yet."""
        return describe(
            self.recipe,
            "cpu",
            source=self.parts.source,
            exported=(self.parts.model, self.parts.tokenizer, None),
            repository=self.repository,
            archive=self.archive,
            reference=self.parts.reference,
        )


def load_recipe(folder: Path, *overrides: str) -> Recipe:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model").mkdir(exist_ok=True)
    (folder / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
    return load(folder / "tiny.yaml", overrides)


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Built]:
    """Builds with some values set: ``build("serving.max_batch_size=4")``."""

    def make(*overrides: str, parts: Parts | None = None) -> Built:
        folder = tmp_path_factory.mktemp("build")
        recipe = load_recipe(folder, *overrides)
        made = parts or make_parts(folder / "parts")
        run = Executor(Store.at(folder / "stages"), "tiny").run
        stage = warm_up(recipe)
        warmup = stage and run(stage, (made.tokenizer, made.reference))
        configs = run(
            configure(recipe, "cpu"), ConfigureInputs(made.model, made.tokenizer, warmup, made.reference.labels)
        )
        inputs = PackageInputs(made.source, made.model, made.tokenizer, configs)
        repository = run(package(recipe, "cpu", settings().cache), inputs)
        return Built(recipe, made, configs, repository, run(Pack("cpu"), repository))

    return make


@pytest.fixture(scope="session")
def built(build: Callable[..., Built]) -> Built:
    """The default build; only to be looked at."""
    return build()


@dataclass(frozen=True)
class Made:
    """What a build has at hand when it delivers."""

    built: Built
    manifest: Manifest
    files: dict[str, File]

    def hand_out(self, folder: Path, key: Path | None = None) -> Delivery:
        stats = Stats(folder.parent / "stats")
        parts = self.built.parts
        return deliver(self.built.archive, parts.reference, self.manifest, folder, stats, attested=self.files, key=key)


@pytest.fixture(scope="session")
def made(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Made:
    manifest = built.described()
    store = Store.at(tmp_path_factory.mktemp("attest"))
    return Made(built, manifest, Executor(store).run(Attest(), AttestInputs(manifest, built.repository)).files)


def beside(archive: Path, suffix: str) -> Path:
    return archive.with_name(archive.name.removesuffix(".tar.gz") + suffix)

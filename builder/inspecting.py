"""What a recipe, an archive or a repository consists of: what ``tritonsmith inspect`` prints.

Nothing is built, served or imported for it: recipes are told as far as they say themselves, archives and repositories
by their ``config.pbtxt`` files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from builder.config import chart
from builder.config import dag as dags
from builder.config.declared import declared, declared_dag
from builder.config.drawn import drawn, ports
from builder.errors import ArchiveError, disk_error
from builder.recipe import Recipe, load
from builder.tools import archive as archives
from builder.tools import triton_proto

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.artifacts import Json
    from builder.config.dag import Dag, Port
    from builder.package.beside import Beside
    from builder.recipe import AnyRecipe

RECIPE, ARCHIVE, REPOSITORY = "recipe", "archive", "repository"

_CONFIG: Final = "config.pbtxt"
RECIPES: Final = (".yaml", ".yml")
_LARGEST_CONFIG: Final = 16 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Model:
    """A model of a repository."""

    name: str
    backend: str  # or its platform
    max_batch_size: int
    takes: tuple[Port, ...]
    gives: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class Inspected:
    """What was found. ``pipelines`` has what clients call first; a plain repository may have none."""

    kind: str  # recipe | archive | repository
    models: tuple[Model, ...]
    pipelines: tuple[Dag, ...]
    beside: Beside | None = None  # of an archive, and of a folder that has a manifest beside it

    def as_json(self) -> Json:
        """For ``--json``: stable keys."""
        return {
            "kind": self.kind,
            "models": [
                {
                    "name": model.name,
                    "backend": model.backend,
                    "max_batch_size": model.max_batch_size,
                    "inputs": [_port(port) for port in model.takes],
                    "outputs": [_port(port) for port in model.gives],
                }
                for model in self.models
            ],
            "pipelines": [_pipeline(dag) for dag in self.pipelines],
            **(self.beside.as_json() if self.beside else {}),
        }


def inspect(path: Path) -> Inspected:
    """Reads a recipe, an archive or a repository.

    Raises:
        RecipeError: the recipe is wrong.
        ArchiveError: there is nothing at the path, or nothing in it that says what it is; or a file beside
            it is damaged.
        UserError: a config cannot be read; with line and column.
    """
    if path.suffix in RECIPES:
        return of_recipe(load(path))
    found = of_configs(read_configs(path), REPOSITORY if path.is_dir() else ARCHIVE)
    if path.is_dir() and not _has_manifest(path):
        return found
    from builder.package.beside import look_beside

    return replace(found, beside=look_beside(path))


def _has_manifest(folder: Path) -> bool:
    """Whether a folder is one that was built here: a format that is not packed."""
    from builder.package import manifest_path

    return manifest_path(folder).is_file()


def of_recipe(recipe: AnyRecipe) -> Inspected:
    """What a recipe says of itself; sizes that only a model knows are -1.

    Raises:
        RecipeError: its pipeline does not fit together.
    """
    dag = _auto(recipe) if isinstance(recipe, Recipe) else declared_dag(recipe)
    models = tuple(
        Model(f"{recipe.name}-{step.name}", "", step.max_batch_size, step.takes, step.gives) for step in dag.steps
    )
    return Inspected(RECIPE, models, (dag,))


def of_configs(texts: Mapping[str, str], kind: str) -> Inspected:
    """What the configs of a repository say.

    Args:
        texts: ``config.pbtxt`` by the names of the models' folders.
        kind: what is inspected.

    Raises:
        UserError: one is no ModelConfig; with line and column.
    """
    configs = {
        name: {"name": name, **triton_proto.to_json(triton_proto.parse_text(text, place=f"{name}/{_CONFIG}"))}
        for name, text in sorted(texts.items())
    }
    ensembles = {name: drawn(config, configs) for name, config in configs.items() if "ensemble_scheduling" in config}
    inner = {step.name for dag in ensembles.values() for step in dag.steps}
    in_order = sorted(ensembles, key=lambda name: (name in inner, len(name), name))
    return Inspected(
        kind,
        tuple(_model(name, config) for name, config in configs.items()),
        tuple(map(ensembles.get, in_order)),  # type: ignore[arg-type]
    )


def read_configs(path: Path) -> dict[str, str]:
    """``config.pbtxt`` by the names of the models' folders; of a single model, flat, by the name that it states.

    Raises:
        ArchiveError: there is nothing at the path, it is damaged, or it holds no config.
        UserError: the config of a single model is none.
    """
    if path.is_dir():
        texts = _read_folder(path)
    elif path.exists():
        texts = archives.read_small(path, _CONFIG, limit_bytes=_LARGEST_CONFIG)
    else:
        raise ArchiveError(f"{path}: no such file or folder", mend="name a recipe, an archive or a model repository")
    if _CONFIG in texts:  # flat: what lies in folders below is no model of its own
        from builder.package.places import stem

        return {triton_proto.folder_of(texts[_CONFIG], place=_CONFIG, otherwise=stem(path.name)): texts[_CONFIG]}
    placed = {name.partition("/"): text for name, text in texts.items()}
    found = {folder: text for (folder, _, name), text in placed.items() if name == _CONFIG}
    if not found:
        raise ArchiveError(
            f"{path}: holds no {_CONFIG} in a model's folder",
            mend="name a recipe (.yaml), an archive that tritonsmith built, or a Triton model repository",
        )
    return found


def _read_folder(path: Path) -> dict[str, str]:
    try:
        files = [path / _CONFIG] if (path / _CONFIG).is_file() else sorted(path.glob(f"*/{_CONFIG}"))
        return {file.relative_to(path).as_posix(): file.read_text(encoding="utf-8") for file in files}
    except OSError as error:
        raise disk_error(path, error) from error
    except UnicodeDecodeError as error:
        raise ArchiveError(f"{path}: a {_CONFIG} is not UTF-8") from error


def _auto(recipe: Recipe) -> Dag:
    """The pipeline of a recipe of one model: tokenize, then the model."""
    known = declared(recipe)
    size = recipe.serving.max_batch_size or recipe.shapes.batch.max
    steps = (
        dags.Step("tokenize", known.texts, known.takes, size),
        dags.Step("model", known.takes, known.gives, size),
    )
    return dags.compile_dag(recipe.name, steps, [port.name for port in known.gives], size)


def _model(name: str, config: Mapping[str, Json]) -> Model:
    backend = str(config.get("backend") or config.get("platform", ""))
    return Model(name, backend, config.get("max_batch_size", 0), ports(config, "input"), ports(config, "output"))


def _port(port: Port) -> Json:
    return {"name": port.name, "dtype": port.dtype, "dims": list(port.dims), "optional": port.optional}


def _pipeline(dag: Dag) -> Json:
    return {
        "name": dag.name,
        "max_batch_size": dag.max_batch_size,
        "inputs": [_port(port) for port in dag.inputs],
        "outputs": {name: {"from": f"{step}.{port.name}", **_port(port)} for name, (step, port) in dag.outputs.items()},
        "steps": [step.name for step in dag.steps],
        "edges": [
            {"from": f"{edge.source}.{edge.given.name}", "to": f"{edge.step}.{edge.taken.name}", **_port(edge.taken)}
            for edge in dag.edges
        ],
        "mermaid": chart.mermaid(dag),
    }

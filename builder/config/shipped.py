"""Files that a recipe's ``serving`` section names: the data of warm-up entries and of initial states."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.config.refuse import refused
from builder.core.digest import describe_file
from builder.recipe.base import locate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from builder.artifacts import File, Json
    from builder.config.host import Keys
    from builder.recipe.document import Node


def shipped_files(serving: Mapping[str, Json], folder: Path, root: Node, section: Keys) -> dict[str, File]:
    """The files, by their paths in the model's folder: ``warmup/<name>``, ``initial_state/<name>``.

    Args:
        serving: the section as written, with paths.
        folder: the recipe's.
        root: the recipe as written.
        section: where the section stands in it.

    Raises:
        RecipeError: a file cannot be read, or two of the same name have other contents.
    """
    found: dict[str, File] = {}
    for path, place, name in _named(serving):
        here = (*section, *path)
        try:
            file = describe_file(locate(folder, name))
        except (OSError, RuntimeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise refused(root, here, f"{name}: cannot be read: {reason}") from error
        target = f"{place}/{file.path.name}"
        if found.setdefault(target, file).sha256 != file.sha256:
            raise refused(root, here, f"{name}: another file of the same name goes to {target}; rename one of them")
    return found


def _named(serving: Mapping[str, Json]) -> Iterator[tuple[Keys, str, str]]:
    """Each file: the path of its key in the section, the folder that Triton reads it from, its own path."""
    warmup = serving.get("model_warmup")
    for index, entry in enumerate(warmup if isinstance(warmup, list | tuple) else ()):
        for name, value in entry.get("inputs", {}).items():
            if "input_data_file" in value:
                yield ("model_warmup", index, "inputs", name, "input_data_file"), "warmup", value["input_data_file"]
    sequence = serving.get("sequence_batching") or {}
    for index, state in enumerate(sequence.get("state", ())):
        for number, initial in enumerate(state.get("initial_state", ())):
            if "data_file" in initial:
                place = ("sequence_batching", "state", index, "initial_state", number, "data_file")
                yield place, "initial_state", initial["data_file"]

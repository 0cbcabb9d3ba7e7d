"""What a model with random weights is made of: a configuration, a seed, and how its inputs are made."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.errors import ModelError
from builder.export.model_files import digests
from builder.export.source_files import LocalFolder
from builder.export.versions import versions
from builder.tools import hf, hf_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.artifacts import File, Json
    from builder.recipe.source import Architecture

_PLACE: Final = "source.architecture"


def config(architecture: Architecture) -> dict[str, Json]:
    """The content of the architecture's config.json.

    Raises:
        ModelError: the file cannot be read, or names no kind of model.
    """
    values = _content("config", "config.json", architecture.config)
    place = f"{_PLACE}.config"
    if isinstance(architecture.config, Path):
        place = f"{place}: {architecture.config}"
    if not isinstance(values, dict) or not isinstance(values.get("model_type"), str):
        raise ModelError(f"{place}: has no model_type", mend='say which architecture it is, such as model_type: "bert"')
    if "auto_map" in values:
        raise ModelError(
            f"{place}: auto_map: the architecture is Python code of its own",
            mend="take an architecture that is in transformers",
        )
    return values


def check(architecture: Architecture, folder: Path | None) -> None:
    """All that can be known before the model is made.

    Args:
        architecture: the recipe's section.
        folder: of the tokenizer, where one is named.

    Raises:
        ModelError: a file is missing, or is not what it should be.
    """
    config(architecture)
    if architecture.processor is not None:
        _processor(architecture)
    else:
        _tokenizer(folder)


def facts(architecture: Architecture, folder: Path | None, describe: Callable[[Path], File]) -> dict[str, Json]:
    """What decides the model's bytes.

    Raises:
        ModelError: as :func:`check`.
    """
    known = {"config": config(architecture), "seed": architecture.seed}
    libraries = versions("torch", "transformers", "safetensors", "numpy", "tokenizers")
    if architecture.processor is not None:
        images = {"processor": _processor(architecture), "pillow": versions("pillow")}
        return {**known, **images, "versions": libraries}
    local = LocalFolder(_tokenizer(folder), describe=describe)
    tokenizer = local.fetch(name for name in local.names("") if name in hf.TOKENIZER_FILES)
    return {**known, "tokenizer": digests(tokenizer, tokenizer), "versions": libraries}


@contextlib.contextmanager
def inputs_folder(architecture: Architecture, folder: Path | None, *, below: Path) -> Iterator[Path]:
    """A folder with the tokenizer's files, or with preprocessor_config.json.

    Raises:
        ModelError: as :func:`check`.
    """
    if architecture.processor is None:
        yield _tokenizer(folder)
        return
    with tempfile.TemporaryDirectory(dir=below, prefix=".processor-") as temporary:
        text = json.dumps(_processor(architecture), indent=1, sort_keys=True)
        (Path(temporary) / hf_images.SETTINGS_FILE).write_text(text + "\n", encoding="utf-8")
        yield Path(temporary)


def _processor(architecture: Architecture) -> dict[str, Json]:
    values = _content("processor", hf_images.SETTINGS_FILE, architecture.processor)
    if not isinstance(values, dict) or not values:
        raise ModelError(f"{_PLACE}.processor: is no mapping of settings", mend="write image_processor_type and size")
    return values


def _tokenizer(folder: Path | None) -> Path:
    """The folder, if it holds a tokenizer.

    Raises:
        ModelError: there is none.
    """
    if folder is None or not set(LocalFolder(folder).names("")) & set(hf.VOCABULARY_FILES):
        words = "no tokenizer files" if folder and folder.is_dir() else "no such folder"
        raise ModelError(
            f"{_PLACE}.tokenizer: {folder}: {words}",
            mend="name a folder that holds a tokenizer.json",
        )
    return folder


def _content(key: str, name: str, given: Path | Json) -> Json:
    """A JSON file's content, or what the recipe says in its place.

    Raises:
        ModelError: the file cannot be read.
    """
    if not isinstance(given, Path):
        return given
    place = f"{_PLACE}.{key}: {given}"
    try:
        return json.loads(given.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{place}: {error.strerror}", mend=f"name a {name}, or write its content here") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{place}: not JSON: {error}", mend="mend the file") from error

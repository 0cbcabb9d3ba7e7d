"""Which of a model's files matter, where they lie, and whether they are whole."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Protocol

from builder.core.digest import describe_file
from builder.errors import ModelError
from builder.export.model_files import has_tokenizer, in_folder, read_json, read_object
from builder.tools.hf import TOKENIZER_FILES
from builder.tools.hf_images import SETTINGS_FILE
from builder.tools.safetensors_header import read_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from builder.artifacts import File, Tree

MODULES: Final = "modules.json"
WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
PICKLE: Final = "pytorch_model.bin"
PICKLE_INDEX: Final = "pytorch_model.bin.index.json"

_ROOT_FILES: Final = re.compile(
    r"modules\.json|config_sentence_transformers\.json|README\.md|(LICEN[CS]E|NOTICE)[^/]*", re.I
)
# The last two are taken so that what they say is refused (in tasks.py and sentence_transformers.py), not overlooked.
_FOLDER_FILES: Final = re.compile(
    r"config\.json|preprocessor_config\.json|sentence_[\w-]+_config\.json|adapter_config\.json|chat_template\.jinja"
)
_UNSAFE: Final = re.compile(r"[^/]*\.(bin|pt|pth|ckpt|pkl|pickle|h5|msgpack|gguf|onnx)")
_AGAIN: Final = "download the model again, or ask its publisher"
_LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"


class Origin(Protocol):
    """Where a model's files are."""

    def names(self, folder: str) -> list[str]:
        """Names of the files directly in a folder of the model; "" is its root."""

    def fetch(self, names: Iterable[str]) -> dict[str, File]:
        """The files, by name, hashed.

        Raises:
            ModelError: a file is not there.
        """


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder on this machine.

    Args:
        folder: the folder.
        resolve: follow symlinks, wherever they lead: snapshots of the Hugging Face cache are links to blobs elsewhere.
        describe: hashes a file, given where it really lies.
    """

    folder: Path
    resolve: bool = True
    describe: Callable[[Path], File] = describe_file

    def names(self, folder: str) -> list[str]:
        """Names of files and of links, dangling ones too."""
        place = self.folder / folder
        if not place.is_dir():
            return []
        return sorted(path.name for path in place.iterdir() if path.is_symlink() or not path.is_dir())

    def fetch(self, names: Iterable[str]) -> dict[str, File]:
        return {name: self._describe(name) for name in names}

    def _describe(self, name: str) -> File:
        path = self.folder / name
        if not path.exists():
            words = f"a link to {path.readlink()}, which does not exist" if path.is_symlink() else "no such file"
            raise ModelError(
                f"{path}: {words}", mend="download the model again: the download was cut or partly removed"
            )
        real = path.resolve() if self.resolve else path.absolute()
        if not real.is_file():
            raise ModelError(f"{path}: not a file", mend=_AGAIN)
        return self.describe(real)


def collect(origin: Origin, *, allow_pickle: bool, allow_code: bool = False) -> dict[str, File]:
    """The files of a model that matter, checked, in sorted order.

    Args:
        origin: where they are.
        allow_pickle: takes pickled weights (as they are) where there are no safetensors.
        allow_code: takes the Python files beside config.json, for a model that brings its own code.

    Raises:
        ModelError: a file is missing or damaged, or would run code.
    """
    files = origin.fetch(_small(origin, ""))
    folders = _folders(files)
    for folder in folders:
        files |= origin.fetch(name for name in _small(origin, folder) if name not in files)
    _check_pointers(files)
    _check_settings(files, folders[0], origin, allow_code=allow_code)
    if allow_code:
        names = origin.names(folders[0])
        files |= origin.fetch(in_folder(folders[0], name) for name in names if name.endswith(".py"))
    for folder in folders:
        files |= _weights(origin, folder, allow_pickle=allow_pickle, needed=folder == folders[0])
    return dict(sorted(files.items()))


def _small(origin: Origin, folder: str) -> list[str]:
    """Everything that matters in a folder, except weights."""
    names = [
        name
        for name in origin.names(folder)
        if name in TOKENIZER_FILES or _FOLDER_FILES.fullmatch(name) or (not folder and _ROOT_FILES.fullmatch(name))
    ]
    return [in_folder(folder, name) for name in names]


def _folders(files: Tree) -> list[str]:
    """The transformer's folder, then those of the other sentence-transformers modules."""
    if MODULES not in files:
        return [""]
    modules = read_json(files, MODULES)
    modules = modules if isinstance(modules, list) else []
    entries = [entry.get("path") if isinstance(entry, dict) else None for entry in modules or ()]
    paths = [path.strip("/") for path in entries if isinstance(path, str) and _inside(path)]
    if not paths or len(paths) < len(entries):
        raise ModelError(
            f"{MODULES}: must be a list of modules, each with the path of a folder inside the model", mend=_AGAIN
        )
    return list(dict.fromkeys(paths))


def _inside(path: str) -> bool:
    return not path.startswith("/") and ".." not in PurePosixPath(path).parts


def _check_settings(files: Tree, folder: str, origin: Origin, *, allow_code: bool) -> None:
    config = in_folder(folder, "config.json")
    if config not in files:
        adapter = "adapter_config.json" in origin.names(folder)
        raise ModelError(
            f"{config}: the model has no such file" + (": it is an adapter, not a whole model" if adapter else ""),
            mend="merge the adapter into its base model (peft: merge_and_unload) and save that"
            if adapter
            else "name the folder that save_pretrained() wrote",
        )
    for name in (config, in_folder(folder, "tokenizer_config.json")):
        _check_code(name, read_object(files, name).get("auto_map"), allow_code=allow_code)
    if not has_tokenizer(files, folder) and in_folder(folder, SETTINGS_FILE) not in files:
        raise ModelError(
            f"{in_folder(folder, 'tokenizer.json')}: the model has no tokenizer files",
            mend="save the tokenizer into the same folder: AutoTokenizer.from_pretrained(…).save_pretrained(folder)",
        )


def _check_code(name: str, auto_map: object, *, allow_code: bool) -> None:
    """Refuses a model that brings Python code, unless the recipe allows it; and code of other repositories, always."""
    if auto_map is None:
        return
    if not allow_code:
        raise ModelError(
            f"{name}: auto_map: the model brings Python code of its own",
            mend="take a model whose architecture is in transformers; or read the code, and if you trust it, "
            "allow it with source.allow.remote_code: true",
        )
    if "--" in str(auto_map):
        raise ModelError(
            f"{name}: auto_map: the code is in another repository: {auto_map}",
            mend="copy that code beside config.json, and drop the part up to -- from auto_map",
        )


def _check_pointers(files: Tree) -> None:
    for name, file in files.items():
        if file.size < 1024 and file.path.read_bytes().startswith(_LFS_POINTER):
            raise ModelError(
                f"{name}: a Git LFS pointer, not the file itself", mend="run `git lfs pull` in its repository"
            )


def _weights(origin: Origin, folder: str, *, allow_pickle: bool, needed: bool) -> dict[str, File]:
    """The weights of one folder: one safetensors file, the shards of an index, or pickled ones if allowed."""
    names = origin.names(folder)
    if WEIGHTS in names:
        return _checked(origin.fetch([in_folder(folder, WEIGHTS)]))
    if INDEX in names:
        index = origin.fetch([in_folder(folder, INDEX)])
        return index | _shards(origin, folder, index)
    if PICKLE in names or PICKLE_INDEX in names:
        return _pickles(origin, folder, allowed=allow_pickle, indexed=PICKLE not in names)
    if not needed:
        return {}
    others = [name for name in names if name.endswith(".safetensors") or _UNSAFE.fullmatch(name)]
    raise ModelError(
        f"{in_folder(folder, WEIGHTS)}: the model has no such file; it has {', '.join(others) or 'no weights at all'}",
        mend="save the model again with transformers: model.save_pretrained(folder)",
    )


def _checked(files: dict[str, File]) -> dict[str, File]:
    """The same files, each of them a whole safetensors file."""
    for name, file in files.items():
        _check_pointers({name: file})
        read_header(file.path)
    return files


def _shards(origin: Origin, folder: str, index: Tree) -> dict[str, File]:
    place = in_folder(folder, INDEX)
    shards = _shard_names(index, place)
    missing = sorted(set(shards.values()) - set(origin.names(folder)))
    if missing:
        raise ModelError(f"{place}: names {', '.join(missing)}, which the model does not have", mend=_AGAIN)
    files = _checked(origin.fetch(in_folder(folder, name) for name in sorted(set(shards.values()))))
    tensors = {name: set(read_header(file.path)) for name, file in files.items()}
    for tensor, shard in sorted(shards.items()):
        if tensor not in tensors[in_folder(folder, shard)]:
            raise ModelError(f"{place}: names tensor {tensor!r} in {shard}, which does not hold it", mend=_AGAIN)
    return files


def _shard_names(index: Tree, place: str) -> dict[str, str]:
    weight_map = read_object(index, place).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{place}: has no weight_map", mend=_AGAIN)
    wrong = [name for name in weight_map.values() if not isinstance(name, str) or "/" in name or not name]
    if wrong:
        raise ModelError(f"{place}: names the file {wrong[0]!r}, which is not in the same folder", mend=_AGAIN)
    return weight_map


def _pickles(origin: Origin, folder: str, *, allowed: bool, indexed: bool) -> dict[str, File]:
    first = in_folder(folder, PICKLE_INDEX if indexed else PICKLE)
    if not allowed:
        raise ModelError(
            f"{first}: the weights are pickled, and there is no {WEIGHTS}: reading a pickle can run any code",
            mend="take a revision with safetensors, save the model again with model.save_pretrained(folder), or write "
            "allow: {pickle: true} under source",
        )
    files = origin.fetch([first])
    if indexed:
        shards = set(_shard_names(files, first).values())
        files |= origin.fetch(in_folder(folder, name) for name in sorted(shards))
    return files

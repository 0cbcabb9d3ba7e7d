"""What a user's file would fetch when it is served: calls that are known to, and only where that is certain."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_BY_LAST_NAME: Final = frozenset(
    {"hf_hub_download", "snapshot_download", "cached_path", "urlretrieve", "load_state_dict_from_url"}
)
"""Names that say it themselves, whatever they are called on."""

_ALWAYS: Final = frozenset(
    {
        *("nltk.download", "nltk.downloader.download", "spacy.cli.download", "stanza.download", "gdown.download"),
        *("wget.download", "gensim.downloader.load", "fasttext.util.download_model", "torch.hub.load"),
        *("torch.hub.download_url_to_file", "keras.utils.get_file", "tensorflow.keras.utils.get_file"),
        *("kagglehub.model_download", "kagglehub.dataset_download", "torchtext.utils.download_from_url"),
    }
)
_BY_HUB_NAME: Final = frozenset(
    {
        *("sentence_transformers.SentenceTransformer", "sentence_transformers.CrossEncoder", "datasets.load_dataset"),
        *("sentence_transformers.SparseEncoder", "faster_whisper.WhisperModel", "whisper.load_model"),
    }
)
"""They take the name of a model, or of data, on a hub, or else a path."""

_OF_FILES: Final = frozenset({"json", "csv", "parquet", "text", "arrow", "pandas", "imagefolder", "audiofolder", "xml"})
"""What ``load_dataset`` reads from files that are named beside it."""

_OFFLINE: Final = frozenset({"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"})
_ASKING: Final = frozenset({"get", "post", "put", "patch", "delete", "head", "options", "request", "stream"})
_WHILE_LOADING: Final = frozenset(
    {"urllib.request.urlopen", *(f"{name}.{call}" for name in ("requests", "httpx", "urllib3") for call in _ASKING)}
)
_RUNNERS: Final = frozenset(
    {"os.system", "pip.main", "pip._internal.main"}
    | {f"subprocess.{name}" for name in ("run", "call", "check_call", "check_output", "Popen", "getoutput")}
)
_PIP: Final = re.compile(r"(?:^|[\s/])(?:pip[\d.]*)\s+(?:\S+\s+)*?(?:install|download)\b(?!.*--no-index)")
_ONCE: Final = frozenset({"__init__", "__new__"})


def downloads(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Calls that fetch something: a model by its name anywhere; anything while the step is loaded.

    What stands in an ``except`` is made where something is not there, which may well be: it is not told.

    Returns:
        Line, and what is wrong with it.
    """
    names = _imported(tree)
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    offline = any(isinstance(node, ast.Constant) and node.value in _OFFLINE for node in ast.walk(tree))
    loading = {id(node) for node in _while_loading(tree)}
    handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    spare = {id(node) for handler in handlers for node in ast.walk(handler)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or id(node) in spare:
            continue
        said = _dotted(node.func)
        first, dot, rest = said.partition(".")
        if first in own or first in {"self", "cls"}:
            continue
        name = f"{names.get(first, first)}{dot}{rest}"
        if found := _fetches(node, name, said, offline=offline) or _asks(name, said, loading=id(node) in loading):
            yield node.lineno, found


def _fetches(call: ast.Call, name: str, said: str, *, offline: bool) -> str:
    """What a call fetches whenever it is made."""
    last = name.rpartition(".")[2]
    if name in _RUNNERS and _PIP.search(_command(call, name)):
        return f"{said}() would install packages when it is served"
    if offline or _is_true(call, "local_files_only"):
        return ""
    if (last == "from_pretrained" or name in _BY_HUB_NAME) and (asked := _hub_name(_first(call), name)):
        return f"{said if name in _BY_HUB_NAME else last}({asked!r}) would download a model when it is served"
    if name == "transformers.pipeline" and (asked := _piped(call)):
        return f"{said}({asked!r}) would download a model when it is served"
    is_local = getattr(_word(call, "source"), "value", None) == "local"  # of torch.hub.load
    if (last in _BY_LAST_NAME or name in _ALWAYS) and not is_local:
        return f"{said}() would download when it is served"
    return ""


def _asks(name: str, said: str, *, loading: bool) -> str:
    return f"{said}() fetches something while the step is loaded" if loading and name in _WHILE_LOADING else ""


def _imported(tree: ast.Module) -> dict[str, str]:
    """Name in the file → what was imported under it."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _first(call: ast.Call) -> ast.expr | None:
    return call.args[0] if call.args else next((word.value for word in call.keywords), None)


def _hub_name(given: ast.expr | None, name: str = "") -> str:
    """The name of a model on a hub; empty where it is a path, or not known before it runs."""
    value = given.value if isinstance(given, ast.Constant) else None
    if name.endswith("load_dataset") and value in _OF_FILES:
        return ""
    return value if isinstance(value, str) and not value.startswith(("/", "./", "../", "~")) else ""


def _piped(call: ast.Call) -> str:
    """The model that a pipeline of transformers fetches: what is named, or where none is, that of the task."""
    given = call.args[1] if len(call.args) > 1 else _word(call, "model")
    if given is None and all(word.arg for word in call.keywords):  # no **options that may have it
        given = _first(call)
    return _hub_name(given)


def _command(call: ast.Call, name: str) -> str:
    """The words of a command that a call runs, as far as they are written there."""
    words = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return " ".join(["pip", *words] if name.startswith("pip.") else words)


def _word(call: ast.Call, name: str) -> ast.expr | None:
    return next((word.value for word in call.keywords if word.arg == name), None)


def _is_true(call: ast.Call, name: str) -> bool:
    return getattr(_word(call, name), "value", None) is True


def _while_loading(tree: ast.Module) -> Iterator[ast.AST]:
    """What runs when the file is imported, and when its class is made."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if function and getattr(node, "name", "") not in _ONCE:
            continue
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            waiting += node.orelse  # what is in it runs where the file is a program
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def _dotted(node: ast.expr) -> str:
    """``a.b.c`` of an expression; what is before is left out where it is no name."""
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}".lstrip(".")
    return node.id if isinstance(node, ast.Name) else ""

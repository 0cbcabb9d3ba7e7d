"""Reads the files of a sentence-transformers model: modules.json, one folder per module, and two files of settings.

The rules are those of sentence-transformers 6.2 (``SentenceTransformer.__init__``, ``base/modules``). What is not
understood is refused by name: an ignored setting would change the embeddings in silence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from builder.errors import ModelError
from builder.export.model_files import in_folder, read_json, read_object
from builder.tools.heads import ACTIVATIONS, POOLING_MODES, Dense, LayerNorm, Normalize, Pooling, Step, Truncate

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from builder.artifacts import Json, Tree

MODULES: Final = "modules.json"

SETTINGS: Final = "config_sentence_transformers.json"

# Names that sentence-transformers tries, in this order, for the settings of its Transformer module.
TRANSFORMER_SETTINGS: Final = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)

# Before `pooling_mode` there was one switch per mode; vectors are concatenated in this order.
_POOLING_SWITCHES: Final = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

# Settings that only say in which way the same numbers are computed, or describe the model.
NEUTRAL_SETTINGS: Final = frozenset({"__version__", "similarity_fn_name", "requirements"})
_NEUTRAL_TRANSFORMER_SETTINGS: Final = frozenset({"unpad_inputs"})
_NEUTRAL_MODEL_ARGUMENTS: Final = frozenset({"dtype", "torch_dtype", "attn_implementation", "low_cpu_mem_usage"})
_ARGUMENTS: Final = ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs")
_EMBEDDER: Final[Mapping[str, Json]] = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
}


@dataclass(frozen=True, slots=True)
class SentenceModel:
    """What a model's files say about how its sentence embeddings are made."""

    folder: str  # where the transformer's files are: "" is the model's root
    steps: tuple[Step, ...]  # what follows the last hidden state
    max_length: int | None  # tokens
    lower_case: bool
    prompt: str  # put before every text
    files: tuple[str, ...]  # the JSON files that were read
    record: dict[str, Json] = field(default_factory=dict)


def read(tree: Tree) -> SentenceModel:
    """Reads a model for the task sentence-embedding.

    Raises:
        ModelError: a file is damaged, or says something that is not understood.
    """
    if MODULES not in tree:
        return _plain(tree)
    modules = _modules(tree)
    folder = modules[0][1]
    settings_name = next((name for name in _transformer_settings(folder) if name in tree), None)
    settings = read_transformer_settings(tree, settings_name, _EMBEDDER) if settings_name else {}
    model = _read_settings(tree)
    steps = [_STEPS[kind](tree, path) for kind, path in modules[1:]]
    prompt = _prompt(model, tree, modules)
    width = model.get("truncate_dim")
    return SentenceModel(
        folder=folder,
        steps=(
            *(step for step in steps if step),
            *([Truncate(_integer(SETTINGS, "truncate_dim", width))] if width else []),
        ),
        max_length=optional_integer(str(settings_name), "max_seq_length", settings.get("max_seq_length")),
        lower_case=bool(settings.get("do_lower_case", False)),
        prompt=prompt,
        files=tuple(name for name in _read_names(modules, settings_name) if name in tree),
        record={"modules": [kind for kind, _ in modules], "prompt": prompt, "settings": settings_name},
    )


def _plain(tree: Tree) -> SentenceModel:
    """A model without modules.json: what sentence-transformers itself would make of it (``_load_default_modules``)."""
    if "chat_template.jinja" in tree or "chat_template" in read_object(tree, "tokenizer_config.json"):
        raise ModelError(
            f"the model has a chat template and no {MODULES}: sentence-transformers would put every text into a chat "
            "message, which is not supported",
            mend=f"save the model with sentence-transformers, so that its {MODULES} says how texts are read",
        )
    config = read_object(tree, "config.json")
    architectures = config.get("architectures") or [""]
    if not isinstance(architectures, list):
        raise ModelError(f"config.json: architectures is {architectures!r:.100}; allowed: a list of names")
    causal = str(architectures[0]).endswith("ForCausalLM") and config.get("is_causal", True)
    mode = "lasttoken" if causal else "mean"
    return SentenceModel(
        folder="",
        steps=(Pooling((mode,)),),
        max_length=None,
        lower_case=False,
        prompt="",
        files=("config.json", "tokenizer_config.json"),
        record={"modules": f"no {MODULES}: {mode} pooling without normalisation, as sentence-transformers does"},
    )


def _modules(tree: Tree) -> list[tuple[str, str]]:
    """(name of the module's class, its folder) in order; the first is the Transformer, the second the Pooling."""
    listed = read_json(tree, MODULES)
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed) or not listed:
        raise ModelError(f"{MODULES}: expected a list of modules")
    modules = [_module(index, entry) for index, entry in enumerate(listed)]
    kinds = [kind for kind, _ in modules]
    if kinds[0] != "Transformer" or kinds[1:2] != ["Pooling"] or "Transformer" in kinds[1:] or "Pooling" in kinds[2:]:
        raise ModelError(
            f"{MODULES}: {', '.join(kinds)}; allowed: Transformer, Pooling, any of {', '.join(_AFTER_POOLING)}"
        )
    return modules


def _module(index: int, entry: dict[str, Any]) -> tuple[str, str]:
    kind, path = str(entry.get("type", "")), entry.get("path", "")
    package, _, name = kind.rpartition(".")
    if package.partition(".")[0] != "sentence_transformers" or name not in _STEPS:
        raise ModelError(
            f"{MODULES}: module {index} is {kind!r}; understood are {', '.join(_STEPS)} of sentence_transformers",
            mend="take a model that is made of these modules",
        )
    if entry.get("kwargs"):
        raise ModelError(f"{MODULES}: module {index} ({kind}) takes kwargs {entry['kwargs']!r}, which is not supported")
    if not isinstance(path, str) or path.startswith("/") or ".." in path.split("/"):
        raise ModelError(f"{MODULES}: module {index} has the path {path!r}; allowed: a folder inside the model")
    return name, path.strip("/")


def _transformer_settings(folder: str) -> tuple[str, ...]:
    return tuple(in_folder(folder, name) for name in TRANSFORMER_SETTINGS)


def read_transformer_settings(tree: Tree, name: str, expected: Mapping[str, Json]) -> dict[str, Any]:
    """The settings of a Transformer module.

    Args:
        tree: the model's files.
        name: of the file.
        expected: the only value that some settings may have: what kind of model it is.

    Raises:
        ModelError: there is a setting that is not understood.
    """
    settings = read_object(tree, name)
    for key, value in settings.items():
        if not _is_understood(key, value, expected):
            raise ModelError(f"{name}: {key}: {value!r} is not understood", mend="take a model without this setting")
    return settings


def _is_understood(key: str, value: Json, expected: Mapping[str, Json]) -> bool:
    if key in {"max_seq_length", "do_lower_case"} or key in _NEUTRAL_TRANSFORMER_SETTINGS:
        return True
    if key in _ARGUMENTS:
        return isinstance(value, dict) and set(value) <= _NEUTRAL_MODEL_ARGUMENTS | {"trust_remote_code"}
    return value == expected[key] if key in expected else value in (None, {}, [])


def _read_settings(tree: Tree) -> dict[str, Any]:
    settings = read_object(tree, SETTINGS)
    known = {"model_type", "prompts", "default_prompt_name", "truncate_dim"} | NEUTRAL_SETTINGS
    for key, value in settings.items():
        if key not in known and value not in (None, {}, []):
            raise ModelError(
                f"{SETTINGS}: {key}: {value!r} is not understood", mend="take a model without this setting"
            )
    kind = settings.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise ModelError(f"{SETTINGS}: model_type is {kind!r}; sentence-embedding takes a 'SentenceTransformer'")
    return settings


def _prompt(settings: dict[str, Any], tree: Tree, modules: list[tuple[str, str]]) -> str:
    """The text that ``encode`` puts before every text: that of default_prompt_name."""
    name, prompts = settings.get("default_prompt_name"), settings.get("prompts") or {}
    if name is None:
        return ""
    prompt = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else None
    if not isinstance(prompt, str):
        raise ModelError(f"{SETTINGS}: default_prompt_name is {name!r}, and prompts has no such text")
    pooling = in_folder(modules[1][1], "config.json")
    if prompt and not read_object(tree, pooling).get("include_prompt", True):
        raise ModelError(
            f"{pooling}: include_prompt is false and {SETTINGS} has the default prompt {name!r}: "
            "leaving a prompt's tokens out of the pooling is not supported",
        )
    return prompt


def _read_names(modules: list[tuple[str, str]], settings: str | None) -> list[str]:
    folders = [path for _, path in modules]
    return [
        MODULES,
        SETTINGS,
        *([settings] if settings else []),
        *(in_folder(path, "config.json") for path in folders),
    ]


def _pooling(tree: Tree, folder: str) -> Step:
    name, config = _step_config(tree, folder)
    known = {"word_embedding_dimension", "embedding_dimension", "include_prompt", "pooling_mode", *_POOLING_SWITCHES}
    _refuse_unknown(name, config, known)
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for switch, mode in _POOLING_SWITCHES.items() if config.get(switch)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not modes or not all(mode in POOLING_MODES for mode in modes):
        raise ModelError(f"{name}: pooling_mode is {modes!r}; allowed: {', '.join(POOLING_MODES)}, or a list of them")
    return Pooling(tuple(modes))


def _dense(tree: Tree, folder: str) -> Step:
    name, config = _step_config(tree, folder)
    known = {"in_features", "out_features", "bias", "activation_function", "use_residual"}
    _refuse_unknown(name, config, known | {"module_input_name", "module_output_name"})
    _only_the_embedding(name, config)
    return Dense(
        folder=folder,
        in_features=_integer(name, "in_features", config.get("in_features")),
        out_features=_integer(name, "out_features", config.get("out_features")),
        bias=bool(config.get("bias", True)),
        activation=activation(
            name, "activation_function", config.get("activation_function", "torch.nn.modules.activation.Tanh")
        ),
        residual=bool(config.get("use_residual", False)),
    )


def activation(name: str, key: str, path: Json) -> str:
    """The class of ``torch.nn`` that a dotted path names.

    Raises:
        ModelError: it is none that is understood.
    """
    module, _, named = str(path).rpartition(".")
    if module.partition(".")[0] != "torch" or named not in ACTIVATIONS:
        raise ModelError(f"{name}: {key} is {path!r}; understood are {', '.join(ACTIVATIONS)} of torch.nn")
    return named


def _layer_norm(tree: Tree, folder: str) -> Step:
    name, config = _step_config(tree, folder)
    _refuse_unknown(name, config, {"dimension"})
    return LayerNorm(folder=folder, width=_integer(name, "dimension", config.get("dimension")))


def _normalize(tree: Tree, folder: str) -> Step:
    name = in_folder(folder, "config.json")
    config = read_object(tree, name)
    _refuse_unknown(name, config, {"module_input_name", "module_output_name"})
    _only_the_embedding(name, config)
    return Normalize()


def _nothing(_tree: Tree, _folder: str) -> Step | None:
    """Dropout does nothing outside of training; the Transformer is the model itself."""
    return None


_STEPS: Final[dict[str, Callable[[Tree, str], Step | None]]] = {
    "Transformer": _nothing,
    "Pooling": _pooling,
    "Dense": _dense,
    "LayerNorm": _layer_norm,
    "Normalize": _normalize,
    "Dropout": _nothing,
}

_AFTER_POOLING: Final = tuple(name for name in _STEPS if name not in {"Transformer", "Pooling"})


def _step_config(tree: Tree, folder: str) -> tuple[str, dict[str, Any]]:
    name = in_folder(folder, "config.json")
    if not folder or name not in tree:
        raise ModelError(f"{name}: {MODULES} names this module, and the model does not have its file")
    return name, read_object(tree, name)


def _refuse_unknown(name: str, config: dict[str, Any], known: Collection[str]) -> None:
    unknown = sorted(set(config) - set(known))
    if unknown:
        raise ModelError(
            f"{name}: {unknown[0]}: {config[unknown[0]]!r} is not understood; known are {', '.join(sorted(known))}"
        )


def _only_the_embedding(name: str, config: dict[str, Any]) -> None:
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, "sentence_embedding"):
            raise ModelError(f"{name}: {key} is {config[key]!r}; allowed: 'sentence_embedding'")


def _integer(name: str, key: str, value: Json) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(f"{name}: {key} is {value!r}; allowed: a whole number of 1 or more")
    return value


def optional_integer(name: str, key: str, value: Json) -> int | None:
    """A whole number of 1 or more, or nothing.

    Raises:
        ModelError: it is something else.
    """
    return None if value is None else _integer(name, key, value)

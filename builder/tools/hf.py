"""Hugging Face transformers: tokenizers and models from a local folder, never from a hub.

A model's own Python code runs only where ``remote_code`` is True, which only a recipe's ``source.allow`` can say.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from builder.errors import ModelError, TritonsmithError
from builder.tools import lean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from builder.tools.opaque import Array, HfConfig, HfModel, HfTokenizer

MODEL_INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")
"""Model inputs that a tokenizer makes, in the order in which the built model takes them."""

TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "bpe.codes",
    "tokenizer.model",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
"""Files that transformers may read to make a tokenizer (besides ``config.json``)."""

VOCABULARY_FILES: Final = TOKENIZER_FILES[:10]
"""Those that hold a vocabulary. Where there is none, transformers makes an empty tokenizer, without complaint."""

# Sources are made in threads of one process: transformers cannot be imported in two of them at once, and how many
# threads torch has is a matter of the process.
_ONE_AT_A_TIME: Final = threading.Lock()

_AUTO_CLASSES: Final = {
    "sentence-embedding": ("AutoModel", "MODEL_MAPPING_NAMES"),
    "text-classification": ("AutoModelForSequenceClassification", "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES"),
    "text-ranking": ("AutoModelForSequenceClassification", "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES"),
    "token-classification": ("AutoModelForTokenClassification", "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES"),
    "question-answering": ("AutoModelForQuestionAnswering", "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES"),
    "image-classification": ("AutoModelForImageClassification", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES"),
}

_ENCODERS: Final = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "longt5": "LongT5EncoderModel",
}
"""Of these, sentence-transformers takes the encoder alone (``base/modules/transformer.py``)."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What the code of an architecture says, without its weights."""

    class_name: str  # BertModel
    forward_inputs: tuple[str, ...]  # names of the arguments of its forward
    positions: int | None  # tokens that it has positions for; None where there is no limit
    token_types: bool  # whether it tells token types apart


def load_config(folder: Path, *, remote_code: bool = False) -> HfConfig:
    """The model's ``PretrainedConfig``.

    Raises:
        ModelError: there is no ``config.json``, it cannot be read, or this transformers does not know the architecture.
    """
    with reading(folder, "config.json"):
        return lean.transformers().AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=remote_code
        )


def load_tokenizer(folder: Path, *, lower_case: bool = False, remote_code: bool = False) -> HfTokenizer:
    """The model's ``PreTrainedTokenizerFast``.

    Args:
        folder: where its files are.
        lower_case: puts lower-casing before its normalizer, as sentence-transformers 6.2 does for ``do_lower_case``.
        remote_code: whether the folder's own Python files may run.

    Raises:
        ModelError: the files cannot be read, or they make a slow tokenizer.
    """
    with reading(folder, "the tokenizer"):
        auto = lean.transformers().AutoTokenizer
        tokenizer = auto.from_pretrained(folder, local_files_only=True, trust_remote_code=remote_code)
    if not tokenizer.is_fast:
        raise ModelError(
            f"the tokenizer is a {type(tokenizer).__name__}, written in Python: it cannot be served",
            mend="take a model that has a tokenizer.json, or convert its tokenizer with transformers",
        )
    if lower_case:
        _lower_case(tokenizer.backend_tokenizer)
    return tokenizer


def load_model(folder: Path, task: str, *, attention: str | None = "eager", remote_code: bool = False) -> HfModel:
    """The model for a task, FP32, in evaluation mode. Weights in safetensors files are mapped: read when they are used.

    Args:
        folder: where its files are.
        task: of :data:`builder.recipe.tasks.TASKS`.
        attention: transformers' name of an implementation, or None for the one that it takes by itself. Only "eager" is
            to be traced: scaled-dot-product attention exports NaN guards that keep onnxruntime from fusing it.
        remote_code: whether the folder's own Python files may run.

    Raises:
        ModelError: the architecture has no such task, the checkpoint lacks weights for it, or it cannot be loaded.
    """
    config = load_config(folder, remote_code=remote_code)
    import torch

    if hasattr(config, "use_cache"):
        config.use_cache = False  # keys and values of decoders: not asked for, and outputs that a trace would have
    auto = _auto_class(config, task)
    with reading(folder, "the model"), quiet():
        model, info = auto.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            trust_remote_code=remote_code,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation=attention,
            output_loading_info=True,
        )
    model.tritonsmith_missing_keys = frozenset(info["missing_keys"])
    return model.eval()


def parameter_values(model: HfModel, names: Iterable[str]) -> dict[str, Array]:
    """Values of parameters or buffers as numpy arrays; each name begins with ``model.``, as in a traced module."""
    state = model.state_dict()
    return {name: state[name.removeprefix("model.")].contiguous().numpy() for name in names}


def build_model(config: HfConfig, task: str, *, remote_code: bool = False) -> HfModel:
    """An untrained model, FP32, in evaluation mode.

    Raises:
        ModelError: the architecture has no such task, or the configuration contradicts itself.
    """
    import torch

    auto = _auto_class(config, task)
    with reading(None, "the architecture"), quiet():
        make = getattr(auto, "from_config", None) or auto._from_config  # an AutoModel…, or one of _ENCODERS
        trusted = {"trust_remote_code": True} if remote_code else {}
        return make(config, dtype=torch.float32, attn_implementation="eager", **trusted).eval()


def architecture(folder: Path, task: str, *, remote_code: bool = False) -> Architecture:
    """Facts about the architecture: it is built without weights, on the ``meta`` device if it lets itself be.

    Raises:
        ModelError: as :func:`load_model`.
    """
    config = load_config(folder, remote_code=remote_code)
    import torch

    try:
        with torch.device("meta"):
            model = build_model(config, task, remote_code=remote_code)
    except ModelError:  # some compute with values while they are built
        model = build_model(config, task, remote_code=remote_code)
    return Architecture(
        class_name=type(model).__name__,
        forward_inputs=tuple(inspect.signature(model.forward).parameters),
        positions=positions(model, config),
        # deberta-v2 has a token_type_ids argument, and with 0 types does nothing with it.
        token_types=getattr(config, "type_vocab_size", 1) != 0,
    )


def encode(
    tokenizer: HfTokenizer, texts: Sequence[tuple[str, ...]], max_length: int, truncation: str = "longest_first"
) -> list[dict[str, list[int]]]:
    """Tokens of each text (or pair of texts) by the Hugging Face tokenizer, truncated, not padded.

    Args:
        tokenizer: what :func:`load_tokenizer` returned.
        texts: texts, or pairs.
        max_length: tokens, special tokens included.
        truncation: longest_first, or only_second for pairs whose first text is to stay whole.

    Raises:
        ModelError: a first text that must stay whole leaves no room for the second.
    """
    if not texts:
        return []
    with quiet():
        try:
            encoded = tokenizer(
                [text[0] for text in texts],
                [text[1] for text in texts] if len(texts[0]) > 1 else None,
                truncation=truncation,
                max_length=max_length,
                padding=False,
            )
        except Exception as error:
            if truncation != "only_second":
                raise
            raise ModelError(f"a first text leaves no room for the second in {max_length} tokens: {error}") from error
    return [{name: encoded[name][index] for name in encoded} for index in range(len(texts))]


def make_random_model(config: Mapping[str, Any], seed: int, folder: Path, task: str, out: Path) -> None:
    """Writes a model with seeded random weights; see :func:`builder.tools.random_model.make_random_model`."""
    from builder.tools import random_model

    with _ONE_AT_A_TIME:
        random_model.make_random_model(config, seed, folder, task, out)


def run_model(model: HfModel, inputs: Mapping[str, Array], output: str) -> Array:
    """One output of the model; see :func:`run_outputs`."""
    return run_outputs(model, inputs, (output,))[0]


def run_outputs(model: HfModel, inputs: Mapping[str, Array], outputs: Sequence[str]) -> tuple[Array, ...]:
    """Some outputs (``last_hidden_state``, ``logits``) of the model as numpy arrays, FP32.

    Args:
        model: what :func:`load_model` returned.
        inputs: numpy arrays, by name: token ids INT64 [batch, sequence], or pixels FP32 [batch, channels, H, W].
        outputs: names in the model's output object.
    """
    import torch

    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    with torch.inference_mode():
        answer = model(**tensors, return_dict=True)
    return tuple(answer[name].numpy() for name in outputs)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch compute with one thread while the block runs.

    The last bits of a sum depend on how many threads share it, and so would the expected answers on the machine that
    builds. Nor is it slower where it matters: two threads that waited for each other on two virtual cores took ten
    times as long.
    """
    lean.transformers()  # which imports torch
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _lower_case(backend: HfTokenizer) -> None:
    from tokenizers.normalizers import Lowercase, Sequence

    now = backend.normalizer
    present = list(cast("Iterable[Any]", now)) if isinstance(now, Sequence) else [now]
    if not any(isinstance(normalizer, Lowercase) for normalizer in present):
        backend.normalizer = Sequence([Lowercase(), *(item for item in present if item is not None)])


def _auto_class(config: HfConfig, task: str) -> HfModel:
    """The ``AutoModel…`` class of a task.

    Raises:
        ModelError: transformers has no model of this architecture for the task.
    """
    transformers = lean.transformers()
    from transformers.models.auto import modeling_auto

    if task == "sentence-embedding" and config.model_type in _ENCODERS:
        return getattr(transformers, _ENCODERS[config.model_type])
    name, mapping = _AUTO_CLASSES[task]
    if name in (getattr(config, "auto_map", None) or {}):
        return getattr(transformers, name)  # the model brings a class of its own for the task
    if config.model_type not in getattr(modeling_auto, mapping):
        raise ModelError(
            f"config.json: model_type {config.model_type!r} has no {task} model in transformers "
            f"{transformers.__version__} ({name} does not know it)",
            mend=f"take a model whose architecture can do {task}, or another task in the recipe",
        )
    return getattr(transformers, name)


def positions(model: HfModel, config: HfConfig) -> int | None:
    """How many tokens the model has positions for.

    Roberta and its relatives count positions from ``padding_idx + 1``, and say so by a padding index in the position
    embedding: their 514 positions are 512 tokens.
    """
    import torch

    count = getattr(config, "max_position_embeddings", None)
    if not isinstance(count, int) or count < 1:  # XLNet: -1 for "no limit"
        return None
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            return int(min(count, module.num_embeddings)) - offset
    return int(count)


@contextlib.contextmanager
def reading(folder: Path | None, what: str) -> Iterator[None]:
    """Turns whatever transformers raises about a model's files into a ``ModelError`` that names what was read."""
    try:
        yield
    except (TritonsmithError, MemoryError):
        raise
    except Exception as error:
        text = str(error) if folder is None else str(error).replace(str(folder), "the model")
        reason = " ".join(text.split()) or type(error).__name__
        raise ModelError(f"{what} cannot be loaded by transformers: {reason[:500]}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' progress bars and advice off the terminal: what matters is raised or recorded by us."""
    from transformers.utils import logging as transformers_logging

    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()

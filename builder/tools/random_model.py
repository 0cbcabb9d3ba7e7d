"""Models with random weights: real architectures and sizes for benchmarks and tests, without a hub.

The bytes depend on the configuration and the seed alone, not on the machine: numpy draws the weights one by one, and
whatever is computed with torch is rounded coarsely before it is stored.
"""

from __future__ import annotations

import inspect
import logging
import shutil
from typing import TYPE_CHECKING, Any, Final

from builder.errors import ModelError
from builder.tools import hf, hf_images, lean, pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from builder.tools.opaque import Array, HfConfig, HfModel, HfTokenizer

log = logging.getLogger(__name__)

_DEFAULT_STD: Final = 0.02
_LARGE_PARAMETERS: Final = 50_000_000
_SPREAD: Final = 2.0  # standard deviation that the logits of a classifier are given, where they differ most
_CONDITIONS: Final = (1, 2, 4, 8, 16)  # how much more the logits may be scaled in one direction than in another
_BIAS_STEP: Final = 0.125
_BIAS_ROUNDS: Final = 400
_OF_PAIRS: Final = ("question-answering", "text-ranking")
_ASKED: Final[Mapping[str, str]] = {"token-classification": "tokens", "image-classification": "images"}
_OUTPUTS: Final[Mapping[str, tuple[str, ...]]] = {"question-answering": ("start_logits", "end_logits")}

TEXTS: Final = (
    "The train to the coast leaves at seven in the morning.",
    "I would not recommend this restaurant to anyone, the soup was cold and the waiter rude.",
    "A wonderful film!",
    "Interest rates were raised by a quarter of a percentage point on Wednesday.",
    "How do I reset my password?",
    "no",
    "Water boils at a lower temperature on top of a mountain, because the pressure of the air is lower there.",
    "She played the second movement slower than anybody had dared to before, and the hall fell silent.",
    "ERROR 404: page not found",
    "Der Hund schläft unter dem Tisch.",
    "La bibliothèque est fermée le lundi.",
    "El mercado abre todos los días a las ocho.",
    "Сегодня идёт дождь.",
    "今日は天気がいいですね。",
    "今天我们去公园散步。",
    "שלום, מה שלומך?",
    "مرحبا بكم في المكتبة",
    "def add(a, b): return a + b",
    "Buy now!!! Limited offer, 50% off everything.",
    "The committee will meet again in March to discuss the report, the budget and the date of the next election.",
    "my cat keeps knocking glasses off the table and i do not know what to do about it",
    "42",
    "Two thirds of the students passed the examination.",
    "It rained for three weeks; then the river came.",
    "Please call me back after six.",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
    "We lost again. Fourth time in a row.",
    "Thank you so much for the flowers, they are lovely 🌷",
    "The defendant pleaded not guilty to all charges.",
    "Mix the flour with the butter, add two eggs, and let the dough rest for an hour.",
    "Why is the sky blue?",
    "Shares of the company fell sharply after the announcement, and trading was halted for an hour.",
)
"""Texts over which a random classifier's logits are spread, so that every label occurs."""


def make_random_model(config: Mapping[str, Any], seed: int, folder: Path, task: str, out: Path) -> None:
    """Writes a model with seeded random weights: config.json, model.safetensors, and how its inputs are made.

    For all tasks with logits the last layer is scaled and shifted so that every label is the answer to some text (or
    token, or image): otherwise nearly all random classifiers give one label to everything, and a comparison of labels
    proves nothing.

    Args:
        config: as in config.json; ``model_type`` is needed.
        seed: same seed, same bytes.
        folder: whose tokenizer files are copied; of a model that takes images, its preprocessor_config.json.
        task: as in a recipe.
        out: an existing folder.

    Raises:
        ModelError: the configuration makes no model for the task, its vocabulary is smaller than the tokenizer's, or
            no scaling makes every label occur.
    """
    counted = {"num_labels", "id2label"} & set(config)
    made = _config({**config, "num_labels": 1} if task == "text-ranking" and not counted else config)
    ask = _images(folder) if task == "image-classification" else _texts(folder, made, task)
    model = hf.build_model(made, task)
    _fill(model, seed, lively=task != "sentence-embedding")
    if task != "sentence-embedding":
        with hf.one_thread():
            _spread_logits(model, made, ask, task)
    with hf.quiet():
        model.save_pretrained(out)
    for name in (*hf.TOKENIZER_FILES, hf_images.SETTINGS_FILE):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)


def _texts(folder: Path, config: HfConfig, task: str) -> Callable[[HfModel], Array]:
    """Asks a model :data:`TEXTS`, or pairs of them: logits, FP64 [texts or tokens, labels].

    Raises:
        ModelError: the model's vocabulary is smaller than the tokenizer's.
    """
    tokenizer = hf.load_tokenizer(folder)
    vocabulary = getattr(config, "vocab_size", None)
    if not isinstance(vocabulary, int) or len(tokenizer) > vocabulary:
        raise ModelError(
            f"source.architecture: vocab_size is {vocabulary!r:.100}; allowed: {len(tokenizer)} or more, the size of "
            f"the vocabulary of {folder}",
            mend="set vocab_size in source.architecture.config, or name a text model's architecture",
        )
    alone = [(text,) for text in TEXTS]
    texts = list(zip(TEXTS, TEXTS[1:] + TEXTS[:1], strict=True)) if task in _OF_PAIRS else alone
    return lambda model: _logits(model, tokenizer, texts, _OUTPUTS.get(task, ("logits",)))


def _images(folder: Path) -> Callable[[HfModel], Array]:
    """Asks a model plain pictures: logits, FP64 [pictures, labels]."""
    pixels = hf_images.pixels_of(hf_images.load(folder), pictures.pictures())
    return lambda model: hf.run_model(model, {"pixel_values": pixels}, "logits").astype("float64")


def _fill(model: HfModel, seed: int, *, lively: bool) -> None:
    """Replaces every parameter that torch drew at random; what is constant (biases, layer norms) stays.

    Args:
        model: its parameters are written to.
        seed: of the draws.
        lively: gives linear layers weights that keep the size of what goes through them. With those that models are
            trained from (0.02) the first token hardly knows of the others: a classifier's logits would differ between
            texts by little more than the noise of FP32.
    """
    import numpy as np

    parameters = {name: value.detach().numpy() for name, value in model.named_parameters()}
    count = sum(array.size for array in parameters.values())
    if count > _LARGE_PARAMETERS:
        log.info("drawing %d million random weights", count // 1_000_000)
    random = np.random.Generator(np.random.PCG64(seed))
    std = getattr(model.config, "initializer_range", None) or _DEFAULT_STD
    if not isinstance(std, int | float):
        raise ModelError(
            f"source.architecture: initializer_range is {std!r:.100}; allowed: a number",
            mend=f"leave it out: it is {_DEFAULT_STD} then",
        )
    fan_in = _fan_in(model) if lively else {}
    for name in sorted(parameters):
        array = parameters[name]
        flat = array.reshape(-1)
        if (flat.size > 1 and flat[0] != flat[-1]) or array.ndim > 1:
            random.standard_normal(out=flat, dtype=np.float32)
            flat *= np.float32(max(std, fan_in.get(name, 0.0)))


def _fan_in(model: HfModel) -> dict[str, float]:
    """Standard deviation that keeps the size of a layer's input, by the name of each linear layer's weight."""
    import torch

    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)]
    return {f"{name}.weight": float(layer.in_features) ** -0.5 for name, layer in layers}


def _spread_logits(model: HfModel, config: HfConfig, ask: Callable[[HfModel], Array], task: str) -> None:
    """Makes the logits wide and centred over what was asked, then shifts them until all labels occur.

    One factor for all labels is tried first; only where that leaves a label out are the directions evened out in which
    the logits hardly differ. The less they are the better: large weights amplify the noise of FP32, and a classifier
    whose answers are noise cannot be compared.
    """
    import numpy as np

    weight, bias = _last_linear(model, config.num_labels)
    bias[:] = 0
    logits = ask(model)
    covariance = np.atleast_2d(np.cov(logits, rowvar=False))
    scales, axes = np.linalg.eigh(covariance)
    single = config.num_labels > 1 and config.problem_type not in {"regression", "multi_label_classification"}
    single = single and task != "question-answering"
    for condition in _CONDITIONS if scales.max() > 0 else ():
        mixing = _rounded((axes / np.sqrt(np.maximum(scales, scales.max() / condition**2))) @ axes.T * _SPREAD)
        mixed = logits @ mixing.T  # the layer is linear
        bias[:] = -_on_grid(mixed.mean(axis=0))
        if not single or _shift_until_all_occur(mixed, bias):
            weight[:] = sum(mixing[:, [column]] * weight[[column]].astype(np.float64) for column in range(len(mixing)))
            return
    asked = _ASKED.get(task, "texts")
    raise ModelError(
        f"source.architecture: with this seed no scaling makes all {len(bias)} labels occur in {len(logits)} {asked}",
        mend=f"take fewer labels (up to about {len(logits) // 4}), or another seed",
    )


def _shift_until_all_occur(logits: Array, bias: Array) -> bool:
    """Raises the biases of labels that do not occur. Returns whether all labels do in the end."""
    import numpy as np

    for _ in range(_BIAS_ROUNDS):
        missing = np.setdiff1d(np.arange(len(bias)), (logits + bias).argmax(axis=1))
        if not len(missing):
            return True
        bias[missing[0]] += np.float32(_BIAS_STEP)
    return False


def _logits(
    model: HfModel, tokenizer: HfTokenizer, texts: Sequence[tuple[str, ...]], outputs: tuple[str, ...]
) -> Array:
    """FP64 [texts, labels]; or [tokens of all texts, labels]."""
    import numpy as np

    rows, taken = [], inspect.signature(model.forward).parameters
    for item in hf.encode(tokenizer, texts, min(64, hf.positions(model, model.config) or 64)):
        inputs = {name: np.asarray([value], np.int64) for name, value in item.items() if name in taken}
        values = hf.run_outputs(model, inputs, outputs)
        rows.append(np.stack([value[0] for value in values], axis=-1) if len(values) > 1 else values[0][0])
    return np.concatenate([np.atleast_2d(row) for row in rows]).astype(np.float64)


def _config(values: Mapping[str, Any]) -> HfConfig:
    rest = {key: value for key, value in values.items() if key not in {"model_type", "transformers_version"}}
    try:
        config = lean.transformers().AutoConfig.for_model(values["model_type"], **rest)
    except Exception as error:
        reason = " ".join(str(error).split())[:500]
        raise ModelError(
            f"source.architecture: transformers cannot make this configuration: {reason}",
            mend="mend source.architecture.config",
        ) from error
    for key, value, right in (
        ("num_labels", config.num_labels, isinstance(config.num_labels, int) and config.num_labels > 0),
        ("problem_type", config.problem_type, isinstance(config.problem_type, str | None)),
    ):
        if not right:
            raise ModelError(
                f"source.architecture: {key} is {value!r:.100}, which transformers does not understand",
                mend=f"write {key} in source.architecture.config as a config.json does, or leave it out",
            )
    return config


def _last_linear(model: HfModel, labels: int) -> tuple[Array, Array]:
    """Weight [labels, width] and bias [labels] of the layer that makes the logits, sharing memory with the model."""
    import torch

    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    last = next((layer for layer in reversed(layers) if layer.out_features == labels), None)
    if last is None or last.bias is None:
        raise ModelError(f"source.architecture: {type(model).__name__} has no last layer with a bias to scale")
    return last.weight.detach().numpy(), last.bias.detach().numpy()


def _rounded(values: Array) -> Array:
    """To two significant digits of the largest: what differs between CPUs is far below."""
    import numpy as np

    unit = 10.0 ** (np.floor(np.log10(np.abs(values).max())) - 2)
    return np.round(values / unit) * unit


def _on_grid(values: Array) -> Array:
    import numpy as np

    return np.round(values / _BIAS_STEP) * _BIAS_STEP

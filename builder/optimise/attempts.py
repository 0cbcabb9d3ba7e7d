"""What is tried for a precision, in order: until one attempt is within tolerance.

All of it; then with the operations that do most damage in FP32; then BF16; then FP32. Which operations do damage is
measured: the model and its conversion answer the same samples, and what goes through them is compared.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from builder.optimise.able import BF16, CPU, FP8, FP16, INT8, refusal
from builder.parity.ledger import Entry, entry
from builder.recipe.tasks import NEIGHBOURS
from builder.tools import activations, half, onnx_proto, qdq, rowwise, switches
from builder.tools.onnxruntime import Session
from builder.tools.products import products, weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from builder.parity.questions import Questions
    from builder.tools.opaque import Array
    from builder.tools.products import Product

log = logging.getLogger(__name__)

_SHARES: Final = (0.05, 0.2)
"""Of the operations that add to the error, how many stay in FP32: each share once."""

CALIBRATION_FILE: Final = "calibration.json"
"""Scales that were found on the samples, beside an INT8 or FP8 model for TensorRT."""

_KEPT_WEIGHTS: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
"""Of the weights of matrix products, how many stay as they are where the others are INT8 or FP8: each share once."""

_MARGIN: Final = 0.01
"""By how much more neighbours must be kept by the samples that settings are chosen by: other texts, and another version
of onnxruntime (seen: 0.959 in one, 0.948 in the other), move one text in a hundred."""

_MEASURED_BATCHES: Final = 8
"""Batches that tell which operations do damage."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A model to be compared with the reference."""

    what: str  # for the ledger
    used: str  # precision
    folder: Path  # model.onnx and the data files that were written for it
    runnable: Path  # what onnxruntime runs in its place on the CPU
    kept: tuple[str, ...] = ()  # names of nodes that stay in FP32
    ledger: tuple[Entry, ...] = ()  # what was compared on the way to it


@dataclass(frozen=True, slots=True)
class Workshop:
    """The model and the room in which it is converted."""

    model: Any  # onnx.ModelProto, in FP32
    folder: Path  # its files
    room: Path  # an empty folder
    questions: Questions  # with the reference's answers
    chosen_by: Questions  # other samples, with this model's own answers: settings are chosen by them

    @property
    def measured(self) -> Sequence[Mapping[str, Array]]:
        """A few batches, of all lengths."""
        inputs = self.chosen_by.inputs
        step = max(1, len(inputs) // _MEASURED_BATCHES)
        return inputs[::step]


def attempts(
    precision: str, runtime: str, capabilities: Sequence[str], shop: Workshop, tolerances: Mapping[str, float]
) -> Iterator[Attempt]:
    """The attempts for a precision other than fp32, the wanted one first; FP32 is not among them."""
    if precision == FP16:
        yield from _halves(shop, FP16)
    elif precision == BF16:
        yield from _halves(shop, BF16)
    elif precision in {INT8, FP8}:
        yield from _eight_bits(shop, precision, runtime, tolerances)
    if precision in {FP16, INT8, FP8} and not refusal(BF16, runtime, capabilities):
        yield from _halves(shop, BF16)


def _halves(shop: Workshop, precision: str) -> Iterator[Attempt]:
    kept = _overflowing(shop) if precision == FP16 else []
    first = _half(shop, precision, kept, precision)
    yield first
    log.info("optimise: %s: looking for the operations that do most damage", precision)
    worst = list(activations.damage(shop.model, onnx_proto.load(first.runnable), first.folder, shop.measured))
    for count in dict.fromkeys(max(1, round(share * len(worst))) for share in _SHARES):
        more = worst[:count]
        yield _half(shop, precision, [*kept, *more], f"{precision}, the worst {len(more)} operations in fp32")


def _overflowing(shop: Workshop) -> list[str]:
    largest = activations.magnitudes(shop.model, shop.folder, shop.measured)
    kept = activations.overflowing(shop.model, largest)
    log.info("optimise: fp16: %d operations stay in fp32: too large for it", len(kept))
    return kept


def _half(shop: Workshop, precision: str, keep: Sequence[str], what: str) -> Attempt:
    out = _folder(shop, what)
    converted = half.convert(shop.model, precision, keep)
    half.save(converted, shop.folder, out)
    # The file itself is loaded too, where onnxruntime has kernels for it: a converter's file need not load.
    if precision == FP16:
        Session(out / "model.onnx")
    runnable = out / "emulated.onnx"
    onnx_proto.save(half.emulated(converted.proto), runnable)
    return Attempt(what, precision, out, runnable, tuple(dict.fromkeys(keep)))


_Quantise = Callable[[str, Sequence[str]], "tuple[Attempt, Path]"]
"""What the attempt is called, and products to leave alone → the attempt, and the model with nothing else converted."""


def _eight_bits(shop: Workshop, precision: str, runtime: str, tolerances: Mapping[str, float]) -> Iterator[Attempt]:
    """INT8 or FP8. How many products stay as they are is chosen by samples that the reference need not hold."""
    made = products(shop.model)
    if not made:
        return
    log.info("optimise: %s: settings of %d matrix products", precision, len(made))
    quantised = _for_cpu(shop, made) if runtime == CPU else _for_tensorrt(shop, precision, made)
    worst: list[str] = []
    tried: set[tuple[str, ...]] = set()
    for share in _KEPT_WEIGHTS:
        kept = _kept(shop, made, worst, share)
        if kept in tried:
            continue
        tried.add(kept)
        what = f"{precision}, without the worst {len(kept)} matrix products" if kept else precision
        attempt, plain = quantised(what, kept)
        answers = shop.chosen_by.ask(Session(attempt.runnable))
        limits = _with_margin(tolerances)
        seen = entry(f"{what} (calibration)", shop.questions.metric, shop.chosen_by.expected, answers, limits)
        yield replace(attempt, ledger=(seen,))
        worst = worst or _worst(shop, made, plain)


def _with_margin(tolerances: Mapping[str, float]) -> dict[str, float]:
    """What the samples that settings are chosen by are held to."""
    held = dict(tolerances)
    if NEIGHBOURS in held:
        held[NEIGHBOURS] = min(1.0, held[NEIGHBOURS] + _MARGIN)
    return held


def _for_cpu(shop: Workshop, made: Sequence[Product]) -> _Quantise:
    chosen = rowwise.settings(*_multiplied(shop, made))

    def quantised(what: str, kept: Sequence[str]) -> tuple[Attempt, Path]:
        out = _folder(shop, what)
        some = [one for one in made if one.name not in kept]
        onnx_proto.save(rowwise.quantise(shop.model, shop.folder, some, chosen, out), out / "model.onnx")
        return Attempt(what, INT8, out, out / "model.onnx", tuple(kept)), out / "model.onnx"

    return quantised


def _for_tensorrt(shop: Workshop, precision: str, made: Sequence[Product]) -> _Quantise:
    """Q/DQ, and everything else in FP16."""
    values, multiplied = _multiplied(shop, made)
    chosen = qdq.settings(values, multiplied) if precision == INT8 else qdq.fp8_settings(values)
    exact = _overflowing(shop)

    def quantised(what: str, kept: Sequence[str]) -> tuple[Attempt, Path]:
        out = _folder(shop, what)
        some = [one for one in made if one.name not in kept]
        whole = qdq.quantise(shop.model, shop.folder, some, chosen, shop.questions.inputs[0], out, precision)
        onnx_proto.save(whole, out / "qdq.onnx")
        converted = half.convert(whole, FP16, [*exact, *kept])
        onnx_proto.externalise(converted.proto, out, f"model.{precision}.data")
        onnx_proto.save(converted.proto, out / "model.onnx")
        (out / CALIBRATION_FILE).write_text(json.dumps(qdq.as_json(chosen), indent=1), encoding="utf-8")
        onnx_proto.save(half.emulated(converted.proto), out / "emulated.onnx")
        every = tuple(dict.fromkeys((*exact, *kept)))
        return Attempt(what, precision, out, out / "emulated.onnx", every), out / "qdq.onnx"

    return quantised


def _multiplied(shop: Workshop, made: Sequence[Product]) -> tuple[dict[str, Array], dict[str, list[Array]]]:
    """Rows of what is multiplied, and the weights that it is multiplied with."""
    names = list(dict.fromkeys(one.takes for one in made))
    exact = weights(shop.model, shop.folder, made)
    multiplied: dict[str, list[Array]] = {name: [] for name in names}
    for one in made:
        multiplied[one.takes].append(exact[one.name])
    return activations.rows(shop.model, shop.folder, names, shop.chosen_by.inputs), multiplied


def _kept(shop: Workshop, made: Sequence[Product], worst: Sequence[str], share: float) -> tuple[str, ...]:
    """The worst products that together hold no more than a share of all weights."""
    sizes = {name: values.size for name, values in weights(shop.model, shop.folder, made).items()}
    left, kept = share * sum(sizes.values()), []
    for name in worst:
        if sizes[name] <= left:
            left -= sizes[name]
            kept.append(name)
    return tuple(kept)


def _worst(shop: Workshop, made: Sequence[Product], quantised: Path) -> list[str]:
    """The products by what each of them alone, in 8 bits, does to the answers, for each of its weights; worst first.

    Args:
        shop: the model.
        made: its products.
        quantised: the model with all of them in 8 bits, and everything else in FP32.
    """
    import numpy as np

    log.info("optimise: which of %d matrix products does most damage", len(made))
    names = [one.name for one in made]
    path = quantised.with_name("switched.onnx")
    onnx_proto.save(switches.switched(shop.model, onnx_proto.load(quantised), names), path)
    session, sizes = Session(path, as_written=True), weights(shop.model, shop.folder, made)
    found = dict.fromkeys(names, 0.0)
    for inputs in shop.measured:

        def ask(*on: int, inputs: Mapping[str, Array] = inputs) -> Array:
            told = np.isin(np.arange(len(made)), on)
            answer = session.run({**inputs, switches.INPUT: told}, shop.questions.outputs)
            return np.concatenate([values.reshape(-1) for values in answer.values()])

        exact = ask()
        for index, name in enumerate(names):
            found[name] += float(np.square(ask(index) - exact).sum() / sizes[name].size)
    return sorted(found, key=lambda name: -found[name])


def _folder(shop: Workshop, what: str) -> Path:
    """A folder for an attempt, with links to the model's data: what is unchanged is read from there."""
    count = sum(1 for _ in shop.room.iterdir())  # two attempts may keep as many products, and others
    out = shop.room / f"{count}-{what.replace(' ', '-').replace(',', '')}"
    out.mkdir()
    for file in shop.folder.iterdir():
        if file.name != "model.onnx":
            (out / file.name).hardlink_to(file)
    return out

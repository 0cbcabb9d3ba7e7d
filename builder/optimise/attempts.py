"""What is tried for a precision, in order: until one attempt is within tolerance.

All of it; then with the operations that do most damage in FP32; then BF16; then FP32. Which operations do damage is
measured: the model and its conversion answer the same samples, and what goes through them is compared.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from builder.optimise.able import BF16, FP16, INT8, refusal
from builder.parity.ledger import Entry, entry
from builder.tools import activations, half, onnx_proto, rowwise
from builder.tools.onnxruntime import Session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from builder.optimise.questions import Questions
    from builder.tools.opaque import Array

log = logging.getLogger(__name__)

_SHARES: Final = (0.05, 0.2)
"""Of the operations that add to the error, how many stay in FP32: each share once."""

_KEPT_WEIGHTS: Final = (0.0, 0.05, 0.1, 0.2, 0.3)
"""Of the weights of matrix products, how many stay in FP32 where the others are INT8: each share once."""

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
    elif precision == INT8:
        yield from _int8(shop, tolerances)
    if precision in {FP16, INT8} and not refusal(BF16, runtime, capabilities):
        yield from _halves(shop, BF16)


def _halves(shop: Workshop, precision: str) -> Iterator[Attempt]:
    kept: list[str] = []
    if precision == FP16:
        largest = activations.magnitudes(shop.model, shop.folder, shop.measured)
        kept = activations.overflowing(shop.model, largest)
        log.info("optimise: %s: %d operations stay in fp32: too large for it", precision, len(kept))
    first = _half(shop, precision, kept, precision)
    yield first
    log.info("optimise: %s: looking for the operations that do most damage", precision)
    worst = list(activations.damage(shop.model, onnx_proto.load(first.runnable), first.folder, shop.measured))
    for share in _SHARES:
        more = worst[: max(1, round(share * len(worst)))]
        yield _half(shop, precision, [*kept, *more], f"{precision}, the worst {len(more)} operations in fp32")


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


def _int8(shop: Workshop, tolerances: Mapping[str, float]) -> Iterator[Attempt]:
    """INT8 for the CPU. How many products stay in FP32 is chosen by samples that the reference does not hold."""
    made = rowwise.products(shop.model)
    if not made:
        return
    chosen = _settings(shop, made)
    worst: list[str] = []
    for share in _KEPT_WEIGHTS:
        kept = _kept(shop, made, worst, share)
        what = f"{INT8}, the worst {len(kept)} matrix products in fp32" if kept else INT8
        attempt = _quantised(shop, [one for one in made if one.name not in kept], chosen, what)
        answers = shop.chosen_by.ask(Session(attempt.runnable))
        seen = entry(f"{what} (calibration)", shop.questions.metric, shop.chosen_by.expected, answers, tolerances)
        yield replace(attempt, kept=kept, ledger=(seen,))
        worst = worst or _worst(shop, made, chosen)


def _kept(shop: Workshop, made: Sequence[rowwise.Product], worst: Sequence[str], share: float) -> tuple[str, ...]:
    """The worst products that together hold no more than a share of all weights."""
    sizes = {name: values.size for name, values in rowwise.weights(shop.model, shop.folder, made).items()}
    left, kept = share * sum(sizes.values()), []
    for name in worst:
        if sizes[name] <= left:
            left -= sizes[name]
            kept.append(name)
    return tuple(kept)


def _worst(shop: Workshop, made: Sequence[rowwise.Product], chosen: Mapping[str, rowwise.Setting]) -> list[str]:
    """The products by what each of them alone, in INT8, does to the answers, for each of its weights; worst first."""
    import numpy as np

    log.info("optimise: int8: which of %d matrix products does most damage", len(made))
    out = _folder(shop, "switched")
    onnx_proto.save(rowwise.quantise(shop.model, shop.folder, made, chosen, out, switched=True), out / "model.onnx")
    session, sizes = Session(out / "model.onnx"), rowwise.weights(shop.model, shop.folder, made)
    found = dict.fromkeys((one.name for one in made), 0.0)
    for inputs in shop.measured:

        def ask(*on: int, inputs: Mapping[str, Array] = inputs) -> Array:
            switches = np.isin(np.arange(len(made)), on)
            answer = session.run({**inputs, rowwise.SWITCHES: switches}, shop.questions.outputs)
            return np.concatenate([values.reshape(-1) for values in answer.values()])

        exact = ask()
        for index, name in enumerate(found):
            found[name] += float(np.square(ask(index) - exact).sum() / sizes[name].size)
    return sorted(found, key=lambda name: -found[name])


def _settings(shop: Workshop, made: Sequence[rowwise.Product]) -> dict[str, rowwise.Setting]:
    log.info("optimise: int8: settings of %d matrix products", len(made))
    names = list(dict.fromkeys(one.takes for one in made))
    values = activations.rows(shop.model, shop.folder, names, shop.measured)
    exact = rowwise.weights(shop.model, shop.folder, made)
    multiplied: dict[str, list[Array]] = {name: [] for name in names}
    for one in made:
        multiplied[one.takes].append(exact[one.name])
    return rowwise.settings(values, multiplied)


def _quantised(
    shop: Workshop, made: Sequence[rowwise.Product], chosen: Mapping[str, rowwise.Setting], what: str
) -> Attempt:
    out = _folder(shop, what)
    onnx_proto.save(rowwise.quantise(shop.model, shop.folder, made, chosen, out), out / "model.onnx")
    return Attempt(what, INT8, out, out / "model.onnx")


def _folder(shop: Workshop, what: str) -> Path:
    """A folder for an attempt, with links to the model's data: what is unchanged is read from there."""
    out = shop.room / what.replace(" ", "-").replace(",", "")
    out.mkdir()
    for file in shop.folder.iterdir():
        if file.name != "model.onnx":
            (out / file.name).hardlink_to(file)
    return out

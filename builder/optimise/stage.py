"""The stage ``optimise``: the model at the target's precision, proven by a parity ledger.

Precision is in the graph: runtimes are told nothing more. After the export and after each attempt the reference's
samples are answered anew and compared by the task's metric; the first attempt within tolerance is the output. When all
of them miss, FP32 is used and the record says so; with ``fallback`` off, the first miss is an error.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar, Final

from builder.artifacts import OnnxModel, TokenizerFiles
from builder.core.digest import describe_file, digest_json
from builder.core.versions import version
from builder.errors import GateError, InternalError, ModelError
from builder.optimise.able import FP32, refusal
from builder.optimise.attempts import CALIBRATION_FILE, Workshop, attempts
from builder.parity.ledger import entry
from builder.parity.questions import Questions, calibration, questions
from builder.tools import activations, onnx_proto
from builder.tools.files import materialise
from builder.tools.onnxruntime import Session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.artifacts import File, ImageFiles, Json, Reference, Sample
    from builder.optimise.attempts import Attempt
    from builder.parity.ledger import Entry

log = logging.getLogger(__name__)

_LIBRARIES: Final = ("numpy", "onnx", "onnx-ir", "onnxruntime", "tokenizers")

_GATHERED: Final = "model.unchanged.data"
"""Weights that no attempt changed, of files that are not worth shipping for them."""

_LIBRARIES_BYTES: Final = 400_000_000


@dataclass(frozen=True, slots=True)
class OptimiseInputs:
    """What the stage reads.

    ``calibration``: real samples by which settings are chosen, best others than the reference's; none: those.
    """

    model: OnnxModel
    reference: Reference
    tokens: TokenizerFiles | ImageFiles
    calibration: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class Optimise:
    """Converts a model to a precision; ``record["precision"]`` of its output says what was done and seen.

    Args:
        precision: fp32, fp16, bf16, int8, fp8.
        runtime: onnxruntime, tensorrt, tensorrt-rtx.
        capabilities: compute capabilities of the target's GPUs (``7.5``); none for a CPU.
        tf32: whether the runtime may compute FP32 matrix products in TF32: a fact for the engine, kept in the record.
        fallback: whether operations may stay in FP32, or all of them, when a tolerance is missed.
        tolerances: by key, as in :func:`builder.recipe.tasks.tolerances`.
    """

    precision: str
    runtime: str
    capabilities: tuple[str, ...] = ()
    tf32: bool = False
    fallback: bool = True
    tolerances: Mapping[str, float] = field(default_factory=dict)
    name: ClassVar[str] = "optimise"
    version: ClassVar[int] = 3
    apart: ClassVar[bool] = True

    def fingerprint(self, inputs: OptimiseInputs) -> Mapping[str, Json]:
        texts = [[sample.text, sample.text_pair] for sample in inputs.calibration]
        return {
            "precision": self.precision,
            "runtime": self.runtime,
            "capabilities": list(self.capabilities),
            "tf32": self.tf32,
            "fallback": self.fallback,
            "tolerances": dict(self.tolerances),
            "model": {name: file.sha256 for name, file in inputs.model.files.items()},
            "reference": {name: file.sha256 for name, file in inputs.reference.files.items()},
            "tokens": {name: file.sha256 for name, file in inputs.tokens.files.items()},
            "calibration": digest_json(texts) if texts else None,
            "versions": {name: version(name) for name in _LIBRARIES},
        }

    def requires(self, inputs: OptimiseInputs) -> None:  # noqa: ARG002 - a stage's signature
        if reason := refusal(self.precision, self.runtime, self.capabilities, tf32=self.tf32):
            raise ModelError(f"{self.runtime}: {reason}", mend="choose another precision for the target")

    def memory(self, inputs: OptimiseInputs) -> int:
        """The weights, mapped, converted and packed by onnxruntime; and what it computes of a batch."""
        return _LIBRARIES_BYTES + 5 * sum(file.size for file in inputs.model.files.values())

    def run(self, inputs: OptimiseInputs, out: Path) -> OnnxModel:
        with TemporaryDirectory(dir=out, prefix=".work-") as temporary:
            work = Path(temporary)
            shop = _workshop(inputs, work)
            exported = self._compared("export", shop.folder / "model.onnx", shop.questions)
            if not exported.within:
                raise ModelError(f"the exported model, in fp32: {exported.why()}", mend="see the tolerances it names")
            ledger, chosen = self._chosen(shop, [exported])
            record = self._record(shop, ledger, chosen)
            if chosen is None:
                return replace(inputs.model, record={**inputs.model.record, "precision": record})
            files = _published(chosen, inputs.model.files, out)
        return replace(inputs.model, files=files, record={**inputs.model.record, "precision": record})

    def ensures(self, inputs: OptimiseInputs, output: OnnxModel) -> None:  # noqa: ARG002 - a stage's signature
        if "model.onnx" not in output.files:
            raise InternalError("optimise: no model.onnx")

    def _chosen(self, shop: Workshop, ledger: list[Entry]) -> tuple[list[Entry], Attempt | None]:
        """All that was compared, and the attempt to use; None: the model stays as it was exported."""
        if self.precision == FP32:
            return ledger, None
        for attempt in attempts(self.precision, self.runtime, self.capabilities, shop, self.tolerances):
            ledger += attempt.ledger
            if all(one.within for one in attempt.ledger):
                ledger.append(self._compared(attempt.what, attempt.runnable, shop.questions))
            if ledger[-1].within:
                return ledger, attempt
            self._missed(ledger[-1])
        if len(ledger) == 1:
            raise ModelError(f"{self.precision}: the model has nothing to convert", mend="choose another precision")
        if reason := refusal(FP32, self.runtime, self.capabilities):
            raise GateError(f"{self.precision} misses its tolerances: {ledger[-1].why()}; and {reason}")
        log.info("optimise: fp32 is used in place of %s", self.precision)
        return [*ledger, replace(ledger[0], after="fp32")], None

    def _compared(self, after: str, path: Path, questions: Questions) -> Entry:
        seen = entry(after, questions.metric, questions.expected, questions.ask(Session(path)), self.tolerances)
        figures = ", ".join(f"{name} {value:.6g}" for name, value in seen.figures.items())
        log.info("optimise: after %s: %s", after, figures or seen.why())
        return seen

    def _missed(self, seen: Entry) -> None:
        if not self.fallback:
            raise GateError(
                f"{seen.after}: {seen.why()}",
                mend="allow precision_fallback, choose another precision, or set verify.parity",
            )
        log.info("optimise: %s misses its tolerance: %s", seen.after, seen.why())

    def _record(self, shop: Workshop, ledger: Sequence[Entry], chosen: Attempt | None) -> dict[str, Json]:
        named = {node.name: node.op_type for node in shop.model.graph.node}
        modules = activations.modules(shop.model) if chosen else {}
        kept = [{"name": name, "op": named[name], "module": modules[name]} for name in (chosen.kept if chosen else ())]
        return {
            "asked": self.precision,
            "used": chosen.used if chosen else FP32,
            "tf32": self.tf32,
            "kept_fp32": kept,
            "ledger": [one.as_json() for one in ledger],
            "tools": {name: version(name) for name in _LIBRARIES},
        }


def _workshop(inputs: OptimiseInputs, work: Path) -> Workshop:
    folder, room = materialise(inputs.model.files, work / "model"), work / "attempts"
    room.mkdir()
    asked = questions(inputs.reference, inputs.tokens)
    return Workshop(onnx_proto.load(folder / "model.onnx"), folder, room, asked, _choosing(inputs, asked, folder))


def _choosing(inputs: OptimiseInputs, asked: Questions, folder: Path) -> Questions:
    """The samples that settings are chosen by, with the answers of the model as it was exported."""
    if not inputs.calibration or not isinstance(inputs.tokens, TokenizerFiles):
        return asked
    batches = calibration(inputs.calibration, inputs.tokens)
    others = replace(asked, batches=batches, count=len(inputs.calibration))
    return replace(others, expected=others.ask(Session(folder / "model.onnx")))


def _published(chosen: Attempt, before: Mapping[str, File], out: Path) -> dict[str, File]:
    """The attempt's files: new ones are moved to ``out``; unchanged ones stay, if most of them is used."""
    model = onnx_proto.load(chosen.folder / "model.onnx")
    onnx_proto.gather(model, chosen.folder, _GATHERED, before)
    onnx_proto.save(model, chosen.folder / "model.onnx")
    files = {}
    more = [CALIBRATION_FILE] if (chosen.folder / CALIBRATION_FILE).exists() else []
    for name in sorted({"model.onnx", *more, *onnx_proto.data_files(model)}):
        if name != "model.onnx" and name in before:
            files[name] = before[name]
            continue
        (chosen.folder / name).replace(out / name)
        files[name] = describe_file(out / name)
    return files

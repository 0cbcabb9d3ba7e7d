"""The stage ``expected``: what a pipeline of named steps should answer, and what a wrong build would answer.

It walks the steps with :mod:`builder.export.expected_steps`, all samples a step at a time, nothing padded. Then it
walks them again for each negative control: some step makes a mistake, and what comes after it is answered anew.
"""

from __future__ import annotations

import json
import logging
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar, Final

from builder.artifacts import ModelParts, PipelinePlan, Reference, Row, Tree
from builder.core.codec import to_json
from builder.core.digest import describe_file, digest_json
from builder.errors import ModelError, UserError
from builder.export.expected_models import AskedModel
from builder.export.expected_steps import Around, answer, mistakes
from builder.export.model_files import code_files, digests, needed_memory
from builder.export.versions import versions
from builder.recipe.tasks import PIPELINE
from builder.tools import hf
from builder.tools.safetensors_values import save_arrays
from builder.tools.tensors import array_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.artifacts import Json, StepPlan
    from builder.export.expected_models import Tensors
    from builder.tools.opaque import Array

log = logging.getLogger(__name__)

REQUEST: Final = "request"
SWAPPED_PAIR: Final = "swapped_pair"

_PAIR: Final = ("TEXT", "TEXT_PAIR")
_READ_SUFFIXES: Final = (".json", ".safetensors", ".txt", ".model", ".codes")
_READERS: Final = frozenset({"tokenizer", "ensemble", "select", "image", "spans", "entities"})
_SAME: Final = 1e-6

Found = dict[str, "Tensors"]
"""Step, or REQUEST → its tensors."""

Outputs = dict[str, "Array"]
"""Output → [samples, …]."""


@dataclass(frozen=True, slots=True)
class ExpectedInputs:
    """What the stage is given.

    ``models`` are those that the plan names; ``own`` holds, for each python step, its file and ``vendor/…``.
    """

    models: dict[str, ModelParts]
    own: dict[str, Tree]
    samples: tuple[Row, ...]


@dataclass(frozen=True)
class Expect:
    """Answers the samples with transformers, in FP32, and writes the reference of a pipeline.

    Args:
        plan: the pipeline.
    """

    plan: PipelinePlan
    name: ClassVar[str] = "expected"
    version: ClassVar[int] = 3
    apart: ClassVar[bool] = True

    def fingerprint(self, inputs: ExpectedInputs) -> Mapping[str, Json]:
        return {
            "plan": to_json(self.plan),
            "models": {name: _model_key(parts) for name, parts in inputs.models.items()},
            "own": {step: digests(tree, tree) for step, tree in inputs.own.items()},
            "samples": digest_json([row.tensors for row in inputs.samples]),
            "versions": versions("torch", "transformers", "tokenizers", "numpy", "safetensors", "pillow"),
        }

    def requires(self, inputs: ExpectedInputs) -> None:
        if not inputs.samples:
            raise ModelError("there is no sample: nothing could be compared", mend="name a file in verify.samples")

    def memory(self, inputs: ExpectedInputs) -> int:
        """All models at once: each is asked again for the controls."""
        parts = [needed_memory(model.source, copies=1.25) for model in inputs.models.values()]
        base = needed_memory(next(iter(inputs.models.values())).source, copies=0) if parts else 0
        return sum(parts) - base * max(0, len(parts) - 1)

    def run(self, inputs: ExpectedInputs, out: Path) -> Reference:
        with ExitStack() as stack, hf.one_thread():
            work = Path(stack.enter_context(TemporaryDirectory(dir=out, prefix=".work-")))
            models = {name: AskedModel(parts, work, stack) for name, parts in inputs.models.items()}
            walk = _Walk(self.plan, Around(models, inputs.own, work))
            truth = walk.run(self._request(inputs.samples))
            outputs = self._outputs(truth)
            controls, left_out = self._controls(walk, truth)
        return _write(out, inputs, outputs, controls, self._record(outputs, controls, left_out))

    def ensures(self, inputs: ExpectedInputs, output: Reference) -> None:
        pass

    def _request(self, samples: Sequence[Row]) -> Tensors:
        dtypes = {tensor.name: tensor.dtype for tensor in self.plan.inputs}
        return {name: [array_of(row.tensors[name], dtypes[name]) for row in samples] for name in samples[0].tensors}

    def _outputs(self, found: Found) -> Outputs:
        """The outputs that clients see.

        Raises:
            ModelError: one has NaN or an infinity, or another shape for some sample.
        """
        import numpy as np

        outputs: Outputs = {}
        for name, reference in self.plan.outputs.items():
            step, _, tensor = reference.partition(".")
            rows = found[step][tensor]
            for index, row in enumerate(rows):
                if row.dtype.kind == "f" and not np.isfinite(row).all():
                    raise ModelError(f"output {name}: sample {index + 1} is answered with NaN or an infinity")
            outputs[name] = _stack(name, rows)
        return outputs

    def _controls(self, walk: _Walk, truth: Found) -> tuple[dict[str, Outputs], dict[str, str]]:
        """The outputs of each control; and why others were left out."""
        controls, left_out = {}, {}
        for mistake in walk.mistakes(truth[REQUEST]):
            log.info("expected: %s", mistake)
            try:
                controls[mistake] = self._outputs(walk.run(_swapped(truth[REQUEST], mistake), mistake, truth))
            except UserError as error:  # a sample that this mistake makes unanswerable
                left_out[mistake] = error.message
        return controls, left_out

    def _record(
        self, outputs: Outputs, controls: Mapping[str, Outputs], left_out: Mapping[str, str]
    ) -> dict[str, Json]:
        own = [step.name for step in self.plan.steps if step.kind == "python"]
        readable = {
            reference.partition(".")[2]
            for step in self.plan.steps
            if step.kind in _READERS
            for name, reference in step.inputs.items()
            if reference.partition(".")[0] == REQUEST and name != step.options.get("by")
        }
        texts = {tensor.name for tensor in self.plan.inputs if tensor.dtype == "BYTES"}
        return {
            "samples": len(next(iter(outputs.values()))),
            "dtype": "FP32",
            "readable": sorted(readable & texts),
            "fan_out": _fan_out(self.plan),
            "own_reference": own,  # the user's file is run: nobody else knows what it should give
            "controls_without_effect": [name for name, wrong in controls.items() if _alike(outputs, wrong)],
            "controls_left_out": dict(left_out),
            "versions": versions("torch", "transformers", "tokenizers"),
        }


@dataclass(frozen=True)
class _Walk:
    """Answers the steps in their order."""

    plan: PipelinePlan
    around: Around

    def run(self, request: Tensors, mistake: str = "", truth: Found | None = None) -> Found:
        """The tensors of all steps; with a mistake, what does not depend on it is taken from the truth."""
        found: Found = {REQUEST: request}
        changed = {REQUEST} if truth is None or request is not truth[REQUEST] else set()
        for step in self.plan.steps:
            wrong = mistake if mistake in mistakes(step, self.around.models) else ""
            if truth is not None and not wrong and not changed & _sources(step):
                found[step.name] = truth[step.name]
                continue
            changed.add(step.name)
            log.info("expected: step %s", step.name)
            found[step.name] = answer(step, _inputs(step, found), self.around, wrong)
        return found

    def mistakes(self, request: Tensors) -> tuple[str, ...]:
        """Every mistake that some step might make, and that of a client's tensors taken for each other."""
        found = [mistake for step in self.plan.steps for mistake in mistakes(step, self.around.models)]
        return tuple(dict.fromkeys([*found, *([SWAPPED_PAIR] if set(_PAIR) <= set(request) else [])]))


def _sources(step: StepPlan) -> set[str]:
    return {reference.partition(".")[0] for reference in step.inputs.values()}


def _fan_out(plan: PipelinePlan) -> list[str]:
    """The steps that may get the request while another has it.

    Where several would, a step before them takes it for all: but not what a request may leave out.
    """
    optional = {f"{REQUEST}.{tensor.name}" for tensor in plan.inputs if tensor.optional}
    found = [step.name for step in plan.steps if optional & set(step.inputs.values())]
    takers = [step.name for step in plan.steps if REQUEST in _sources(step)]
    return found if len(takers) > 1 else []


def _inputs(step: StepPlan, found: Found) -> Tensors:
    """A step's inputs; those that a request may leave out, and did, are left out."""
    named = {name: reference.partition(".") for name, reference in step.inputs.items()}
    return {
        name: found[source][tensor]
        for name, (source, _, tensor) in named.items()
        if source != REQUEST or tensor in found[REQUEST]
    }


def _swapped(request: Tensors, mistake: str) -> Tensors:
    if mistake != SWAPPED_PAIR:
        return request
    return {**request, _PAIR[0]: request[_PAIR[1]], _PAIR[1]: request[_PAIR[0]]}


def _alike(left: Outputs, right: Outputs) -> bool:
    import numpy as np

    def same(one: Array, other: Array) -> bool:
        if one.dtype.kind == "O" or one.shape != other.shape:
            return bool(np.array_equal(one, other))
        return bool(np.allclose(one, other, rtol=_SAME, atol=_SAME))

    return all(same(left[name], right[name]) for name in left)


def _write(
    out: Path, inputs: ExpectedInputs, outputs: Outputs, controls: Mapping[str, Outputs], record: dict[str, Json]
) -> Reference:
    named = dict(outputs)
    for control, wrong in controls.items():
        named |= {f"control.{control}.{name}": array for name, array in wrong.items()}
    texts = {name: _decoded(array) for name, array in named.items() if array.dtype.kind == "O"}
    save_arrays({name: array for name, array in named.items() if name not in texts}, out / "expected.safetensors")
    (out / "expected.json").write_text(json.dumps(texts, sort_keys=True, indent=0), encoding="utf-8")
    lines = [json.dumps(row.tensors, ensure_ascii=False, sort_keys=True) + "\n" for row in inputs.samples]
    (out / "samples.jsonl").write_text("".join(lines), encoding="utf-8")
    written = ("expected.json", "expected.safetensors", "samples.jsonl")
    return Reference(
        files={name: describe_file(out / name) for name in written},
        outputs=tuple(outputs),
        controls=tuple(controls),
        record=record,
        metric=PIPELINE,
    )


def _stack(name: str, rows: Sequence[Array]) -> Array:
    import numpy as np

    if len(shapes := sorted({row.shape for row in rows})) > 1:
        raise ModelError(
            f"output {name}: samples are answered with shapes {' and '.join(map(str, shapes[:2]))}",
            mend="leave it out of pipeline.outputs: answers of different shapes cannot be compared",
        )
    return np.stack(rows)


def _decoded(array: Array) -> list[Json]:
    """Texts as JSON can hold them; bytes that are none come back by the same error handler."""
    import numpy as np

    decode = np.frompyfunc(lambda item: item.decode("utf-8", "surrogateescape"), 1, 1)
    return list(decode(array).tolist())


def _model_key(parts: ModelParts) -> Json:
    source, tokenizer = parts.source, parts.tokenizer
    return {
        "task": parts.task,
        "source": {name: file.sha256 for name, file in source.files.items() if name.endswith(_READ_SUFFIXES)},
        "code": digests(source.files, code_files(source)),
        "tokenizer": None
        if tokenizer is None
        else [tokenizer.files["tokenizer.json"].sha256, tokenizer.max_length, list(tokenizer.input_names)],
        "text_pair": parts.text_pair,
        "truncation": parts.truncation,
    }

"""What the rows are served from, made once and kept in the work folder: weights, expected answers, graphs, engines."""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.gpu.matrix import PROFILES
from benchmarks.gpu.served import Files, Samples
from benchmarks.progress import say
from builder.errors import MachineError
from builder.settings import environment
from builder.tools import process

if TYPE_CHECKING:
    from benchmarks.gpu.matrix import Case, Row
    from benchmarks.gpu.outfit import Outfit

_ROOT = Path(__file__).parents[2]
_SAMPLES = Path(__file__).with_name("samples.json")
_TIMEOUT_SECONDS = 300.0


class NotRunError(Exception):
    """A row whose runtime is not on this host; the message says what is missing."""


@dataclass
class Workshop:
    """Makes what is missing; what could not be made is not tried again."""

    work: Path
    outfit: Outfit
    cpu: bool
    deadline: float  # of the monotonic clock: no step takes longer
    record: dict[str, Any] = field(default_factory=dict)  # what each step said: versions, seconds, errors

    def probe(self) -> dict[str, Any]:
        """Which runtimes are there."""
        if "probe" not in self.record:
            self.record["probe"] = self._run("probe", {})
        found: dict[str, Any] = self.record["probe"]
        return found

    def samples(self, case: Case) -> Samples:
        """Real token ids, and what PyTorch answers to them in fp32."""
        ids = np.array(json.loads(_SAMPLES.read_text(encoding="utf-8"))["ids"], np.int64)
        # Cut to length, and ended as a tokenizer ends a text that it cuts.
        ids = np.concatenate([ids[:, : case.sequence - 1], ids[:, -1:]], axis=1)
        asked, expected = self.work / f"{case.name}-ids.npy", self.work / f"{case.name}-expected.npy"
        if not expected.is_file():
            np.save(asked, ids)
            given = {"size": case.model, "weights_path": str(self.weights(case)), "ids": str(asked)}
            self._make(f"reference {case.name}", "reference", given, expected)
        return Samples(ids, np.load(expected))

    def weights(self, case: Case) -> Path:
        """The seeded weights of the case's model."""
        return self._make(f"weights {case.model}", "weights", {"size": case.model}, self.work / f"{case.model}.pt")

    def files(self, row: Row) -> Files:
        """What this row needs.

        Raises:
            NotRunError: its runtime is not there.
            MachineError: this host cannot make it.
        """
        self.check(row)
        precision = "fp32" if self.cpu else row.runtime.precision
        onnx = self.work / f"{row.case.model}-{precision}" / "model.onnx"
        plan = self.work / f"{row.case.name}-{row.runtime.name}.plan"
        weights = self.weights(row.case)
        if row.runtime.backend != "python":
            given = {"size": row.case.model, "weights_path": str(weights), "precision": precision}
            self._make(f"onnx {row.case.model} {precision}", "onnx", given, onnx)
        if row.runtime.backend.startswith("tensorrt"):
            build = {"module": row.runtime.backend, "model": str(onnx), "sequence": row.case.sequence}
            self._make(f"engine {row.case.name} {row.runtime.name}", "engine", {**build, "profiles": PROFILES}, plan)
        return Files(weights, onnx, plan)

    def check(self, row: Row) -> None:
        """Refuses a runtime that is not there.

        Raises:
            NotRunError: it is not.
        """
        found, name = self.probe(), row.runtime.name
        gpu = isinstance(found["torch"], dict) and found["torch"]["gpu"]
        if not self.cpu and not gpu:
            raise NotRunError(f"no GPU that torch can use: {found['torch']}")
        if self.cpu and name in ("trt", "rtx", "pt16"):
            raise NotRunError("needs a GPU")
        module = {"trt": "tensorrt", "rtx": "tensorrt_rtx", "ort": "onnxruntime"}.get(name, "torch")
        if not isinstance(found[module], dict):
            raise NotRunError(f"{module} is not there: {found[module]}")
        if name == "ort" and not self.cpu and "CUDAExecutionProvider" not in found[module]["providers"]:
            raise NotRunError(
                f"onnxruntime {found[module]['version']} has no CUDA: it has {found[module]['providers']}"
            )

    def _make(self, what: str, step: str, given: dict[str, Any], path: Path) -> Path:
        """A file that a step writes, unless it is there.

        Raises:
            MachineError: the step failed, now or before.
        """
        if path.is_file():
            return path
        if "error" not in self.record.get(what, {}):
            say(f"making {what}")
            new = self.work / "new"
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            try:
                self.record[what] = self._run(step, {**given, "path": str(new / path.name)})
            except MachineError as error:
                self.record[what] = {"error": error.message.strip().splitlines()[-1][:1600]}
            else:
                path.parent.mkdir(exist_ok=True)
                for file in sorted(new.iterdir(), key=lambda file: file.name == path.name):  # it says that all is there
                    file.rename(path.with_name(file.name))
        if "error" in self.record[what]:
            raise MachineError(f"{what}: {self.record[what]['error']}")
        return path

    def _run(self, step: str, given: dict[str, Any]) -> dict[str, Any]:
        folders = [_ROOT, *([self.outfit.site] if self.outfit.site else [])]
        variables = environment()
        variables["PYTHONPATH"] = ":".join([*map(str, folders), variables.get("PYTHONPATH", "")]).strip(":")
        done = process.run(
            [sys.executable, "-m", "benchmarks.gpu.prepare", step, json.dumps(given)],
            what=f"gpu_bench {step}",
            timeout_seconds=min(_TIMEOUT_SECONDS, max(1.0, self.deadline - time.monotonic())),
            env=variables,
            check=False,
        )
        if done.returncode != 0:
            said = [line for line in done.stderr.splitlines() if line.strip()]
            raise MachineError(said[-1] if said else f"{step} {process.describe_status(done.returncode)}")
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return answer

"""What is measured: models, runtimes, and the study's four ways to serve each; and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

MAX_BATCH_SIZE = 32
CONCURRENCIES = (1, 4, 16, 64)
PROFILES = ((1, 1, 4), (1, 16, MAX_BATCH_SIZE))  # batch: least, optimal, largest; the sequence is fixed
BASE = "pt-base"
GOAL_TIMES = 6.5  # the study's: TensorRT with dynamic batching and two instances against plain PyTorch, on one T4


@dataclass(frozen=True)
class Case:
    """A model at one length."""

    model: str  # a name of bert.SIZES
    hidden: int
    sequence: int  # tokens of every request, none of them padding

    @property
    def name(self) -> str:
        return f"{self.model}-{self.sequence}"


@dataclass(frozen=True)
class Runtime:
    """What computes. ``precision`` is on a GPU; on a CPU all is fp32."""

    name: str
    backend: str  # of Triton
    precision: str
    about: str


@dataclass(frozen=True)
class Variant:
    """How it is served."""

    name: str
    instances: int
    batching: bool
    about: str


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    case: Case
    runtime: Runtime
    variant: Variant

    @property
    def name(self) -> str:
        return f"{self.runtime.name}-{self.variant.name}"

    @property
    def key(self) -> str:
        return f"{self.case.name}/{self.name}"

    def about(self, *, cpu: bool) -> str:
        """What was run, in words."""
        precision, device = ("fp32", "CPU") if cpu else (self.runtime.precision, "CUDA")
        return f"{self.runtime.about.format(device=device)}, {precision}; {self.variant.about}"


CASES = (Case("bert-large", 1024, 128), Case("minilm", 384, 128), Case("bert-large", 1024, 512))
TINY = (Case("tiny", 32, 16),)

RUNTIMES = (
    Runtime("pt", "python", "fp32", "PyTorch eager (SDPA attention, TF32 off), Python backend"),
    Runtime("trt", "tensorrt", "fp16", "TensorRT with CUDA graphs, our Python-based backend"),
    Runtime("rtx", "tensorrt_rtx", "fp16", "TensorRT for RTX (not TensorRT), our Python-based backend"),
    Runtime("ort", "onnxruntime", "fp16", "onnxruntime ({device} provider), our Python-based backend"),
    Runtime("pt16", "python", "fp16", "PyTorch with CUDA graphs (SDPA attention), Python backend"),
)
VARIANTS = (
    Variant("base", 1, False, "one instance, no dynamic batching"),
    Variant("db", 1, True, "one instance, dynamic batching"),
    Variant("ig", 2, False, "two instances, no dynamic batching"),
    Variant("ig-db", 2, True, "two instances, dynamic batching"),
)


def rows(cases: tuple[Case, ...], only: tuple[str, ...] = ()) -> list[Row]:
    """The rows, the most important first: each case's base and each runtime at its best, then the others.

    Args:
        cases: which models.
        only: patterns like ``bert-large-128/*``, ``*/rtx-*`` or ``pt-base``; none: all rows.
    """
    everything = [Row(case, runtime, variant) for case in cases for runtime in RUNTIMES for variant in VARIANTS]
    chosen = [row for row in everything if not only or any(_fits(row, pattern) for pattern in only)]
    return sorted(chosen, key=_rank)  # stable: cases and runtimes stay in their order


def _fits(row: Row, pattern: str) -> bool:
    return fnmatchcase(row.key, pattern) or fnmatchcase(row.name, pattern)


def _rank(row: Row) -> tuple[int, int]:
    if row.name == BASE:
        return 0, 0
    return {"ig-db": 1, "db": 2, "ig": 3, "base": 3}[row.variant.name], 0

"""The served model against the same model in PyTorch, on two real tritonservers, under perf_analyzer."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import machine
from benchmarks.paths import scratch
from benchmarks.progress import say
from benchmarks.report import Comparison, Goal, Result
from benchmarks.sides import OURS, PEER, Pair, Waiting, start
from benchmarks.statistics import interleave
from benchmarks.traffic import long_texts, texts
from builder.errors import GateError, MachineError
from builder.settings import settings
from builder.tools import perf_analyzer, toolchain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.options import Options
    from builder.tools.perf_analyzer import Point, Value, Windows

CONCURRENCIES = (1, 4, 16)
_ROUNDS = 5
_ATTEMPTS = 3  # when perf_analyzer finds no stable window, or the other server does not keep still
_IDLE_CORES = 0.02  # what the server that waits may spend
_WINDOW_MILLISECONDS = {1: 2000, 4: 3000, 16: 6000}
"""By concurrency: the requests of a batch are answered together, so a window has to hold many batches, or it holds one
more or one less than its neighbour and they never agree."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One comparison: how both sides are set up, and what goes in."""

    title: str
    about: str
    vcpus: int  # what the recipe's target declares, for tritonsmith's side
    threads: int  # of torch, for the peer's side
    text: bool  # text in, through the ensemble; else token ids, straight into the model
    goals: Mapping[int, Goal]  # concurrency → goal


_COMMON = (
    "all-MiniLM-L6-v2, fp32. tritonsmith: the archive that `tritonsmith build` made, unpacked, on the embedded "
    "tritonserver. Peer: the same model in Triton's Python backend, PyTorch eager with SDPA attention in inference "
    "mode, requests of one length gathered into one forward pass, on a second tritonserver of the same build, with one "
    "instance. Both have the same maximum batch size and dynamic batching (the config of the peer is that of "
    "tritonsmith's model with the model replaced), and gave equal answers before they were measured. perf_analyzer "
    "sends requests of batch size 1 over gRPC from the same machine; the server that is not measured waits, loaded."
)
_TOKENS = " Token ids go in, 128 a request without padding, made from real texts."
_FASTER = Goal("ratio", 1.0, strict=True)

SCENARIOS = {
    "served": Scenario(
        title="Served model, token ids in, one thread",
        about=f"{_COMMON}{_TOKENS} Both sides: one instance, one thread.",
        vcpus=1,
        threads=1,
        text=False,
        goals={1: Goal("ratio", 1.9), 4: _FASTER, 16: _FASTER},
    ),
    "text": Scenario(
        title="Served model, text in, one thread",
        about=f"{_COMMON} Texts of many lengths and languages go in, through the same tokenizer step and an ensemble "
        "on both sides. Both sides: one instance, one thread.",
        vcpus=1,
        threads=1,
        text=True,
        goals=dict.fromkeys(CONCURRENCIES, _FASTER),
    ),
    "defaults": Scenario(
        title="Served model, token ids in, tritonsmith's defaults for two vCPUs",
        about=f"{_COMMON}{_TOKENS} tritonsmith: what it chooses for a target with two vCPUs. Peer: two threads.",
        vcpus=2,
        threads=2,
        text=False,
        goals=dict.fromkeys(CONCURRENCIES, Goal("ratio", 2.1)),
    ),
}


def run(name: str, options: Options) -> Result:
    """Builds the archive, starts both servers, and measures them in turn at each concurrency.

    Raises:
        GateError: the sides answer differently, or the waiting server spends processor time.
        MachineError: no measurement of a point was stable.
    """
    scenario = SCENARIOS[name]
    facts = machine.describe(("torch", "transformers"))
    rounds = options.rounds or (1 if options.quick else _ROUNDS)
    with scratch() as folder, ExitStack() as stack:
        pair = start(stack, folder, vcpus=scenario.vcpus, threads=scenario.threads)
        rows = texts() if scenario.text else long_texts(pair.tokenizer, pair.ours.input_names)
        say("comparing the answers of both sides")
        _check_answers(pair, rows, text=scenario.text)
        measured = _measure(pair, rows, scenario, folder, rounds=rounds, quick=options.quick)
        described = {f"{side.name}: {key}": v for side in (pair.ours, pair.peer) for key, v in side.settings.items()}
    facts["versions"] |= {
        "tritonserver": toolchain.SERVER_VERSION,
        "perf_analyzer": toolchain.PERF_ANALYZER_VERSION,
        "onnxruntime": pair.onnxruntime,
    }
    comparisons = [row for concurrency in CONCURRENCIES for row in _rows(measured, concurrency, scenario)]
    chosen = {
        "rounds": rounds,
        "window": ", ".join(
            f"{_window(level, quick=options.quick).interval_milliseconds} ms" for level in CONCURRENCIES
        ),
        **described,
        "most that a waiting server spent": f"{max(one.waiting_cores for one in measured):.3f} cores",
    }
    raw = tuple(one.to_json() for one in measured)
    return Result(name, scenario.title, scenario.about, tuple(comparisons), facts, chosen, raw)


@dataclass(frozen=True, slots=True)
class _Measured:
    round: int
    side: str
    point: Point
    waiting_cores: float  # spent by the other server meanwhile
    attempts: int

    def to_json(self) -> dict[str, Any]:
        kept = ("concurrency", "status", "throughput_per_second", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "requests")
        point = asdict(self.point)
        facts = {"round": self.round, "side": self.side, "attempts": self.attempts}
        return {**facts, "waiting_cores": round(self.waiting_cores, 4), **{key: point[key] for key in kept}}


def _measure(
    pair: Pair,
    rows: Sequence[Mapping[str, Value]],
    scenario: Scenario,
    folder: Path,
    *,
    rounds: int,
    quick: bool,
) -> list[_Measured]:
    """Every point in every round, concurrency by concurrency, the sides in turn."""
    measured: list[_Measured] = []
    points = [(concurrency, name) for concurrency in CONCURRENCIES for name in (OURS, PEER)]
    for number, (concurrency, name) in interleave(points, rounds):
        side, other = pair.of(name)
        for attempt in range(1, _ATTEMPTS + 1):
            waiting = Waiting(other)
            point = perf_analyzer.measure(
                toolchain.install(settings().cache),
                address=side.client.address,
                model=side.ensemble if scenario.text else side.model,
                rows=rows,
                concurrency=concurrency,
                folder=folder / f"perf-{len(measured)}-{attempt}",
                windows=_window(concurrency, quick=quick),
            )
            one = _Measured(number + 1, name, point, waiting.cores(), attempt)
            shown = f"{point.throughput_per_second:.1f} inferences/s" if point.throughput_per_second else point.status
            say(f"round {number + 1} of {rounds}, concurrency {concurrency}, {name}: {shown}")
            if point.status == "stable" and one.waiting_cores <= _IDLE_CORES:
                break
        _check(one)
        measured.append(one)
    return measured


def _window(concurrency: int, *, quick: bool) -> Windows:
    if quick:
        return perf_analyzer.Windows(interval_milliseconds=1500, trials=3, stability_percent=1000)
    # Windows need not agree closely: all three count, and the interval over the rounds shows what is left of the noise.
    return perf_analyzer.Windows(_WINDOW_MILLISECONDS[concurrency], trials=6, stability_percent=15)


def _check(one: _Measured) -> None:
    if one.point.status == "failed":
        raise MachineError(f"perf_analyzer failed at concurrency {one.point.concurrency}:\n{one.point.detail}")
    if one.waiting_cores > _IDLE_CORES:
        raise GateError(
            f"the server that waits spent {one.waiting_cores:.3f} cores while {one.side} was measured; at most "
            f"{_IDLE_CORES} would be fair"
        )


def _rows(measured: Sequence[_Measured], concurrency: int, scenario: Scenario) -> list[Comparison]:
    """Throughput and p99 latency at one concurrency, over the rounds in which both sides were stable."""
    rounds: dict[int, dict[str, Point]] = {}
    for one in measured:
        if one.point.concurrency == concurrency:
            rounds.setdefault(one.round, {})[one.side] = one.point
    stable = [pair for pair in rounds.values() if all(point.status == "stable" for point in pair.values())]
    if not stable:
        raise MachineError(
            f"perf_analyzer found no stable window at concurrency {concurrency} in any of {len(rounds)} rounds",
            mend="end what else runs on this machine, and measure again",
        )
    throughput, latency = (
        {side: tuple(float(getattr(pair[side], figure)) for pair in stable) for side in (OURS, PEER)}
        for figure in ("throughput_per_second", "p99_ms")
    )
    dropped = len(rounds) - len(stable)
    return [
        Comparison(
            f"throughput, concurrency {concurrency}",
            "inferences/s",
            PEER,
            throughput[OURS],
            throughput[PEER],
            larger_is_better=True,
            goal=scenario.goals.get(concurrency),
            dropped_rounds=dropped,
        ),
        Comparison(
            f"p99 latency, concurrency {concurrency}",
            "ms",
            PEER,
            latency[OURS],
            latency[PEER],
            dropped_rounds=dropped,
        ),
    ]


def _check_answers(pair: Pair, rows: Sequence[Mapping[str, Value]], *, text: bool) -> None:
    """Both sides must answer alike, and a comparison with other answers must fail.

    Raises:
        GateError: they do not.
    """
    asked = rows[:16]
    ours, peer = (side.answers(asked, text=text) for side in (pair.ours, pair.peer))
    smallest = float((ours * peer).sum(1).min())
    control = float((ours * peer[::-1]).sum(1).min())
    if smallest < 0.99999 or control >= 0.99999:
        raise GateError(f"the sides differ: smallest cosine {smallest:.7f}, with reversed answers {control:.7f}")

"""A folder with 1.34 GB of weights → ``.tar.gz``: tritonsmith's packer, `tar czf`, and `cp` with `sha256sum`."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
from typing import TYPE_CHECKING, Any

from benchmarks import machine
from benchmarks.child import Usage, cost_in_order
from benchmarks.paths import scratch
from benchmarks.progress import say
from benchmarks.report import Comparison, Goal, Result
from benchmarks.statistics import interleave
from builder.core.codec import to_json
from builder.core.digest import describe_folder, digest_file
from builder.errors import GateError, MachineError
from builder.tools import process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.options import Options

ABOUT = (
    "A folder with one safetensors file of random normal fp32 weights (seeded; 1.34 GB, the size of bert-large), in "
    "the page cache. Each side runs in fresh processes from start to end; what an earlier one wrote is on the disk "
    "before the next begins. tritonsmith's packer is given the sha256 of its input, as in a build; it checks it while "
    "it reads, hashes the archive while it writes, and waits until the disk has it (fsync). `tar czf` (gzip -6) does "
    "none of these. `cp` and `sha256sum` run one after the other. GNU tar unpacked tritonsmith's archive to equal "
    "bytes, and all its archives were equal."
)
OURS, TAR, COPY = "tritonsmith", "tar czf", "cp + sha256sum"
_BYTES = 1_340_600_000
_QUICK_BYTES = 134_060_000
_TENSORS = 24
_ROUNDS = 7
_TAR_ROUNDS = 2  # each takes about 40 s


def run(name: str, options: Options) -> Result:
    """Measures the packer beside `cp` + `sha256sum` many times, and beside `tar czf` twice."""
    facts = machine.describe(("isal",), **_tool_versions())
    rounds = options.rounds or (2 if options.quick else _ROUNDS)
    tar_rounds = min(rounds, 1 if options.quick else _TAR_ROUNDS)
    raw: list[dict[str, Any]] = []
    with scratch() as folder:
        size = _prepare(folder, _QUICK_BYTES if options.quick else _BYTES)
        with_copy = _measure(folder, (OURS, COPY), rounds, raw)
        with_tar = _measure(folder, (OURS, TAR), tar_rounds, raw)
        digests = {one["sha256"] for one in raw if one["side"] == OURS}
        _check(folder, digests)
    rows = [
        _row("wall time", "s", TAR, with_tar, lambda usage: usage.wall_seconds, Goal("ratio", 25.0)),
        _row("processor time (user + system)", "s", TAR, with_tar, lambda usage: usage.cpu_seconds),
        Comparison("size of the archive", "MB", TAR, *_sizes(raw), goal=Goal("ratio", 1.0)),
        _row("wall time", "s", COPY, with_copy, lambda usage: usage.wall_seconds),
        _row("processor time (user + system)", "s", COPY, with_copy, lambda usage: usage.cpu_seconds),
    ]
    settings = {"rounds": rounds, "rounds with tar": tar_rounds, "input": f"{size:,} bytes"}
    return Result(name, "Packing", ABOUT, tuple(rows), facts, settings, tuple(raw))


def _prepare(folder: Path, size: int) -> int:
    """Makes the input and what the packer is told of it; returns its size in bytes."""
    free, needed = shutil.disk_usage(folder).free, 4 * size
    if free < needed:
        raise MachineError(
            f"packing: {free // 10**6} MB free on the disk of {folder}, {needed // 10**6} MB are needed",
            mend="free some space, or set TRITONSMITH_CACHE to a folder on a larger disk",
        )
    (folder / "model").mkdir()
    say(f"packing: making {size // 10**6} MB of weights")
    _write_weights(folder / "model" / "model.safetensors", size)
    tree = describe_folder(folder / "model")  # reads the file: it is in the page cache from here on
    (folder / "tree.json").write_text(json.dumps({member: to_json(file) for member, file in tree.items()}))
    return sum(file.size for file in tree.values())


def _write_weights(path: Path, size: int) -> None:
    """Seeded random normal fp32 tensors, as a freshly initialised transformer has them (standard deviation 0.02)."""
    import numpy as np

    count = size // 4 // _TENSORS
    spans = {
        f"layer.{index}.weight": {"dtype": "F32", "shape": [count], "data_offsets": [begin, begin + 4 * count]}
        for index, begin in enumerate(range(0, _TENSORS * 4 * count, 4 * count))
    }
    header = json.dumps(spans).encode()
    generator = np.random.default_rng(0)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        for _ in spans:
            stream.write((generator.standard_normal(count, dtype=np.float32) * np.float32(0.02)).data)


def _measure(folder: Path, sides: Sequence[str], rounds: int, raw: list[dict[str, Any]]) -> dict[str, list[Usage]]:
    costs: dict[str, list[Usage]] = {side: [] for side in sides}
    for number, side in interleave(sides, rounds):
        out = folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        os.sync()  # what was written before must not be waited for by whoever comes next
        usage = cost_in_order(_commands(side, folder, out), what=side)
        say(f"packing: round {number + 1} of {rounds}, {side}: {usage.wall_seconds:.2f} s")
        costs[side].append(usage)
        raw.append({"side": side, **usage.to_json(), **_made(side, out)})
        if side == OURS:
            (out / "ours.tar.gz").replace(folder / "kept.tar.gz")
    return costs


def _commands(side: str, folder: Path, out: Path) -> Sequence[Sequence[str | Path]]:
    model = folder / "model"
    if side == OURS:
        return [[sys.executable, "-m", "benchmarks.pack_tree", folder / "tree.json", out / "ours.tar.gz"]]
    if side == TAR:
        return [["tar", "-C", model, "-czf", out / "peer.tar.gz", "."]]
    return [["cp", "--reflink=never", "-r", model, out / "copy"], ["sha256sum", out / "copy" / "model.safetensors"]]


def _made(side: str, out: Path) -> dict[str, Any]:
    """Size of the archive, and for ours its digest."""
    archives = sorted(out.glob("*.tar.gz"))
    facts: dict[str, Any] = {"bytes": sum(path.stat().st_size for path in archives)} if archives else {}
    return facts | ({"sha256": digest_file(archives[0])} if side == OURS else {})


def _sizes(raw: Sequence[Mapping[str, Any]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """One archive of each side, in MB: every one of a side has the same size."""
    ours, peer = ({one["bytes"] for one in raw if one["side"] == side} for side in (OURS, TAR))
    return (max(ours) / 1e6,), (min(peer) / 1e6,)


def _row(
    what: str,
    unit: str,
    peer: str,
    costs: Mapping[str, Sequence[Usage]],
    figure: Callable[[Usage], float],
    goal: Goal | None = None,
) -> Comparison:
    ours, theirs = (tuple(figure(usage) for usage in costs[side]) for side in (OURS, peer))
    return Comparison(what, unit, peer, ours, theirs, goal=goal)


def _check(folder: Path, digests: set[str]) -> None:
    """Our archives are equal, and another program unpacks them to what went in.

    Raises:
        GateError: they are not, or do not.
    """
    if len(digests) != 1:
        raise GateError(f"packing: the same folder gave {len(digests)} different archives")
    unpacked = folder / "unpacked"
    unpacked.mkdir()
    say("packing: unpacking with GNU tar")
    process.run(
        ["tar", "-C", str(unpacked), "-xzf", str(folder / "kept.tar.gz")], what="tar xzf", timeout_seconds=300.0
    )
    before, after = (describe_folder(folder / part) for part in ("model", "unpacked"))
    if {name: file.sha256 for name, file in before.items()} != {name: file.sha256 for name, file in after.items()}:
        raise GateError("packing: GNU tar unpacked something else than what was packed")


def _tool_versions() -> dict[str, str]:
    return {
        tool: process.run([tool, "--version"], what=tool, timeout_seconds=10.0).stdout.splitlines()[0].split()[-1]
        for tool in ("tar", "gzip")
    }

"""How long a command line takes to say what it can do: ``--help`` in a fresh process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import machine, optimum
from benchmarks.child import cost
from benchmarks.progress import say
from benchmarks.report import Comparison, Goal, Result
from benchmarks.statistics import interleave

if TYPE_CHECKING:
    from benchmarks.options import Options

ABOUT = (
    "`--help` of both command lines, each in a fresh process, from its start to its end, files warm in the page cache."
)
_ROUNDS = 21
_WARM_UPS = 2  # byte code is written, files come into the page cache


def run(name: str, options: Options) -> Result:
    """Measures ``tritonsmith --help`` and ``optimum-cli --help`` in turn."""
    facts = machine.describe(packages=("typer",), optimum=optimum.versions()["optimum"])
    rounds = options.rounds or (5 if options.quick else _ROUNDS)
    commands = {
        "tritonsmith": Path(sys.executable).with_name("tritonsmith"),
        "optimum-cli": optimum.environment_folder() / "bin" / "optimum-cli",
    }
    seconds: dict[str, list[float]] = {side: [] for side in commands}
    say(f"startup: {rounds} rounds of --help")
    for number, side in interleave(list(commands), rounds + _WARM_UPS):
        wall = cost([commands[side], "--help"], what=f"{side} --help").wall_seconds
        if number >= _WARM_UPS:
            seconds[side].append(wall)
    row = Comparison(
        what="`--help`",
        unit="s",
        peer_name="optimum-cli",
        ours=tuple(seconds["tritonsmith"]),
        peer=tuple(seconds["optimum-cli"]),
        goal=Goal("value", 0.1),
    )
    settings = {"rounds": rounds, "warm-ups": _WARM_UPS}
    return Result(name, "Start-up", ABOUT, (row,), facts, settings)

"""A fleet behind one front end: many archives, room for few. The driver plays SageMaker's part.

It downloads an archive when its model is asked for, unpacks and loads it, and where there is no room it first unloads
the model that was not asked for the longest. Every model multiplies by a number of its own, so that an answer of
another model is a wrong answer; each tenth is an ensemble whose steps are called alike in all of them.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import machine
from builder.errors import ServerError, TritonsmithError
from builder.tools import archive as archives
from builder.tools.sagemaker_front_end import Invoker
from builder.verify.contract import probe
from builder.verify.contract.multi_model import Endpoint, endpoint
from builder.verify.contract.report import Host
from tests.soak.builds import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = ROOT / "benchmarks" / "results" / "fleet.json"
ENSEMBLES_EVERY = 10
CLIENTS = 4
_RACE = "Request for unknown model"
"""Triton looks names up in a map without a lock (``ModelRepositoryManager::FindModelIdentifier``), which each load and
unload assigns anew (``LoadUnloadModels``): a request at that moment may not find a model that is loaded."""
_ENSEMBLE = """
name: "{name}"
platform: "ensemble"
max_batch_size: 8
input {{ name: "X" data_type: TYPE_FP32 dims: [2] }}
output {{ name: "Y" data_type: TYPE_FP32 dims: [2] }}
ensemble_scheduling {{
  step {{ model_name: "preprocess" model_version: -1
    input_map {{ key: "X" value: "X" }} output_map {{ key: "Y" value: "ready" }} }}
  step {{ model_name: "scale" model_version: -1
    input_map {{ key: "X" value: "ready" }} output_map {{ key: "Y" value: "Y" }} }}
}}
"""


_WHAT = """\
The driver downloads, loads on demand and unloads the least recently used, as SageMaker does. Each model multiplies by
a number of its own, in a Python step; each tenth archive is an ensemble of two. A cold start is what the client waits
for: room made, download, unpacking, load, answer. A warm request may have to wait for another model's unload, for which
the front end holds its list of models."""


@dataclass(frozen=True)
class Servable:
    """An archive in the bucket, and the number that its model multiplies by."""

    archive: Path
    factor: float


@dataclass
class Slot:
    """A model that takes room."""

    stack: ExitStack = field(default_factory=ExitStack)
    name: str = ""
    users: int = 0
    ready: bool = False  # else it is being loaded or unloaded


@dataclass
class Figures:
    """Times in milliseconds. A cold start is all that a client waits for: download, unpack, load and answer."""

    load: list[float] = field(default_factory=list)
    unload: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    raced: list[str] = field(default_factory=list)  # refused by _RACE, and asked once more
    most: int = 0  # models that were loaded at once


def make_bucket(folder: Path, count: int) -> list[Servable]:
    """Writes the archives."""
    folder.mkdir(parents=True)
    return [_make(folder / f"model-{number:03}.tar.gz", number) for number in range(count)]


def _make(path: Path, number: int) -> Servable:
    factor = number + 2.0
    if number % ENSEMBLES_EVERY:
        return Servable(probe.pack(path, name=f"model-{number:03}", factor=factor), factor)
    files = {
        "whole/config.pbtxt": _ENSEMBLE.format(name="whole"),
        "whole/1/build.json": "{}",
        **probe.texts("preprocess", folder="preprocess/", factor=0.5),
        **probe.texts("scale", folder="scale/", factor=factor * 2),
    }
    archives.pack(probe.write(path.with_suffix(".files"), files), path)
    return Servable(path, factor)


class Driver:
    """SageMaker's part. Clients of several threads ask it.

    Args:
        running: the front end.
        room: how many models are loaded at most.
        at_once: how many loads and unloads are under way at most.
        figures: what is written down.
    """

    def __init__(self, running: Endpoint, room: int, at_once: int, figures: Figures) -> None:
        self.running, self.room, self.figures = running, room, figures
        self.turn = threading.Semaphore(at_once)
        self.slots: OrderedDict[str, Slot] = OrderedDict()
        self.changed = threading.Condition()
        self.coming: set[str] = set()  # models that room is made for

    def end(self) -> None:
        """What is loaded is what is listed; then all places are given back."""
        left = len(json.loads(self.running.front_end.models().body)["models"])
        if left != len(self.slots):
            self.figures.failures.append(f"{left} models are listed, {len(self.slots)} are loaded")
        for slot in self.slots.values():
            slot.stack.close()

    def ask(self, servable: Servable, values: np.ndarray) -> None:
        """One request of a client; what is wrong with its answer is written down."""
        began = time.monotonic()
        target = servable.archive.name
        try:
            slot, cold = self._take(servable)
        except (RuntimeError, TritonsmithError) as error:
            self.figures.failures.append(f"{target}: {error}")
            return
        try:
            invoker = Invoker(self.running.front_end, slot.name, binary=bool(values.sum() % 2), target=target)
            found = self._answer(invoker, values)
            if found.tolist() != (values * np.float32(servable.factor)).tolist():
                self.figures.failures.append(f"{target}: {values.tolist()} became {found.tolist()}")
        except ServerError as error:
            self.figures.failures.append(f"{target}: {'cold' if cold else 'warm'}: {error.message}")
        finally:
            (self.figures.cold if cold else self.figures.warm).append(_milliseconds(began))
            with self.changed:
                slot.users -= 1
                self.changed.notify_all()

    def _answer(self, invoker: Invoker, values: np.ndarray) -> np.ndarray:
        """The answer; asked once more where the front end lost the model for a moment."""
        try:
            return invoker.infer({"X": values})["Y"]
        except ServerError as error:
            if _RACE not in error.message:
                raise
            self.figures.raced.append(error.message)
            return invoker.infer({"X": values})["Y"]

    def _take(self, servable: Servable) -> tuple[Slot, bool]:
        """The slot of a model, loaded, and whether it was loaded for this request."""
        target = servable.archive.name
        while True:
            with self.changed:
                slot = self.slots.get(target)
                if slot is not None and slot.ready:
                    slot.users += 1
                    self.slots.move_to_end(target)
                    return slot, False
                if slot is None and len(self.slots) < self.room:
                    slot = self.slots[target] = Slot(users=1)
                    self.figures.most = max(self.figures.most, len(self.slots))
                    break
                leaving = None if slot or target in self.coming else self._least_recently_used()
                if leaving is None:
                    self.changed.wait()
                    continue
                self.slots[leaving].ready = False
                self.coming.add(target)
            self._unload(leaving, target)
        self._load(servable, slot)
        return slot, True

    def _least_recently_used(self) -> str | None:
        return next((name for name, slot in self.slots.items() if slot.ready and not slot.users), None)

    def _load(self, servable: Servable, slot: Slot) -> None:
        target = servable.archive.name
        try:
            downloaded = self.running.folder / target
            shutil.copyfile(servable.archive, downloaded)
            slot.name, url = slot.stack.enter_context(self.running.unpacked(downloaded))
            downloaded.unlink()
            with self.turn:
                began = time.monotonic()
                answer = self.running.front_end.load(slot.name, url, target)
                self.figures.load.append(_milliseconds(began))
        except BaseException:
            self._leave(target)
            raise
        if answer.status != 200:
            self._leave(target)
            raise RuntimeError(f"load: {answer.status} {answer.error}")
        with self.changed:
            slot.ready = True
            self.changed.notify_all()

    def _unload(self, target: str, coming: str) -> None:
        try:
            with self.turn:
                began = time.monotonic()
                answer = self.running.front_end.unload(self.slots[target].name, target)
                self.figures.unload.append(_milliseconds(began))
            if answer.status != 200:
                self.figures.failures.append(f"{target}: unload: {answer.status} {answer.error}")
        finally:
            self.coming.discard(coming)
            self._leave(target)

    def _leave(self, target: str) -> None:
        slot = self.slots[target]
        slot.stack.close()
        shutil.rmtree(self.running.folder / slot.name, ignore_errors=True)
        with self.changed:
            del self.slots[target]
            self.changed.notify_all()


def drive(host: Host, bucket: list[Servable], room: int, requests: int, seed: int, at_once: int = 1) -> dict[str, Any]:
    """Asks every model once, and then some more than others, by several clients.

    Returns:
        Counts, times, and what failed.
    """
    traffic = list(_traffic(bucket, requests, random.Random(f"fleet {seed}")))
    figures = Figures()
    try:
        with endpoint(host) as running, ThreadPoolExecutor(CLIENTS) as pool:
            driver = Driver(running, room, at_once, figures)
            list(pool.map(driver.ask, *zip(*traffic, strict=True)))
            driver.end()
    except ServerError as error:
        figures.failures.append(f"the server: {error.message}")
    timed = {"load": figures.load, "unload": figures.unload, "cold_start": figures.cold, "warm": figures.warm}
    return {
        "archives": len(bucket),
        "room": room,
        "requests": requests,
        "clients": CLIENTS,
        "loads": len(figures.load),
        "unloads": len(figures.unload),
        "most_loaded": figures.most,
        "loads_and_unloads_at_once": at_once,
        "refused_and_answered_when_asked_again": len(figures.raced),
        **{
            f"{what}_p{share}_ms": round(float(np.percentile(times, share)), 1)
            for what, times in timed.items()
            for share in (50, 99)
            if times
        },
        "failures": figures.failures,
    }


def _traffic(bucket: list[Servable], requests: int, dice: random.Random) -> Iterator[tuple[Servable, np.ndarray]]:
    """Every model once; then the first are asked more than the last, as in most fleets."""
    order = list(bucket)
    dice.shuffle(order)
    weights = [1 / (rank + 1) for rank in range(len(order))]
    asked = order[:requests] + dice.choices(order, weights, k=max(requests - len(order), 0))
    dice.shuffle(asked)
    for servable in asked:
        yield servable, np.array([[dice.randrange(100), dice.randrange(100)]], np.float32)


def _milliseconds(began: float) -> float:
    return (time.monotonic() - began) * 1000


def run(count: int, room: int, requests: int, seed: int, at_once: int, out: Path) -> int:
    """The fleet at its full size; writes the results."""
    from builder.settings import settings
    from builder.tools import releases, toolchain

    tools = toolchain.install(settings().cache)
    onnxruntime = releases.release("25.09").onnxruntime
    assert onnxruntime is not None
    environment = toolchain.python_environment(tools, settings().cache, onnxruntime)
    with tempfile.TemporaryDirectory(prefix="fleet-") as name:
        folder = Path(name)
        (folder / "host").mkdir()
        bucket = make_bucket(folder / "bucket", count)
        began = time.monotonic()
        found = drive(
            Host(tools, environment, {"SAGEMAKER_TRITON_PING_MODE": "live"}, folder / "host"),
            bucket, room, requests, seed, at_once,
        )  # fmt: skip
        found["seconds"] = round(time.monotonic() - began, 1)
    result = {"seed": seed, "machine": machine.describe(["numpy"]), "fleet": found}
    out.write_text(json.dumps(result, indent=1) + "\n")
    out.with_suffix(".md").write_text(report(result))
    return 1 if found["failures"] else 0


def report(result: dict[str, Any]) -> str:
    """The results as a page."""
    found = result["fleet"]
    rows = [f"| {key.replace('_', ' ')} | {value} |" for key, value in found.items() if key != "failures"]
    facts = ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in result["machine"].items() if name != "versions"
    )
    return "\n".join(
        [
            "# A fleet behind one front end of SageMaker's", "",
            f"`scripts/soak --fleet {found['archives']} --seed {result['seed']}`. Written by it, with `fleet.json`.",
            "", _WHAT, "",
            "| what | seen |", "| --- | --- |", *rows, f"| wrong or missing answers | {len(found['failures'])} |", "",
            *(f"* {failure}" for failure in found["failures"][:20]),
            f"Machine: {facts}.", "",
        ]
    )  # fmt: skip

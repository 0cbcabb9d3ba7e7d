"""What builds go through. Each part counts what went wrong: one that went well has no ``failures``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from builder.core.collect import Rule, collect, statistics, verify
from tests import damage
from tests.core.chain import OWN, SHARED
from tests.soak.builds import RECIPE, Build, Ended, chain, finish, real

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from pathlib import Path

    from builder.core.store import Store

RECIPES = "abcdefgh"
CROWD_OF_COLLECTING = 3
MOMENTS = (
    ("source ...", 0.1),
    ("tokenizer ...", 3.0),
    ("trace ...", 3.0),
    ("bind ...", 0.05),
    ("reference ...", 3.0),
    ("check ...", 0.3),
    ("warmup ...", 0.1),
    ("config ...", 0.05),
    ("package ...", 0.1),
    ("pack ...", 0.1),
    ("pack  ", 0.05),  # it is done: the archive is delivered
    ("unpacking", 0.3),
    ("serving", 3.0),
    ("asking", 2.0),
    ("measuring", 8.0),
)
"""When the real build is killed: a line of its talk, and at most so many seconds after it."""
IN_MEASURE = {"unpacking", "serving", "asking", "measuring"}
STAGES = (
    *("source", "tokenizer", "trace", "bind", "reference", "check"),
    *("warmup", "config", "package", "pack", "measure", "judge"),
)


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def kills(count: int, dice: random.Random, folder: Path) -> dict[str, Any]:
    """Cheap stages, SIGKILL at random moments; the next run must complete, and be equal."""
    whole, failures, hits = chain(folder / "whole").run(), [], 0
    for number in range(count):
        build = chain(folder / f"kill-{number}")
        stage = dice.choice((*SHARED, *OWN))
        hit, left = build.kill(dice.uniform(0, 0.03), when=f"{stage} ...")
        hits += hit
        failures += [f"{number}: {what}" for what in _after_kill(build, left, whole)]
        shutil.rmtree(build.folder)
    return {"kills": count, "while_it_ran": hits, "failures": failures}


def real_kills(count: int, dice: random.Random, folder: Path, model: Path) -> dict[str, Any]:
    """The real command, killed in each of its stages; with a proof where the kill hits it."""
    build = real(folder / "whole", model)
    whole = build.run("--no-verify")
    if whole.code:
        return {"failures": [f"undisturbed: {whole.err[-500:]}"]}
    hits, failures, moments = 0, [], []
    for number in range(count):
        when, longest = MOMENTS[number % len(MOMENTS)]
        killed = real(folder / f"kill-{number}", model)
        shutil.copytree(build.store.root, killed.store.root, symlinks=True)
        forget(killed.store, when.split()[0])
        options = () if when in IN_MEASURE else ("--no-verify",)
        if number % 2:
            options = (*options, "--jobs", "2")
        seconds = dice.uniform(0, longest)
        hit, left = killed.kill(seconds, *options, when=when)
        say(f"  killed {seconds:.2f} s after {when!r}: {'hit' if hit else 'was done'}")
        hits += hit
        moments.append({"after": when.strip(" ."), "seconds": round(seconds, 3), "hit": hit})
        failures += [f"{number} ({when}): {what}" for what in _after_kill(killed, left, whole, *options)]
        delivered = sorted(path.name for path in (killed.folder / "dist").iterdir())
        if len(delivered) != 4:
            failures.append(f"{number} ({when}): delivered {delivered}")
        shutil.rmtree(killed.folder)
    return {"kills": count, "while_it_ran": hits, "moments": moments, "failures": failures}


def forget(store: Store, stage: str) -> None:
    """Removes what a stage made, and what the later ones did: a build begins there."""
    gone = STAGES[STAGES.index(stage) :] if stage in STAGES else ("measure", "judge")
    for path in store.root.glob("records/*/*.json"):
        record = store.read(path.stem)
        if record is not None and record.stage in gone:
            path.unlink()
    collect(store, Rule())


def _after_kill(build: Build, left: list[str], whole: Ended, *options: str) -> list[str]:
    failures = []
    if left:
        failures.append(f"left: {left}")
    if not verify(build.store).is_clean:
        failures.append("not clean after the kill")
    done = build.run(*options)
    if done.code or done.identity != whole.identity:
        failures.append(f"the next run: {done.code} {done.err[-500:] if done.code else done.identity}")
    if not verify(build.store).is_clean:
        failures.append("not clean after the next run")
    if half := [path.name for path in (build.store.root / "builds").iterdir()]:
        failures.append(f"left in builds: {half}")
    return failures


def damaged(build: Build, rounds: int, dice: random.Random, *options: str) -> dict[str, Any]:
    """Files all over a store damaged in every way; nothing of it may be shipped."""
    whole, failures, kinds = build.run(*options), [], Counter[str]()
    if whole.code:
        return {"failures": [f"undisturbed: {whole.err[-500:]}"]}
    build.run(*options)
    parts = Counter[str]()
    for number in range(rounds):
        files = damage.files(build.store)
        kind = "flipped" if number % 2 else ""
        for path in dice.sample(files, dice.randint(1, len(files))):
            chosen = kind or dice.choice(list(damage.KINDS))
            damage.strike(path, chosen, dice)
            kinds[chosen] += 1
            parts[path.relative_to(build.store.root).parts[0]] += 1
        shutil.rmtree(build.folder / "dist", ignore_errors=True)
        if (done := build.run(*options)).identity != whole.identity:
            failures.append(f"{number}: {done.code} {done.err[-500:] if done.code else done.identity}")
        verify(build.store)
        if (done := build.run(*options)).identity != whole.identity or not verify(build.store).is_clean:
            failures.append(f"{number}: after store verify: {done.code} {done.err[-500:]}")
    return {"rounds": rounds, "files": sum(kinds.values()), "kinds": kinds, "parts": parts, "failures": failures}


def crowd(count: int, folder: Path) -> dict[str, Any]:
    """Cheap builds of overlapping recipes that share one store."""
    builds = [
        chain(folder, "--recipes", *RECIPES[index % 8 :], *RECIPES[: index % 8], "--jobs", str(1 + index % 3))
        for index in range(count)
    ]
    answers = _at_once(builds)
    runs = [len(path.read_text()) for path in (folder / "diary").glob("*.*")]
    return _agreed(answers, builds[0].store, sum(runs))


def real_crowd(count: int, folder: Path, model: Path) -> dict[str, Any]:
    """The real command: each build has two of the recipes, and each recipe is in two builds."""
    texts = {f"r{size}.yaml": RECIPE.replace("soak", f"r{size}") + f"serving: {{max_batch_size: {size}}}\n"
             for size in range(1, count + 1)}  # fmt: skip
    first = real(folder, model, texts)
    names, base = list(texts), first.command[:4]
    builds = [
        Build((*base, names[index], names[(index + 1) % count], "--json", "--no-verify", "--out", f"dist-{index}"),
              folder, first.store, first.environment)
        for index in range(count)
    ]  # fmt: skip
    answers = _at_once(builds)
    whole = first.run("--no-verify")
    failures = [
        f"{index}: {answer.code} {answer.err[-500:]}"
        for index, answer in enumerate(answers)
        if answer.code or any(whole.identity.get(name) != value for name, value in answer.identity.items())
    ]
    runs = sum(len(answer.ran()) for answer in answers if not answer.code)
    return _counted(count, first.store, runs, failures)


def _at_once(builds: Sequence[Build]) -> list[Ended]:
    return [finish(process) for process in [build.start() for build in builds]]


def _agreed(answers: Sequence[Ended], store: Store, runs: int) -> dict[str, Any]:
    failures = [answer.err[-500:] for answer in answers if answer.code]
    if any(answer.identity != answers[0].identity for answer in answers):
        failures.append("the builds do not agree")
    return _counted(len(answers), store, runs, failures)


def _counted(builds: int, store: Store, runs: int, failures: list[str]) -> dict[str, Any]:
    if not verify(store).is_clean:
        failures.append("the store is not clean")
    keys = statistics(store).records
    return {"builds": builds, "keys": keys, "runs": runs, "runs_per_key": round(runs / keys, 3), "failures": failures}


def collecting(count: int, dice: random.Random, folder: Path) -> dict[str, Any]:
    """Cheap builds that may not mend, three at any time, while all that none uses is collected again and again."""
    truth = chain(folder / "whole", "--seconds", "0", "--recipes", *RECIPES).run().answer
    rules = (Rule(max_size=0), Rule(older_than_seconds=0), Rule(keep=()), Rule())
    failures, collections, records, in_use, waiting = [], 0, 0, 0, count

    def start() -> subprocess.Popen[str]:
        recipes = dice.sample(RECIPES, 3)
        return chain(
            folder / "shared", "--no-mending", "--jobs", str(dice.randint(1, 3)), "--recipes", *recipes
        ).start()

    running: list[subprocess.Popen[str]] = []
    store = chain(folder / "shared").store
    while running or waiting:
        while len(running) < CROWD_OF_COLLECTING and waiting:
            running.append(start())
            waiting -= 1
        done = collect(store, rules[collections % len(rules)])
        collections, records, in_use = collections + 1, records + done.records, max(in_use, done.in_use)
        if not verify(store).is_clean:
            failures.append("the store is not clean")
        for process in [process for process in running if process.poll() is not None]:
            running.remove(process)
            ended = finish(process)
            if ended.code or any(truth[recipe] != digest for recipe, digest in ended.answer.items()):
                failures.append(f"{ended.code} {ended.err[-500:] if ended.code else ended.answer}")
    return {"builds": count, "collections": collections, "records_collected": records, "most_in_use": in_use,
            "failures": failures}  # fmt: skip


def real_collecting(rounds: int, folder: Path, model: Path) -> dict[str, Any]:
    """``store gc --max-size 0`` as a user runs it, again and again, while the real command builds."""
    build = real(folder, model)
    failures, collections, answers = [], 0, []
    gc = (sys.executable, "-m", "builder", "store", "gc", "--max-size", "0", "--json")
    for number in range(rounds):
        process = build.start("--no-verify")
        while process.poll() is None:
            done = subprocess.run(
                gc, env={**os.environ, **build.environment}, capture_output=True, text=True, check=False
            )
            collections += 1
            if done.returncode:
                failures.append(f"{number}: gc: {done.stderr[-500:]}")
        answers.append(finish(process))
        if "warning" in answers[-1].err:
            failures.append(f"{number}: {answers[-1].err[-500:]}")
    failures += [f"{answer.code} {answer.err[-500:]}" for answer in answers if answer.code]
    if len({json.dumps(answer.identity, sort_keys=True) for answer in answers}) > 1:
        failures.append("the builds do not agree")
    return {"builds": rounds, "collections": collections, "failures": failures}

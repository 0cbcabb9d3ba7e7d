"""Compares lint's verdicts with the real server's, on mutants (``tests/lint/mutate.py``).

What counts is whether a model loads. A case on which the server crashes or hangs is no verdict: such are counted by
themselves, with whether lint finds anything. Neither are the backends agreed on that a stand-in of ours plays here.
"""

from __future__ import annotations

import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from builder.lint import LOAD_ERROR, Options, backend, check
from builder.lint.engine import open_tree
from builder.lint.model import survey
from builder.lint.options import AUTO_COMPLETE, MODES, STRICT, VERIFIED_RELEASE
from builder.lint.rule import RULES, holds
from builder.lint.rules.ensemble import needed_models
from tests.lint import light
from tests.lint.core_cases import CASES
from tests.lint.fleet import Case, Fleet, Verdict
from tests.lint.mutate import config_mutants, mutants
from tests.lint.repositories import write

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from builder.lint import Finding
    from builder.lint.model import World
    from builder.tools.toolchain import Toolchain

CHUNK = 250  # mutants of one seed
SERVERS = 8  # at once
TWICE = 100  # mutants of which those without numpy are asked with it, too
CONFIGS_PER_SERVER = 400  # each load costs what all models there cost
MODULES = (
    "batching", "core", "ensemble", "links", "instances", "python_backend", "python_warmup", "repository", "sequences",
    "tensors",
)  # fmt: skip
STAND_INS = ("onnxruntime", "tensorrt", "pytorch", "openvino", "tensorflow")

# A config alone: the server refuses it when it polls, or gets as far as looking for versions or other models.
POLLED = re.compile(r"failed to poll from model repository")
FURTHER = re.compile(
    r"at least one version must be available|contains models that are not available|depends on|is at UNAVAILABLE"
)
WHILE_POLLING = (
    "A9",
    "A19",
    "A21",
    "C1",
    "C2",
    "C9",
    "C19",
    "C23",
    "C26",
    "C27",
    "C28",
    "C29",
    "C30",
    "C31",
    "E1",
    "E4",
    "E6",
    "E14",
)
WHILE_POLLING_STRICT = (
    "C22",
    "C33",
    "C34",
    "C35",
    "C36",
    "C37",
    "C38",
)  # else only when the backend has completed them


@dataclass
class Score:
    """How verdicts compare."""

    cases: int = 0
    refused_by_both: int = 0
    loaded_by_both: int = 0
    missed: list[str] = field(default_factory=list)  # the server refuses it, lint does not
    false: list[str] = field(default_factory=list)  # the server loads it, lint says load-error
    excluded: dict[str, int] = field(default_factory=dict)  # why → how many
    unanswered: dict[str, int] = field(default_factory=dict)  # of those, how the server failed → how many lint refuses
    unanswered_passed: list[str] = field(default_factory=list)  # … and the others
    rules: dict[str, int] = field(default_factory=dict)  # rule → how many of the cases it found

    def add(self, case: Case, verdict: Verdict, errors: Sequence[Finding] | None) -> None:
        """Counts one case; ``errors`` None: it is not for lint to say."""
        if verdict.loaded is None or errors is None:
            why = verdict.reason if verdict.loaded is None else "served by a stand-in"
            self.excluded[why] = self.excluded.get(why, 0) + 1
            self._add_unanswered(case, verdict, errors or ())
            return
        self.cases += 1
        self._add_rules(errors)
        if verdict.loaded and errors:
            self.false.append(f"{case.what}: {'; '.join(error.text for error in errors)}")
        elif not verdict.loaded and not errors:
            self.missed.append(f"{case.what}: {verdict.reason}")
        elif verdict.loaded:
            self.loaded_by_both += 1
        else:
            self.refused_by_both += 1

    def _add_unanswered(self, case: Case, verdict: Verdict, errors: Sequence[Finding]) -> None:
        if verdict.loaded is None and errors:
            self.unanswered[verdict.reason] = self.unanswered.get(verdict.reason, 0) + 1
            self._add_rules(errors)
        elif verdict.loaded is None:
            self.unanswered_passed.append(f"{case.what}: {verdict.reason}")

    def _add_rules(self, errors: Sequence[Finding]) -> None:
        for rule in {error.rule for error in errors}:
            self.rules[rule] = self.rules.get(rule, 0) + 1

    @property
    def disagreements(self) -> list[str]:
        return [*(f"missed: {one}" for one in self.missed), *(f"false: {one}" for one in self.false)]


def score_loads(score: Score, cases: Sequence[Case], verdicts: Mapping[str, Verdict], mode: str, folder: Path) -> None:
    """Counts repositories that the server was asked to load."""
    for case in cases:
        score.add(case, verdicts[case.name], load_errors(case, mode, folder))


def score_configs(
    score: Score, cases: Sequence[Case], verdicts: Mapping[str, Verdict], mode: str, folder: Path
) -> None:
    """Counts configs without version folders: whether the server refuses them while it polls, or only then, for the
    want of a version. That costs it no process, so that many can be asked."""
    rules = (*WHILE_POLLING, *(WHILE_POLLING_STRICT if mode == STRICT else ()))
    for case in cases:
        verdict = verdicts[case.name]
        if verdict.loaded is False and not POLLED.search(verdict.reason) and FURTHER.search(verdict.reason):
            verdict = Verdict(True)
        errors = load_errors(case, mode, folder, stand_ins=True) or []
        # It went beyond polling where it hung or crashed.
        score.add(case, verdict, [one for one in errors if one.rule in rules or verdict.loaded is None])


def load_errors(case: Case, mode: str, folder: Path, *, stand_ins: bool = False) -> list[Finding] | None:
    """Lint's load-errors for this machine: the verified release, no GPU. None where a stand-in serves the model."""
    root = folder / case.name
    if not root.exists():
        root.mkdir(parents=True)
        write(case.files, root)
    world = survey(open_tree(root), Options(mode=mode, release=VERIFIED_RELEASE, gpus=0))
    needed = {case.top, *needed_models(world.models.get(case.top), world)}
    if not stand_ins and not case.what.startswith("onnx:") and _has_stand_in(world, needed):
        return None
    errors = [one for one in check(world).findings if one.severity == LOAD_ERROR and _module(one.rule) in MODULES]
    return [error for error in errors if error.path.partition("/")[0] in needed]


def _has_stand_in(world: World, needed: set[str]) -> bool:
    models = [world.models[name] for name in needed if name in world.models]
    return any(one.config is not None and backend.completed(one).backend in STAND_INS for one in models)


def _module(rule_id: str) -> str:
    rule = RULES[rule_id]
    check_it = rule.check_model or rule.check_repository
    return check_it.__module__.rpartition(".")[2] if check_it else ""


def rule_cases() -> list[Case]:
    """The bad and the good repository of each rule (``core_cases.py``), side by side in one repository."""
    cases = []
    for number, (rule_id, case) in enumerate(CASES.items()):
        for side, files in (("bad", case.bad), ("good", case.good)):
            prefix = f"{side}{number}_"
            models = {path.partition("/")[0] for path in files}
            top = next(name for name in ("e", "m", "m m") if name in models)
            cases.append(Case(prefix, f"{rule_id} {side}", prefix + top, _prefixed(files, models, prefix)))
    return cases


def _prefixed(files: Mapping[str, str | bytes], models: set[str], prefix: str) -> dict[str, str | bytes]:
    names = re.compile(rf'(name: )"({"|".join(map(re.escape, models))})"')
    return {
        prefix + path: names.sub(rf'\1"{prefix}\2"', text) if isinstance(text, str) else text
        for path, text in files.items()
    }


def score_rules(verdicts: Mapping[str, Verdict], cases: Sequence[Case], mode: str) -> dict[str, dict[str, str]]:
    """What the server says of each rule that holds for it: rule → side → loads, refused, crashed, hung."""
    said: dict[str, dict[str, str]] = {}
    for case in cases:
        rule_id, side = case.what.split()
        rule, verdict = RULES[rule_id], verdicts[case.name]
        if rule.severity == LOAD_ERROR and holds(rule.releases, VERIFIED_RELEASE) and mode in _modes(rule_id):
            words = {True: "loads", False: "refused", None: verdict.reason}
            said.setdefault(rule_id, {})[side] = words[verdict.loaded]
    return said


def _modes(rule_id: str) -> tuple[str, ...]:
    return {"A21": (STRICT,), "P11": (AUTO_COMPLETE,)}.get(rule_id, MODES)


def agreement(
    loads: int,
    configs: int,
    seed: int,
    toolchain: Toolchain,
    environment: Path,
    folder: Path,
    done: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Both modes on ``loads`` repositories and ``configs`` configs; the data of ``lint-agreement.json``.

    Several servers at once: much of the time is spent on waiting for what hangs. ``done`` gets the data so far.
    """
    scores = {mode: {"loads": Score(), "configs": Score()} for mode in MODES}
    sides: dict[str, dict[str, dict[str, str]]] = {}
    twice: dict[str, dict[str, Any]] = {}

    def few_loads(task: tuple[str, int]) -> None:
        mode, number = task
        cases = list(mutants(min(CHUNK, loads - number), seed + number // CHUNK))
        place = folder / f"{mode}-{number}"
        verdicts = Fleet(toolchain, environment, place, mode).verdicts(cases)
        if number == 0:
            some = [case for case in cases[:TWICE] if light.is_enough(case)]  # the others are asked with it anyway
            again = Fleet(toolchain, environment, place / "whole", mode, whole=True).verdicts(some)
            differ = [case.what for case in some if again[case.name].loaded != verdicts[case.name].loaded]
            twice[mode] = {"asked": len(some), "differ": differ}
        with lock:
            score_loads(scores[mode]["loads"], cases, verdicts, mode, place / "cases")
            done(report(scores, sides, twice, seed))
        shutil.rmtree(place)

    def rest(mode: str) -> None:
        place = folder / f"{mode}-rules"
        said = score_rules(Fleet(toolchain, environment, place, mode).verdicts(rule_cases()), rule_cases(), mode)
        cases = list(config_mutants(configs, seed))
        place = folder / f"{mode}-configs"
        verdicts = Fleet(toolchain, environment, place, mode, CONFIGS_PER_SERVER).verdicts(cases)
        with lock:
            sides[mode] = said
            score_configs(scores[mode]["configs"], cases, verdicts, mode, place / "cases")
            done(report(scores, sides, twice, seed))

    lock = threading.Lock()
    with ThreadPoolExecutor(SERVERS) as pool:
        waiting = [pool.submit(rest, mode) for mode in MODES]
        waiting += [pool.submit(few_loads, (mode, number)) for number in range(0, loads, CHUNK) for mode in MODES]
        try:
            for one in as_completed(waiting):
                one.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # the rest would be for nothing
            raise
    return report(scores, sides, twice, seed)


def report(
    scores: Mapping[str, Mapping[str, Score]],
    sides: Mapping[str, Mapping[str, Mapping[str, str]]],
    twice: Mapping[str, Mapping[str, Any]],
    seed: int,
) -> dict[str, Any]:
    """The scores as JSON data."""
    modes: dict[str, dict[str, Any]] = {
        mode: {part: {**asdict(score), "rules": dict(sorted(score.rules.items()))} for part, score in both.items()}
        for mode, both in scores.items()
    }
    failures = [one for both in scores.values() for score in both.values() for one in score.disagreements]
    for mode, found_twice in twice.items():
        failures += [f"{mode}: another verdict with numpy: {what}" for what in found_twice["differ"]]
        modes[mode]["same_with_numpy"] = dict(found_twice)
    for mode, rules in sides.items():
        failures += [f"{mode}: the bad side of {one} loads" for one, said in rules.items() if said["bad"] == "loads"]
        failures += [
            f"{mode}: the good side of {one}: {said['good']}" for one, said in rules.items() if said["good"] != "loads"
        ]
        modes[mode]["sides"] = {
            "sides_as_lint_says": sum(said == {"bad": "refused", "good": "loads"} for said in rules.values()),
            "bad_sides_that_end_or_hang_the_server": {
                one: said["bad"] for one, said in rules.items() if said["bad"] not in {"loads", "refused"}
            },
        }
    found = {rule for both in scores.values() for score in both.values() for rule in score.rules}
    return {
        "server": f"tritonserver of release {VERIFIED_RELEASE}, no GPU",
        "seed": seed,
        "failures": failures,
        "modes": modes,
        "rules_that_found_something": sorted(found),
        "rules_that_found_nothing": sorted({rule for said in sides.values() for rule in said} - found),
    }

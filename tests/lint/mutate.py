"""Seeded mutations of repositories: configs (as messages and as text), model files, folders, and what is rare."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.lint.fleet import Case
from tests.lint.mutate_files import in_files, in_python
from tests.lint.mutate_message import in_message
from tests.lint.mutate_rare import in_rare
from tests.lint.mutate_text import in_links, in_text
from tests.lint.repositories import BASES, Base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lint.repositories import Files

ATTEMPTS = 1000  # to change something
ENSEMBLES = ("serial", "fan", "nested", "streams")
MIX = (*BASES, *ENSEMBLES, "add", "plain", "sequence")  # ensembles have most rules, and cost least


def mutants(count: int, seed: int, bases: tuple[str, ...] = MIX) -> Iterator[Case]:
    """Different repositories, each a base with one to three mutations; the bases themselves come first."""
    dice = random.Random(seed)
    for number in range(count):
        name = f"m{number}_"
        kind = bases[number % len(bases)]
        base = BASES[kind](name)
        whole = dict(base.files)
        times = 0 if number < len(bases) else dice.choice((1, 1, 1, 2, 3))
        what = [mutate(base, dice, name) for _ in range(times)]
        yield Case(name, f"{kind}: {', '.join(what) or 'untouched'}", base.top, share(base, whole, name, kind))


def config_mutants(count: int, seed: int) -> Iterator[Case]:
    """Configs alone, one model each, without version folders: what the core refuses of them, it refuses first."""
    dice = random.Random(seed)
    kinds = [kind for kind in BASES if kind != "bare"]
    for number in range(count):
        name = f"c{number}_"
        kind = kinds[number % len(kinds)]
        base = BASES[kind](name)
        base.files = {f"{base.top}/config.pbtxt": base.files[f"{base.top}/config.pbtxt"]}
        base.fixed = ()
        what = []
        while len(what) < dice.choice((1, 1, 2)):
            what.append(dice.choice((in_message, in_message, in_text, in_links))(base, dice, name) or "nothing")
        yield Case(name, f"{kind}: {', '.join(what)}", base.top, base.files)


def share(base: Base, whole: Files, prefix: str, kind: str) -> Files:
    """Gives the models of steps that nobody changed a name without the case's: a server loads them once for all."""
    names = {path.partition("/")[0] for path in (*base.files, *whole)} - {base.top, f"{prefix}{kind}"}
    same = {name for name in names if _files(base.files, name) == _files(whole, name)}
    same -= {name for name in same if any(other in str(_files(whole, name)) for other in names - same)}
    files = base.files
    for name in sorted(same):
        new = f"{name.removeprefix(prefix)}_of_{kind}"
        files = {
            path.replace(f"{name}/", f"{new}/"): text.replace(name, new) if isinstance(text, str) else text
            for path, text in files.items()
        }
    return files


def _files(files: Files, model: str) -> Files:
    return {path: content for path, content in files.items() if path.startswith(f"{model}/")}


def mutate(base: Base, dice: random.Random, prefix: str) -> str:
    """Changes the repository in one place; says how."""
    for _ in range(ATTEMPTS):
        ways: list[Callable[[Base, random.Random, str], str]] = [in_message] * 12
        if not base.fixed:
            ways += [in_text, in_text, in_files, in_files, in_python, in_links, in_links, in_rare]
        if what := dice.choice(ways)(base, dice, prefix):
            return what
    return "nothing"  # no file is left

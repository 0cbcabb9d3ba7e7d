"""``tritonsmith sweep``: which settings serve a model best, measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, NoReturn

import typer

from builder.cli.plan import SET_HELP
from builder.errors import EXIT_DONE, EXIT_GATE_FAILED, UserError

if TYPE_CHECKING:
    from builder.artifacts import Json
    from builder.cli.console import Console
    from builder.recipe import AnyRecipe
    from builder.sweep.baseline import Held
    from builder.sweep.compare import Verdict
    from builder.sweep.run import Outcome, Progress
    from builder.sweep.wanted import Wanted

SUBJECT_HELP: Final = "A recipe, an archive (its files lie beside it), or anybody's model repository."
RECIPE_HELP: Final = "For an archive or a repository: the recipe whose section verify says what is tried."
LOAD_HELP: Final = (
    "closed:1,4,16 (requests in flight), open:50,100 (requests per second) or ramp:initial=1,spawn=60,duration=30 "
    "(users, more each minute, seconds); with @p95_ms<100 behind it, it stops there.  [default: what the recipe says]"
)
TUNED_HELP: Final = "Write the winner into this file, for a recipe's key tuned."
BASELINE_HELP: Final = "The results.json of an earlier sweep: exit code 1 if its winner is slower today."
BEFORE_HELP: Final = "With --baseline: the archive that it was measured on; both are then measured in turn."
SELF_TEST_HELP: Final = (
    "Compare the subject as it is with itself, 20 times: exit code 1 if it is called better or worse more often than "
    "the level of verdicts allows."
)
RECORD_HELP: Final = "Where measured points are kept.  [default: in the cache]"


@dataclass(frozen=True, slots=True)
class _Files:
    """What is read and written beside the subject."""

    out: Path
    tuned: Path | None = None
    baseline: Path | None = None
    archive: Path | None = None  # of the baseline
    junit: Path | None = None
    summary: Path | None = None


def sweep(  # noqa: PLR0913 - the options of the command
    path: Annotated[Path, typer.Argument(metavar="RECIPE|ARCHIVE|REPOSITORY", help=SUBJECT_HELP, show_default=False)],
    recipe: Annotated[Path | None, typer.Option(metavar="FILE", help=RECIPE_HELP, dir_okay=False)] = None,
    target: Annotated[str | None, typer.Option(help="Which of a recipe's targets.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SET_HELP)] = None,
    search: Annotated[
        Literal["guided", "exhaustive", "random"] | None, typer.Option(help="How settings are chosen.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is left to chance.")] = 0,
    load: Annotated[str | None, typer.Option(metavar="PROFILE", help=LOAD_HELP, show_default=False)] = None,
    batch: Annotated[int | None, typer.Option(min=1, metavar="N", help="Items in each request.")] = None,
    protocol: Annotated[Literal["grpc", "http"] | None, typer.Option(help="What requests are sent over.")] = None,
    shared_memory: Annotated[bool, typer.Option("--shared-memory", help="Send tensors through memory.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Try at most so many points.")] = None,
    time: Annotated[float | None, typer.Option(min=1, metavar="SECONDS", help="Measure for about so long.")] = None,
    seconds: Annotated[float, typer.Option(min=0.2, max=600, help="How long a point is measured.")] = 1.5,
    out: Annotated[Path, typer.Option(help="Folder for the report and the archives.", file_okay=False)] = Path("sweep"),
    write_tuned: Annotated[Path | None, typer.Option(metavar="FILE", help=TUNED_HELP, dir_okay=False)] = None,
    baseline: Annotated[Path | None, typer.Option(metavar="FILE", help=BASELINE_HELP, dir_okay=False)] = None,
    baseline_archive: Annotated[Path | None, typer.Option(metavar="ARCHIVE", help=BEFORE_HELP)] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML.", dir_okay=False)] = None,
    summary: Annotated[Path | None, typer.Option(metavar="FILE", help="Write Markdown.", dir_okay=False)] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help=RECORD_HELP, dir_okay=False, show_default=False)
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure anew what the record has.")] = False,
    self_test: Annotated[bool, typer.Option("--self-test", help=SELF_TEST_HELP)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell more on stderr.")] = False,
) -> None:
    """Try settings on a running tritonserver, and find the best one that holds the constraints.

    What was measured is recorded at once: the same command goes on where it was interrupted. Exit code 1: no setting
    holds the constraints, or a figure is worse than the baseline's; 4: nobody can tell.
    """
    from builder.admitting import admit
    from builder.cli.console import console
    from builder.sweep.wanted import Wanted

    files = _Files(out, write_tuned, baseline, baseline_archive, junit, summary)
    wanted = Wanted(
        path,
        recipe=_recipe(path, recipe, overrides or []),
        target=target,
        overrides=tuple(overrides or ()),
        search=search,
        seed=seed,
        profile=load,
        sent=_sent(batch, protocol, shared_memory=shared_memory),
        points=limit,
        budget_seconds=time,
        seconds=seconds,
        record=record,
        fresh=fresh,
        out=out / "archives",
    )
    _check(wanted, files)
    with console(verbose=verbose) as shown:
        for archive in (path, baseline_archive):
            if archive is not None and not _is_recipe(archive):
                admit(archive)
        wanted = replace(wanted, reporter=shown)
        if self_test:
            _test_itself(wanted, shown, as_json=as_json)
        _sweep(wanted, files, shown, as_json=as_json)


def _sent(batch: int | None, protocol: str | None, *, shared_memory: bool) -> dict[str, Json]:
    said = {"batch": batch, "protocol": protocol, "shared_memory": shared_memory or None}
    return {name: value for name, value in said.items() if value is not None}


def _recipe(path: Path, named: Path | None, overrides: list[str]) -> AnyRecipe | None:
    """The recipe whose section counts: the subject itself, or the one that is named."""
    from builder.recipe import load

    itself = _is_recipe(path)
    if itself and named is not None:
        raise UserError(f"--recipe {named}: {path} is a recipe itself", mend="leave --recipe out")
    if overrides and not itself and named is None:
        raise UserError(f"--set {overrides[0]}: there is no recipe to set it in", mend="name one with --recipe")
    chosen = path if itself else named
    return None if chosen is None else load(chosen, overrides)


def _is_recipe(path: Path) -> bool:
    from builder.inspecting import RECIPES

    return path.suffix in RECIPES and not path.is_dir()


def _check(wanted: Wanted, files: _Files) -> None:
    """What would be found out only after all the measuring."""
    from builder.sweep import baseline, tuned

    _ = wanted.load  # its mistakes are said before anything is built
    if files.archive is not None and files.baseline is None:
        raise UserError("--baseline-archive: is for --baseline", mend="name the results.json, too")
    if files.archive is not None and not files.archive.exists():
        raise UserError(f"--baseline-archive {files.archive}: no such file or folder")
    if files.baseline is not None:
        baseline.read(files.baseline)
    if files.tuned is not None:
        if wanted.recipe is None:
            raise UserError("--write-tuned: whose recipe is it for?", mend="name one with --recipe")
        if wanted.target is not None:
            _check_target(wanted.target, wanted.recipe)
        tuned.check(files.tuned, wanted.recipe)


def _sweep(wanted: Wanted, files: _Files, shown: Console, *, as_json: bool) -> NoReturn:
    from builder.cli.console import print_json
    from builder.sweep import gate_report
    from builder.sweep.report import text, write_report
    from builder.sweep.run import sweep as run
    from builder.tools import vega

    vega.check()
    shown.busy("getting ready")
    try:
        outcome = run(wanted, lambda progress: _tell(progress, shown))
    except KeyboardInterrupt:
        without = ", without --fresh," if wanted.fresh else ""
        typer.echo(
            f"tritonsmith: what was measured is recorded; the same command{without} goes on from there", err=True
        )
        raise
    held, swept = None, outcome.swept
    try:
        held = _held(wanted, files, outcome, shown)
        swept = swept if held is None else replace(swept, verdicts=held.verdicts)
    finally:  # a baseline that cannot be measured costs no report
        shown.busy("report")
        if not as_json:  # before the files: a disk may be full
            typer.echo(text.terminal(swept), nl=False)
        written = [*write_report(swept, files.out)]
    if files.tuned is not None and swept.winner is not None:
        written.append(_write_tuned(wanted, files.tuned, outcome))
    for path, content in ((files.junit, gate_report.junit), (files.summary, gate_report.markdown)):
        if path is not None:
            gate_report.write_text(path, content(swept, held))
            written.append(path)
    shown.busy()
    if as_json:
        told = {"files": [str(path.absolute()) for path in written], "measured": outcome.measured}
        print_json({**swept.as_json(), **told, "baseline": held.how if held else None})
    else:
        typer.echo("".join(f"{path}\n" for path in written), nl=False)
    raise typer.Exit(gate_report.exit_code(swept, held))


def _tell(progress: Progress, shown: Console) -> None:
    """Point k, what it is, the best so far, and how long it may take."""
    from builder.sweep.report.summary import duration

    left = "" if progress.left_seconds is None else f", about {duration(progress.left_seconds)} left"
    best = f"; best so far {_figures(progress.best)}" if progress.best else ""
    point = progress.point
    said = _figures(point) if point.status == "stable" else f"{point.status}: {point.reason.partition(chr(10))[0]}"
    shown.line(f"point {progress.number:<3} {point.setting.label}, {point.load.label}: {said}{best}{left}")
    shown.busy(f"point {progress.number + 1}")


def _figures(point: object) -> str:
    throughput, p99 = (getattr(point, name) for name in ("throughput", "p99_ms"))
    return "no figures" if throughput is None or p99 is None else f"{throughput.value:.4g}/s, p99 {p99.value:.3g} ms"


def _held(wanted: Wanted, files: _Files, outcome: Outcome, shown: Console) -> Held | None:
    if files.baseline is None:
        return None
    from builder.sweep import baseline
    from builder.sweep.subject import open_subject
    from builder.sweep.wanted import options_of

    shown.busy("baseline")
    before = baseline.read(files.baseline)
    archive = None if files.archive is None else open_subject(files.archive, replace(options_of(wanted), target=None))
    return baseline.hold(before, outcome.subject, archive, seconds=wanted.seconds, told=shown.line)


def _write_tuned(wanted: Wanted, path: Path, outcome: Outcome) -> Path:
    from builder.sweep import tuned
    from builder.sweep.subject import variant

    recipe, swept = wanted.recipe, outcome.swept
    assert recipe is not None
    sections, facts = {}, {}
    own = wanted.target or outcome.subject.target or next(iter(recipe.targets))
    for target, best in tuned.winners(swept, own).items():
        _check_target(target, recipe)
        setting = best.point.setting
        built = variant(outcome.subject, setting.build)
        main = built.main.removeprefix(f"{built.name}-")
        sections[target] = tuned.section(recipe, target, setting, built.configs[built.main], main)
        facts[target] = tuned.facts(swept, best)
    tuned.write_tuned(path, recipe, sections, facts)
    return path


def _check_target(target: str, recipe: AnyRecipe) -> None:
    if target not in recipe.targets:
        known = ", ".join(recipe.targets)
        raise UserError(f"--target {target}: the recipe has no such target", mend=f"name one of {known}")


def _test_itself(wanted: Wanted, shown: Console, *, as_json: bool) -> NoReturn:
    from builder.cli.console import print_json
    from builder.sweep.run import self_test

    def told(number: int, times: int, verdicts: dict[str, Verdict]) -> None:
        said = "; ".join(f"{figure} {one.kind}, {one.reason}" for figure, one in verdicts.items())
        shown.line(f"comparison {number} of {times}: {said}")
        shown.busy(f"comparison {number + 1}")

    shown.busy("comparison 1")
    found = self_test(wanted, told)
    if as_json:
        print_json(found.as_json())
    else:
        for figure, verdicts in found.verdicts.items():
            wrong = f"{found.wrong(figure)} of {len(verdicts)} times, {found.allowed(figure)} allowed"
            typer.echo(f"{figure}: called better or worse than itself {wrong}")
        typer.echo("passed" if found.passed else "FAILED")
    raise typer.Exit(EXIT_DONE if found.passed else EXIT_GATE_FAILED)

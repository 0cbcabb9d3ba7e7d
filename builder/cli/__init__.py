"""The command line: parse → call → render. One file per command; every heavy import waits until a command runs.

Results go to stdout, talk and progress to stderr. Exit codes are in :mod:`builder.errors`.
"""

from __future__ import annotations

import gc
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from builder import __version__
from builder.cli import build, doctor, handoff, inspect, lint, plan, schema, serve, store, sweep, toolchain, verify
from builder.errors import (
    EXIT_INTERNAL_ERROR,
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    EXIT_USER_ERROR,
    RecipeError,
    TritonsmithError,
)
from builder.settings import without_plugins

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

app = typer.Typer(
    name="tritonsmith",
    help="Builds Triton model repositories from recipes, and proves them on a real Triton.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("plan")(plan.plan)
app.command("build")(build.build)
app.command("lint")(lint.lint)
app.command("verify")(verify.verify)
app.command("sweep")(sweep.sweep)
app.command("serve")(serve.serve)
app.command("inspect")(inspect.inspect)
app.command("handoff")(handoff.handoff)
app.command("schema")(schema.schema)
app.command("doctor")(doctor.doctor)
app.add_typer(store.app, name="store")
app.add_typer(toolchain.app, name="toolchain")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tritonsmith {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Builds Triton model repositories from recipes, and proves them on a real Triton."""


EXIT_BROKEN_PIPE: Final = 141
"""What a shell makes of SIGPIPE, and so how other tools end whose reader went away."""

# typer vendors click and exports one class of its usage errors: the others are found through it.
_ClickError: type[Exception] = typer.BadParameter.__mro__[2]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits with its code: the only place where exceptions become exit codes."""
    signal.signal(signal.SIGTERM, _terminate)
    without_plugins()
    stdout = sys.stdout
    try:
        code = app(args=list(sys.argv[1:] if arguments is None else arguments), standalone_mode=False)
    except TritonsmithError as error:
        # A recipe's mistakes begin with file:line:column, which editors and CI make into links.
        typer.echo(f"{error}" if isinstance(error, RecipeError) else f"tritonsmith: {error}", err=True)
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("tritonsmith: interrupted", err=True)
        code = EXIT_INTERRUPTED
    except _Terminated:
        typer.echo("tritonsmith: terminated", err=True)
        code = EXIT_TERMINATED
    except BrokenPipeError:
        # The reader of our stdout went away (`| head`): nothing to tell it, and nothing more may be written.
        sys.stderr.close()
        code = EXIT_BROKEN_PIPE
    except SystemExit as end:
        # Where a command meets the same, typer is first: it puts another stdout in place, and exits with 1.
        code = EXIT_BROKEN_PIPE if sys.stdout is not stdout else end.code
    except _ClickError as error:
        error.show()  # type: ignore[attr-defined]
        code = EXIT_USER_ERROR
    except Exception:
        traceback.print_exc()
        typer.echo("tritonsmith: this is a bug of tritonsmith; please report it with the lines above", err=True)
        code = EXIT_INTERNAL_ERROR
    gc.freeze()  # the interpreter looks for garbage when it ends: 10 ms for what is gone with the process anyway
    sys.exit(code if isinstance(code, int) else 0)


class _Terminated(BaseException):
    """SIGTERM: unwinds like Ctrl-C, so that servers end and folders are removed."""


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated

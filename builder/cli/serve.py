"""``tritonsmith serve``: a running Triton on an archive or a repository, until Ctrl-C."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from builder.artifacts import Json
    from builder.tools.triton_server import Server

POLL_SECONDS = 0.5


def serve(
    path: Annotated[Path, typer.Argument(metavar="ARCHIVE|REPOSITORY", help="What to serve.", show_default=False)],
    triton: Annotated[
        str | None, typer.Option(help="Triton release whose onnxruntime to use; default: the archive's.")
    ] = None,
    http_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: a free port.")] = None,
    grpc_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: a free port.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell more on stderr.")] = False,
) -> None:
    """Run a Triton server on loopback until Ctrl-C; addresses are printed once its models are ready.

    Python steps of an archive or a repository run on this machine, as you: serve only what you trust.
    """
    from builder.admitting import admit
    from builder.cli.console import console, print_json
    from builder.serving import Ports, running

    with console(verbose=verbose) as shown:
        admit(path)
        with running(path, triton=triton, ports=Ports(http_port, grpc_port)) as served:
            facts = _facts(served.server, served.models)
            if as_json:
                print_json(facts)
            else:
                _render(facts)
            shown.line("serving until Ctrl-C")
            while True:
                time.sleep(POLL_SECONDS)
                served.server.check()


def _facts(server: Server, models: tuple[str, ...]) -> Json:
    return {
        "models": list(models),
        "http": f"http://{server.http_address}",
        "grpc": server.grpc_address,
        "metrics": f"http://{server.metrics_address}/metrics",
        "pid": server.pid,
    }


def _render(facts: Json) -> None:
    for name, value in facts.items():
        typer.echo(f"{name:<8} {', '.join(value) if isinstance(value, list) else value}")

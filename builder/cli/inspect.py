"""``tritonsmith inspect``: tensors, models and steps of a recipe, an archive or a repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.config.dag import Dag, Port
    from builder.inspecting import Inspected


def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="RECIPE|ARCHIVE|REPOSITORY", help="What to look at.", show_default=False)
    ],
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print the pipeline as a Mermaid flow chart.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")] = False,
) -> None:
    """Show what clients send and get, the models, and who gives what to whom. Nothing is built or served.

    Of a recipe, -1 stands for sizes that only the model knows, too.
    """
    from builder import inspecting
    from builder.cli.console import print_json
    from builder.config.chart import mermaid as draw

    found = inspecting.inspect(path)
    if as_json:
        print_json(found.as_json())
    elif mermaid:
        typer.echo("\n".join(draw(dag) for dag in found.pipelines), nl=False)
    else:
        typer.echo("\n".join(_lines(found)))


def _lines(found: Inspected) -> Iterator[str]:
    for dag in found.pipelines:
        yield from _pipeline(dag)
        yield ""
    yield f"models: {len(found.models)}"
    width = max((len(model.name) for model in found.models), default=0)
    for model in found.models:
        takes, gives = _ports(model.takes), _ports(model.gives)
        kind = f"{model.backend}, " if model.backend else ""
        yield f"  {model.name:<{width}}  {kind}batch up to {model.max_batch_size}: {takes} → {gives}"


def _pipeline(dag: Dag) -> Iterator[str]:
    yield f"{dag.name}, batch up to {dag.max_batch_size}"
    yield f"  clients send  {_ports(dag.inputs)}"
    yield f"  and get       {', '.join(f'{name} {port}' for name, (_, port) in dag.outputs.items())}"
    yield "  steps"
    for step in dag.steps:
        given = [f"{edge.taken.name} ← {edge.source}.{edge.given.name}" for edge in dag.edges_into(step.name)]
        yield f"    {step.name}: {', '.join(given) or 'takes nothing'}"
    for name, (giver, port) in dag.outputs.items():
        yield f"    {name} ← {giver}.{port.name}"


def _ports(ports: Iterable[Port]) -> str:
    return ", ".join(f"{port.name} {port}{' (optional)' if port.optional else ''}" for port in ports) or "nothing"

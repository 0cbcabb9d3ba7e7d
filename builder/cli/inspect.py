"""``tritonsmith inspect``: tensors, models and steps of a recipe, an archive or a repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.artifacts import Json
    from builder.config.dag import Dag, Port
    from builder.inspecting import Inspected
    from builder.package.beside import Beside


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
    from builder.admitting import admit
    from builder.cli.console import console, print_json
    from builder.config.chart import mermaid as draw

    with console():
        if path.suffix not in inspecting.RECIPES:
            admit(path)
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
    if found.beside is not None:
        yield ""
        yield from _beside(found.beside)


def _beside(found: Beside) -> Iterator[str]:
    """Where an archive comes from, what is in it, and who signed it."""
    if found.provenance is None:
        yield "provenance: none beside the archive"
    else:
        yield from _provenance(found.provenance)
    yield f"bill of materials: {len(found.components)} components" if found.has_bill else "bill of materials: none"
    for one in found.components:
        where = "; of the server" if one.external else ""
        known = not one.external or one.licences
        licences = f"; {' or '.join(one.licences) or 'licence not stated'}" if known else ""
        yield f"  {one.kind}: {' '.join(filter(None, (one.name, one.version)))}{licences}{where}"
    told = {"signed": f"signed by {found.signer}; tritonsmith verify --trust says whether that counts"}
    yield f"signature: {told.get(found.state, found.state)}"


def _provenance(statement: Json) -> Iterator[str]:
    try:
        definition = statement["predicate"]["buildDefinition"]
        versions, builder = (statement["predicate"]["runDetails"]["builder"][key] for key in ("version", "id"))
        yield f"provenance: built by tritonsmith {versions['tritonsmith']} ({builder})"
        for one in definition["resolvedDependencies"]:
            about, digest = one["annotations"], one["digest"]["sha256"]
            place = one.get("uri") or about.get("model_id", "")
            yield f"  {about['role']}: {one['name']} sha256:{digest[:16]}… {place}".rstrip()
    except (KeyError, TypeError, AttributeError) as error:
        raise ArchiveError(f"provenance: is not as tritonsmith writes it: {error!r}") from error


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

"""``tritonsmith schema``: the JSON schema of recipes, for editors and CI."""

from __future__ import annotations

from typing import Annotated

import typer


def schema(
    as_json: Annotated[bool, typer.Option("--json", help="The schema is JSON with or without it.")] = False,  # noqa: ARG001
) -> None:
    """Print the JSON schema of recipes."""
    from builder.cli.console import print_json
    from builder.recipe import json_schema

    print_json(json_schema())

"""``tritonsmith schema``: the JSON schema of recipes, for editors and CI."""

from __future__ import annotations


def schema() -> None:
    """Print the JSON schema of recipes."""
    from builder.cli.console import print_json
    from builder.recipe import json_schema

    print_json(json_schema())

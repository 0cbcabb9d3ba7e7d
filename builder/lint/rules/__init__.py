"""All rules: importing this fills :data:`builder.lint.rule.RULES`."""

from builder.lint.rules import (
    batching,
    core,
    ensemble,
    instances,
    links,
    python_backend,
    repository,
    sequences,
    tensors,
)

__all__ = ["batching", "core", "ensemble", "instances", "links", "python_backend", "repository", "sequences", "tensors"]

"""All rules: importing this fills :data:`builder.lint.rule.RULES`."""

from builder.lint.rules import core, ensemble, python_backend, repository

__all__ = ["core", "ensemble", "python_backend", "repository"]

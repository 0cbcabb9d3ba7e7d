"""Facts of the graph, the tokenizer and the target → Triton's configs."""

from builder.config.stage import Configure, ConfigureInputs, configure

__all__ = ["Configure", "ConfigureInputs", "configure"]

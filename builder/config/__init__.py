"""Facts of the graph, the tokenizer and the target → Triton's configs."""

from builder.config.stage import Configure, configure
from builder.config.stage_inputs import ConfigureInputs
from builder.config.warmup import WarmUp, warm_up

__all__ = ["Configure", "ConfigureInputs", "WarmUp", "configure", "warm_up"]

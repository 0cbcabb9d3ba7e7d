"""What the config stage of one model wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.config.hardware import instance_count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import File, Json
    from builder.config.models import Facts


@dataclass(frozen=True, slots=True)
class Written:
    """Configs by the names of their models, in order; files that are only referred to, by path."""

    configs: Mapping[str, Mapping[str, Json]]
    referred: Mapping[str, File]
    settings: Mapping[str, Json]  # of the tokenizer step

    def record(self, facts: Facts) -> dict[str, Json]:
        """What later stages and a manifest tell."""
        config, values = self.configs[facts.model_name], self.settings
        engine = facts.engine
        return {
            "models": [facts.name, facts.tokenize_name, facts.model_name],
            "inputs": self.configs[facts.name]["input"],
            "outputs": self.configs[facts.name]["output"],
            "text_pair": facts.text_pair,
            "max_batch_size": facts.max_batch_size,
            "instances": instance_count(config["instance_group"]),
            "parameters": {key: value.get("string_value") for key, value in config.get("parameters", {}).items()},
            **({"lengths": list(engine.lengths)} if engine is not None and engine.fixed else {}),
            "padding": values["padding"],
            "max_length": values["max_length"],
        }

"""What the config stage of one model reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.artifacts import TokenizerFiles
from builder.errors import InternalError, ModelError

if TYPE_CHECKING:
    from builder.artifacts import Engine, ImageFiles, OnnxModel, Tensor, WarmupData

TOKENS: Final = "INT64"  # what the tokenizer step makes


@dataclass(frozen=True, slots=True)
class ConfigureInputs:
    """What the stage reads."""

    model: OnnxModel
    tokenizer: TokenizerFiles | ImageFiles  # what turns a request into the model's inputs
    warmup: WarmupData | None = None  # None: the model is not warmed up, or the recipe says with what
    labels: tuple[str, ...] = ()  # the model's, for outputs with a label_filename
    engine: Engine | None = None  # what is served instead of the model

    @property
    def served(self) -> OnnxModel | Engine:
        """What a server loads: its tensors and its files count."""
        return self.engine or self.model

    @property
    def text_tokenizer(self) -> TokenizerFiles:
        """The tokenizer.

        Raises:
            InternalError: the model takes images: no recipe that was checked asks for it.
        """
        if not isinstance(self.tokenizer, TokenizerFiles):
            raise InternalError(f"{', '.join(self.tokenizer.input_names)} come from images, not from a tokenizer")
        return self.tokenizer

    def check(self) -> None:
        """Checks that what is served takes what is made of a request, in batches.

        Raises:
            InternalError: it takes other tensors.
            ModelError: a tensor has no batch axis that is dynamic, or another type.
        """
        taken = [tensor.name for tensor in self.served.inputs]
        if set(taken) != set(self.tokenizer.input_names):
            made = ", ".join(self.tokenizer.input_names)
            raise InternalError(f"the graph takes {', '.join(taken)}, but the tokenizer makes {made}")
        for tensor in (*self.served.inputs, *self.served.outputs):
            _check_batch_axis(tensor)
        if self.engine is not None and isinstance(self.tokenizer, TokenizerFiles):
            for tensor in self.engine.inputs:
                _check_type(tensor)


def _check_batch_axis(tensor: Tensor) -> None:
    """Triton batches along the first axis, of all inputs and all outputs."""
    if not tensor.shape or tensor.shape[0] != -1:
        raise ModelError(
            f"{tensor.name} has the shape {list(tensor.shape)}: its first axis is not a dynamic batch axis"
        )


def _check_type(tensor: Tensor) -> None:
    """The backend compares types word for word (tensorrt_backend e2ef6d7, ``src/instance_state.cc:3056``)."""
    if tensor.dtype != TOKENS:
        raise ModelError(
            f"{tensor.name} is {tensor.dtype} in the engine, but the tokenizer makes {TOKENS}",
            mend="build it with TensorRT 10 or later: older ones turn INT64 into INT32",
        )

"""Plans that are there: whose they are, and weights for those that were written without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import ModelError
from builder.tools.engine_header import HEAD_BYTES, UNKNOWN, read_engine_head
from builder.tools.tensorrt import is_version, load
from builder.tools.tensorrt_errors import Failure, explain
from builder.tools.tensorrt_log import Log

if TYPE_CHECKING:
    from pathlib import Path


def check(plan: Path, runtime: str, library: str) -> None:
    """Whether a plan was made by a version of a runtime, by its first bytes: no library and no GPU is needed.

    Args:
        plan: the file.
        runtime: tensorrt | tensorrt-rtx.
        library: version, ``10.13.3.9``; compared as far as the plan states it.

    Raises:
        ModelError: another library made it, or it is no plan.
        OSError: it cannot be read.
    """
    with plan.open("rb") as stream:
        head = read_engine_head(stream.read(HEAD_BYTES))
    if head.kind == UNKNOWN:
        raise ModelError(f"{plan.name}: begins with {head.magic!r}: no plan of TensorRT, nor of TensorRT-RTX")
    made_by = head.kind.replace("_", "-")
    if made_by != runtime or (head.version and not is_version(head.version, library)):
        maker = f"{made_by} {head.version or 'of unknown version'}"
        raise ModelError(
            f"{plan.name}: made by {maker}; {runtime} {library} cannot load it",
            mend=f"build it again with {runtime} {library}, or take a Triton release that has what made it",
        )


def refit(plan: Path, model: Path, runtime: str, library: str, out: Path) -> None:
    """Puts the weights of an ONNX file into a plan that was written without (``engine.strip_weights``).

    Args:
        plan: without weights.
        model: the ``model.onnx`` that it was compiled from, with its external data beside it.
        runtime: tensorrt | tensorrt-rtx.
        library: version.
        out: where the whole plan is written.

    Raises:
        ModelError: another library made the plan, or the file is not what it was compiled from.
        BlockedError: the library or a GPU is missing: plans are loaded on one alone.
    """
    check(plan, runtime, library)
    module = load(runtime)
    log = Log(module)
    engine = module.Runtime(log.logger).deserialize_cuda_engine(plan.read_bytes())
    if engine is None:
        raise explain(Failure(model, runtime, "", (), None, tuple(log.errors)))
    refitter = module.Refitter(engine, log.logger)
    parser = module.OnnxParserRefitter(refitter, log.logger)
    if not (parser.refit_from_file(str(model)) and refitter.refit_cuda_engine()):
        missing = ", ".join(refitter.get_missing_weights()[:3])
        raise ModelError(
            f"{plan.name}: {model.name} does not give its weights; missing: {missing or 'not said'}; "
            f"{'; '.join(log.errors[-2:])}",
            mend="take the model.onnx that the plan was compiled from",
        )
    config = engine.create_serialization_config()
    config.clear_flag(module.SerializationFlag.EXCLUDE_WEIGHTS)
    out.write_bytes(engine.serialize_with_config(config))

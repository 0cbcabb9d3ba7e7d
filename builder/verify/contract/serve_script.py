"""What ``serve`` decides, the program with which SageMaker starts Triton's image in single-model mode.

The rules of ``docker/sagemaker/serve`` of triton-inference-server/server at e1db8a6, in words of our own; where that
ends with status 1, :class:`Decision` has its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.tools.sagemaker_environment import ARGUMENTS, DEFAULT_MODEL, INFERENCE_TYPE, INFERENCE_TYPES, MULTI_MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FIXED: Final = ("--allow-sagemaker=true", "--allow-http=false", "--model-control-mode=explicit")
REPOSITORY: Final = "--model-repository=/opt/ml/model/"
"""Where SageMaker unpacks a single model's archive."""

_OPTIONS: Final = (
    # variable of the container, option of tritonserver, value where the variable is not set (None: no option then)
    ("SAGEMAKER_TRITON_DISABLE_MODEL_NAMESPACING", "--model-namespacing=", "true"),
    ("SAGEMAKER_BIND_TO_PORT", "--sagemaker-port=", None),
    ("SAGEMAKER_SAFE_PORT_RANGE", "--sagemaker-safe-port-range=", None),
    ("SAGEMAKER_TRITON_ALLOW_GRPC", "--allow-grpc=", "false"),
    ("SAGEMAKER_TRITON_ALLOW_METRICS", "--allow-metrics=", "false"),
    ("SAGEMAKER_TRITON_METRICS_PORT", "--metrics-port=", None),
    ("SAGEMAKER_TRITON_GRPC_PORT", "--grpc-port=", None),
    ("SAGEMAKER_TRITON_BUFFER_MANAGER_THREAD_COUNT", "--buffer-manager-thread-count=", None),
    ("SAGEMAKER_TRITON_THREAD_COUNT", "--sagemaker-thread-count=", None),
    ("SAGEMAKER_TRITON_LOG_VERBOSE", "--log-verbose=", "true"),
    ("SAGEMAKER_TRITON_LOG_INFO", "--log-info=", None),
    ("SAGEMAKER_TRITON_LOG_WARNING", "--log-warning=", None),
    ("SAGEMAKER_TRITON_LOG_ERROR", "--log-error=", None),
    ("SAGEMAKER_TRITON_SHM_DEFAULT_BYTE_SIZE", "--backend-config=python,shm-default-byte-size=", "16777216"),
    ("SAGEMAKER_TRITON_SHM_GROWTH_BYTE_SIZE", "--backend-config=python,shm-growth-byte-size=", "1048576"),
    ("SAGEMAKER_TRITON_TENSORFLOW_VERSION", "--backend-config=tensorflow,version=", None),
)


@dataclass(frozen=True, slots=True)
class Decision:
    """What ``serve`` starts: arguments of tritonserver, after :data:`FIXED`; or why it ends with status 1."""

    arguments: tuple[str, ...] = ()
    default_model: str = ""
    refusal: str = ""


def decide(repository: Path, variables: Mapping[str, str], *, gpus: int = 0) -> Decision:
    """What ``serve`` does with an archive that lies unpacked in a folder.

    Args:
        repository: what ``/opt/ml/model`` is in the container.
        variables: of the container, by name.
        gpus: how many ``nvidia-smi -L`` lists.
    """
    arguments = [REPOSITORY]
    for variable, option, default in _OPTIONS:
        value = variables.get(variable) or default
        # No variable is quoted in that script: a value with blanks becomes several arguments.
        arguments += [] if value is None else f"{option}{value}".split()
    if limit := variables.get("SAGEMAKER_TRITON_MODEL_LOAD_GPU_LIMIT"):
        arguments += [word for index in range(gpus) for word in f"--model-load-gpu-limit {index}:{limit}".split()]
    arguments += variables.get(ARGUMENTS, "").split()
    inference_type = variables.get(INFERENCE_TYPE) or INFERENCE_TYPES[0]
    if inference_type not in INFERENCE_TYPES:
        return Decision(refusal=f"{INFERENCE_TYPE} {inference_type}: allowed are {', '.join(INFERENCE_TYPES)}")
    if variables.get(MULTI_MODEL) == "true":
        return Decision(refusal=f"{MULTI_MODEL} is true: this is no single-model endpoint")
    model, refusal = _model(repository, variables.get(DEFAULT_MODEL, ""))
    return Decision(refusal=refusal) if refusal else Decision((*arguments, f"--load-model={model}"), model)


def _model(repository: Path, asked: str) -> tuple[str, str]:
    """The model that is loaded; or why there is none."""
    if (repository / "config.pbtxt").is_file():
        return "", "Incorrect directory structure: Model directory needs to contain the top level folder"
    if asked:
        there = (repository / asked).is_dir()
        return asked, "" if there else f"Directory with provided {DEFAULT_MODEL} {asked} does not exist"
    # find -type d: hidden folders count, links to folders do not.
    folders = sorted(path.name for path in repository.iterdir() if path.is_dir() and not path.is_symlink())
    if not folders:
        return "", "No model found in model repository"
    if len(folders) > 1:
        return "", f"More than 1 model directory found in model repository: {' '.join(folders)}"
    return folders[0], ""

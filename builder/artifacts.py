"""The frozen values that flow between stages.

A stage takes artifacts and returns one. An artifact never holds bytes: it holds facts, and :class:`File` references to
bytes on disk. A file may lie in the output folder of the stage that made it or of an earlier one: weights are stored
once, by ``source``, and every later stage only points at them.

All values are plain dataclasses of JSON-able fields, so that :mod:`builder.core.codec` can write any of them into a
record and read it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

Json = Any
"""A value of the JSON data model: None, bool, int, float, str, list or dict with string keys."""


@dataclass(frozen=True, slots=True)
class File:
    """One file on disk, identified by its content."""

    path: Path
    sha256: str
    size: int  # bytes


Tree = Mapping[str, File]
"""Relative POSIX path → file, in sorted order. Empty folders do not exist in a tree."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A model's input or output, as the graph states it.

    ``dtype`` is Triton's name (``INT64``, ``FP32``, ``BYTES``); ``shape`` includes the batch axis, -1 is dynamic.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A model's files as its author published them, resolved: no symlinks, each hashed."""

    kind: str  # hub | path | package | architecture
    model_id: str  # what a human calls it: hub id, package and path; never a path of the build host
    revision: str | None  # commit on the hub, version of the package
    licence: str | None  # as the model states it
    files: dict[str, File]
    remote_code: bool = False  # the recipe allows to run the model's own Python files, which are among ``files``


@dataclass(frozen=True, slots=True)
class Graph:
    """The traced computation, without weights: a function of the architecture alone.

    ``files`` holds ``graph.onnx``; every parameter that has to come from a checkpoint is an initializer without data.
    ``parameters`` maps such an initializer to the name of its tensor in the checkpoint.
    """

    files: dict[str, File]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    opset: int
    parameters: dict[str, str]
    record: dict[str, Json]  # exporter, versions, what was embedded and why


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """A complete ONNX model: ``model.onnx`` and the files that hold its weights as external data, in one folder."""

    files: dict[str, File]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    opset: int
    record: dict[str, Json]  # how many tensors are bound, embedded, and why


@dataclass(frozen=True, slots=True)
class Profile:
    """An optimisation profile of an engine: least, optimal and largest size of each axis that is dynamic."""

    batch: tuple[int, int, int]
    sequence: tuple[int, int, int] | None = None  # tokens; None: the inputs have no such axis


@dataclass(frozen=True, slots=True)
class Engine:
    """A model compiled for GPUs. ``plans`` tells, by compute capability (``7.5``), which of its files is for that."""

    files: dict[str, File]  # model.plan; sm75.plan, sm86.plan, … where there are several
    runtime: str  # tensorrt | tensorrt-rtx
    inputs: tuple[Tensor, ...]  # as the engine states them: the batch axis first, -1 is dynamic
    outputs: tuple[Tensor, ...]
    profiles: tuple[Profile, ...]
    plans: dict[str, str]
    record: dict[str, Json]  # versions, flags, build time, timing cache

    @property
    def backend(self) -> str:
        """What serves it in Triton."""
        return backend_of(self.runtime)


def backend_of(runtime: str) -> str:
    """The backend of Triton for a runtime of a recipe: ``tensorrt_rtx`` for ``tensorrt-rtx``.

    A plan of TensorRT-RTX is never served as ``tensorrt``: TensorRT does not read it.
    """
    return runtime.replace("-", "_")


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """The tokenizer for serving: ``tokenizer.json`` (padding and truncation cleared) and what is not in that file."""

    files: dict[str, File]
    input_names: tuple[str, ...]  # what the model takes, in order: input_ids, attention_mask, token_type_ids
    pad_token_id: int
    pad_token_type_id: int
    pad_token: str
    padding_side: str  # left | right
    truncation_side: str  # left | right
    max_length: int  # tokens, special tokens included
    truncation: str = "longest_first"  # what is cut of a pair that is too long: longest_first | only_second
    prompt: str = ""  # put before every text
    lower_case: bool = False  # texts are lower-cased before they are tokenised
    strip: bool = False  # white space around a text is removed before it is tokenised
    record: dict[str, Json] = field(default_factory=dict)  # where each limit and setting was read


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """How an image becomes the model's pixels: ``files`` holds the image step's ``settings.json``."""

    files: dict[str, File]
    height: int  # pixels that the model takes
    width: int
    input_names: tuple[str, ...] = ("pixel_values",)
    record: dict[str, Json] = field(default_factory=dict)  # the image processor's class


LENGTHS = "lengths"
"""In expected answers: how many tokens each sample has."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is asked: one text, or two for tasks that take pairs; or an image."""

    text: str = ""
    text_pair: str | None = None
    image_base64: str | None = None  # an image file, base64


@dataclass(frozen=True, slots=True)
class Row:
    """What a pipeline is asked: one row of each tensor that a client sends.

    A value is a string for a text (BYTES, dims [1]), ``{"base64": …}`` for other bytes, a number or a (nested) list.
    """

    tensors: dict[str, Json]


@dataclass(frozen=True, slots=True)
class RequestTensor:
    """A tensor that clients send to a pipeline. ``dims`` leaves out the batch axis, -1 is any size."""

    name: str
    dtype: str  # Triton's name
    dims: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True, slots=True)
class StepPlan:
    """A step of a pipeline, as the reference answers it.

    ``options``, by kind; ``model`` is a name among the pipeline's models:

    * tokenizer, model, ensemble, image: ``model``;
    * labels: ``model``, ``top_k``; optionally ``threshold``;
    * spans: ``model``, ``max_answer_length``; entities: ``model``, ``aggregation_strategy``;
    * aggregate: ``mode`` (mean, max, vote), of its inputs in their order;
    * select: ``by`` (the name of its deciding input), ``cases`` (value → model), ``default`` (model or None);
    * python: ``file`` (name among its files), ``takes`` and ``gives`` (name → {"dtype", "dims"}), ``parameters``.
    """

    name: str
    kind: str
    options: dict[str, Json]
    inputs: dict[str, str]  # input → ``step.TENSOR``, or ``request.TENSOR``


@dataclass(frozen=True, slots=True)
class PipelinePlan:
    """A checked pipeline as plain data; ``steps`` are in an order in which they can run."""

    steps: tuple[StepPlan, ...]
    inputs: tuple[RequestTensor, ...]
    outputs: dict[str, str]  # name that clients see → ``step.TENSOR``


@dataclass(frozen=True, slots=True)
class ModelParts:
    """A model of a pipeline, as its author published it."""

    task: str
    source: Source
    tokenizer: TokenizerFiles | None = None  # None: it takes images
    text_pair: bool = False
    truncation: str = "longest_first"  # or only_second


@dataclass(frozen=True, slots=True)
class OwnSteps:
    """The user's own steps as they run on this machine: ``<step>/<file>``, ``<step>/vendor/…`` or an environment."""

    files: dict[str, File]


@dataclass(frozen=True, slots=True)
class Reference:
    """What the Hugging Face model answers to the samples.

    ``files`` holds ``samples.jsonl`` (one ``{"text": …, "text_pair": …}`` or ``{"image_base64": …}`` per line) and
    ``expected.safetensors``: ``<OUTPUT>`` with shape [samples, …] for each output, and ``control.<control>.<OUTPUT>``
    for each negative control, which is what a wrong build would answer; and ``probe.<i>.<input or output name>`` for
    token ids or pixels at shapes that were not traced.

    Outputs with an axis of tokens are [samples, longest, …], zeros after each sample's own tokens; how many those are
    is in ``lengths``, INT64 [samples], and ``control.<control>.lengths`` where a control has others.

    Of a pipeline (metric ``pipeline``), each line of ``samples.jsonl`` holds a :class:`Row`'s tensors by name, and
    ``expected.json`` the BYTES outputs under the same kinds of names: for each sample a (nested) list of texts.
    """

    files: dict[str, File]
    outputs: tuple[str, ...]
    controls: tuple[str, ...]
    record: dict[str, Json]  # versions, dtype, threads, probes
    metric: str  # cosine | single-label | multi-label | regression | logits | pipeline
    labels: tuple[str, ...] = ()  # names of the labels, in the order of LOGITS; empty for embeddings


@dataclass(frozen=True, slots=True)
class WarmupData:
    """A real text as the model's inputs: ``files`` holds, by input, one row of token ids, INT64, little endian."""

    files: dict[str, File]


@dataclass(frozen=True, slots=True)
class ModelConfigs:
    """What decides how Triton serves the models of an ensemble.

    ``files`` holds, by their paths in the repository, each model's ``config.pbtxt``, the tokenizer step's
    ``settings.json``, and the warm-up data.
    """

    name: str  # the ensemble
    files: dict[str, File]
    record: dict[str, Json]  # the three models, the tensors that clients see, instances and threads


@dataclass(frozen=True, slots=True)
class Repository:
    """A Triton model repository: ``<model>/config.pbtxt``, ``<model>/<version>/…``."""

    name: str  # the model that clients call
    files: dict[str, File]
    record: dict[str, Json]  # models, tensors, labels


@dataclass(frozen=True, slots=True)
class Archive:
    """A packed repository. ``tree_digest`` is its identity; ``file`` holds the compressed bytes."""

    file: File
    tree_digest: str  # sha256 over the sorted (path, size, sha256) of all members
    unpacked_size: int  # bytes
    format: str  # triton
    name: str  # of the file that is handed out; in a store its bytes lie under their digest

    @property
    def sha256(self) -> str:
        """Of what is handed out."""
        return self.file.sha256

    @property
    def size(self) -> int:
        """Bytes that are handed out."""
        return self.file.size


@dataclass(frozen=True, slots=True)
class Folder:
    """A repository that is handed out as it is, for hosts that take no archive."""

    files: dict[str, File]  # never empty; by path below the folder
    tree_digest: str  # sha256 over the sorted (path, size, sha256) of all of them
    format: str  # s3-prefix
    name: str  # of the folder

    @property
    def sha256(self) -> str:
        """There are no bytes of the whole that could be hashed: it is the tree's digest."""
        return self.tree_digest

    @property
    def size(self) -> int:
        """Bytes that are handed out."""
        return sum(file.size for file in self.files.values())

    @property
    def unpacked_size(self) -> int:
        """Bytes, as of an archive."""
        return self.size


Packed: TypeAlias = Archive | Folder
"""What a format makes of a repository, and what is handed out."""


@dataclass(frozen=True, slots=True)
class Attested:
    """What lies beside an archive for others' tools: ``files`` holds ``provenance.json`` and ``sbom.cdx.json``."""

    files: dict[str, File]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was seen on the served archive: figures only, no verdict."""

    parity: dict[str, Json]
    perf: tuple[dict[str, Json], ...]
    server: dict[str, Json]  # provider, versions, stand-ins, overrides
    hardware: dict[str, Json]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Figures against tolerances and constraints. ``status``: passed, failed, inconclusive, unverified."""

    status: str
    reasons: tuple[str, ...] = ()
    figures: dict[str, Json] = field(default_factory=dict)

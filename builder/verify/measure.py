"""The stage ``measure``: unpacks an archive (not a folder), serves it, asks it real text, and tells what was seen."""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from builder.artifacts import LENGTHS, Measurement, Row, Sample
from builder.core.codec import to_json
from builder.core.digest import digest_tree
from builder.core.versions import version
from builder.errors import ArchiveError
from builder.recipe.tasks import NEIGHBOURS, PIPELINE
from builder.tools import hardware, toolchain
from builder.tools.files import materialise
from builder.tools.releases import release
from builder.verify.facts import ArchiveFacts, check_files, check_metric
from builder.verify.identity import describe_serving
from builder.verify.rows import describe_row, read_rows, size
from builder.verify.samples import read_samples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.artifacts import File, Json, Tree
    from builder.parity.compare import Answers
    from builder.tools.perf_analyzer import Windows
    from builder.tools.toolchain import Toolchain
    from builder.tools.triton_client import Client
    from builder.verify import ask

log = logging.getLogger(__name__)

_EXCERPT = 60  # characters of a text that messages show


@dataclass(frozen=True, slots=True)
class Expected:
    """What the reference says of the samples."""

    samples: tuple[Sample | Row, ...]
    answers: Answers
    controls: Mapping[str, Answers]


@dataclass(frozen=True, slots=True)
class Measure:
    """Figures of a served archive, parity and speed. No verdict: see :class:`builder.verify.judge.Judge`.

    Args:
        cache: the user's cache: toolchain and server environments.
        concurrency: requests in flight of the speed measurements; empty: none.
        windows: how long each measurement takes; default: by the model's speed.
    """

    name: ClassVar[str] = "measure"
    version: ClassVar[int] = 2
    alone: ClassVar[bool] = True

    cache: Path
    concurrency: tuple[int, ...] = (1, 4, 16)
    windows: Windows | None = None

    def fingerprint(self, inputs: ArchiveFacts) -> Mapping[str, Json]:
        """The archive, what it is compared with, the server, and the hardware that figures of speed belong to."""
        return {
            **{key: getattr(inputs, key).sha256 for key in ("archive", "samples", "expected")},
            **{key: getattr(inputs, key) for key in ("name", "triton", "metric", "max_batch_size", "text_pair")},
            **(
                {"texts": inputs.texts.sha256, "readable": list(inputs.readable), "apart": inputs.apart}
                if inputs.texts
                else {}
            ),
            "outputs": list(inputs.outputs),
            **({"load_models": list(inputs.load_models)} if inputs.load_models else {}),
            **({"neighbours": True} if inputs.neighbours else {}),
            **({"libraries": list(inputs.libraries)} if inputs.libraries else {}),
            "controls": list(inputs.controls),
            "concurrency": list(self.concurrency),
            "windows": None if self.windows is None else asdict(self.windows),
            "serving": describe_serving(inputs.triton, inputs.python),
            "versions": {name: version(name) for name in ("numpy", "safetensors", "tritonclient")},
            "hardware": hardware.fingerprint(),
        }

    def requires(self, inputs: ArchiveFacts) -> None:
        """The facts make sense, and all files have the digests that they state.

        Raises:
            ArchiveError: the metric is unknown, or lacks an output; a file is missing or differs.
        """
        check_metric(inputs)
        check_files(inputs)

    def run(self, inputs: ArchiveFacts, out: Path) -> Measurement:
        """Unpacks, serves, asks, compares and measures.

        Returns:
            ``parity`` has, for each way of asking, figures, the worst sample of each, and failures; the figures of the
            same answers against each control (:func:`~builder.verify.controls.hold_against`); what became of requests
            that are not UTF-8; and how many executions each model needed. ``perf`` has a
            :class:`~builder.tools.perf_analyzer.Point` for each concurrency, and what was sent.

        Raises:
            ArchiveError: the archive is not the tree that it claims to be, or the files beside it contradict it.
            ServerError: the server did not start or load the archive, or ended while it was used.
            MachineError: the toolchain or perf_analyzer cannot be run.
        """
        from builder.tools import triton_client, triton_server
        from builder.verify import ask
        from builder.verify.server_facts import describe_server

        expected = read_expected(inputs)
        tools = toolchain.install(self.cache)
        environment = toolchain.python_environment(
            tools, self.cache, _onnxruntime(inputs), minor=inputs.python, libraries=inputs.libraries
        )
        with tempfile.TemporaryDirectory(dir=out, prefix="unpacked-") as temporary:
            repository = unpack(inputs, Path(temporary) / "repository")
            log.info("serving %s", inputs.name)
            with (
                triton_server.serve(
                    repository,
                    toolchain=tools,
                    environment=environment,
                    load=inputs.load_models or (inputs.name,),
                    log_path=out / "server.log",
                ) as server,
                triton_client.connect(server.grpc_address) as client,
            ):
                dtypes = request_dtypes(client, inputs.name)
                asker = ask.Asker(
                    server,
                    client,
                    inputs.name,
                    expected.samples,
                    inputs.text_pair,
                    dtypes,
                    inputs.readable,
                    inputs.apart,
                    LENGTHS in expected.answers,
                )
                facts = describe_server(client, inputs, environment)
                parity = measure_parity(asker, inputs, expected)
                perf = self._sweep(asker, tools, parity, out)
        return Measurement(parity, perf, facts, _hardware())

    def ensures(self, inputs: ArchiveFacts, output: Measurement) -> None:
        """Nothing beyond the types: figures are judged by the next stage."""

    def reads(self, inputs: ArchiveFacts) -> list[File]:  # noqa: ARG002 - a stage's signature
        """Nothing that :meth:`requires` has not hashed."""
        return []

    def is_final(self, output: Measurement) -> bool:
        """Whether the same would be seen again: a request that failed may be answered the next time."""
        answered = not any(way["failures"] for way in output.parity["ways"].values())
        return answered and not any(point["status"] == "failed" for point in output.perf)

    def _sweep(
        self, asker: ask.Asker, tools: Toolchain, parity: Mapping[str, Json], out: Path
    ) -> tuple[dict[str, Json], ...]:
        if any(way["failures"] for way in parity["ways"].values()):
            return ()  # a model that does not answer has no speed
        if not self.concurrency:
            return ()
        from builder.verify import load

        sent = load.describe_load(load.typical(asker.samples))
        points = load.sweep(asker, tools, self.concurrency, out / "perf", self.windows)
        return tuple({**to_json(point), "load": sent} for point in points)


def _pipeline_key(inputs: ArchiveFacts, texts: File) -> dict[str, Json]:
    return {"texts": texts.sha256, "readable": list(inputs.readable), "apart": inputs.apart}


def read_expected(facts: ArchiveFacts) -> Expected:
    """Samples and expected answers, from the files beside the archive.

    Raises:
        ArchiveError: they contradict one another.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    samples = (read_rows if facts.metric == PIPELINE else read_samples)(facts.samples.path)
    try:
        tensors: dict[str, Any] = load_file(facts.expected.path) | _read_texts(facts)
        answers = {name: tensors[name] for name in (*facts.outputs, LENGTHS) if name in {*facts.outputs, *tensors}}
        controls = {
            control: {
                name: tensors[f"control.{control}.{name}"]
                for name in (*facts.outputs, LENGTHS)
                if f"control.{control}.{name}" in tensors
            }
            for control in facts.controls
        }
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ArchiveError(f"{facts.expected.path}: {type(error).__name__}: {error}", mend="build again") from error
    wrong = sorted({len(values) for values in answers.values()} - {len(samples)})
    if wrong or not samples:
        raise ArchiveError(f"{facts.expected.path} answers {wrong} samples, {facts.samples.path} has {len(samples)}")
    return Expected(samples, answers, {name: values for name, values in controls.items() if values})


def _read_texts(facts: ArchiveFacts) -> dict[str, Any]:
    """The expected BYTES outputs, [samples, …] of dtype object holding bytes.

    Raises:
        ArchiveError: the file cannot be read, or is not what a build writes.
    """
    import numpy as np

    if facts.texts is None:
        return {}
    try:
        found = json.loads(facts.texts.path.read_bytes())
        arrays = {name: np.asarray(values, dtype=np.object_) for name, values in found.items()}
        encode = np.frompyfunc(lambda text: text.encode("utf-8", "surrogateescape"), 1, 1)
        return {name: encode(array) for name, array in arrays.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ArchiveError(f"{facts.texts.path}: {type(error).__name__}: {error}", mend="build again") from error


def request_dtypes(client: Client, model: str) -> dict[str, str]:
    """The dtypes of what clients send, as the server tells them.

    Raises:
        ServerError: the server does not answer.
    """
    return {tensor["name"]: tensor["datatype"] for tensor in client.metadata(model)["inputs"]}


def unpack(facts: ArchiveFacts, folder: Path) -> Path:
    """The repository that is served: an archive is unpacked, a folder is taken as it is. Its tree has the digest.

    Args:
        facts: their files were checked.
        folder: where the repository is put, unless it lies somewhere already.

    Raises:
        ArchiveError: it cannot be unpacked, or holds another tree.
    """
    target = folder / facts.name if facts.flat else folder
    found = digest_tree(facts.folder or _unpacked(facts, target))
    if found != facts.tree_digest:
        raise ArchiveError(
            f"{facts.archive.path}: holds the tree {found[:16]}…, the manifest says {facts.tree_digest[:16]}…",
            mend="the manifest belongs to another archive: take the one that was made with it",
        )
    if facts.lies_there and not facts.flat:
        return facts.archive.path
    if facts.folder:
        materialise(facts.folder, target)
    return folder


def _unpacked(facts: ArchiveFacts, folder: Path) -> Tree:
    from builder.tools import archive

    log.info("unpacking %s", facts.archive.path.name)
    return archive.unpack(facts.archive.path, folder)


def measure_parity(asker: ask.Asker, facts: ArchiveFacts, expected: Expected) -> dict[str, Json]:
    """Asks in three ways, and compares each with what is expected and with every negative control.

    Raises:
        ServerError: the server ended.
    """
    from builder.verify import ask
    from builder.verify.server_facts import executions

    what = "samples" if facts.metric == PIPELINE else "texts"
    log.info("asking %d %s, alone, in batches and concurrently", len(asker.samples), what)
    before = executions(asker.client, asker.model)
    asked = {"alone": ask.alone(asker), "batched": ask.batched(asker, facts.max_batch_size)}
    between = executions(asker.client, asker.model)
    asked["concurrent"], invalid = ask.concurrent(asker)
    after = executions(asker.client, asker.model)
    return {
        **compare_ways(facts, expected, asked),
        "invalid_utf8": _invalid(invalid, asker),
        "executions": {
            "alone and batched": _difference(before, between),
            "concurrent": _difference(between, after),
        },
        "seed": ask.SEED,
    }


def compare_ways(facts: ArchiveFacts, expected: Expected, asked: Mapping[str, ask.Asked]) -> dict[str, Json]:
    """What was asked in some ways, compared with what is expected and with every negative control.

    Returns:
        What :class:`~builder.verify.judge.Judge` judges of a measurement's parity.
    """
    return {
        "metric": facts.metric,
        "samples": len(expected.samples),
        "ways": {way: _way(facts, expected, one) for way, one in asked.items()},
        "controls": _controls(facts.metric, expected, asked),
        "invalid_utf8": {"requests": 0, "errors": 0, "error": ""},
        **(_figures(expected.answers) if facts.metric == PIPELINE else {}),
    }


def _invalid(errors: Sequence[str], asker: ask.Asker) -> dict[str, Json]:
    seen: dict[str, Json] = {"requests": len(errors), "errors": sum(map(bool, errors)), "error": next(iter(errors), "")}
    return seen | ({"apart": True} if asker.apart else {})


def _figures(expected: Answers) -> dict[str, Json]:
    """Which figures a pipeline has, and which of them the shuffled control must miss."""
    from builder.parity.compare import figures_of, telling_figures

    return {"judged": list(figures_of(PIPELINE, expected)), "telling": list(telling_figures(expected))}


def _way(facts: ArchiveFacts, expected: Expected, asked: ask.Asked) -> dict[str, Json]:
    from builder.parity.compare import Comparison, compare
    from builder.parity.neighbours import agreement

    compared = compare(facts.metric, expected.answers, asked.answers) if not asked.failures else Comparison({}, {})
    failures = (*asked.failures, *compared.failures)
    kept = {}
    if facts.neighbours and not failures:
        kept[NEIGHBOURS] = agreement(expected.answers["EMBEDDING"], asked.answers["EMBEDDING"])
    return {
        "requests": asked.requests,
        "figures": {**compared.figures, **kept},
        "worst": {
            name: {"sample": worst.sample, "text": excerpt(expected.samples[worst.sample]), "value": worst.value}
            for name, worst in compared.worst.items()
        },
        "failures": [
            failure.as_json() | {"text": "" if failure.sample is None else excerpt(expected.samples[failure.sample])}
            for failure in failures
        ],
    }


def _controls(metric: str, expected: Expected, asked: Mapping[str, ask.Asked]) -> dict[str, Json]:
    from builder.verify.controls import hold_against, make_controls

    answers = {way: None if one.failures else one.answers for way, one in asked.items()}
    controls = make_controls(metric, expected.answers, expected.controls)
    return {control.name: hold_against(metric, control, answers) for control in controls}


def excerpt(sample: Sample | Row) -> str:
    """The beginning of a sample, on one line: of its text where it has one; of an image, its size."""
    if isinstance(sample, Sample) and sample.image_base64 is not None:
        return f"an image of {size(sample)} bytes"
    whole = describe_row(sample) if isinstance(sample, Row) else sample.text
    text = " ".join(whole.split()) or repr(whole)
    return text if len(text) <= _EXCERPT else text[: _EXCERPT - 1] + "…"


def _difference(before: Mapping[str, Mapping[str, int]], after: Mapping[str, Mapping[str, int]]) -> dict[str, Json]:
    return {model: {key: after[model][key] - counts[key] for key in counts} for model, counts in before.items()}


def _onnxruntime(facts: ArchiveFacts) -> str:
    from builder.errors import UserError

    version = release(facts.triton).onnxruntime
    if version is None:
        raise UserError(f"triton: the onnxruntime of release {facts.triton} is not known; choose another release")
    return version


def _hardware() -> dict[str, Json]:
    found = hardware.detect()
    return {**to_json(found), "fingerprint": found.fingerprint, "client": "on the same machine as the server"}

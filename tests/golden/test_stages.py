"""Golden bytes: a stage whose bytes change has another version, or another key.

For a tiny fixed model, ``stages.json`` holds each stage's key and the digest of what it wrote. The same key with other
bytes is the one thing that a store cannot mend: everybody who has the old bytes goes on with them. So:

* same key, other bytes: raise the stage's ``version``;
* another key: run ``pytest tests/golden --update-golden``, and look at the difference.

Bytes also follow the versions of libraries, which are in the keys: with other ones than those of ``constraints.txt``
nothing can be said. Floating-point answers follow the kind of CPU too: ``reference`` multiplies matrices, in whatever
order the CPU's kernels add up. So of its answers types, shapes and rounded means are compared, of its token ids and its
samples each byte; that the means are those of the right model, ``tests/export/test_reference.py`` asks of others.
``measure`` writes figures that belong to the hour: their names are compared, where a server runs anyhow
(``tests/verify/test_measure.py``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from builder.artifacts import Measurement, ModelParts, Profile, Sample
from builder.config import ConfigureInputs, configure, warm_up
from builder.config.composition import ComposeInputs, compose_pipeline
from builder.config.declared import declared_dag
from builder.config.planned import plan_of
from builder.core.codec import to_json
from builder.core.digest import digest_json
from builder.core.execute import Executor, fingerprint_of
from builder.core.plan import differences
from builder.core.store import Store
from builder.core.versions import version
from builder.export.bind import Bind
from builder.export.check import Check
from builder.export.expected import Expect, ExpectedInputs
from builder.export.reference import Refer
from builder.export.source import Resolve
from builder.export.tokenizer import Tokenizer
from builder.export.trace import Trace
from builder.optimise import Optimise, OptimiseInputs
from builder.package import Pack, PackageInputs, package
from builder.package.composition import CompositionInputs, Packed, package_composition
from builder.package.own import own_steps
from builder.recipe import load
from builder.settings import settings
from builder.verify import Judge, load_rows
from tests.models import MAX_LENGTH, TEXTS, make_model
from tests.parts import make_engine

GOLDEN = Path(__file__).with_name("stages.json")
LIBRARIES = (
    *(
        "isal",
        "numpy",
        "onnx",
        "onnx-ir",
        "onnxruntime",
        "onnxscript",
        "pillow",
        "protobuf",
        "safetensors",
        "tokenizers",
    ),
    *("torch", "transformers", "tritonclient"),
)
TASK = "sentence-embedding"
RECIPE = f"schema_version: 1\nname: golden\nsource: {{path: model}}\ntask: {TASK}\n"
TARGETS = (
    "targets={cpu: {runtime: onnxruntime, hardware: {vcpus: 2}}, "
    "t4: {runtime: tensorrt, precision: fp16, hardware: {gpu: T4}}}"
)
PROFILES = (Profile((1, 8, 32), (2, 16, 16)), Profile((1, 8, 32), (17, MAX_LENGTH, MAX_LENGTH)))
OF_AN_ENGINE = "{} of an engine"
WORDS = """
def run(TEXT):
    return {"WORDS": [[str(len(text[0].split()))] for text in TEXT]}
"""
COMPOSED = f"""schema_version: 1
name: golden-pipeline
targets: {{cpu: {{runtime: onnxruntime, hardware: {{vcpus: 2}}, triton: "25.09"}}}}
models: {{a: {{source: {{path: model}}, task: {TASK}}}}}
pipeline:
  steps:
    tokenize: {{tokenizer: a}}
    a: {{model: a}}
    words:
      python: words.py
      takes: {{TEXT: {{dtype: BYTES, dims: [1]}}}}
      gives: {{WORDS: {{dtype: BYTES, dims: [1]}}}}
    nested: {{ensemble: a}}
    answer: {{select: {{by: words.WORDS, cases: {{"1": a}}, default: a}}}}
  outputs: {{ONE: a.EMBEDDING, TWO: nested.EMBEDDING, THREE: answer.EMBEDDING, WORDS: words.WORDS}}
verify: {{samples: golden.jsonl}}
"""
"""A pipeline of the same model: its own stages are ``own``, ``expected``, and others for config and package."""
UPDATE = "pytest tests/golden --update-golden"


@dataclass
class Golden:
    """Runs stages and keeps what a golden file says of each."""

    store: Store
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __call__(self, stage: Any, inputs: Any, named: str = "") -> Any:
        fingerprint = dict(fingerprint_of(stage, inputs))
        if stage.name == "own":
            fingerprint["python"] = "whichever builds"
        output = Executor(self.store, "golden").run(stage, inputs)
        self.stages[named or stage.name] = {
            "version": stage.version,
            "key": digest_json(fingerprint),
            "fingerprint": fingerprint,
            "output": digest_json(_stable(stage.name, output)),
            "place": f"{type(stage).__module__.replace('.', '/')}.py: {type(stage).__name__}.version",
        }
        return output


def _stable(stage: str, output: Any) -> Any:
    """What must be the same on every machine."""
    data = to_json(output, paths=False)
    if stage in {"reference", "expected"}:
        values = load_file(output.files["expected.safetensors"].path)
        data["files"]["expected.safetensors"] = {name: _coarse(value) for name, value in sorted(values.items())}
    if stage in {"check", "optimise"}:
        data["record"].pop("checks")
    if stage == "optimise":
        data["record"]["precision"]["ledger"] = [one["after"] for one in data["record"]["precision"]["ledger"]]
    return data


def _coarse(values: np.ndarray) -> Any:
    """Type and shape; of whole numbers all, of others the rounded mean of their absolute values."""
    if values.dtype.kind == "i":
        return [str(values.dtype), values.tolist()]
    return [str(values.dtype), list(values.shape), f"{float(np.abs(values.astype(np.float64)).mean()):.1f}"]


def make_source(folder: Path) -> Path:
    """A tiny model whose weights are numbers that no library chooses."""
    made = make_model("bert", TASK, folder / "model")
    weights = load_file(made / "model.safetensors")
    for number, name in enumerate(sorted(weights), 1):
        shape = weights[name].shape
        count = int(np.prod(shape))
        spread = (np.arange(count, dtype=np.uint64) * 2654435761 + number * 97) % 65536
        weights[name] = ((spread.astype(np.float32) / 32768 - 1) / 4).reshape(shape)
    save_file(weights, made / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((made / "config.json").read_text())
    config.pop("transformers_version", None)
    (made / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True))
    return made


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the stages write now."""
    folder = tmp_path_factory.mktemp("golden")
    make_source(folder)
    (folder / "golden.yaml").write_text(RECIPE)
    recipe = load(folder / "golden.yaml", [TARGETS])
    run = Golden(Store.at(folder / "store"))
    source = run(Resolve(TASK), recipe.source)
    tokenizer = run(Tokenizer(TASK), source)
    graph = run(Trace(TASK), (source, tokenizer))
    model = run(Bind(TASK), (graph, source))
    samples = [Sample(text) for text in TEXTS]
    reference = run(Refer(TASK, (1, 4), (2, tokenizer.max_length)), (source, tokenizer, samples))
    checked = run(Check(), (model, reference))
    half = Optimise("fp16", "tensorrt", ("7.5",), tolerances={"cosine": 0.999})
    run(half, OptimiseInputs(checked, reference, tokenizer))
    warmup = run(warm_up(recipe), (tokenizer, reference))
    configs = run(configure(recipe, "cpu"), ConfigureInputs(checked, tokenizer, warmup))
    parts = PackageInputs(source, checked, tokenizer, configs)
    repository = run(package(recipe, "cpu", settings().cache), parts)
    run(Pack("cpu"), repository)
    run(Judge({"cosine": 0.999999}), MEASURED)
    engine = make_engine(folder / "engine", checked, PROFILES)
    inputs = ConfigureInputs(checked, tokenizer, warmup, engine=engine)
    configs = run(configure(recipe, "t4"), inputs, OF_AN_ENGINE.format("config"))
    with_engine = replace(parts, configs=configs, engine=engine)
    run(package(recipe, "t4", settings().cache), with_engine, OF_AN_ENGINE.format("package"))
    see_pipeline(folder, run, Packed(source, checked, tokenizer, ()), warmup)
    return {"versions": {name: version(name) for name in LIBRARIES}, "stages": run.stages}


def see_pipeline(folder: Path, run: Golden, made: Packed, warmup: Any) -> None:
    """What the stages write that only pipelines have."""
    (folder / "words.py").write_text(WORDS)
    (folder / "golden.jsonl").write_text("".join(json.dumps({"TEXT": text}) + "\n" for text in TEXTS))
    (folder / "pipeline.yaml").write_text(COMPOSED)
    recipe: Any = load(folder / "pipeline.yaml")
    own = run(own_steps(recipe, settings().cache), None)
    plan = plan_of(recipe, declared_dag(recipe))
    parts = ModelParts(TASK, made.source, made.tokenizer, truncation=made.tokenizer.truncation)
    files = {path.removeprefix("words/"): file for path, file in own.files.items()}
    rows = load_rows(recipe.verify.samples, plan.inputs)
    run(Expect(plan), ExpectedInputs({"a": parts}, {"words": files}, rows))
    inputs = ComposeInputs({"a": ConfigureInputs(made.model, made.tokenizer, warmup)})
    configs = run(compose_pipeline(recipe, "cpu"), inputs, "pipeline config")
    layout = package_composition(recipe, "cpu", settings().cache)
    run(layout, CompositionInputs(configs, {"a": made}), "pipeline package")


FIGURES = {
    "figures": {"cosine": 0.9999999, "length_difference": 0.0},
    "worst": {},
    "failures": [],
    "requests": 2,
}
MEASURED = Measurement(
    parity={
        "metric": "cosine",
        "ways": {"alone": FIGURES},
        "controls": {"shuffled": {"figures": {"cosine": 0.5, "length_difference": 0.0}, "inapplicable": False}},
        "invalid_utf8": {"requests": 1, "errors": 1, "error": "x"},
    },
    perf=(),
    server={},
    hardware={},
)


@pytest.fixture(scope="module")
def golden(seen: dict[str, Any], request: pytest.FixtureRequest) -> dict[str, Any]:
    """What they wrote when somebody last looked."""
    kept = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {"versions": {}, "stages": {}}
    if request.config.getoption("--update-golden"):
        for stage, now in seen["stages"].items():
            _refuse_silence(stage, kept["stages"].get(stage), now)
        GOLDEN.write_text(json.dumps(seen, indent=1, sort_keys=True) + "\n")
        return seen
    if kept["versions"] != seen["versions"]:
        pytest.skip(f"other libraries than the golden bytes: {', '.join(differences(kept, seen))[:200]}")
    return kept


def _refuse_silence(stage: str, kept: dict[str, Any] | None, now: dict[str, Any]) -> None:
    if kept and kept["key"] == now["key"] and kept["output"] != now["output"]:
        pytest.fail(
            f"the bytes that stage {stage} writes have changed, and its version is still {now['version']}: whoever has "
            f"built before would keep the old ones. Raise {now['place']}, then run {UPDATE}",
            pytrace=False,
        )


EXPORT = ["source", "tokenizer", "trace", "bind", "reference", "check", "optimise"]
ENGINES = [OF_AN_ENGINE.format(stage) for stage in ("config", "package")]
OF_PIPELINES = ["own", "expected", "pipeline config", "pipeline package"]
STAGES = [*EXPORT, "warmup", "config", "package", "pack", "judge", *ENGINES, *OF_PIPELINES]


@pytest.mark.parametrize("stage", STAGES)
def test_bytes_are_those_of_the_version(stage: str, seen: dict[str, Any], golden: dict[str, Any]) -> None:
    now, kept = seen["stages"][stage], golden["stages"].get(stage)
    assert kept, f"stage {stage} has no golden bytes: run {UPDATE}"
    _refuse_silence(stage, kept, now)
    if kept["key"] != now["key"]:
        why = ", ".join(differences(kept["fingerprint"], now["fingerprint"]))
        pytest.fail(f"the key of stage {stage} has changed ({why}): if that is meant, run {UPDATE}", pytrace=False)


def test_every_stage_is_watched(seen: dict[str, Any]) -> None:
    assert list(seen["stages"]) == STAGES


def test_changed_bytes_are_refused_until_the_version_is_raised() -> None:
    kept = {"key": "k", "output": "old", "version": 1, "place": "builder/export/trace.py: Trace.version"}
    with pytest.raises(pytest.fail.Exception, match="the bytes that stage trace writes have changed, and its version"):
        _refuse_silence("trace", kept, kept | {"output": "new"})
    _refuse_silence("trace", kept, kept | {"output": "new", "version": 2, "key": "other"})
    _refuse_silence("trace", kept, kept)
    _refuse_silence("trace", None, kept)

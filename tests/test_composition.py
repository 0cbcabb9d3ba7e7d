"""Pipelines of named steps from their recipes, built by the real stages and asked on one real server."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from builder import building, composition, inspecting, serving
from builder.core import graph
from builder.core.execute import Executor
from builder.core.store import Store
from builder.errors import RecipeError, ServerError
from builder.pipeline import Surroundings
from builder.recipe import load
from builder.settings import settings
from builder.tools import archive, triton_client, triton_server
from tests.models import add_sentence_transformers_files, make_model, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.artifacts import ModelConfigs, Reference, Repository
    from builder.recipe.composed import Composed
    from builder.tools.toolchain import Toolchain
    from builder.tools.triton_client import Client

LABELS = ("bad", "fair", "good")
HEAD = 'schema_version: 1\ntargets: {cpu: {runtime: onnxruntime, hardware: {vcpus: 2}, triton: "25.09"}}\n'
MODEL = "{source: {path: %s}, task: %s, inputs: {max_length: 32}, shapes: {batch: {max: 4}}}"


def models(**folders: str) -> str:
    tasks = {"e": "sentence-embedding"}
    lines = [
        f"  {name}: {MODEL % (folder, tasks.get(folder, 'text-classification'))}\n" for name, folder in folders.items()
    ]
    return "models:\n" + "".join(lines)


VOTE = f"""{HEAD}name: vote
{models(a="a", b="b", c="c")}
pipeline:
  steps:
    tokenize: {{tokenizer: a}}
    a: {{model: a}}
    b: {{model: b}}
    c: {{model: c}}
    vote: {{aggregate: vote, inputs: {{PROBABILITIES: [a.PROBABILITIES, b.PROBABILITIES, c.PROBABILITIES]}}}}
    labels: {{labels: a, top_k: 2, inputs: {{PROBABILITIES: vote.PROBABILITIES}}}}
  outputs: {{LABEL: labels.LABEL, SHARE: labels.SCORE, FIRST: a.PROBABILITIES}}
"""

TOKENS = ("input_ids", "attention_mask", "token_type_ids")
BOTH = f"""{HEAD}name: both
{models(a="a", e="e")}
pipeline:
  steps:
    tokenize: {{tokenizer: a}}
    a: {{model: a}}
    e: {{model: e}}
    labels: {{labels: a, serving: {{instance_group: [{{count: 2}}]}}}}
    whole: {{ensemble: a}}
    reply: {{tokenizer: a, inputs: {{TEXT: request.REPLY}}}}
    answer: {{model: a, inputs: {{{", ".join(f"{name}: reply.{name}" for name in TOKENS)}}}}}
  outputs:
    LABEL: labels.LABEL
    SCORE: labels.SCORE
    EMBEDDING: e.EMBEDDING
    WHOLE: whole.PROBABILITIES
    ANSWER: answer.PROBABILITIES
verify: {{samples: both.jsonl}}
"""

PICK = f"""{HEAD}name: pick
{models(german="a", english="b")}
pipeline:
  steps:
    language:
      python: language.py
      takes: {{TEXT: {{dtype: BYTES, dims: [1]}}}}
      gives: {{LANGUAGE: {{dtype: BYTES, dims: [1]}}}}
      requirements: [idna==3.10]
    answer: {{select: {{by: language.LANGUAGE, cases: {{de: german, en: english}}}}}}
    labels: {{labels: german}}
    nested: {{ensemble: german}}
  outputs: {{LABEL: labels.LABEL, LANGUAGE: language.LANGUAGE, SCORES: answer.PROBABILITIES, NESTED: nested.LOGITS}}
"""

LANGUAGE = """
import idna


def run(TEXT):
    assert "/vendor/idna/" in idna.__file__, idna.__file__
    return {"LANGUAGE": [[idna.decode("de") if "ü" in text[0].decode() else "en"] for text in TEXT]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classifiers and an embedder with one tokenizer, a classifier with other labels, and the recipes."""
    made = tmp_path_factory.mktemp("pipelines")
    for seed, name in enumerate("abcd"):
        named = dict(enumerate(LABELS if name != "d" else LABELS[::-1]))
        make_model("bert", "text-classification", made / name, seed=seed, id2label=named)
    add_sentence_transformers_files(make_model("bert", "sentence-embedding", made / "e", seed=9))
    shutil.copytree(made / "b", made / "cased")
    settings_path = made / "cased/tokenizer_config.json"
    write_json(settings_path, {**json.loads(settings_path.read_text()), "do_lower_case": False})
    (made / "language.py").write_text(LANGUAGE)
    (made / "both.jsonl").write_text('{"TEXT": "a", "REPLY": "b"}\n' * 2)
    for name, text in {"vote": VOTE, "both": BOTH, "pick": PICK}.items():
        (made / f"{name}.yaml").write_text(text)
    return made


@dataclass(frozen=True)
class Built:
    """What came of the recipes, by name; and what each model alone answers to the samples."""

    configs: dict[str, ModelConfigs]
    repositories: dict[str, Repository]
    references: dict[str, Reference]
    folder: Path  # where all of them are unpacked

    def answers(self, model: str, output: str = "PROBABILITIES") -> np.ndarray:
        return load_file(self.references[model].files["expected.safetensors"].path)[output]

    @property
    def samples(self) -> list[str]:
        lines = self.references["vote-a"].files["samples.jsonl"].path.read_text(encoding="utf-8")
        return [json.loads(line)["text"] for line in lines.split("\n") if line]


def run(recipe: Composed, store: Store, *leave_out: str) -> graph.Outcome:
    around = Surroundings(settings().cache, store.ingest)
    nodes = composition.nodes(recipe, (), around, verify=False)
    with store.lease():
        return graph.run([node for node in nodes if node.stage not in leave_out], Executor(store).run)


def run_all(path: Path, store: Store) -> tuple[Composed, graph.Outcome]:
    recipe: Any = load(path)
    outcome = run(recipe, store, "expected", "own")
    for error in outcome.errors.values():
        raise error
    return recipe, outcome


def stage_of(recipe: Composed, stage: str) -> str:
    return composition.node_id(recipe, "cpu", stage)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.at(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def built(folder: Path, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Built:
    made = Built({}, {}, {}, tmp_path_factory.mktemp("served"))
    for name in ("vote", "both", "pick"):
        recipe, outcome = run_all(folder / f"{name}.yaml", store)
        made.configs[name] = outcome.values[stage_of(recipe, "config")]
        made.repositories[name] = outcome.values[stage_of(recipe, "package")]
        for model in recipe.models:
            node = f"{name}-{model}/path/{recipe.models[model].task}/-/-/reference"
            made.references[f"{name}-{model}"] = outcome.values[node]
        unpacked = tmp_path_factory.mktemp("unpacked") / "repository"
        archive.unpack(outcome.values[stage_of(recipe, "pack")].file.path, unpacked)
        shutil.copytree(unpacked, made.folder, dirs_exist_ok=True)
    return made


@pytest.fixture(scope="module")
def client(built: Built, toolchain: Toolchain, server_environment: Path) -> Iterator[Client]:
    named = [model for repository in built.repositories.values() for model in repository.record["load_models"]]
    with (
        triton_server.serve(
            built.folder,
            toolchain=toolchain,
            environment=server_environment,
            load=named,
            options=triton_server.Options(complete_config=False),
        ) as server,
        triton_client.connect(server.grpc_address) as connected,
    ):
        yield connected


def texts(rows: list[str]) -> dict[str, np.ndarray]:
    return {"TEXT": np.array([[row.encode()] for row in rows], dtype=object)}


@pytest.mark.triton
def test_a_vote_of_three_classifiers_with_one_tokenizer(built: Built, client: Client) -> None:
    answers = [client.infer("vote", texts([text])) for text in built.samples[:20]]
    each = np.stack([built.answers(f"vote-{model}")[:20] for model in "abc"])
    votes = (each.argmax(axis=2)[:, :, None] == np.arange(3)).sum(axis=0)
    means = each.mean(axis=0)
    for row, answer in enumerate(answers):
        np.testing.assert_allclose(answer["FIRST"][0], each[0, row], atol=1e-5)
        best = max(range(3), key=lambda label: (votes[row, label], means[row, label]))
        assert answer["LABEL"][0, 0].decode() == LABELS[best]
        np.testing.assert_allclose(answer["SHARE"][0, 0], votes[row, best] / 3, atol=1e-5)
    assert len({answer["LABEL"][0, 0] for answer in answers}) > 1
    assert sorted(built.repositories["vote"].record["models"]) == sorted(
        ["vote", *(f"vote-{step}" for step in ("tokenize", "a", "b", "c", "vote", "labels"))]
    )


@pytest.mark.triton
def test_one_text_to_two_models(built: Built, client: Client) -> None:
    replies = {"REPLY": texts(built.samples[3:6])["TEXT"]}
    answer = client.infer("both", texts(built.samples[:3]) | replies)
    probabilities = built.answers("both-a")[:3]
    assert [row[0].decode() for row in answer["LABEL"]] == [LABELS[label] for label in probabilities.argmax(axis=1)]
    np.testing.assert_allclose(answer["SCORE"][:, 0], probabilities.max(axis=1), atol=1e-5)
    np.testing.assert_allclose(answer["EMBEDDING"], built.answers("both-e", "EMBEDDING")[:3], atol=1e-5)
    # Three steps with one model, two with one tokenizer: each is there once.
    np.testing.assert_allclose(answer["WHOLE"], probabilities, atol=1e-5)
    np.testing.assert_allclose(answer["ANSWER"], built.answers("both-a")[3:6], atol=1e-5)
    models = {"both", "both-tokenize", "both-a", "both-e", "both-labels", "both-whole", "both-whole-tokenize"}
    assert set(built.repositories["both"].record["models"]) == {*models, "both-receive"}


@pytest.mark.triton
def test_a_bad_request_harms_no_other(client: Client) -> None:
    """Three steps would read the request at the same time: without the step before them, most of these fail."""
    broken = Event()

    def ask(number: int) -> str:
        if broken.is_set():
            return "not asked"  # one wrong answer says it all, and some answers would never come
        rows = ["some words " * (1 + number % 7)] * (1 + number % 4)
        asked = {name: texts(rows)["TEXT"] for name in ("TEXT", "REPLY")}
        if bad := number % 4 == 0:
            asked["TEXT"][0, 0] = b"\xff"
        try:
            answer = client.infer("both", asked, timeout_seconds=15)
        except ServerError as error:
            told = (
                "refused" if bad and "TEXT, row 0: byte 0xff at position 0 is not UTF-8" in str(error) else str(error)
            )
        else:
            told = "right" if not bad and answer["LABEL"].shape == (len(rows), 1) else "wrong"
        if told not in {"refused", "right"}:
            broken.set()
        return told

    with ThreadPoolExecutor(16) as pool:
        assert Counter(pool.map(ask, range(240))) == {"refused": 60, "right": 180}


@pytest.mark.triton
def test_a_model_by_language_and_a_nested_ensemble(built: Built, client: Client) -> None:
    rows = built.samples[:16]
    answers = [client.infer("pick", texts(rows[start : start + 4])) for start in range(0, 16, 4)]
    found = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
    german = np.array(["ü" in text for text in rows])
    assert 0 < german.sum() < len(rows)
    assert [row[0] for row in found["LANGUAGE"]] == [b"de" if one else b"en" for one in german]
    wanted = np.where(german[:, None], built.answers("pick-german")[:16], built.answers("pick-english")[:16])
    np.testing.assert_allclose(found["SCORES"], wanted, atol=1e-5)
    np.testing.assert_allclose(found["NESTED"], built.answers("pick-german", "LOGITS")[:16], atol=1e-4)


@pytest.mark.triton
def test_without_what_it_calls_a_selection_fails(built: Built, toolchain: Toolchain, server_environment: Path) -> None:
    """On a server of its own: 2.51 may end when a step fails while another one runs (docs/how-to/pipelines.md)."""
    options = triton_server.Options(complete_config=False)
    folders = {"toolchain": toolchain, "environment": server_environment}

    def ask() -> None:
        with (
            triton_server.serve(
                built.folder, load=["pick", "pick-answer-german"], options=options, **folders
            ) as server,
            triton_client.connect(server.grpc_address) as client,
        ):
            assert client.infer("pick", texts(["für"]))["LANGUAGE"].tolist() == [[b"de"]]
            client.infer("pick", texts(["no umlaut"]))

    with pytest.raises(ServerError, match="pick-answer-english"):
        ask()


def test_what_a_server_has_to_load_is_told(built: Built, tmp_path: Path) -> None:
    wanted = ["pick", "pick-answer-german", "pick-answer-english"]
    assert built.repositories["pick"].record["load_models"] == wanted
    for model in built.repositories["pick"].record["models"]:
        shutil.copytree(built.folder / model, tmp_path / model)
    assert list(serving.loadable(tmp_path)) == wanted
    (tmp_path / "pick/1/build.json").unlink()
    assert set(serving.loadable(tmp_path)) == set(wanted)  # nobody says it: all ensembles


def test_packages_that_fetch_something_are_told_of_once(
    folder: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    for package in ("nltk==3.9.1", "idna==3.10"):
        (folder / "fetching.yaml").write_text(PICK.replace("idna==3.10", package))
        recipe: Any = load(folder / "fetching.yaml")
        composition.nodes(recipe, (), Surroundings(settings().cache, store.ingest))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.messages[0].startswith("step 'language': nltk finds no corpora")


def test_instances_and_threads_are_shared(built: Built) -> None:
    def config(name: str, model: str) -> str:
        return built.configs[name].files[f"{model}/config.pbtxt"].path.read_text()

    assert built.configs["vote"].record["instances"]["vote-a"] == 1
    threads = 'key: "intra_op_thread_count"\n  value {\n    string_value: "%d"'
    assert threads % 1 in config("vote", "vote-a")  # three at once on two CPUs
    assert threads % 2 in config("pick", "pick-answer-german-model")
    assert "count: 2" in config("both", "both-labels")
    assert "dims: 3" in config("vote", "vote").split("FIRST")[1].split("}")[0]  # a fact: the recipe does not say it


def test_an_archive_shows_its_pipeline(built: Built, folder: Path) -> None:
    found = inspecting.inspect(built.folder)
    assert [dag.name for dag in found.pipelines][:3] == ["both", "pick", "vote"]
    vote = next(dag for dag in found.pipelines if dag.name == "vote")
    stated = inspecting.inspect(folder / "vote.yaml").pipelines[0]
    shown = {(edge.source.removeprefix("vote-"), edge.step.removeprefix("vote-")) for edge in vote.edges}
    assert shown == {(edge.source, edge.step) for edge in stated.edges}
    assert {name: str(port) for name, (_, port) in vote.outputs.items()} == {
        "LABEL": "BYTES [2]",
        "SHARE": "FP32 [2]",
        "FIRST": "FP32 [3]",
    }


@pytest.mark.parametrize(
    ("recipe", "old", "new", "where", "expected"),
    [
        (
            VOTE,
            "labels: {labels: a, top_k: 2, inputs: {PROBABILITIES: vote.PROBABILITIES}}",
            "labels: {labels: a, inputs: {PROBABILITIES: tokenize.input_ids}}",
            "labels:",
            "step 'labels' input 'PROBABILITIES' takes FP32 [-1], but 'tokenize' output 'input_ids' gives INT64 [-1]",
        ),
        (
            VOTE,
            "b: {model: b}",
            "b: {model: b, inputs: {input_ids: request.TEXT, attention_mask: request.MASK}}",
            "b:",
            "step 'b' input 'input_ids' takes INT64 [-1], but step 'tokenize' takes BYTES [1] for the same tensor",
        ),
        (
            PICK,
            "by: language.LANGUAGE",
            "by: language.TONGUE",
            "answer:",
            "step 'language' gives no 'TONGUE'; it gives LANGUAGE",
        ),
        (PICK, "en: english", "en: anglais", "answer:", "step 'answer': there is no model 'anglais' under"),
        (
            PICK,
            "gives: {LANGUAGE: {dtype: BYTES",
            "gives: {LANGUAGE: {dtype: INT32",
            "answer:",
            "takes BYTES [1], but 'language'",
        ),
        (
            BOTH,
            "LABEL: labels.LABEL",
            "LABEL: labels.PRICE",
            "LABEL:",
            "output 'LABEL': step 'labels' gives no 'PRICE'; it gives LABEL",
        ),
    ],
)
def test_a_wrong_edge_is_refused_before_anything_runs(
    folder: Path, recipe: str, old: str, new: str, where: str, expected: str
) -> None:
    assert old in recipe
    path = folder / "wrong.yaml"
    path.write_text(recipe.replace(old, new))
    for ask in (lambda: building.plan([load(path)]), lambda: inspecting.inspect(path)):
        with pytest.raises(RecipeError) as caught:
            ask()
        assert expected in caught.value.message
        (told,) = [line for line in caught.value.message.splitlines() if expected in line]
        place = told.partition(": pipeline")[0]
        assert place.startswith(str(path))
        line = path.read_text().splitlines()[int(place.rsplit(":", 2)[1]) - 1]
        assert line.strip().startswith(where)


@pytest.mark.parametrize(
    ("model", "old", "new", "expected"),
    [
        ("d", "", "", "step 'vote': 'a' has the labels bad, fair, good, but 'b' has good, fair, bad"),
        (
            "cased",
            "",
            "",
            "step 'b': model 'b' takes the token ids of model 'a', but they differ in their tokenizer.json",
        ),
        (
            "b",
            "inputs: {max_length: 32}",
            "inputs: {max_length: 16}",
            "model 'b' takes the token ids of model 'a', but they differ in max_length (32 and 16)",
        ),
        ("b", "top_k: 2", "top_k: 4", "step 'labels': top_k is 4, but 'a' has 3 labels"),
        ("b", "b: {model: b}", "b: {model: b, serving: {}}", "write models.b.serving: it is the model's"),
    ],
)
def test_what_only_the_models_know_is_refused_when_they_are_there(
    folder: Path, built: Built, store: Store, model: str, old: str, new: str, expected: str
) -> None:
    path = folder / "misfit.yaml"
    lines = VOTE.replace("path: b}", f"path: {model}}}").splitlines()
    second = next(index for index, line in enumerate(lines) if line.startswith("  b: "))
    lines[second] = lines[second].replace(old, new) if "max_length" in old else lines[second]
    path.write_text("\n".join(lines) if "max_length" in old else "\n".join(lines).replace(old or "\0", new))
    with pytest.raises(RecipeError) as caught:
        run_all(path, store)
    assert expected in caught.value.message
    assert caught.value.message.startswith(str(path))


def test_a_recipe_may_not_be_called_like_another_ones_model(folder: Path) -> None:
    path = folder / "vote-a.yaml"
    path.write_text(f"{HEAD}name: vote-a\nsource: {{path: b}}\ntask: text-classification\n")
    with pytest.raises(RecipeError, match="'vote-a' is also the name of"):
        building.plan([load(folder / "vote.yaml"), load(path)])


def test_the_commands_know_pipelines(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Built without a proof, delivered with all that a later proof takes, and found again."""
    cache = settings().cache
    monkeypatch.setenv("TRITONSMITH_CACHE", str(tmp_path))
    for name in ("wheels", "wheel-sets"):
        (cache / name).mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(cache / name)
    recipe = load(folder / "pick.yaml")
    (result,) = building.build(recipe, out=tmp_path / "out", verify=False)
    assert (result.status, result.as_json()["name"]) == ("unverified", "pick")
    assert result.manifest.models.keys() == {"german", "english"}
    assert result.manifest.load_models == ("pick", "pick-answer-german", "pick-answer-english")
    beside = {path.name.partition(".")[2] for path in (tmp_path / "out").iterdir()}
    asked = {"samples.jsonl", "expected.safetensors", "expected.json"}
    assert beside == {"tar.gz", "manifest.json", "provenance.json", "sbom.cdx.json", *asked}
    found = inspecting.inspect(result.archive.file.path)
    assert next(dag.name for dag in found.pipelines) == "pick"
    assert "pick-language.LANGUAGE" in json.dumps(found.as_json())
    states = {node.stage: node.state for node in building.plan([recipe])}
    assert {states.pop("measure"), states.pop("judge")} <= {"run", "depends", "blocked"}
    assert set(states.values()) == {"hit"}
    (folder / "language.py").write_text(LANGUAGE + "\n# another file\n")
    changed = {node.stage for node in building.plan([recipe]) if node.state != "hit"}
    (folder / "language.py").write_text(LANGUAGE)
    assert {"own", "package"} <= changed
    assert not changed & {"source", "trace", "config"}

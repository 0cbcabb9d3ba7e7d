"""The repository, packed and unpacked, on the real server."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.core.digest import describe_file, describe_folder, digest_tree
from builder.errors import ServerError
from builder.tools import archive, triton_client, triton_server
from tests.models import MAX_LENGTH
from tests.parts import INPUTS, make_parts
from tests.steps.test_tokenize import HARD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from builder.tools.toolchain import Toolchain
    from builder.tools.triton_client import Client
    from tests.package.conftest import Built

pytestmark = pytest.mark.triton

PAIRS = "pairs"
"""A second archive, with what the default one leaves off: pairs, cache, buckets, no gathering, two instances."""
OPTIONS = (
    f"name={PAIRS}",
    "task=text-classification",
    "inputs={text_pair: true, padding: buckets}",
    "serving.response_cache.enable=true",
    "serving.dynamic_batching=false",
    "serving.instance_group=[{count: 2}]",
)


RICH = "rich"
"""A third archive, with what a recipe can set besides: labels, warm-up data of its own, a config by name."""


def rich_options(warmup: Path) -> tuple[str, ...]:
    warmup.write_bytes(np.arange(4, dtype="<i8").tobytes())
    given = dict.fromkeys(INPUTS, "{data_type: TYPE_INT64, dims: [4], zero_data: true}")
    given["input_ids"] = f"{{data_type: TYPE_INT64, dims: [4], input_data_file: {warmup}}}"
    inputs = ", ".join(f"{name}: {value}" for name, value in given.items())
    return (
        f"name={RICH}",
        "serving.output=[{name: EMBEDDING, label_filename: labels.txt}]",
        f"serving.model_warmup=[{{name: mine, batch_size: 3, inputs: {{{inputs}}}}}]",
        "serving.configs={large: {instance_group: [{count: 2}]}}",
    )


@dataclass(frozen=True)
class Served:
    client: Client
    built: dict[str, Built]
    repository: Path
    http_address: str


@pytest.fixture(scope="module")
def served(
    built: Built,
    build: Callable[..., Built],
    toolchain: Toolchain,
    server_environment: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    samples = [{"text": "Is it raining?", "text_pair": "It rained for three weeks."}]
    pairs = build(*OPTIONS, parts=make_parts(tmp_path_factory.mktemp("pairs"), samples=samples))
    parts = make_parts(tmp_path_factory.mktemp("rich"))
    named = replace(parts, reference=replace(parts.reference, labels=tuple("abcdefgh")))
    rich = build(*rich_options(tmp_path_factory.mktemp("warmup") / "ids.raw"), parts=named)
    repository = tmp_path_factory.mktemp("repository")
    for one in (built, pairs, rich):
        unpacked = archive.unpack(one.archive.file.path, tmp_path_factory.mktemp("unpacked") / "tree")
        assert digest_tree(unpacked) == one.archive.tree_digest
        for model in one.repository.record["models"]:
            (unpacked[f"{model}/config.pbtxt"].path.parent).rename(repository / model)
    options = triton_server.Options(cache_bytes=1 << 20)
    with (
        triton_server.serve(
            repository,
            toolchain=toolchain,
            environment=server_environment,
            load=["tiny", PAIRS, RICH],
            arguments=["--model-config-name=large"],  # models without such a config take their config.pbtxt
            options=options,
        ) as server,
        triton_client.connect(server.grpc_address) as client,
    ):
        yield Served(client, {"tiny": built, PAIRS: pairs, RICH: rich}, repository, server.http_address)


def text(*rows: str | bytes) -> np.ndarray:
    return np.array([[row.encode() if isinstance(row, str) else row] for row in rows], dtype=object)


def test_warm_up_runs_before_anybody_asks(served: Served) -> None:
    """Each of two instances, with one row and with eight; nothing before the last tests asks for eight rows."""
    stats = served.client.statistics(f"{PAIRS}-model")["batch_stats"]
    runs = {int(one["batch_size"]): int(one["compute_infer"]["count"]) for one in stats}
    assert runs[1] >= 2
    assert runs[8] >= 2


def test_warm_up_with_data_of_the_recipes(served: Served) -> None:
    stats = served.client.statistics(f"{RICH}-model")["batch_stats"]
    assert {int(one["batch_size"]): int(one["compute_infer"]["count"]) for one in stats} == {3: 2}  # two instances


def test_the_config_for_this_machine_is_taken(served: Served) -> None:
    assert [group["count"] for group in served.client.config(f"{RICH}-model")["instance_group"]] == [2]
    assert [group["count"] for group in served.client.config("tiny-model")["instance_group"]] == [1]


def test_classes_have_the_models_labels(served: Served) -> None:
    """The ensemble finds them in the model's folder."""
    output = {"name": "EMBEDDING", "parameters": {"classification": 2, "binary_data": False}}
    given = {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["some text"]}
    request = urllib.request.Request(
        f"http://{served.http_address}/v2/models/{RICH}/infer",
        json.dumps({"inputs": [given], "outputs": [output]}).encode(),
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        classes = [one.split(":") for one in json.load(answer)["outputs"][0]["data"]]
    values = served.built[RICH].parts.answer(("some text",))[0]
    assert [(int(index), label) for _, index, label in classes] == [
        (int(index), "abcdefgh"[index]) for index in np.argsort(-values)[:2]
    ]


def test_texts_alone_and_together(served: Served) -> None:
    parts, rows = served.built["tiny"].parts, [(one,) for one in HARD]
    together = served.client.infer("tiny", {"TEXT": text(*HARD)})["EMBEDDING"]
    np.testing.assert_allclose(together, parts.answer(*rows), atol=1e-5)
    for row, answer in zip(rows, together, strict=True):
        alone = served.client.infer("tiny", {"TEXT": text(*row)})["EMBEDDING"]
        np.testing.assert_allclose(alone[0], answer, atol=1e-5)
    assert not np.allclose(together[2], together[3], atol=1e-2)  # the comparison can fail


def test_tokens_are_those_of_the_hugging_face_tokenizer(served: Served) -> None:
    answer = served.client.infer("tiny-tokenize", {"TEXT": text(*HARD)})
    wanted = served.built["tiny"].parts.tokens(*((one,) for one in HARD))
    assert set(answer) == set(INPUTS)
    for name in INPUTS:
        assert answer[name].dtype == np.int64
        np.testing.assert_array_equal(answer[name], wanted[name], err_msg=name)


def test_pairs_and_buckets(served: Served) -> None:
    rows = [("Is it raining?", "It rained."), ("short", "word " * 100), ("", "")]
    inputs = {"TEXT": text(*(row[0] for row in rows)), "TEXT_PAIR": text(*(row[1] for row in rows))}
    answer = served.client.infer(PAIRS, inputs)["EMBEDDING"]
    np.testing.assert_allclose(answer, served.built[PAIRS].parts.answer(*rows), atol=1e-5)
    tokens = served.client.infer(f"{PAIRS}-tokenize", {name: array[:1] for name, array in inputs.items()})
    assert tokens["input_ids"].shape == (1, 32)
    assert served.client.infer(f"{PAIRS}-tokenize", inputs)["input_ids"].shape == (3, MAX_LENGTH)


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Makes all calls at the same time; the answer or the error of each."""
    answers: list[Any] = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def call(index: int) -> None:
        barrier.wait()
        try:
            answers[index] = calls[index]()
        except ServerError as error:
            answers[index] = error

    threads = [threading.Thread(target=call, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def counts(client: Client, model: str) -> tuple[int, int]:
    """Texts that the model was asked since it was loaded, warm-up included, and the executions that this took.

    The server counts after it has answered: read until two readings agree.
    """
    read, last = (0, 0), (-1, -1)
    while read != last:
        statistics = client.statistics(model)
        last, read = read, (int(statistics.get("inference_count", 0)), int(statistics.get("execution_count", 0)))
        time.sleep(0.1)
    return read


def executions_of(client: Client, model: str, calls: Sequence[Callable[[], Any]]) -> tuple[list[Any], int]:
    """Makes all calls at the same time; their answers, and the executions that they took."""
    before = counts(client, model)
    answers = at_once(calls)
    deadline = time.monotonic() + 10
    while counts(client, model)[0] < before[0] + len(calls) - 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    return answers, counts(client, model)[1] - before[1]


def test_an_error_of_the_step_reaches_the_client_of_the_ensemble(served: Served) -> None:
    with pytest.raises(ServerError, match="row 1: byte 0xff at position 0 is not UTF-8"):
        served.client.infer("tiny", {"TEXT": text("fine", b"\xff")})
    served.client.infer("tiny", {"TEXT": text("fine")})


def tokens_for_eight(served: Served) -> list[Callable[[], Any]]:
    arrays = {name: np.ones((1, 5), np.int64) for name in INPUTS}
    return [lambda: served.client.infer(f"{PAIRS}-model", arrays)] * 8


def test_dynamic_batching_off_gives_each_request_an_execution_of_its_own(served: Served) -> None:
    model = f"{PAIRS}-model"
    assert executions_of(served.client, model, tokens_for_eight(served))[1] == 8


def test_the_ensemble_answers_from_the_cache(served: Served) -> None:
    def hits(model: str) -> int:
        return int(served.client.statistics(model)["inference_stats"].get("cache_hit", {}).get("count", 0))

    inputs = {"TEXT": text("the same"), "TEXT_PAIR": text("twice")}
    first = served.client.infer(PAIRS, inputs)["EMBEDDING"]
    before, steps = hits(PAIRS), counts(served.client, f"{PAIRS}-tokenize")
    np.testing.assert_array_equal(served.client.infer(PAIRS, inputs)["EMBEDDING"], first)
    deadline = time.monotonic() + 10
    while hits(PAIRS) == before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert hits(PAIRS) == before + 1
    assert counts(served.client, f"{PAIRS}-tokenize") == steps
    served.client.infer("tiny", {"TEXT": text("the same")})
    served.client.infer("tiny", {"TEXT": text("the same")})
    assert hits("tiny") == 0  # off there


def test_the_server_runs_what_the_config_says(served: Served) -> None:
    config = served.client.config("tiny-model")
    assert [group["count"] for group in config["instance_group"]] == [1]
    assert config["parameters"]["intra_op_thread_count"]["string_value"] == "2"
    assert config["max_batch_size"] == 32
    assert [entry["name"] for entry in config["model_warmup"]] == ["batch-1", "batch-8"]
    pairs = served.client.config(f"{PAIRS}-model")
    assert [group["count"] for group in pairs["instance_group"]] == [2]
    assert pairs["parameters"]["intra_op_thread_count"]["string_value"] == "1"
    assert served.client.metadata("tiny")["inputs"] == [{"name": "TEXT", "datatype": "BYTES", "shape": ["-1", "1"]}]


def test_warm_up_data_is_really_run(
    built: Built, toolchain: Toolchain, server_environment: Path, tmp_path: Path
) -> None:
    """With token ids outside the vocabulary the model does not load: so what does load was warmed up with ours."""
    archive.unpack(built.archive.file.path, tmp_path / "tree")
    data = tmp_path / "tree/tiny-model/warmup/input_ids"
    data.write_bytes(np.full(data.stat().st_size // 8, 10**6, dtype="<i8").tobytes())
    log_path = tmp_path / "server.log"
    # A server of its own: 2.51 now and then crashes while a warm-up fails, before it can say why.
    with (
        pytest.raises(ServerError) as caught,
        triton_server.serve(
            tmp_path / "tree",
            toolchain=toolchain,
            environment=server_environment,
            load=["tiny-model"],
            log_path=log_path,
        ),
    ):
        pass
    said = log_path.read_text(encoding="utf-8", errors="replace")
    assert "failed to run warmup sample" in said or "SIGSEGV" in str(caught.value)


def test_too_large_a_batch_is_refused(served: Served) -> None:
    with pytest.raises(ServerError, match="batch-size must be <= 32"):
        served.client.infer("tiny", {"TEXT": text(*["x"] * 33)})


# From here on the models gather: what asks them one by one comes before.


def gather(served: Served, model: str) -> None:
    """Loads the model again, with its own config but for one thing: it waits until eight rows are there."""
    batching = {"max_queue_delay_microseconds": "5000000", "preferred_batch_size": [8]}
    served.client.load(model, {**served.client.config(model), "dynamic_batching": batching})


def test_invalid_utf8_fails_alone_within_one_execution(served: Served) -> None:
    gather(served, "tiny-tokenize")
    texts = [text(f"text {index}") for index in range(7)]
    texts.insert(3, text(b"caf\xe9 noir"))
    calls = [lambda t=t: served.client.infer("tiny-tokenize", {"TEXT": t}) for t in texts]
    answers, executions = executions_of(served.client, "tiny-tokenize", calls)
    assert executions == 1
    assert isinstance(answers[3], ServerError)
    assert "TEXT, row 0: byte 0xe9 at position 3 is not UTF-8" in str(answers[3])
    for index, answer in enumerate(answers):
        if index != 3:
            wanted = served.built["tiny"].parts.tokens((texts[index][0, 0].decode(),))
            np.testing.assert_array_equal(answer["input_ids"], wanted["input_ids"])


def test_and_with_it_on_they_share_one(served: Served) -> None:
    """Negative control of the test above: the same requests, gathered."""
    gather(served, f"{PAIRS}-model")
    assert executions_of(served.client, f"{PAIRS}-model", tokens_for_eight(served))[1] == 1


def test_serving_leaves_the_repository_as_it_was(served: Served) -> None:
    """Runs last: nothing was written into what was unpacked, no byte code either."""
    built = served.built["tiny"]
    for model in built.repository.record["models"]:
        found = describe_folder(served.repository / model)
        wanted = {p.removeprefix(f"{model}/") for p in built.repository.files if p.startswith(f"{model}/")}
        assert set(found) == wanted
    shipped = built.repository.files["tiny-model/warmup/input_ids"]
    assert describe_file(served.repository / "tiny-model/warmup/input_ids").sha256 == shipped.sha256

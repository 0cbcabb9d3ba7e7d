"""Our TensorRT backends on a real server. Without a GPU, numpy computes what the engine would (numpy_engine.py)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from builder.errors import ServerError
from builder.tools import templates
from tests.bench import Bench, gathering, serve
from tests.tiny_graphs import config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.tools.toolchain import Toolchain

pytestmark = pytest.mark.triton

PLAN = b"ftrt"  # how a plan of TensorRT begins
INPUTS, OUTPUTS = {"A": "INT64 -1", "B": "FP32 -1"}, {"RUN": "INT32 2", "SUM": "FP32 -1"}
ALL_PROFILES = 'instance_group { count: 1 kind: KIND_CPU profile: ["0", "1"] }\n'
FIRST_PROFILE = "instance_group { count: 1 kind: KIND_CPU }\n"


@pytest.fixture(scope="module")
def bench(toolchain: Toolchain, server_environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    replaced = tmp_path_factory.mktemp("templates")
    shutil.copytree(templates.folder() / "backends", replaced / "backends")
    (replaced / "backends/common/tritonsmith_cuda.py").unlink()
    shutil.copy(Path(__file__).with_name("numpy_engine.py"), replaced / "backends/common/tritonsmith_engine.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(templates, "folder", lambda: replaced)
        with serve(tmp_path_factory.mktemp("repository"), toolchain, server_environment) as running:
            yield running


def engine_config(more: str, **changes: int) -> str:
    return config("tensorrt", INPUTS, OUTPUTS, more=more, **changes)


def numbers(rows: int, length: int, value: int) -> dict[str, np.ndarray]:
    return {"A": np.full((rows, length), value, np.int64), "B": np.full((rows, length), 0.5, np.float32)}


def test_a_batch_is_one_run_and_each_gets_its_own(bench: Bench) -> None:
    # INT64 goes into an engine that takes INT32.
    bench.load("gather", engine_config(ALL_PROFILES + gathering(8)), model_plan=PLAN)
    requests = [numbers(rows, 3, value) for value, rows in enumerate([1, 3, 2, 1, 1])]
    answers, executions = bench.ask_at_once("gather", requests)
    assert executions == 1
    for value, (answer, request) in enumerate(zip(answers, requests, strict=True)):
        assert answer["SUM"].shape == request["A"].shape
        assert (answer["SUM"] == value + 0.5).all()
        assert (answer["RUN"] == [1, 1]).all()  # eight rows: the second profile, one run


def test_several_runs_of_one_call_do_not_overwrite_each_other(bench: Bench) -> None:
    lines = engine_config(ALL_PROFILES + gathering(4)).splitlines()
    ragged = [line.replace(" }", " allow_ragged_batch: true }") if line.startswith("input") else line for line in lines]
    bench.load("mixed", "\n".join(ragged), model_plan=PLAN)
    answers, executions = bench.ask_at_once("mixed", [numbers(1, length, length) for length in (3, 2, 3, 9)])
    assert executions == 1
    assert [answer["SUM"].tolist() for answer in answers] == [[[n + 0.5] * n] for n in (3, 2, 3, 9)]
    assert sorted(answer["RUN"].tolist()[0][0] for answer in answers) == [0, 0, 0, 1]


def test_what_is_refused_says_why_and_spoils_nobody_else(bench: Bench) -> None:
    bench.load("refusing", engine_config(FIRST_PROFILE + gathering(2), max_batch_size=2), model_plan=PLAN)
    with pytest.raises(ServerError) as caught:
        bench.client.infer("refusing", numbers(2, 5, 1))
    assert "TensorRT error: the shape of 'A' [2, 5], 'B' [2, 5] is outside every optimisation profile" in str(
        caught.value
    )
    assert "profile 0: 'A' must be [1..2, 1..4]" in str(caught.value)
    bench.settled("refusing", 1)
    answers, executions = bench.ask_at_once("refusing", [numbers(1, 4, 2**40), numbers(1, 4, 7)])
    assert executions == 1
    assert "'A' has a number beyond INT32" in str(answers[0])
    assert answers[1]["SUM"].tolist() == [[7.5] * 4]


@pytest.mark.parametrize(
    ("text", "plans", "reason"),
    [
        (engine_config(FIRST_PROFILE), {"model_plan": b"vtrt"}, "is a plan of the backend 'tensorrt_rtx'"),
        (engine_config(FIRST_PROFILE), {"model_plan": PLAN}, "max_batch_size is 8, .* take at most 2 rows"),
        (
            engine_config(ALL_PROFILES).replace("INT64", "FP16"),
            {"model_plan": PLAN},
            "input 'A': data_type is TYPE_FP16, the engine has TYPE_INT32",
        ),
        (
            engine_config(ALL_PROFILES).replace("[2]", "[3]"),
            {"model_plan": PLAN},
            r"output 'RUN': the engine has the shape \[-1, 2\], the config says \[-1, 3\]",
        ),
    ],
)
def test_a_config_or_plan_that_does_not_fit(
    bench: Bench, request: pytest.FixtureRequest, text: str, plans: dict[str, bytes], reason: str
) -> None:
    name = f"bad-{request.node.callspec.indices['text']}"
    with pytest.raises(ServerError, match=reason):
        bench.load(name, text, **plans)

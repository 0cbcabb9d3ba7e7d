"""What our TensorRT backends decide without a GPU: which profile, which plan, what is said when one does not load."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.tools import engine_header, templates
from tests.backends.fakes import FakeCuda, fake_tensorrt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def part() -> Iterator[Any]:
    """Imports a file that our backends share."""
    common = str(templates.folder() / "backends/common")
    before = set(sys.modules)
    sys.path.insert(0, common)
    sys.modules["triton_python_backend_utils"] = ModuleType("only a server's stub has the real one")
    yield importlib.import_module
    sys.path.remove(common)
    del sys.modules["triton_python_backend_utils"]
    for name in set(sys.modules) - before:
        if name.startswith("tritonsmith_"):
            del sys.modules[name]


def profile(part: Any, index: int, rows: tuple[int, int, int], tokens: tuple[int, int, int]) -> Any:
    shapes = [{"ids": shape, "mask": shape} for shape in zip(rows, tokens, strict=True)]
    return part("tritonsmith_profiles").Profile(index, *shapes)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1, 16), 0), ((2, 90), 0), ((2, 128), 1), ((8, 128), 1), ((9, 128), 2), ((1, 512), 2), ((32, 512), 2)],
)
def test_the_nearest_profile_that_fits_is_chosen(part: Any, shape: tuple[int, int], expected: int) -> None:
    spans = [((1, 1, 4), (2, 64, 128)), ((1, 8, 8), (2, 128, 128)), ((1, 16, 32), (2, 256, 512))]
    profiles = [profile(part, index, *span) for index, span in enumerate(spans)]
    choose = part("tritonsmith_profiles").choose
    assert choose(profiles, {"ids": shape, "mask": shape}).index == expected
    assert choose(profiles[::-1], {"ids": shape, "mask": shape}).index == expected


def test_of_equal_profiles_the_smaller_one_is_chosen(part: Any) -> None:
    both = [profile(part, 0, (1, 4, 32), (8, 8, 8)), profile(part, 1, (1, 4, 16), (8, 8, 8))]
    assert part("tritonsmith_profiles").choose(both, {"ids": (2, 8), "mask": (2, 8)}).index == 1


def test_a_shape_outside_all_is_refused_with_all_that_was_possible(part: Any) -> None:
    profiles = [profile(part, 0, (1, 1, 4), (16, 16, 16)), profile(part, 2, (1, 8, 32), (2, 64, 128))]
    with pytest.raises(ValueError, match="outside every optimisation profile") as caught:
        part("tritonsmith_profiles").choose(profiles, {"ids": (4, 200), "mask": (4, 200)})
    for said in ("'ids' [4, 200]", "profile 0: 'ids' must be [1..4, 16]", "profile 2: 'ids' must be [1..32, 2..128]"):
        assert said in str(caught.value)
    with pytest.raises(ValueError, match="'mask' must be"):
        part("tritonsmith_profiles").choose(profiles, {"ids": (4, 64), "mask": (4, 64, 1)})


def test_an_instance_has_the_profiles_of_its_group(part: Any) -> None:
    of_instance = part("tritonsmith_profiles").of_instance
    config = {"instance_group": [{"name": "m_0"}, {"name": "m_1", "profile": ["2", "0", "2"]}]}
    assert of_instance(config, "m_1_0", 3) == [2, 0]
    assert of_instance(config, "m_0_1", 3) == [0]  # none is named: the first, as NVIDIA's backend does
    assert of_instance({}, "m_0", 3) == [0]
    with pytest.raises(ValueError, match="profile '2' is none of the engine's 2: 0 to 1 are allowed"):
        of_instance(config, "m_1_0", 2)


def test_the_plan_is_that_of_the_gpu(part: Any, tmp_path: Path) -> None:
    plan_path = part("tritonsmith_plans").plan_path
    for name in ("sm75.plan", "default.plan", "model.plan"):
        (tmp_path / name).touch()
    config = {"cc_model_filenames": {"7.5": "sm75.plan", "8.9": "gone.plan"}, "default_model_filename": "default.plan"}
    assert plan_path(tmp_path, config, "7.5").name == "sm75.plan"
    assert plan_path(tmp_path, config, "8.0").name == "default.plan"
    assert plan_path(tmp_path, {}, "7.5").name == "model.plan"
    with pytest.raises(ValueError, match=r"compute capability is 8\.9; cc_model_filenames has plans for 7\.5, 8\.9"):
        plan_path(tmp_path, config, "8.9")


def test_plans_are_told_apart_as_the_linter_does(part: Any, tmp_path: Path) -> None:
    plans = part("tritonsmith_plans")
    heads = {b"ftrt" + bytes(20) + bytes([10, 13, 2, 6]): "10.13.2", b"vtrt" + bytes(24): "", b"ftrt" + bytes(24): ""}
    for head, version in heads.items():
        (tmp_path / "plan").write_bytes(head)
        found = engine_header.read_engine_head(head)
        assert plans.built_by(tmp_path / "plan") == version == found.version
        wrong = plans.TENSORRT if found.kind == "tensorrt_rtx" else plans.TENSORRT_RTX
        right = plans.TENSORRT_RTX if found.kind == "tensorrt_rtx" else plans.TENSORRT
        plans.check_head(tmp_path / "plan", right)
        with pytest.raises(ValueError, match=f"is a plan of the backend '{found.kind}': this one is '{wrong.backend}'"):
            plans.check_head(tmp_path / "plan", wrong)
    (tmp_path / "plan").write_bytes(b"ONNX")
    with pytest.raises(ValueError, match="is no plan: it begins with b'ONNX'"):
        plans.check_head(tmp_path / "plan", plans.TENSORRT)


def test_a_plan_of_another_tensorrt_or_gpu_says_so(part: Any, tmp_path: Path) -> None:
    plans = part("tritonsmith_plans")
    path = tmp_path / "model.plan"
    path.write_bytes(b"ftrt" + bytes(20) + bytes([10, 13, 2, 6]))
    text = plans.refused(path, plans.TENSORRT, "11.4.0", "9.0", ["expecting compute 9.0 got compute 8.6"])
    assert "TensorRT 11.4.0 does not load" in text
    assert "it was built by 10.13.2, on a GPU of compute capability 9.0: expecting compute 9.0 got compute 8.6" in text
    assert "the library does not say why" in plans.refused(path, plans.TENSORRT, "11.4.0", "9.0", [])


def test_stripped_weights_are_looked_for_beside_the_plan(part: Any, tmp_path: Path) -> None:
    weights_beside, plan = part("tritonsmith_plans").weights_beside, tmp_path / "sm75.plan"
    assert weights_beside(plan) is None
    (tmp_path / "model.onnx").touch()
    assert weights_beside(plan) == tmp_path / "model.onnx"
    (tmp_path / "sm75.onnx").touch()
    assert weights_beside(plan) == tmp_path / "sm75.onnx"


def test_the_names_that_are_used_of_tensorrt_are_there(part: Any) -> None:
    # No engine can be loaded without a GPU; that the library has what the code calls, can be seen.
    rtx = pytest.importorskip("tensorrt_rtx_bindings")
    for name in ("Runtime", "Refitter", "OnnxParserRefitter", "EngineStat", "TensorIOMode", "ILogger"):
        assert hasattr(rtx, name)
    engine = "get_tensor_dtype get_tensor_mode get_tensor_name get_tensor_shape get_tensor_profile_shape num_io_tensors"
    context = "set_input_shape get_tensor_shape set_tensor_address execute_async_v3 set_optimization_profile_async"
    assert set(engine.split()) <= set(dir(rtx.ICudaEngine))
    assert set(context.split()) <= set(dir(rtx.IExecutionContext))


@pytest.fixture
def fakes(part: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Opens a runner on a fake TensorRT and a fake CUDA; the attributes are those two."""
    engine, plans = part("tritonsmith_engine"), part("tritonsmith_plans")
    cuda = FakeCuda()
    trt = fake_tensorrt(cuda)
    monkeypatch.setattr(engine, "load_module", lambda _: trt)
    monkeypatch.setattr(engine, "open_cuda", lambda _: cuda)
    (tmp_path / "model.plan").write_bytes(b"ftrt")

    def start(**config: Any) -> Any:
        group = {"name": "m_0", "profile": ["0", "1"]}
        return engine.Runner(plans.TENSORRT, tmp_path, {"instance_group": [group], **config}, "m_0_0", 0)

    start.cuda, start.trt = cuda, trt  # type: ignore[attr-defined]
    return start


def ask(runner: Any, profile: int, rows: int, length: int, value: int) -> np.ndarray:
    shape = (rows, length)
    runner.host["ids"].view(np.int32)[: rows * length] = value
    assert runner.run(runner.profiles[profile], {"ids": shape}) == {"out": shape}
    return runner.host["out"].view(np.float32)[: rows * length].copy()


def test_a_runner_with_fake_tensorrt_and_fake_cuda(fakes: Any) -> None:
    runner = fakes()
    assert [profile.index for profile in runner.profiles] == [0, 1]
    assert {name: len(host) for name, host in runner.host.items()} == {"ids": 8 * 8 * 4, "out": 8 * 8 * 4}
    for profile, rows, length in ((0, 2, 4), (1, 8, 8), (0, 1, 4)):
        assert (ask(runner, profile, rows, length, rows + length) == 2 * (rows + length)).all()
    first, second = fakes.trt.engine.contexts
    assert (first.profile, first.runs, second.profile, second.runs) == (0, 2, 1, 1)
    with pytest.raises(RuntimeError, match=r"refuses the shape \[3, 4\] of 'ids'"):
        runner.run(runner.profiles[0], {"ids": (3, 4)})


def test_cuda_graphs_with_fake_tensorrt_and_fake_cuda(fakes: Any) -> None:
    runner = fakes(optimization={"cuda": {"graphs": True}})
    for value in (1, 5, 9):
        assert (ask(runner, 0, 2, 4, value) == 2 * value).all()
        assert (ask(runner, 1, 4, 8, value) == 2 * value).all()
    first, second = fakes.trt.engine.contexts
    assert (first.runs, second.runs) == (2, 2)  # one run, one capture; then the graph is launched
    assert len(runner.graphs) == 2
    spec = {"batch_size": 2, "input": {"ids": {"dim": ["4"]}}}
    stated = fakes(optimization={"cuda": {"graphs": True, "graph_spec": [spec]}})
    assert list(stated.graphs) == [(0, ((2, 4),))]
    ask(stated, 1, 4, 8, 1)
    assert len(stated.graphs) == 1


def test_a_stripped_plan_is_refitted_with_fake_tensorrt(fakes: Any, tmp_path: Path) -> None:
    fakes.trt.engine.stripped = 1000
    with pytest.raises(ValueError, match="has no weights in it, and no ONNX file"):
        fakes()
    (tmp_path / "model.onnx").touch()
    fakes()
    assert fakes.trt.refitted == [str(tmp_path / "model.onnx")]


def test_a_plan_that_fake_tensorrt_refuses(fakes: Any) -> None:
    fakes.trt.engine = None
    with pytest.raises(RuntimeError, match=r"TensorRT 10\.13\.2 does not load .*expecting library version .* build it"):
        fakes()

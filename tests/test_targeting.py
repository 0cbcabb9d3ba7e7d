"""What a target means for the stages, and what this machine lacks for it."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from builder import targeting
from builder.artifacts import Profile
from builder.errors import BlockedError, ModelError
from builder.pipeline import Surroundings, nodes
from builder.recipe import Recipe, load
from builder.tools import hardware
from builder.tools.hardware import Gpu

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BASE = "schema_version: 1\nname: tiny\nsource: {path: model}\ntask: sentence-embedding\n"
T4 = Gpu("Tesla T4", "7.5", 15360, "580.82.07")
ALL = (1, 8, 32)


@pytest.fixture
def target(tmp_path: Path) -> Callable[..., Recipe]:
    """A recipe with one target ``t``."""

    def make(runtime: str = "tensorrt-rtx", hardware: str = "{gpu: L4}", more: str = "", rest: str = "") -> Recipe:
        path = tmp_path / "recipe.yaml"
        said = f"targets: {{t: {{runtime: {runtime}, precision: fp16, hardware: {hardware}{more}}}}}\n{rest}"
        path.write_text(BASE + said, encoding="utf-8")
        loaded = load(path)
        assert isinstance(loaded, Recipe)
        return loaded

    return make


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes nvidia-smi tell of other GPUs than this machine has."""
    return lambda *found: monkeypatch.setattr(hardware, "gpus", lambda: found)


class TestCapabilities:
    @pytest.mark.parametrize(
        ("said", "found", "stages"),
        [
            ("{gpu: L4}", ("8.9",), {"engine": "8.9"}),
            ("{instance: ml.g4dn.xlarge}", ("7.5",), {"engine": "7.5"}),
            ('{compute_capability: "12.0"}', ("12.0",), {"engine": "12.0"}),
            ("{gpus: [L4, L40S]}", ("8.9",), {"engine": "8.9"}),
            ("{gpus: [A10G, T4]}", ("7.5", "8.6"), {"engine-7.5": "7.5", "engine-8.6": "8.6"}),
        ],
    )
    def test_of_what_is_declared(self, target: Any, said: str, found: Any, stages: Any) -> None:
        one = target(hardware=said).targets["t"]
        assert targeting.capabilities(one) == found
        assert targeting.engine_stages(one) == stages

    def test_local_is_this_machine(self, target: Any, here: Any) -> None:
        one = target(hardware="local")
        here(T4, T4)
        assert targeting.engine_stages(one.targets["t"]) == {"engine": "7.5"}
        here()
        assert targeting.engine_stages(one.targets["t"]) == {"engine": ""}
        assert targeting.lacking(one, "t").keys() == {"optimise", "measure"}
        with pytest.raises(BlockedError, match="local is this machine, which has no GPU"):
            targeting.compile_for(one, "t", "", 256)


class TestProfiles:
    def test_texts_in_buckets_get_two(self, target: Any) -> None:
        assert targeting.profiles(target(), 256) == (Profile(ALL, (16, 64, 64)), Profile(ALL, (65, 256, 256)))

    def test_texts_of_any_length_get_one(self, target: Any) -> None:
        longest = target(rest="inputs: {padding: longest}\n")
        assert targeting.profiles(longest, 256) == (Profile(ALL, (2, 64, 256)),)
        assert targeting.profiles(longest, 48) == (Profile(ALL, (2, 48, 48)),)

    def test_what_a_profile_leaves_out_is_that_of_the_shapes(self, target: Any) -> None:
        rest = """
shapes:
  batch: {max: 16}
  sequence: {opt: 32, max: 256}
  profiles: [{sequence: {max: 64}}, {sequence: {min: 64, opt: 128}, batch: {opt: 2}}]
"""
        short, long = (1, 8, 16), (1, 2, 16)
        made = targeting.profiles(target(rest=rest), 256)
        assert made == (Profile(short, (16, 32, 64)), Profile(long, (64, 128, 256)))

    def test_a_shape_outside_every_profile_is_refused(self, target: Any) -> None:
        with pytest.raises(ModelError, match="a batch of 1 of 128 tokens is outside every profile"):
            targeting.profiles(target(rest="shapes: {profiles: [{sequence: {max: 64}}]}\n"), 256)

    def test_it_is_refused_before_the_reference_is_computed(self, target: Any, tmp_path: Path) -> None:
        around = Surroundings(tmp_path, lambda _: "")
        for most, refused in ((64, True), (256, False)):
            made = nodes(target(rest=f"shapes: {{profiles: [{{sequence: {{max: {most}}}}}]}}\n"), ["t"], around)
            (reference,) = (node for node in made if node.id.endswith("/reference"))
            known = {"source": None, "tokenizer": SimpleNamespace(max_length=256)}
            with pytest.raises(ModelError, match="outside every profile") if refused else nullcontext():
                reference.prepare(known)


class TestKeys:
    def test_an_engine_is_keyed_by_what_is_declared_and_not_by_the_machine(self, target: Any, here: Any) -> None:
        from builder.artifacts import OnnxModel

        model = OnnxModel({}, (), (), 20, {})
        one = target("tensorrt", "{gpu: T4}")
        keys = []
        for gpus in ((), (T4,)):
            here(*gpus)
            keys.append(targeting.compile_for(one, "t", "7.5", 256).fingerprint(model))
        assert keys[0] == keys[1]
        assert (keys[0]["library"], keys[0]["capability"]) == ("10.13.3.9", "7.5")
        with pytest.raises(BlockedError, match=r"10\.13\.3\.9"):  # whoever runs it asserts that it has them
            targeting.compile_for(one, "t", "7.5", 256).requires(model)


def test_the_server_that_verifies_gets_the_library_that_compiled(target: Any) -> None:
    assert targeting.serving_libraries(target().targets["t"])[:2] == (
        "tensorrt-rtx-cu13-bindings==1.7.1.116",
        "tensorrt-rtx-cu13-libs==1.7.1.116",
    )
    older = target("tensorrt", "{gpu: T4}", ', triton: "24.10", engine: {tensorrt: "10.5.0.18"}').targets["t"]
    assert targeting.serving_libraries(older)[0] == "tensorrt-cu12-bindings==10.5.0.18"


class TestLacking:
    def test_tensorrt_needs_its_gpu_and_its_library_to_compile(self, target: Any, here: Any) -> None:
        here()
        found = targeting.lacking(target("tensorrt", "{instance: ml.g4dn.xlarge}"), "t")
        assert "10.13.3.9" in found["engine"]
        assert "compute capability 7.5 (T4); this machine has none" in found["measure"]

    def test_tensorrt_rtx_compiles_anywhere_and_runs_on_its_gpu(self, target: Any, here: Any) -> None:
        here(T4)
        assert targeting.lacking(target(), "t") == {
            "measure": "a plan of tensorrt-rtx runs on its GPU alone: it needs a GPU of compute capability 8.9 (L4); "
            "this machine has 7.5"
        }
        assert targeting.lacking(target(hardware="{gpu: T4}"), "t") == {}

    def test_a_plan_without_weights_needs_a_gpu_to_be_made(self, target: Any, here: Any) -> None:
        stripped = target(more=", engine: {strip_weights: true}")
        here()
        assert "engine.strip_weights" in targeting.lacking(stripped, "t")["engine"]
        here(T4)
        assert "engine" not in targeting.lacking(stripped, "t")

    def test_several_gpus_are_needed_all(self, target: Any, here: Any) -> None:
        here(T4)
        assert "8.6 (T4, A10G)" in targeting.lacking(target(hardware="{gpus: [T4, A10G]}"), "t")["measure"]

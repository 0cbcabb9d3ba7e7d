"""GPUs and instance types: what the data files say, and that a file of the user's can replace their rows."""

from __future__ import annotations

import json

import pytest

from builder.errors import UserError
from builder.tools import gpus


def test_each_gpu_of_an_instance_is_known_and_has_a_capability_that_some_runtime_supports():
    known = gpus.load_gpus()
    used = {one.gpu for one in gpus.load_instances().values() if one.gpu}
    assert {"T4", "A10G", "L4", "L40S", "A100", "H100", "H200", "B200"} <= used <= known.keys()
    assert all(known[name].compute_capability in gpus.capabilities(gpus.TENSORRT) for name in used)


@pytest.mark.parametrize(
    ("instance", "vcpus", "gpu", "count", "capability"),
    [
        ("ml.g4dn.xlarge", 4, "T4", 1, "7.5"),
        ("ml.g5.12xlarge", 48, "A10G", 4, "8.6"),
        ("ml.p5.48xlarge", 192, "H100", 8, "9.0"),
    ],
)
def test_instances(instance, vcpus, gpu, count, capability):
    one = gpus.load_instances()[instance]
    assert (one.vcpus, one.gpu, one.gpus) == (vcpus, gpu, count)
    assert gpus.load_gpus()[gpu].compute_capability == capability


def test_an_instance_without_a_gpu():
    assert gpus.load_instances()["ml.c5.xlarge"] == gpus.Instance("ml.c5.xlarge", 4, 8)


def test_every_price_names_a_source_and_what_has_none_is_unknown():
    sources = json.loads((gpus.DATA / "instances.json").read_text(encoding="utf-8"))["sources"]
    for one in gpus.load_instances().values():
        assert (one.usd_per_hour is None) == (one.price_source is None)
        assert one.price_source is None or one.price_source in sources
    assert gpus.load_instances()["ml.p5en.48xlarge"].usd_per_hour is None


def test_capabilities_are_sorted_as_numbers():
    known = gpus.known_capabilities()
    assert known.index("9.0") < known.index("10.0") < known.index("12.0")


class TestAnotherFile:
    def test_its_rows_replace_and_add(self, tmp_path):
        path = tmp_path / "instances.json"
        rows = [
            {"name": "ml.g4dn.xlarge", "vcpus": 4, "memory_gib": 16, "gpu": "T4", "gpus": 1, "usd_per_hour": 0.5},
            {"name": "own.box", "vcpus": 8, "memory_gib": 31.5},
        ]
        path.write_text(json.dumps({"instances": rows}), encoding="utf-8")
        found = gpus.load_instances(path)
        assert found["ml.g4dn.xlarge"].usd_per_hour == 0.5
        assert found["own.box"].memory_gib == 31.5
        assert found["ml.g5.xlarge"] == gpus.load_instances()["ml.g5.xlarge"]
        assert gpus.load_instances()["ml.g4dn.xlarge"].usd_per_hour == 0.7364

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("", "is no table of instances"),
            ("[]", "is no table of instances"),
            ('{"instances": [{"name": "a"}]}', "is no table of instances.*vcpus"),
            ('{"instances": [{"name": "a", "vcpus": 1, "memory_gib": 1, "gpu": "T5"}]}', "a: gpu: 'T5' is not known"),
        ],
    )
    def test_what_is_none_is_refused(self, tmp_path, text, told):
        path = tmp_path / "instances.json"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=told):
            gpus.load_instances(path)
        with pytest.raises(UserError, match="cannot be read: No such file"):
            gpus.load_instances(tmp_path / "nowhere.json")

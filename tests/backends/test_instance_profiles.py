from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest

from builder.tools import templates


@pytest.fixture(scope="module")
def profiles() -> Any:
    path = templates.folder() / "backends/common/tritonsmith_profiles.py"
    spec = importlib.util.spec_from_file_location("tritonsmith_profiles", path)
    assert spec
    assert spec.loader
    module = sys.modules["tritonsmith_profiles"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_who_cannot_name_profiles_has_all(profiles: Any) -> None:
    """Triton's core takes `profile` of the platform tensorrt_plan alone: tests/package/test_engine.py."""
    groups = [{"name": "m_0"}, {"name": "m_1", "profile": ["1"]}]
    config = {"backend": "tensorrt", "instance_group": groups}
    assert profiles.of_instance(config, "m_0_0", 3) == [0]
    assert profiles.of_instance(config, "m_1_0", 3) == [1]
    assert profiles.of_instance({**config, "backend": "tensorrt_rtx"}, "m_0_0", 3) == [0, 1, 2]

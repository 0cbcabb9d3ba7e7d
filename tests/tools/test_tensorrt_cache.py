"""Timing caches, with the caches of TensorRT-RTX: the same calls, of a library that no longer fills them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from builder.tools.hardware import Gpu
from builder.tools.tensorrt import load
from builder.tools.tensorrt_cache import path_of, publish, use
from builder.tools.tensorrt_log import Log

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:.*iming.*:DeprecationWarning")


class Builder:
    """A builder's configuration, and what keeps it alive."""

    def __init__(self) -> None:
        library = load("tensorrt-rtx")
        self.log = Log(library)
        self.builder = library.Builder(self.log.logger)
        self.config: Any = self.builder.create_builder_config()


def test_a_file_for_each_version_gpu_and_driver_class(tmp_path: Path) -> None:
    t4 = Gpu("Tesla T4", "7.5", 15360, "580.65.06")
    path = path_of(tmp_path, "10.13.3.9", t4)
    assert path.name == "tensorrt-10.13.3.9-Tesla-T4-driver580.cache"
    assert path_of(tmp_path, "10.13.3.9", Gpu("Tesla T4", "7.5", 15360, "580.95.05")) == path
    others = [("10.14.1.48", t4), ("10.13.3.9", Gpu("NVIDIA L4", "8.9", 23034, "580.65.06")),
              ("10.13.3.9", Gpu("Tesla T4", "7.5", 15360, "570.86.10"))]  # fmt: skip
    assert len({path, *(path_of(tmp_path, *other) for other in others)}) == 4


def test_builds_side_by_side_share_a_file(tmp_path: Path) -> None:
    path, builders = tmp_path / "timing" / "t.cache", [Builder() for _ in range(4)]

    def build(one: Builder) -> None:
        use(one.config, path)
        one.published = publish(one.config, path)  # type: ignore[attr-defined]

    threads = [threading.Thread(target=build, args=(one,)) for one in builders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    published = [one.published for one in builders]  # type: ignore[attr-defined]
    assert all(facts["bytes"] == path.stat().st_size > 0 for facts in published)
    assert sorted(file.name for file in path.parent.iterdir()) == ["t.cache", "t.lock"]
    before, last = path.read_bytes(), Builder()
    use(last.config, path)
    assert bytes(last.config.get_timing_cache().serialize()) == before


def test_a_cache_that_cannot_be_used_costs_only_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder")
    one = Builder()
    use(one.config, tmp_path / "file" / "t.cache")
    assert publish(one.config, tmp_path / "file" / "t.cache")["bytes"]
    assert "the timing cache cannot be kept" in caplog.text

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.tools import server_log

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

LOG = r"""I1120 06:36:37.403264 19001 cuda_memory_manager.cc:117] "CUDA memory pool disabled"
E1120 06:36:37.403331 19001 server.cc:241] "CudaDriverHelper has not been initialized."
[libprotobuf ERROR text_format.cc:337] Error parsing text-format inference.ModelConfig: no field "x".
E1120 06:36:37.403992 19001 backend_model.cc:692] "ERROR: Failed to create instance: boom\n\nAt:\n  model.py(3)"
E1120 06:36:37.403993 19001 backend_model.cc:692] "ERROR: Failed to create instance: boom\n\nAt:\n  model.py(3)"
E1120 06:36:37.404992 19001 model_lifecycle.cc:642] "failed to load 'q' version 1: boom\n\nAt:\n  model.py(3)"
+-------+---------+--------+
| Model | Version | Status |
+-------+---------+--------+

Error: Failed to initialize NVML
I1120 06:36:37.404819 19001 tritonserver.cc:2598]
error: creating server: Internal - failed to load all models
"""


def written(folder: Path, text: str) -> Path:
    (folder / "log").write_text(text)
    return folder / "log"


def test_reasons_once_each_and_no_noise(tmp_path: Path) -> None:
    assert server_log.reasons(written(tmp_path, LOG)).splitlines() == [
        "",
        '  | [libprotobuf ERROR text_format.cc:337] Error parsing text-format inference.ModelConfig: no field "x".',
        "  | failed to load 'q' version 1: boom",
        "  | At:",
        "  |   model.py(3)",
        "  | error: creating server: Internal - failed to load all models",
    ]


def test_without_reasons_the_last_lines(tmp_path: Path) -> None:
    text = "".join(line for line in LOG.splitlines(keepends=True) if line.startswith(("I", "+", "|")))
    assert server_log.reasons(written(tmp_path, text)).count("\n  | ") == 2
    assert server_log.reasons(written(tmp_path, "")) == ""


def test_tail_is_short_and_has_no_tables(tmp_path: Path) -> None:
    lines = server_log.tail(written(tmp_path, LOG * 20)).splitlines()
    assert len(lines) == 26
    assert lines[-1] == "  | error: creating server: Internal - failed to load all models"
    assert not any("Version" in line for line in lines)


def test_only_the_end_of_a_huge_log_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    early, late = "error: early\n", "error: late\n"
    noise = "I1120 06:36:37.403264 1 a.cc:1] " + "x" * 68 + "\n"
    path = written(tmp_path, early + noise * 1000 + late)
    assert server_log.reasons(path) == "\n  | error: late"
    monkeypatch.setattr(server_log, "_BYTES_READ", 1 << 20)  # the control: the early one is there
    assert server_log.reasons(path) == "\n  | error: early\n  | error: late"
    with path.open("ab") as stream:
        stream.truncate(1 << 40)  # sparse: as a whole it would fit into no memory
    assert len(server_log.tail(path)) < 2 << 20


def test_a_lost_port(tmp_path: Path) -> None:
    line = 'E1120 06:36:37.403331 1 main.cc:196] "failed to start HTTP service: Unavailable - Socket already in use"\n'
    assert server_log.lost_port(written(tmp_path, LOG + line))
    assert not server_log.lost_port(written(tmp_path, LOG))

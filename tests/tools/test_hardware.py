import os
from dataclasses import replace

import psutil
import pytest

from builder.tools import hardware

CPUINFO = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 7R13   Processor
flags\t\t: fpu vme

processor\t: 1
model name\t: AMD EPYC 7R13   Processor
"""


def test_this_machine_is_described():
    found = hardware.detect()
    assert found.cpu
    assert 0 < found.usable_cpus <= found.cpus == os.cpu_count()
    assert 2**28 < found.memory_bytes <= psutil.virtual_memory().total
    assert found.physical_cores == psutil.cpu_count(logical=False)
    assert len(found.fingerprint) == 16
    assert found.fingerprint == hardware.detect().fingerprint == hardware.fingerprint()


def test_the_name_of_the_processor():
    assert hardware.cpu_model(CPUINFO) == "AMD EPYC 7R13 Processor"
    assert hardware.cpu_model("processor\t: 0\nCPU implementer\t: 0x41\n") == ""


@pytest.mark.parametrize(
    ("affinity", "quota", "usable"),
    [(8, "", 8), (8, "max 100000\n", 8), (8, "150000 100000\n", 1.5), (2, "400000 100000\n", 2), (2, "strange", 2)],
)
def test_affinity_and_quota_limit_the_cpus(affinity, quota, usable):
    assert hardware.usable_cpus(affinity, quota) == usable


def test_what_changes_the_speed_changes_the_fingerprint():
    here = hardware.detect()
    others = [
        replace(here, cpu="another"),
        replace(here, usable_cpus=here.usable_cpus / 2),
        replace(here, memory_bytes=here.memory_bytes * 2),
        replace(here, gpus=(hardware.Gpu("Tesla T4", "7.5", 15360, "550.54.15"),)),
    ]
    assert len({one.fingerprint for one in [here, *others]}) == 5


def test_what_does_not_change_the_speed_does_not():
    here = hardware.detect()
    whole = replace(here, memory_bytes=16 * 2**30)
    assert replace(whole, kernel="another", memory_bytes=16 * 2**30 + 4096 * 50).fingerprint == whole.fingerprint


def test_gpus_are_read_from_nvidia_smi():
    text = "Tesla T4, 7.5, 15360, 550.54.15\nNVIDIA L4, 8.9, 23034, 550.54.15\n[Unknown Error]\nA, 8.0, [N/A], 1\n"
    assert hardware.parse_gpus(text) == (
        hardware.Gpu("Tesla T4", "7.5", 15360, "550.54.15"),
        hardware.Gpu("NVIDIA L4", "8.9", 23034, "550.54.15"),
    )


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (
            "#!/bin/sh\necho 'NVIDIA L4, 8.9, 23034, 550.54.15'\n",
            (hardware.Gpu("NVIDIA L4", "8.9", 23034, "550.54.15"),),
        ),
        ("#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not communicate with the driver' >&2\nexit 9\n", ()),
    ],
)
def test_a_nvidia_smi_that_fails_means_no_gpu(tmp_path, monkeypatch, script, expected):
    (tmp_path / "nvidia-smi").write_text(script)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert hardware.gpus() == expected


def test_without_nvidia_smi_there_is_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hardware.gpus() == ()

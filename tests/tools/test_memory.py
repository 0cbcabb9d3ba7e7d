import sys

import pytest

from builder.tools import memory
from builder.tools.process import run

KIB = 1024
MEMINFO = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 800 kB\n"


@pytest.fixture
def machine(tmp_path):
    """A machine with 1000 KiB, of which 800 are free, and the control groups that a test writes."""

    def make(cgroup="", **groups):
        write(tmp_path / "proc/meminfo", MEMINFO)
        write(tmp_path / "proc/self/cgroup", cgroup)
        for folder, values in groups.items():
            for name, value in values.items():
                write(tmp_path / "sys/fs/cgroup" / folder.replace("__", "/") / name, value)
        return tmp_path

    return make


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n" if text else "")


def second(limit, used, inactive=0):
    kib = [value if isinstance(value, str) else value * KIB for value in (limit, used)]
    return {
        "memory.max": kib[0],
        "memory.current": kib[1],
        "memory.stat": f"anon 5\ninactive_file {inactive * KIB}\nactive_file 7",
    }


def first(limit, used, inactive=0):
    return {
        "memory.limit_in_bytes": limit * KIB,
        "memory.usage_in_bytes": used * KIB,
        "memory.stat": f"inactive_file 3\ntotal_inactive_file {inactive * KIB}",
    }


NO_LIMIT = 9223372036854771712 // KIB
DEEP = "0::/a/b"


@pytest.mark.parametrize(
    ("cgroup", "groups", "free", "total"),
    [
        ("", {}, 800, 1000),
        (DEEP, {"a__b": second("max", 300)}, 800, 1000),
        (DEEP, {"a__b": second(500, 300)}, 200, 500),
        (DEEP, {"a__b": second(500, 300, inactive=100)}, 300, 500),
        (DEEP, {"a__b": second(500, 600)}, 0, 500),
        (DEEP, {"a__b": second("max", 10), "a": second(600, 500)}, 100, 600),  # the limit is above
        (DEEP, {".": second(500, 300)}, 200, 500),  # a container that is shown the host's path
        (DEEP, {"other": second(5, 3)}, 800, 1000),
        (DEEP, {"a__b": second(5000, 300)}, 800, 1000),  # more than the machine has
        ("4:cpu,memory:/a\n0::/", {"memory__a": first(500, 300, inactive=50)}, 250, 500),
        ("4:memory:/a", {"memory__a": first(NO_LIMIT, 300), "memory": first(400, 350)}, 50, 400),
        ("4:memory:/a", {"memory__a": first(NO_LIMIT, 300)}, 800, 1000),
        ("4:cpu:/a", {"memory__a": first(500, 300)}, 800, 1000),
    ],
)
def test_what_there_is_and_what_is_free(machine, cgroup, groups, free, total):
    root = machine(cgroup, **groups)
    assert (memory.free(root) // KIB, memory.total(root) // KIB) == (free, total)


def test_this_machine():
    assert 2**26 < memory.free() < memory.total()


_PEAKS = """
from builder.tools import memory

memory.reset_peak()
before = memory.peak()
held = bytearray(64 << 20)
held[::4096] = b"x" * len(held[::4096])
assert memory.peak() >= before + (60 << 20)
del held
memory.give_back()
memory.reset_peak()
assert memory.peak() < before + (30 << 20)
assert memory.resident() <= memory.peak()
"""


def test_a_peak_is_seen_and_forgotten():
    """In a process of its own: what other tests have left in this one may be given back at any time."""
    run([sys.executable, "-c", _PEAKS], what="peaks", timeout_seconds=60)


def test_a_file_without_the_line_is_told(tmp_path):
    write(tmp_path / "proc/meminfo", "MemFree: 1 kB")
    with pytest.raises(LookupError, match="meminfo: no MemAvailable"):
        memory.free(tmp_path)

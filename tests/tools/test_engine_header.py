import pytest

from builder.tools.engine_header import TENSORRT, TENSORRT_RTX, UNKNOWN, read_engine_head


@pytest.mark.parametrize(
    ("head", "kind", "version"),
    [
        (b"ftrt" + bytes(20) + bytes([10, 13, 2, 6]), TENSORRT, "10.13.2"),
        (b"ptrt" + bytes(20) + bytes([8, 6, 1, 6]), TENSORRT, "8.6.1"),
        (b"ftrt" + bytes(24), TENSORRT, ""),  # no version where none can be
        (b"ftrt", TENSORRT, ""),
        (b"vtrt" + bytes(20) + bytes([10, 13, 2, 6]), TENSORRT_RTX, ""),
        (b"\x08\x07\x12\x07", UNKNOWN, ""),
        (b"", UNKNOWN, ""),
    ],
)
def test_heads(head, kind, version):
    engine = read_engine_head(head)
    assert (engine.kind, engine.version) == (kind, version)

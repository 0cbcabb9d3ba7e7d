"""What the server's parser takes, as the server itself said (2.51, by ``tests/lint``): here without it."""

from __future__ import annotations

import pytest

from builder.errors import UserError
from builder.tools import triton_proto

TAKEN = [
    ("max_batch_size: - 1", "max_batch_size", -1),
    ("max_batch_size: -\n # why\n 0x1", "max_batch_size", -1),
    ("max_batch_size: 010", "max_batch_size", 8),
    ("max_batch_size: 0X1f", "max_batch_size", 31),
    ("platform: 'a' # c\n \"b\"", "platform", "ab"),
    (r"platform: '\101\x42\u0043\n\?'", "platform", "ABC\n?"),
    (r"platform: '\xff\ud83d'", "platform", "\ufffd" * 4),
    ("platform: 'é'", "platform", "é"),
    ("instance_group { count: -0 } model_warmup { count: 1 } max_batch_size: -0", "max_batch_size", 0),
]
REFUSED = [
    "max_batch_size: 1_000",
    "max_batch_size: 0o7",
    "max_batch_size: 0b1",
    "max_batch_size: +1",
    "max_batch_size: --1",
    "max_batch_size: 1.0",
    "max_batch_size: 08",
    "max_batch_size: -",
    "max_batch_size: -a",
    "dynamic_batching { priority_levels: -0 }",
    "dynamic_batching { priority_levels: - 0x0 }",
    "model_warmup { count: -0 }",
    "model_warmup [ < inputs { key: 'a' value { dims: -0 } } count: 1 >, < batch_size: - 0 > ]",
    "instance_group { rate_limiter { resources [ { count: 1 }, { count: -0 } ] } }",
    "sequence_batching { direct { minimum_slot_utilization: 0.5ff } }",
    "sequence_batching { direct { minimum_slot_utilization: inff } }",
    r"platform: '\q'",
    r"platform: '\8'",
    r"platform: '\X41'",
    "platform: 'a\0'",
    "platform:\xa0'a'",
    "platform: 'a'\u2028",
    "platform: 'a",
    "response_cache { enable: 0x2 }",
    "instance_group { kind: kind_gpu }",
]


@pytest.mark.parametrize(("text", "name", "value"), TAKEN)
def test_what_the_server_takes(text, name, value):
    assert getattr(triton_proto.parse_text(text, place="c"), name) == value


@pytest.mark.parametrize("text", ["0x1", "01", "1", "t", "True"])
def test_booleans(text):
    assert triton_proto.parse_text(f"response_cache {{ enable: {text} }}", place="c").response_cache.enable


@pytest.mark.parametrize(("text", "kind"), [("010", 8), ("-010", -8), ("- 1", -1), ("0x2", 2), ("KIND_CPU", 2)])
def test_enum_values(text, kind):
    assert triton_proto.parse_text(f"instance_group {{ kind: {text} }}", place="c").instance_group[0].kind == kind


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_server_refuses(text):
    with pytest.raises(UserError, match=r"^c:2:") as caught:
        triton_proto.parse_text(f"\n{text}", place="c")
    assert caught.value.mend

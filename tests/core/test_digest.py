import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.artifacts import File
from builder.core.digest import canonical_json, describe_file, describe_folder, digest_json, digest_tree

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("aé漢\n"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc"), json_values, max_size=4))
def test_order_of_keys_changes_nothing(value):
    assert digest_json(value) == digest_json(dict(reversed(value.items())))


@given(json_values, json_values)
def test_different_values_have_different_bytes(left, right):
    assert (canonical_json(left) == canonical_json(right)) == (repr(left) == repr(right) or _same(left, right))


def _same(left, right):
    import json

    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def test_nan_has_no_canonical_form():
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json({"figure": float("nan")})


def test_file_is_described_by_its_content(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"\x00" * 1000)
    described = describe_file(path)
    assert described == File(path, hashlib.sha256(b"\x00" * 1000).hexdigest(), 1000)


def test_tree_digest_is_independent_of_place_and_sees_every_change(tmp_path):
    for place in ("here", "there"):
        (tmp_path / place / "sub").mkdir(parents=True)
        (tmp_path / place / "sub" / "file").write_text("x")
        (tmp_path / place / "other").write_text("y")
    here, there = describe_folder(tmp_path / "here"), describe_folder(tmp_path / "there")
    assert list(here) == ["other", "sub/file"]
    assert digest_tree(here) == digest_tree(there)

    (tmp_path / "there" / "sub" / "file").write_text("z")
    assert digest_tree(describe_folder(tmp_path / "there")) != digest_tree(here)
    (tmp_path / "here" / "sub" / "file").rename(tmp_path / "here" / "file")
    assert digest_tree(describe_folder(tmp_path / "here")) != digest_tree(here)

from __future__ import annotations

import pytest

from builder.lint import positions

TEXT = """\
name: "a { b" # input {
input [ { name: 'A'
    dims: [ 1,
      2 ] }, {
  name: "B" dims: 3 dims: 4 } ]
parameters { key: "K"
  value: < string_value: "v" "w" > }
instance_group { count: 1 }
instance_group { count: 2 kind: KIND_CPU }
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("name", 1),
        ("input", 2),
        ("input.name", 2),
        ("input.dims[1]", 4),
        ("input[1]", 4),
        ("input[1].name", 5),
        ("input[1].dims[1]", 5),
        ("parameters.value.string_value", 7),
        ("instance_group[1].kind", 9),
    ],
)
def test_lines(place, line):
    assert positions.lines(TEXT)[place] == line


def test_what_is_not_there():
    found = positions.lines(TEXT)
    assert not {"b", "a", "input[2]", "input.dims[2]", "input.input", "instance_group[2]"} & found.keys()


@pytest.mark.parametrize(
    "text", ["", "}", "{", "a", "a:", "[", "]", 'a: "', "a { b", "\0", "a { } }", "<>", "a: [ [ { ] ]"]
)
def test_a_broken_text_is_no_problem(text):
    positions.lines(text)


def test_mentions():
    assert positions.mentions(TEXT, "KIND_CPU")
    assert not positions.mentions(TEXT, "b")  # in a string
    assert not positions.mentions("# TYPE_BF16", "TYPE_BF16")


def test_parent():
    assert positions.parent("input[1].dims[2]") == "input[1].dims"
    assert positions.parent("input[1].dims") == "input[1]"
    assert positions.parent("input") == ""


@pytest.mark.parametrize(
    ("message", "expected"),
    [(":3:7: no field", (3, "no field")), (": odd", (None, "odd")), ("odd", (None, "odd"))],
)
def test_split_error(message, expected):
    assert positions.split_error(message) == expected

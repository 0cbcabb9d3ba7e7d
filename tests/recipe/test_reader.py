from __future__ import annotations

import pytest

from builder.errors import RecipeError
from builder.recipe.document import DEPTH_LIMIT, find, place_of, to_data
from builder.recipe.reader import parse, resolve_plain


def read(text: str) -> tuple[object, list[str]]:
    problems: list = []
    root = parse(text, "r.yaml", problems)
    return to_data(root, problems), [str(problem) for problem in problems]


def refusal(text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        read(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("0", 0),
        ("-12", -12),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("22:30", "22:30"),
        ("1e-3", 0.001),
        ("25.09", 25.09),
        (".5", 0.5),
        ("1.", 1.0),
        ("2024-01-01", "2024-01-01"),
        ("0b1", "0b1"),
        ("<<", "<<"),
        ("=", "="),
    ],
)
def test_a_plain_scalar_means_what_yaml_1_2_says(text, value):
    resolved = resolve_plain(text)
    assert resolved == value
    assert type(resolved) is type(value)


def test_quotes_blocks_and_tags_make_strings():
    data, problems = read("a: '1'\nb: \"true\"\nc: |\n  1\nd: !!str 1\ne: ! 1\n")
    assert data == {"a": "1", "b": "true", "c": "1\n", "d": "1", "e": "1"}
    assert problems == []


def test_every_value_and_key_has_its_place():
    problems: list = []
    root = parse("a:\n  b: [1, {c: 2}]\n", "r.yaml", problems)
    assert find(root, ("a", "b", 1, "c")).value == 2
    assert place_of(root, ("a", "b", 1, "c")).text == "r.yaml:2:14"
    assert place_of(root, ("a", "b", 1, "c"), key=True).text == "r.yaml:2:11"
    assert place_of(root, ("a", "b", 7)).text == "r.yaml:2:3"  # nothing there: the key above
    assert place_of(root, ("x",)).text == "r.yaml:1:1"


def test_duplicate_keys_are_refused_with_both_places():
    data, problems = read("a: 1\nb: {c: 1, c: 2}\na: 3\n")
    assert problems == [
        "r.yaml:2:11: b.c: duplicate key; first at r.yaml:2:5",
        "r.yaml:3:1: a: duplicate key; first at r.yaml:1:1",
    ]
    assert data == {"a": 1, "b": {"c": 1}}


def test_anchors_work_and_merge_keys_do_not():
    assert read("a: &x {b: 1}\nc: *x\n") == ({"a": {"b": 1}, "c": {"b": 1}}, [])
    assert read("a: &x {b: 1}\nc: {<<: *x}\n")[1] == ["r.yaml:2:5: c: '<<' is no key: YAML 1.2 has no merge keys"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1: a\n", 'r.yaml:1:1: key 1 is not a string; quote it: "1"'),
        ("true: a\n", 'r.yaml:1:1: key true is not a string; quote it: "true"'),
        ("? [a]\n: b\n", "r.yaml:1:3: key (not a word) is not a string"),
        ("a: !!python/object:os.system x\n", "r.yaml:1:4: a: tag !!python/object:os.system is not allowed"),
        ("a: !mine [1]\n", "r.yaml:1:4: a: tag !mine is not allowed"),
        ("a: .inf\n", "r.yaml:1:4: a: must be a finite number"),
        ("a: -.INF\n", "r.yaml:1:4: a: must be a finite number"),
        ("a: .nan\n", "r.yaml:1:4: a: must be a finite number"),
        ("a: 1e999\n", "r.yaml:1:4: a: must be a finite number"),
        (f"a: {'9' * 5000}\n", "r.yaml:1:4: a: must be a finite number"),
        ("a: 18446744073709551616\n", "r.yaml:1:4: a: the number does not fit into 64 bits"),
        ('a: "\\0"\n', "r.yaml:1:4: a: the string holds a NUL character"),
        ('a: "\\ud800"\n', "r.yaml:1:4: a: the string holds half of a surrogate pair, which is no character"),
        ('"\\0": a\n', "r.yaml:1:1: key: the string holds a NUL character"),
    ],
)
def test_what_json_cannot_hold_is_a_problem_with_a_place(text, message):
    assert read(text)[1] == [message]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\nb: 2\n", "r.yaml:2:2: not YAML: while parsing a flow sequence, expected ',' or ']', but got ':'"),
        ("a:\n\t- b\n", "r.yaml:2:1: not YAML: a tab; indent with spaces"),
        ("a: 'b\n", "r.yaml:2:1: not YAML: while scanning a quoted scalar, found unexpected end of stream"),
        ("a: 1\n b: 2\n", "r.yaml:2:3: not YAML: mapping values are not allowed here"),
        ("a: \x07\n", "r.yaml:1:4: not YAML: the character U+0007 is not allowed"),
        ("a: *b\n", "r.yaml:1:4: a: alias *b names no anchor that ends before it"),
        ("a: &b [*b]\n", "r.yaml:1:8: a.0: alias *b names no anchor that ends before it"),
        ("a: 1\n---\na: 2\n", "r.yaml:2:1: a second document; one file is one recipe"),
        (f"a: {'[' * 100}\n", f"r.yaml:1:{4 + DEPTH_LIMIT}: nested more than {DEPTH_LIMIT} levels deep"),
    ],
)
def test_what_is_no_yaml_is_refused_with_a_place(text, message):
    assert refusal(text) == message


def test_aliases_cannot_explode():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert refusal("\n".join(lines)) == "r.yaml:1:1: more than 20000 values once every alias is expanded"


def test_no_message_spans_two_lines():
    _, problems = read('"a\\nb":\n  !x c\n')
    assert problems == ["r.yaml:2:3: a\\nb: tag !x is not allowed"]

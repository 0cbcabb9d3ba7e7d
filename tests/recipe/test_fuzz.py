"""Whatever a file or an override holds: a recipe, or a refusal in whole lines. Never anything else."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from builder.errors import RecipeError
from builder.recipe import Recipe, load

bounded = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

WORDS = r"""schema_version name source task serving targets cpu verify shapes batch max &a *a 1 -1 2.5 true null ' " [ ]
{ } : - # | > !! ! , << é \ 0o7 .inf @ `
sentence-embedding ? % --- ..."""
PIECES = [*WORDS.split(), ": ", "- ", "? ", " ", "\n", "\n  ", "\t", "\x85", "%YAML 1.1\n", "---\n", "...\n"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=40).map("".join) | st.text(max_size=80)

PLACES = """name source source.path source.hub task inputs.buckets inputs.max_length shapes.batch.min
shapes.sequence targets targets.cpu.hardware targets.cpu.triton serving.dynamic_batching serving.version_policy
serving.instance_group.0 serving.instance_group.0.gpus serving.model_warmup serving.model_warmup.0.inputs
serving.sequence_batching serving.input serving.input.0.name serving.configs serving.configs.a
pipeline serving.parameters serving.config verify.parity verify.samples
verify.sweep.concurrency package.formats handoff x.y
schema_version"""
ODD = """null|true|[]|{}|[[]]|[1, a, null]|{a: 1}|{a: [1]}|local|.|/|~|~nobody/x|{path: 1}|{hub: 1, revision: 2}
{min: 3}|{package: a, path: []}|{architecture: 1}|{architecture: {config: [], tokenizer: {}}}|{cosine: x}|{cosine: null}
{cpu: null}|"\\0"|{all: 1}|{latest: {num_versions: x}}|"""
VALUES = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.text(max_size=12),
    st.sampled_from(ODD.replace("\n", "|").split("|")),
)


def lines_of_refusal(path, overrides=()) -> list[str]:
    try:
        loaded = load(path, overrides)
    except RecipeError as error:
        return error.message.split("\n")
    assert isinstance(loaded, Recipe)
    return []


@bounded
@given(text=TEXTS)
@example(text="? [\n: \n")
@example(text="a: !!\n")
@example(text="%YAML 9.9\n---\na")
@example(text="%TAG ! !\n%TAG ! !\n--- a")
def test_any_text(write, text):
    path = write(text.encode("utf-8", "surrogatepass"))
    assert all(line.startswith(str(path)) for line in lines_of_refusal(path))


@bounded
@given(content=st.binary(max_size=60))
def test_any_bytes(write, content):
    path = write(content)
    assert all(line.startswith(str(path)) for line in lines_of_refusal(path))


@bounded
@given(place=st.sampled_from(PLACES.split()), value=VALUES)
def test_any_value_at_any_place(write, place, value):
    path = write()
    assert all(line.startswith((str(path), "--set")) for line in lines_of_refusal(path, [f"{place}={value}"]))


@st.composite
def recipes(draw: st.DrawFn) -> dict:
    count = st.integers(1, 64)
    batch = sorted(draw(st.lists(count, min_size=3, max_size=3)))
    words = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
    return {
        "schema_version": 1,
        "name": draw(st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,62}", fullmatch=True)),
        "description": draw(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)),
        "source": {"path": "model"},
        "task": draw(st.sampled_from(["sentence-embedding", "text-classification"])),
        "shapes": {"batch": dict(zip(("min", "opt", "max"), batch, strict=True))},
        "serving": {
            "max_batch_size": draw(st.integers(1, batch[2])),
            "dynamic_batching": draw(st.sampled_from([False, None, {"max_queue_delay_microseconds": 3}])),
            "parameters": draw(st.dictionaries(words, st.just("1"), max_size=3)),
        },
        "verify": {"sweep": {"concurrency": sorted(draw(st.sets(count, min_size=1)))}},
    }


@settings(bounded, max_examples=50)
@given(recipe=recipes())
def test_what_is_loaded_can_be_written_and_loaded_again(tmp_path, recipe):
    first = load(dump(recipe, tmp_path / "made.yaml"))
    assert (first.name, first.description) == (recipe["name"], recipe["description"])
    assert load(dump(first.keyed(), tmp_path / "again.yaml")).keyed() == first.keyed()


def dump(data, path):
    with path.open("w", encoding="utf-8") as stream:
        YAML(typ="safe", pure=True).dump(data, stream)
    return path


def test_a_refusal_is_found_by_these_tests(write):
    """The control: a line that names no place would be caught."""
    lines = lines_of_refusal(write("x: 1\n"))
    assert lines
    with pytest.raises(AssertionError):
        assert all(line.startswith("elsewhere") for line in lines)

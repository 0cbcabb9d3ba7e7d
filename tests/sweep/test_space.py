"""Spaces: what is the same by construction is one setting; what a knob cannot have is refused."""

import pytest

from builder.errors import UserError
from builder.sweep.setting import Setting
from builder.sweep.space import (
    BATCHING,
    COUNT,
    DELAY,
    GRAPHS,
    KIND,
    MAX_BATCH_SIZE,
    PREFERRED,
    THREADS,
    Facts,
    default_space,
    parse,
)

FACTS = Facts(cores=2, max_batch_sizes={"": 32, "tokenize": 8})


def test_batches_of_one_wait_for_nothing() -> None:
    space = parse({MAX_BATCH_SIZE: [1, 8], DELAY: [0, 100, 1000], PREFERRED: [None, [4]]}, FACTS)
    assert space.combinations == 12
    assert len(space.settings()) == 1 + 6
    assert Setting.of({MAX_BATCH_SIZE: 1}) in space.settings()


def test_no_dynamic_batching_and_batches_of_one_are_the_same() -> None:
    space = parse({BATCHING: [False, True], MAX_BATCH_SIZE: [1, 8], DELAY: [0, 100]}, FACTS)
    assert space.settings() == (
        Setting.of({BATCHING: False}),
        Setting.of({BATCHING: True, MAX_BATCH_SIZE: 8, DELAY: 0}),
        Setting.of({BATCHING: True, MAX_BATCH_SIZE: 8, DELAY: 100}),
    )


def test_a_client_that_sends_batches_tells_their_limits_apart() -> None:
    knobs = {BATCHING: [False, True], MAX_BATCH_SIZE: [2, 4, 8]}
    assert len(parse(knobs, FACTS).settings()) == 1 + 3
    # 2 is too small for what is sent, each in its own way; 4 holds one request.
    assert len(parse(knobs, Facts(cores=2, client_batch=4)).settings()) == 2 + 1 + 1


@pytest.mark.parametrize(
    ("sizes", "left"), [([4, 8], (4, 8)), ([4, 16], (4,)), ([16], None), ([8], None), ([], None), (None, None)]
)
def test_preferred_sizes_are_those_that_can_be_reached(sizes: list[int] | None, left: tuple[int, ...] | None) -> None:
    (setting,) = parse({MAX_BATCH_SIZE: [8], PREFERRED: [sizes]}, FACTS).settings()
    assert setting.get(PREFERRED) == left


def test_threads_that_are_left_out_are_all_cores() -> None:
    assert parse({THREADS: [None, 0, 2, 1]}, FACTS).settings() == (Setting.of({THREADS: 2}), Setting.of({THREADS: 1}))


def test_without_a_gpu_nothing_of_it_counts() -> None:
    knobs = {KIND: ["KIND_AUTO", "KIND_CPU"], GRAPHS: [True, False]}
    assert parse(knobs, FACTS).settings() == (Setting.of({KIND: "KIND_CPU"}),)
    assert len(parse(knobs, Facts(cores=2, gpus=1)).settings()) == 4


def test_each_step_for_itself() -> None:
    space = parse({f"tokenize:{MAX_BATCH_SIZE}": [1, 8], f"tokenize:{DELAY}": [0, 50], DELAY: [0, 100]}, FACTS)
    assert len(space.settings()) == (1 + 2) * 2


def test_the_subjects_own_values_hold_where_nothing_is_said() -> None:
    never = Facts(cores=2, own={BATCHING: False, PREFERRED: (1,)})
    assert parse({DELAY: [0, 100]}, never).settings() == (Setting(),)
    assert len(parse({DELAY: [0, 100]}, FACTS).settings()) == 2


def test_a_delay_turns_batching_on_where_there_is_none() -> None:
    bare = Facts(cores=2, own={BATCHING: False})
    assert len(parse({DELAY: [0, 100]}, bare).settings()) == 2
    assert parse({DELAY: [None]}, bare).settings() == (Setting(),)
    assert len(parse({DELAY: [None, 0, 100]}, bare).settings()) == 3
    assert parse({BATCHING: [False], DELAY: [0, 100]}, bare).settings() == (Setting.of({BATCHING: False}),)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({MAX_BATCH_SIZE: [64]}, "64 is more than the model takes"),
        ({f"tokenize:{MAX_BATCH_SIZE}": [16]}, "16 is more than the model takes"),
        ({COUNT: [0]}, "0 is less than 1"),
        ({COUNT: []}, "has no values"),
        ({COUNT: ["2"]}, "'2' is no whole number"),
        ({COUNT: [True]}, "True is no whole number"),
        ({DELAY: [1, 1]}, "has a value twice"),
    ],
)
def test_values_that_cannot_be(knobs: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(knobs, FACTS)


def test_the_default_space_wants_no_more_than_twice_the_cores() -> None:
    settings = default_space(Facts(cores=8, max_batch_sizes={"": 8})).settings()
    threads = {(setting.get(COUNT), setting.get(THREADS)) for setting in settings}
    assert (8, 2) in threads
    assert (8, 4) not in threads
    python = default_space(Facts(cores=8, backend="python")).settings()
    assert {THREADS in setting.as_dict() for setting in python} == {False}
    on_cpu = default_space(Facts(cores=8, gpus=1, own={KIND: "KIND_CPU"})).settings()
    assert all(THREADS in setting.as_dict() for setting in on_cpu)


def test_buckets_are_moot_where_nothing_is_padded_to_them() -> None:
    knobs = {"@padding": ["longest", "buckets"], "@buckets": [[16, 32], [64]]}
    assert len(parse(knobs, FACTS).settings()) == 3


def test_the_default_space_follows_the_machine() -> None:
    settings = default_space(FACTS).settings()
    assert 20 <= len(settings) <= 200
    assert {setting.get(THREADS) for setting in settings} == {1, 2}
    assert max(int(str(setting.get(MAX_BATCH_SIZE, 0))) for setting in settings) == 32
    assert all(MAX_BATCH_SIZE not in setting.as_dict() for setting in default_space(Facts(cores=1)).settings())
    gpu = default_space(Facts(cores=8, gpus=1, max_batch_sizes={"": 8})).settings()
    assert all(THREADS not in setting.as_dict() for setting in gpu)

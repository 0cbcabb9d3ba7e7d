"""``--load``, and the loads of a recipe."""

from __future__ import annotations

import pytest

from builder.errors import UserError
from builder.recipe.verify import Sweep, SweepLoad
from builder.sweep.load import Load
from builder.sweep.profile import loads_of, parse


@pytest.mark.parametrize(
    ("text", "loads"),
    [
        ("closed:4", (Load(concurrency=4),)),
        ("closed:16,1,4", (Load(concurrency=1), Load(concurrency=4), Load(concurrency=16))),
        ("closed:2,http,batch=8", (Load(concurrency=2, protocol="http", batch=8),)),
        ("open:50,12.5", (Load(rate=12.5), Load(rate=50))),
        ("open:50,constant,shared-memory", (Load(rate=50, arrivals="constant", shared_memory=True),)),
    ],
)
def test_profiles(text: str, loads: tuple[Load, ...]) -> None:
    assert parse(text) == loads


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ramp:1", "must begin with closed: or open:"),
        ("closed:", "names no number"),
        ("closed:1.5", "1.5 is not a whole number of requests in flight"),
        ("closed:0", "0 is not a whole number"),
        ("open:0", "0 is not a number of requests per second"),
        ("open:1e99", "1e99 is not a number"),
        ("closed:4,constant", "in a closed loop"),
        ("closed:4,htp", "htp is not known; allowed: poisson"),
        ("closed:4,batch=0", "batch=0 is not known"),
    ],
)
def test_what_is_no_profile(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        parse(text)
    assert text in str(caught.value)
    assert caught.value.mend or "allowed" in told


def test_loads_of_a_recipe() -> None:
    assert loads_of(Sweep(concurrency=(1, 4))) == (Load(concurrency=1), Load(concurrency=4))
    said = SweepLoad(rate=(5.0,), arrivals="constant", protocol="http", batch=2)
    assert loads_of(Sweep(load=said)) == (Load(rate=5.0, arrivals="constant", protocol="http", batch=2),)

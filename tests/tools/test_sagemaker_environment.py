from __future__ import annotations

from builder.tools.sagemaker_checks import check
from builder.tools.sagemaker_environment import ARGUMENTS, DEFAULT_MODEL, LOG_VERBOSE, PING, Wanted, plan


def test_one_model_is_named_and_what_its_steps_call_is_loaded() -> None:
    wanted = Wanted(
        "whole", ("whole", "part"), response_cache=True, rate_limiter=True, arguments=("--http-thread-count=2",)
    )
    assert plan(wanted) == {
        ARGUMENTS: "--load-model=part --cache-config=local,size=67108864 --rate-limit=execution_count "
        "--http-thread-count=2",
        DEFAULT_MODEL: "whole",
        LOG_VERBOSE: "false",
    }


def test_what_is_stated_wins() -> None:
    wanted = Wanted("m", response_cache=True, arguments=("--cache-config=local,size=1",), more={LOG_VERBOSE: "true"})
    assert plan(wanted)[ARGUMENTS] == "--cache-config=local,size=1"
    assert plan(wanted)[LOG_VERBOSE] == "true"


def test_many_models_have_a_ping_of_their_own_and_no_default() -> None:
    made = plan(Wanted())
    assert made == {LOG_VERBOSE: "false", **dict.fromkeys(PING, "live")}
    assert list(check(made, multi=True, release="25.09")) == []


def test_a_plan_that_is_too_long_is_found() -> None:
    made = plan(Wanted("m", [f"a-model-with-a-long-name-{n}" for n in range(40)]))
    assert [one.rule for one in check(made, multi=False, release="25.09")] == ["H1"]

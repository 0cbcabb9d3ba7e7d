"""Rules about recipes. What makes a recipe unloadable is in :mod:`builder.recipe`; here it has only its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.lint.finding import ADVICE, HOSTING_ERROR, LOAD_ERROR
from builder.lint.rule import Problem, recipe_rule

if TYPE_CHECKING:
    from builder.lint.options import Options
    from builder.lint.rule import Problems
    from builder.recipe import Recipe

_DELAY_SHARE: Final = 4
_BATCHING: Final = "serving.dynamic_batching"


@recipe_rule(
    "Q1",
    LOAD_ERROR,
    "a recipe can be loaded",
    why="nothing is built from it otherwise",
    source="builder.recipe, docs of each section: tritonsmith schema",
)
def loads(_: Recipe, __: Options) -> Problems:
    yield from ()  # whoever is asked was loaded


@recipe_rule(
    "Q3",
    HOSTING_ERROR,
    "requests can be made of the section handoff",
    why="tritonsmith handoff would end with the same words, after the build",
    source="builder.handoff, docs/how-to/sagemaker.md",
)
def can_be_handed_off(_: Recipe, __: Options) -> Problems:
    yield from ()  # builder.lint.handoffs asks it, with the rules of hand-offs


@recipe_rule(
    "C14",
    ADVICE,
    "a queue is bounded where a latency is promised",
    why="Triton's queue is unlimited by default: beyond its capacity a server answers later and later",
    source="model_config.proto, ModelQueuePolicy; server docs/user_guide/batcher.md",
)
def bounded_queue(recipe: Recipe, _: Options) -> Problems:
    limits = recipe.verify.constraints
    promised = [value for value in (limits.p50_ms, limits.p90_ms, limits.p95_ms, limits.p99_ms) if value is not None]
    batching = recipe.serving.dynamic_batching
    if not promised or batching is False:
        return
    delay_ms = (batching.max_queue_delay_microseconds if batching else 0) / 1000
    if delay_ms > min(promised) / _DELAY_SHARE:
        yield Problem(
            f"requests wait up to {delay_ms:g} ms for a batch, of {min(promised):g} ms that are promised",
            f"wait at most a {_DELAY_SHARE}th of it",
            f"{_BATCHING}.max_queue_delay_microseconds",
        )
    policy = getattr(batching, "default_queue_policy", None)
    if policy is None and "default_queue_policy" not in str(recipe.serving.config.get("dynamic_batching")):
        yield Problem(
            "a latency is promised, but the queue is unlimited",
            "set default_queue_policy with max_queue_size and a timeout in dynamic_batching",
            _BATCHING,
        )


@recipe_rule(
    "Q2",
    ADVICE,
    "response_cache comes with a cache of the server",
    why="without --cache-config the server has no cache, and answers nothing from it",
    source="server docs/user_guide/response_cache.md; server#6643",
)
def cache(recipe: Recipe, _: Options) -> Problems:
    if recipe.serving.response_cache.enable:
        yield Problem(
            "answers are cached only by a server with a cache",
            "start it with --cache-config=local,size=BYTES",
            "serving.response_cache",
        )

"""What a ModelConfig must hold beyond its fields' types: schedulers, instances, versions, and all that is no tensor.

Each rule yields the path of what is wrong, and a sentence. Sources: ``src/model_config_utils.cc``
(``ValidateModelConfig``, ``ValidateInstanceGroup``, ``ValidateModelMetrics``) and ``src/rate_limiter.cc`` of
triton-inference-server/core (73aad7c). What Triton takes and then does not do, such as a queue policy for a priority
that there is not, is refused, too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder.config import rules_backend, rules_tensors
from builder.config.host import Host, Problem, tensorrt
from builder.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.artifacts import Json
    from builder.config.host import Keys

NO_GPU: Final = Host()
"""A machine without a GPU, and a model of whose files nothing is known."""

_COMPUTE_CAPABILITY: Final = re.compile(r"\d+\.\d+", re.ASCII)


def problems(config: Mapping[str, Json], host: Host = NO_GPU, *, tensors: bool = True) -> Iterator[Problem]:
    """All that Triton would refuse, or not do, in the config of one model that is no ensemble.

    Args:
        config: fields whose types are checked already.
        host: what is known of the machine that will serve, and of the model's files.
        tensors: whether the config has its tensors; without them, what concerns them is not looked at.
    """
    for rule in (*_RULES, *rules_backend.rules(config)):
        yield from rule(config, host)
    if tensors:
        for rule in (*rules_tensors.RULES, *rules_backend.tensor_rules(config)):
            yield from rule(config, host)


def check_config(config: Mapping[str, Json], place: str, host: Host = NO_GPU) -> None:
    """Checks the config of one model.

    Raises:
        UserError: Triton would refuse it, or do something other than what it says.
    """
    for path, problem in problems(config, host):
        raise UserError(f"{place}.{'.'.join(map(str, path))}: {problem}")


def _schedulers(config: Mapping[str, Json], _: Host) -> Iterator[Problem]:
    sequence = "sequence_batching" in config
    if sequence and "dynamic_batching" in config:
        yield ("sequence_batching",), "dynamic_batching and sequence_batching exclude each other"
    cached = config.get("response_cache", {}).get("enable")
    if cached and sequence:
        yield ("response_cache", "enable"), "answers of a model with sequence_batching cannot be cached"
    if cached and config.get("model_transaction_policy", {}).get("decoupled"):
        yield ("response_cache", "enable"), "answers of a decoupled model cannot be cached"


def _batching(config: Mapping[str, Json], _: Host) -> Iterator[Problem]:
    place, batching = ("dynamic_batching",), config.get("dynamic_batching", {})
    yield from _preferred((*place, "preferred_batch_size"), batching, config["max_batch_size"])
    levels, default = batching.get("priority_levels", 0), batching.get("default_priority_level", 0)
    policies = batching.get("priority_queue_policy", {})
    if levels and not 1 <= default <= levels:
        allowed = f"allowed: 1 to priority_levels, which is {levels}"
        yield (*place, "default_priority_level"), f"is {default}; {allowed}"
    elif default and not levels:
        yield (*place, "default_priority_level"), "needs priority_levels"
    for level in policies:
        if not 1 <= int(level) <= levels:
            words = f"allowed: 1 to priority_levels, which is {levels}"
            yield (*place, "priority_queue_policy", level), f"there is no priority {level}; {words}"
    if batching.get("preserve_ordering"):
        yield from _ordered(place, batching)


def _ordered(place: Keys, batching: Mapping[str, Json]) -> Iterator[Problem]:
    if batching.get("priority_levels", 0) > 1:
        yield (*place, "preserve_ordering"), "excludes more than one of priority_levels"
    policies = {("default_queue_policy",): batching.get("default_queue_policy", {})} | {
        ("priority_queue_policy", level): policy for level, policy in batching.get("priority_queue_policy", {}).items()
    }
    for path, policy in policies.items():
        if policy.get("timeout_action") == "DELAY" and policy.get("default_timeout_microseconds"):
            yield (*place, *path, "timeout_action"), "DELAY is excluded by preserve_ordering"


def _preferred(place: Keys, batching: Mapping[str, Json], limit: int) -> Iterator[Problem]:
    for index, size in enumerate(batching.get(str(place[-1]), ())):
        if not 1 <= size <= limit:
            yield (*place, index), f"is {size}; allowed: 1 to max_batch_size, which is {limit}"


def _sequences(config: Mapping[str, Json], _: Host) -> Iterator[Problem]:
    place, batching = ("sequence_batching",), config.get("sequence_batching", {})
    oldest, direct = batching.get("oldest", {}), batching.get("direct", {})
    yield from _preferred((*place, "oldest", "preferred_batch_size"), oldest, config["max_batch_size"])
    share = direct.get("minimum_slot_utilization", 0)
    if not 0 <= share <= 1:
        yield (*place, "direct", "minimum_slot_utilization"), f"is {share}; allowed: a share from 0 to 1"


def _instances(config: Mapping[str, Json], host: Host) -> Iterator[Problem]:
    groups = config.get("instance_group", ())
    for index, group in enumerate(groups):
        place, kind = ("instance_group", index), group.get("kind", "KIND_AUTO")
        if kind == "KIND_GPU" and not host.gpu:
            yield (*place, "kind"), "is KIND_GPU, but the target has no GPU; allowed: KIND_AUTO, KIND_CPU, KIND_MODEL"
        if group.get("gpus") and not host.gpu:
            yield (*place, "gpus"), "is set, but the target has no GPU"
        elif group.get("gpus") and kind in {"KIND_CPU", "KIND_MODEL"}:
            yield (*place, "gpus"), f"is set, but kind is {kind}, which has none"
        elif any(gpu < 0 for gpu in group.get("gpus", ())):
            yield (*place, "gpus"), f"is {group['gpus']}; allowed: CUDA indexes, from 0"
        if group.get("count", 1) < 1:
            yield (*place, "count"), f"is {group['count']}; allowed: 1 or more"
        yield from _profiles(config, group, place)
    if groups and all(group.get("passive") for group in groups):
        yield ("instance_group", 0, "passive"), "all groups are passive: no copy would get a request"


def _profiles(config: Mapping[str, Json], group: Mapping[str, Json], place: Keys) -> Iterator[Problem]:
    for field in ("profile", "secondary_devices"):
        if group.get(field) and not tensorrt(config):
            yield (*place, field), "is set, but only the tensorrt backend takes it"
    for number, profile in enumerate(group.get("profile", ())):
        if not (profile.isascii() and profile.isdecimal()):
            yield (*place, "profile", number), f"is {profile!r}; allowed: the index of a profile, in quotes"


def _rate_limits(config: Mapping[str, Json], _: Host) -> Iterator[Problem]:
    scopes: dict[str, bool] = {}
    for index, group in enumerate(config.get("instance_group", ())):
        for number, resource in enumerate(group.get("rate_limiter", {}).get("resources", ())):
            place = ("instance_group", index, "rate_limiter", "resources", number)
            name, scope = resource.get("name", ""), bool(resource.get("global"))
            if not name:
                yield place, "a resource needs a name"
            elif scopes.setdefault(name, scope) != scope:
                yield (*place, "global"), f"the resource {name!r} cannot be both global and of each device"


def _versions(config: Mapping[str, Json], host: Host) -> Iterator[Problem]:
    policy = config.get("version_policy", {})
    chosen = policy.get("specific", {}).get("versions", [])
    if "specific" in policy and not set(chosen) & set(host.versions):
        held = ", ".join(map(str, host.versions))
        yield ("version_policy", "specific"), f"is {policy['specific']}, but the repository holds version {held} alone"
    if policy.get("latest", {}).get("num_versions", 1) < 1:
        yield ("version_policy", "latest", "num_versions"), "must be 1 or more"


def _metrics(config: Mapping[str, Json], _: Host) -> Iterator[Problem]:
    for index, control in enumerate(config.get("model_metrics", {}).get("metric_control", ())):
        place = ("model_metrics", "metric_control", index)
        buckets = control.get("histogram_options", {}).get("buckets", [])
        if not control.get("metric_identifier", {}).get("family"):
            yield place, "needs metric_identifier.family, the name of a histogram of Triton's metrics"
        if not buckets:
            yield place, "needs histogram_options.buckets, upper bounds in milliseconds"
        elif buckets != sorted(set(buckets)):
            yield (*place, "histogram_options", "buckets"), f"must be in ascending order; got {buckets}"


def _agents(config: Mapping[str, Json], _: Host) -> Iterator[Problem]:
    for index, agent in enumerate(config.get("model_repository_agents", {}).get("agents", ())):
        if not agent.get("name"):
            yield ("model_repository_agents", "agents", index), "an agent needs a name, such as checksum"


def _files(config: Mapping[str, Json], host: Host) -> Iterator[Problem]:
    for capability, name in config.get("cc_model_filenames", {}).items():
        place = ("cc_model_filenames", capability)
        if not _COMPUTE_CAPABILITY.fullmatch(capability):
            yield place, f"{capability!r} is no compute capability, such as '8.9'"
        if host.model_files is not None and name not in host.model_files:
            yield place, f"the model has no file {name!r}; it has: {', '.join(sorted(host.model_files))}"
    runtime = config.get("runtime", "")
    if "/" in runtime:
        yield ("runtime",), f"is {runtime!r}; allowed: the name of a file in the backend's folder"


_RULES: Final = (
    _schedulers,
    _batching,
    _sequences,
    _instances,
    _rate_limits,
    _versions,
    _metrics,
    _agents,
    _files,
    rules_tensors.files_there,
)

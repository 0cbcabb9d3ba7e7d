"""What the TensorRT backends refuse, or silently ignore; and what the profiles of an engine do not take.

Sources: files and lines of triton-inference-server/tensorrt_backend at e2ef6d7. A rule about profiles says nothing as
long as the engine is not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.config.host import Host, Problem, backend
from builder.tools import engine_profiles as profiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.artifacts import Json, Profile
    from builder.config.host import Keys

STRATEGIES: Final = ("STATIC", "ON_PROFILE_CHANGE")
PARAMETERS: Final = (
    "execution_context_allocation_strategy",
    "enable_multi_device",
    "multi_device_gpus",
    "multi_device_per_rank_engines",
)
"""All that the C++ backend reads (``src/model_state.cc:293-447``). It ignores anything else without a word."""

_OF_OTHERS: Final = ("graph", "execution_accelerators")
_CUDA: Final = ("optimization", "cuda")


def kinds(config: Mapping[str, Json], _: Host) -> Iterator[Problem]:
    """Instances run on GPUs: ``src/instance_state.cc:262``."""
    for index, group in enumerate(config.get("instance_group", ())):
        if group.get("kind") == "KIND_CPU":
            yield ("instance_group", index, "kind"), "is KIND_CPU; a TensorRT engine runs on a GPU alone"


def parameters(config: Mapping[str, Json], _: Host) -> Iterator[Problem]:
    """Parameters that the backend reads, and their values: ``src/model_state.cc:313-325``."""
    if backend(config) != "tensorrt":
        return  # what our own backend reads is in its own file
    for key, value in config.get("parameters", {}).items():
        text = value.get("string_value", "")
        if key not in PARAMETERS:
            yield ("parameters", key), f"the tensorrt backend reads only {', '.join(PARAMETERS)}"
        elif key == PARAMETERS[0] and text not in STRATEGIES:
            yield ("parameters", key), f"is {text!r}; allowed: {', '.join(STRATEGIES)}"


def optimization(config: Mapping[str, Json], _: Host) -> Iterator[Problem]:
    """Fields of ``optimization`` that it does not read: ``src/tensorrt_model.cc:71-93``."""
    for field in _OF_OTHERS:
        if config.get("optimization", {}).get(field):
            yield ("optimization", field), "is set, but a compiled engine is run as it is: only other backends read it"


def named_profiles(config: Mapping[str, Json], host: Host) -> Iterator[Problem]:
    """Indexes of profiles: ``src/model_state.cc:786``, ``src/instance_state.cc:2183``."""
    known = host.engine.profiles if host.engine else ()
    for index, group in enumerate(config.get("instance_group", ())):
        for number, name in enumerate(group.get("profile", ())):
            if known and name.isdecimal() and int(name) >= len(known):
                allowed = ", ".join(f"'{other}'" for other in range(len(known)))
                yield (
                    ("instance_group", index, "profile", number),
                    f"the engine has no profile {name!r}; it has {allowed}",
                )


def shapes(config: Mapping[str, Json], host: Host) -> Iterator[Problem]:
    """Every batch fits every group, for Triton gives it to any of them: see :mod:`builder.tools.engine_profiles`."""
    engine = host.engine
    if engine is None or not engine.profiles:
        return
    size = max(1, config["max_batch_size"])
    for index, group in enumerate(config.get("instance_group", ())):
        chosen = _chosen(group, engine.profiles, own=backend(config) != "tensorrt")
        most = profiles.largest_batch(chosen, engine.lengths)
        if group.get("passive") or not chosen or most >= size:
            continue
        length = profiles.narrowest(chosen, engine.lengths)
        rows = f"a batch of {most + 1}" + ("" if length is None else f" with {length} tokens")
        near = profiles.nearest(engine.profiles, most + 1, length)
        if chosen != engine.profiles and profiles.largest_batch(engine.profiles, engine.lengths) >= size:
            yield ("instance_group", index, "profile"), f"none of these profiles takes {rows}; the engine has {near}"
        else:
            yield ("max_batch_size",), f"is {size}, but no profile of the engine takes {rows}; the nearest is {near}"


def graph_specs(config: Mapping[str, Json], host: Host) -> Iterator[Problem]:
    """What the backend does not load, or makes no graph of: ``src/instance_state.cc:3802-3867``, ``:4104``."""
    cuda = config.get("optimization", {}).get("cuda", {})
    for index, spec in enumerate(cuda.get("graph_spec", ())):
        place = (*_CUDA, "graph_spec", index)
        if not cuda.get("graphs"):
            yield place, "needs graphs: true"
        yield from _graph_spec(config, host, spec, place)
        lower = spec.get("graph_lower_bound")
        if lower is not None:
            yield from _lower_bound(spec, lower, (*place, "graph_lower_bound"))


def _graph_spec(config: Mapping[str, Json], host: Host, spec: Mapping[str, Json], place: Keys) -> Iterator[Problem]:
    size, most = spec.get("batch_size", 0), config["max_batch_size"]
    if not min(1, most) <= size <= most:
        yield (*place, "batch_size"), f"is {size}; allowed: {min(1, most)} to max_batch_size, which is {most}"
    inputs = {tensor["name"]: tensor["dims"] for tensor in config.get("input", ())}
    given = {name: shape.get("dim", []) for name, shape in spec.get("input", {}).items()}
    if not given or not inputs:
        return  # at the optimal shape of each profile; or the tensors are not known yet
    known = host.engine.profiles if host.engine else ()
    if not set(given) <= set(inputs) or (known and len(given) < len(inputs)):
        yield (*place, "input"), f"must name the inputs, {', '.join(inputs)}, and all of them: else there is no graph"
        return
    for name, dims in given.items():
        fits = len(dims) == len(inputs[name]) and all(
            want in (-1, got) for got, want in zip(dims, inputs[name], strict=True)
        )
        if not fits:
            yield (*place, "input", name), f"is {dims}; the engine takes {inputs[name]}"
        elif -1 in inputs[name] and known:
            length = dims[inputs[name].index(-1)]
            if profiles.largest_batch(known, (length,)) < size:
                near = profiles.nearest(known, size, length)
                yield (
                    (*place, "input", name),
                    f"no profile takes a batch of {size} with {length} tokens; the nearest is {near}",
                )


def _lower_bound(spec: Mapping[str, Json], lower: Mapping[str, Json], place: Keys) -> Iterator[Problem]:
    least, size = lower.get("batch_size", 0), spec.get("batch_size", 0)
    if not min(1, size) <= least <= size:
        yield (
            (*place, "batch_size"),
            f"is {least}; allowed: {min(1, size)} to the spec's own batch_size, which is {size}",
        )
    for name, shape in spec.get("input", {}).items():
        dims, given = shape.get("dim", []), lower.get("input", {}).get(name, {}).get("dim", [])
        if len(dims) != len(given) or any(low > high for low, high in zip(given, dims, strict=False)):
            yield (*place, "input", name), f"is {given}; allowed: up to {dims}"


def _chosen(group: Mapping[str, Json], known: tuple[Profile, ...], *, own: bool) -> tuple[Profile, ...]:
    """The profiles that a group has contexts for; an index that is not known is another rule's business.

    Without names it is the first alone (``src/instance_state.cc:2143``), but for our own backend, which takes all.
    """
    named = group.get("profile")
    if not named:
        return known if own else known[:1]
    return tuple(known[int(name)] for name in named if name.isdecimal() and int(name) < len(known))

"""Section ``serving`` against Triton's own descriptors, for the Triton release of each target."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder.recipe.serving import DynamicBatching, InstanceGroup, Serving
from builder.recipe.suggest import show
from builder.recipe.targets import Target
from builder.recipe.triton import DERIVED_RAW, derived, raw_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.artifacts import Json
    from builder.recipe.checks import View
    from builder.recipe.document import Keys, Problem

VARIANT_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"

_FILE_NAME: Final = re.compile(r"(?!config\.pbtxt)[A-Za-z0-9_-][A-Za-z0-9._-]*", re.ASCII)

_SERVING: Final = ("serving",)
_OF_THE_GRAPH: Final = ("data_type", "dims")


def check_serving(view: View) -> Iterator[Problem]:
    """What Triton's descriptors, and the facts that the build derives, leave no room for."""
    serving = view.get(_SERVING)
    if isinstance(serving, dict):
        yield from _descriptors(view, _SERVING, _written(serving))
        yield from _raw(view, (*_SERVING, "config"), serving.get("config"))
        yield from _variants(view, serving.get("configs"))
        yield from _one_scheduler(view, serving)
        for direction in ("input", "output"):
            yield from _tensors(view, (*_SERVING, direction), serving.get(direction))


def _one_scheduler(view: View, serving: Mapping[str, Json]) -> Iterator[Problem]:
    if serving.get("sequence_batching") is not None and isinstance(serving.get("dynamic_batching"), dict):
        other = view.named((*_SERVING, "dynamic_batching"))
        yield view.problem((*_SERVING, "sequence_batching"), f"excludes {other}; keep one of them")


def _written(serving: Mapping[str, Json]) -> dict[str, Json]:
    """The fields that nothing but the descriptors check."""
    fields = [field for field in raw_fields(Serving) if field not in {"model_warmup", "configs"}]
    data = _subset(serving, fields)
    if isinstance(serving.get("model_warmup"), list):
        data["model_warmup"] = serving["model_warmup"]
    if batching := _subset(serving.get("dynamic_batching"), raw_fields(DynamicBatching)):
        data["dynamic_batching"] = batching
    groups = serving.get("instance_group")
    made = [_subset(group, raw_fields(InstanceGroup)) for group in groups] if isinstance(groups, list) else []
    return data | ({"instance_group": made} if any(made) else {})


def _subset(section: Json, fields: list[str] | tuple[str, ...]) -> dict[str, Json]:
    held = section if isinstance(section, dict) else {}
    return {field: held[field] for field in fields if held.get(field) is not None}


def _descriptors(view: View, place: Keys, data: Mapping[str, Json]) -> Iterator[Problem]:
    if not data:
        return
    from builder.tools import triton_proto

    seen: set[Keys] = set()
    for release in _releases(view):
        for misfit in triton_proto.problems(data, release=release):
            path = (*place, *misfit.path)
            if path in seen:
                continue
            seen.add(path)
            make = view.key_problem if misfit.at_key else view.problem
            yield make(path, f"{misfit.message}{f'; {misfit.mend}' if misfit.mend else ''}")


def _releases(view: View) -> list[str]:
    """The Triton releases of all targets, the oldest first."""
    default = Target.model_fields["triton"].default
    targets = view.get(("targets",))
    named = [view.get(("targets", name, "triton")) for name in targets] if isinstance(targets, dict) else []
    return sorted({release if isinstance(release, str) else default for release in named or [default]})


def _raw(view: View, place: Keys, data: Json) -> Iterator[Problem]:
    """Raw fields: all of the ModelConfig but what the build derives."""
    if not isinstance(data, dict):
        return
    for field, origin in DERIVED_RAW.items():
        if field in data:
            yield view.key_problem((*place, field), f"{derived(field, origin)}; leave it out")
    yield from _descriptors(view, place, {key: value for key, value in data.items() if key not in DERIVED_RAW})


def _variants(view: View, data: Json) -> Iterator[Problem]:
    place = (*_SERVING, "configs")
    if data is None:
        return
    if not isinstance(data, dict):
        yield view.problem(place, f"must be a mapping of names to fields, got {show(data)}")
        return
    for name, fields in data.items():
        if not re.fullmatch(VARIANT_PATTERN, name):
            words = "a config's name must be 1 to 63 ASCII letters, digits, '.', '_' or '-', as a part of a file name"
            yield view.key_problem((*place, name), f"{words}; got {show(name)}")
        if not isinstance(fields, dict):
            yield view.problem((*place, name), f"must be a mapping of Triton's fields, got {show(fields)}")
        else:
            yield from _raw(view, (*place, name), fields)


def _tensors(view: View, place: Keys, data: Json) -> Iterator[Problem]:
    """Entries of ``input`` or ``output``: each of another tensor, and none with a fact of the graph."""
    entries = [entry if isinstance(entry, dict) else {} for entry in data] if isinstance(data, list) else []
    names = [entry.get("name") for entry in entries]
    for index, entry in enumerate(entries):
        here = (*place, index)
        if "name" not in entry:
            yield view.problem(here, "missing name: which tensor of the graph it is about")
        elif names.index(entry["name"]) < index:
            yield view.problem((*here, "name"), f"{entry['name']!r} is there twice")
        for key in _OF_THE_GRAPH:
            free = key == "dims" and ("reshape" in entry or entry.get("allow_ragged_batch") is True)
            if key in entry and not free:
                hint = "; with reshape, dims is the shape that clients send" if key == "dims" else ""
                yield view.key_problem((*here, key), f"{derived(key, 'the graph')}; leave it out{hint}")
        labels = entry.get("label_filename")
        if isinstance(labels, str) and not _FILE_NAME.fullmatch(labels):
            words = f"must be the name of a file beside the model's config.pbtxt, got {show(labels)}"
            yield view.problem((*here, "label_filename"), words)
        if "reshape" in entry and "dims" not in entry:
            yield view.problem((*here, "reshape"), "needs dims beside it: the shape that clients send")

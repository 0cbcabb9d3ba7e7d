"""How tensors flow through an ensemble, as the server reads it.

Sources: ``BuildEnsembleGraph`` and ``ValidateEnsembleSchedulingConfig`` (``src/model_config_utils.cc:79-294``) and
``ValidateEnsembleConfig`` (``src/ensemble_scheduler/ensemble_utils.cc``) of triton-inference-server/core, r24.10.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(slots=True)
class Node:
    """A tensor of an ensemble: who makes it, and what it is made of."""

    made_by: list[int] = field(default_factory=list)  # steps
    taken_by: list[int] = field(default_factory=list)
    ready: bool = False


@dataclass(frozen=True, slots=True)
class Flow:
    """The tensors of an ensemble by name, with what can be made of its inputs."""

    nodes: dict[str, Node]

    @classmethod
    def of(cls, config: Any) -> Flow:  # noqa: ANN401 - a protobuf message
        """The flow of an ensemble's config."""
        nodes: dict[str, Node] = {}
        steps = config.ensemble_scheduling.step
        for index, step in enumerate(steps):
            for name in step.output_map.values():
                nodes.setdefault(name, Node()).made_by.append(index)
            for name in step.input_map.values():
                nodes.setdefault(name, Node()).taken_by.append(index)
        for tensor in config.input:
            if tensor.name in nodes:
                nodes[tensor.name].ready = True
        _spread(nodes, steps)
        return cls(nodes)


def _spread(nodes: dict[str, Node], steps: Sequence[Any]) -> None:
    """Makes ready what steps make of ready tensors, until nothing changes."""
    waiting = set(range(len(steps)))
    while True:
        done = {one for one in waiting if all(nodes[name].ready for name in steps[one].input_map.values())}
        if not done:
            return
        waiting -= done
        for one in done:
            for name in steps[one].output_map.values():
                nodes[name].ready = True


@dataclass(frozen=True, slots=True)
class Shape:
    """What one side says about a tensor."""

    owner: str
    data_type: int
    dims: tuple[int, ...]
    batching: bool

    @property
    def full(self) -> tuple[int, ...]:
        """With the batch axis, where there is one."""
        return ((-1,) if self.batching else ()) + self.dims

    def fits(self, other: Shape) -> bool:
        """Whether dims or whole shapes agree; -1 agrees with everything."""
        return _agree(self.dims, other.dims) or _agree(self.full, other.full)


def _agree(left: Sequence[int], right: Sequence[int]) -> bool:
    return len(left) == len(right) and all(a == b or -1 in {a, b} for a, b in zip(left, right, strict=True))


@dataclass(slots=True)
class _Stream:
    sources: list[str] = field(default_factory=list)
    step: int | None = None
    label: int = 0
    visited: bool = False


def decoupled_labels(config: Any, decoupled: Sequence[bool]) -> tuple[bool, str]:  # noqa: ANN401 - a protobuf message
    """Follows responses of decoupled steps.

    Args:
        config: the ensemble's config.
        decoupled: for each step, whether its model is decoupled.

    Returns:
        whether the ensemble is decoupled, and a tensor (or ``""``) that would be made of responses of different ones.
    """
    streams: dict[str, _Stream] = {}
    for tensor in (*config.input, *config.output):
        streams.setdefault(tensor.name, _Stream())
    for index, step in enumerate(config.ensemble_scheduling.step):
        for name in step.input_map.values():
            streams.setdefault(name, _Stream())
        for name in step.output_map.values():
            stream = streams.setdefault(name, _Stream())
            stream.step = index
            stream.sources += step.input_map.values()
    sink = _Stream([tensor.name for tensor in config.output])
    return _walk({**streams, "": sink}, [tensor.name for tensor in config.input], decoupled)


def _walk(streams: dict[str, _Stream], inputs: Iterable[str], decoupled: Sequence[bool]) -> tuple[bool, str]:
    labels: dict[int, int] = {}  # step → the label of what it makes
    count = 0
    queue = deque(inputs)
    for name in queue:
        streams[name].visited = True
    while queue:
        current = queue.popleft()
        for name, stream in streams.items():
            if stream.visited or current not in stream.sources:
                continue
            if not all(streams[source].visited for source in stream.sources):
                continue
            found = {streams[source].label for source in stream.sources}
            if len(found) > 1:
                return False, name or "the outputs"
            stream.label = found.pop()
            if stream.step is not None and stream.step in labels:
                stream.label = labels[stream.step]
            elif stream.step is not None:
                if decoupled[stream.step]:
                    count += 1
                    stream.label = count
                labels[stream.step] = stream.label
            stream.visited = True
            queue.append(name)
    return count != 0, ""

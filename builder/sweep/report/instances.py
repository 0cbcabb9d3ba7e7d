"""How many instances of each step would be enough: a suggestion to measure next, from what was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from builder.sweep.point import Point, StepTimes
    from builder.sweep.swept import Step, Swept

BUSY: Final = 0.8
"""The share of its time for which an instance may be busy before the step gets another one."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """For one step, at the rate that was measured.

    Args:
        step: what it is called.
        busy: instances that are busy on the average: rate * seconds of an execution / inferences of an execution.
        instances: how many there are.
        suggested: how many there should be.
        bottleneck: of all steps its instances are the busiest.
        limited: it would get more if the machine had more cores.
    """

    step: str
    busy: float
    instances: int
    suggested: int
    bottleneck: bool = False
    limited: bool = False

    @property
    def utilisation(self) -> float:
        """The share of time for which an instance is busy, 0 to 1."""
        return self.busy / self.instances


def suggestions(swept: Swept, point: Point) -> tuple[Suggestion, ...]:
    """The instances that each step would get, at the point's rate.

    The rule is the utilisation law (Denning and Buzen, "The Operational Analysis of Queueing Network Models", ACM
    Computing Surveys 10(3), 1978): busy instances = rate * service time. Triton counts for each request of a batch the
    whole time of its execution (its statistics extension: ``compute_infer``), so the service time of an inference is
    the time of an execution, shared among the inferences that it had. A step gets instances until each is busy for at
    most :data:`BUSY` of the time; no more than fit on the machine's cores with the threads of each, and no fewer than
    one. Cores bound steps on a GPU too: an instance there has a thread of the server that feeds it.

    In a closed loop the busiest step cannot be busier than its instances are many: so this is one move from the setting
    that was measured, to be measured again, and no forecast.
    """
    rate = point.throughput.value if point.throughput else 0.0
    found = [_suggestion(swept, point, step, rate) for step in swept.served.steps if step.model in point.steps]
    most = max((one.utilisation for one in found), default=0.0)
    return tuple(
        Suggestion(one.step, one.busy, one.instances, one.suggested, one.utilisation == most, one.limited)
        for one in found
    )


def service_ms(times: StepTimes) -> float:
    """For how long an inference occupies an instance, milliseconds: its share of the execution's time."""
    execution = times.compute_input_ms + times.compute_infer_ms + times.compute_output_ms
    return execution * times.executions / times.inferences if times.inferences else 0.0


def _suggestion(swept: Swept, point: Point, step: Step, rate: float) -> Suggestion:
    prefix = f"{step.name}:" if step.name else ""
    instances = _whole(point.setting.get(f"{prefix}instance_group.count"), step.instances)
    threads = _whole(point.setting.get(f"{prefix}parameters.intra_op_thread_count"), step.threads)
    busy = rate * service_ms(point.steps[step.model]) / 1000
    wanted = max(1, math.ceil(busy / BUSY - 1e-9))
    fitting = max(1, int(swept.hardware.usable_cpus) // threads)
    return Suggestion(
        swept.served.step_label(step.model), busy, instances, min(wanted, fitting), limited=wanted > fitting
    )


def _whole(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) and value > 0 else otherwise

"""Asking a model through SageMaker's front end: the samples beside an archive, or, where there are none, anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from builder.artifacts import LENGTHS, Measurement
from builder.errors import ServerError
from builder.tools.kserve_body import NOT_IN_JSON
from builder.tools.sagemaker_front_end import Invoker
from builder.tools.tensors import NUMPY
from builder.verify import ask
from builder.verify.contract.report import Check
from builder.verify.judge import PASSED, Judge
from builder.verify.measure import compare_ways, read_expected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from builder.artifacts import Json
    from builder.tools.sagemaker_front_end import FrontEnd
    from builder.tools.triton_client import Client
    from builder.tools.triton_server import Server
    from builder.verify.contract.report import Subject
    from builder.verify.facts import ArchiveFacts
    from builder.verify.measure import Expected

JSON, BINARY = "json", "binary"
_TEXT: Final = b"tritonsmith"


@dataclass(frozen=True, slots=True)
class Route:
    """How a model is reached: ``/models/{name}/invoke``, or ``/invocations`` where there is no name."""

    server: Server
    client: Client  # of the same server, for what SageMaker's front end does not tell: the tensors
    front_end: FrontEnd
    name: str  # for the front end
    model: str  # in Triton
    target: str = ""

    def invoker(self, *, binary: bool) -> Invoker:
        """Who asks it."""
        return Invoker(self.front_end, self.name, binary, self.target)


def ask_subject(route: Route, subject: Subject) -> tuple[tuple[Check, ...], dict[str, Json]]:
    """Asks a model in both content types.

    Returns:
        The checks; and what was compared, as :func:`~builder.verify.measure.compare_ways` tells it.
    """
    metadata = route.client.metadata(route.model)
    if subject.facts is None:
        return _any_request(route, metadata), {}
    expected = read_expected(subject.facts)
    asked = _asked(route, subject.facts, expected, metadata)
    parity = compare_ways(subject.facts, expected, asked)
    return tuple(judged(parity, subject.tolerances)), parity


def refuses_nonsense(route: Route) -> Check:
    """The front end answers a request without inputs with 400 and an error, and goes on.

    What is no request at all is 400 in multi-model mode, and 500 behind ``/invocations`` (seen on 2.51).
    """
    answer = route.front_end.invoke(route.name, b'{"inputs": []}', target=route.target)
    seen = f"{answer.status}: {answer.error}"
    return Check("invoke-nonsense", "400, with an error", seen, answer.status == 400 and bool(answer.error))


@dataclass(frozen=True, slots=True)
class _Answering:
    """The part of :class:`~builder.tools.triton_client.Client` that an :class:`~builder.verify.ask.Asker` needs."""

    invoker: Invoker
    front_end: FrontEnd

    def infer(
        self,
        model: str,  # noqa: ARG002 - the invoker has one
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str] | None = None,  # noqa: ARG002 - all
        *,
        timeout_seconds: float = 60.0,  # noqa: ARG002 - SageMaker's own
    ) -> dict[str, np.ndarray]:
        return self.invoker.infer(inputs)

    def server_metadata(self) -> dict[str, Json]:
        return {"ping": self.front_end.ping().status}


def _asked(route: Route, facts: ArchiveFacts, expected: Expected, metadata: Mapping[str, Any]) -> dict[str, ask.Asked]:
    """Every sample alone as JSON, where that can hold it, and in batches with binary tensors."""

    def asker(*, binary: bool) -> ask.Asker:
        invoker = route.invoker(binary=binary)
        return ask.Asker(
            route.server,
            cast("Client", _Answering(invoker, route.front_end)),
            route.model,
            expected.samples,
            facts.text_pair,
            {tensor["name"]: tensor["datatype"] for tensor in metadata["inputs"]},
            facts.readable,
            facts.apart,
            LENGTHS in expected.answers,
        )

    asked = {JSON: ask.alone(asker(binary=False))} if _fits_json(metadata, expected) else {}
    return asked | {BINARY: ask.batched(asker(binary=True), facts.max_batch_size)}


def _fits_json(metadata: Mapping[str, Any], expected: Expected) -> bool:
    """Whether Triton's JSON can hold what is asked and answered: no half precision, and of bytes only texts."""
    tensors = [*metadata["inputs"], *metadata["outputs"]]
    images = any(getattr(sample, "image_base64", None) or _holds_bytes(sample) for sample in expected.samples)
    return not images and not any(tensor["datatype"] in NOT_IN_JSON for tensor in tensors)


def _holds_bytes(sample: object) -> bool:
    return any(isinstance(value, dict) for value in getattr(sample, "tensors", {}).values())


def judged(parity: Mapping[str, Json], tolerances: Mapping[str, float]) -> list[Check]:
    """One check for each content type, and one for the controls, without which the others mean nothing."""
    checks = []
    for way in parity["ways"]:
        verdict = Judge(tolerances).judge(_measured({**parity, "ways": {way: parity["ways"][way]}, "controls": {}}))
        seen = "; ".join(verdict.reasons) or _figures(parity["ways"][way]["figures"])
        checks.append(Check(f"invoke-{way}", "200, answers within tolerance", seen, verdict.status == PASSED))
    if all(check.passed for check in checks):
        verdict = Judge(tolerances).judge(_measured(parity))
        names = ", ".join(name for name, control in parity["controls"].items() if not control["inapplicable"])
        seen = "; ".join(verdict.reasons) or f"out of tolerance: {names}"
        checks.append(Check("controls", "wrong answers are out of tolerance", seen, verdict.status == PASSED))
    return checks


def _measured(parity: Mapping[str, Json]) -> Measurement:
    return Measurement(dict(parity), (), {}, {})


def _figures(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.9g}" for name, value in figures.items())


def _any_request(route: Route, metadata: Mapping[str, Any]) -> tuple[Check, ...]:
    """Both content types with made-up tensors: the model may refuse them, with an error of its own."""
    inputs = {tensor["name"]: _made_up(tensor) for tensor in metadata["inputs"]}
    json_holds = not any(tensor["datatype"] in NOT_IN_JSON for tensor in [*metadata["inputs"], *metadata["outputs"]])
    return tuple(_anything(route, inputs, way) for way in ([JSON] if json_holds else []) + [BINARY])


def _anything(route: Route, inputs: Mapping[str, np.ndarray], way: str) -> Check:
    expected = "200, or 400 with the model's error; nothing to compare with lies beside the archive"
    try:
        outputs = route.invoker(binary=way == BINARY).infer(inputs)
    except ServerError as error:
        return Check(f"invoke-{way}", expected, error.message, error.message.startswith("400: "))
    return Check(f"invoke-{way}", expected, f"200 with {', '.join(outputs)}", bool(outputs))


def _made_up(tensor: Mapping[str, Any]) -> np.ndarray:
    """One of everything: zeros, or a word, where an axis may have any size."""
    import numpy as np

    array = np.zeros([max(int(size), 1) for size in tensor["shape"]], NUMPY.get(tensor["datatype"], "float32"))
    if tensor["datatype"] == "BYTES":
        array[...] = _TEXT
    return array

"""Are the answers right under load? Those that perf_analyzer recorded, held against the expected ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from builder.artifacts import LENGTHS
from builder.parity.compare import CRITERIA, SHARES, compare, figures_of
from builder.sweep import printed
from builder.sweep.checked import Checked, Share
from builder.sweep.requests import dtypes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from builder.sweep.requests import Request
    from builder.sweep.subject import Subject
    from builder.tools.perf_requests import Answer

Tensors = dict[str, Any]
"""Output name → array, without a batch axis."""

_UNREADABLE: Final = "an answer holds NaN or an infinity"
_ALONE: Final = 1e-3
"""How far an answer under load may be from the same server's answer to the same request alone, relative to the largest
value: batches and threads add numbers in another order. Half precision gets ten times as much."""
_HALF: Final = ("FP16", "BF16")
_UNREAD: Final = frozenset({"FP16", "BF16"})  # perf_analyzer prints them as null


@dataclass
class Checker:
    """Knows what is expected of each request of a subject.

    Where a request is a sample of the archive, that is what its reference says, within the archive's tolerances. Else
    it is what the server itself answered when it was asked alone, before any load: see :meth:`learn`.

    Args:
        subject: its requests, expected answers and tolerances.
        alone: for requests that are no samples: what the server answered.
    """

    subject: Subject
    alone: dict[int, Tensors] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config = self.subject.configs[self.subject.name]
        self._shapes = {one["name"]: [int(size) for size in one["dims"]] for one in config.get("output", [])}
        outputs = {**config, "input": config.get("output", [])}
        self._dtypes = dtypes_of(outputs)
        self._inputs = [printed.sent_by(request) for request in self.subject.requests]
        self._largest = _largest(self.subject.expected.answers) if self.subject.expected else {}

    def reads_records(self, batch: int) -> bool:
        """Whether perf_analyzer's record tells which request was sent, and what was answered.

        Of texts in a batch it does not tell where one item's end, if the config does not say how many they are.
        """
        inputs = dtypes_of(self.subject.configs[self.subject.name])
        told = [
            name
            for name, dtype in self._dtypes.items()
            if dtype not in _UNREAD and not (dtype == "BYTES" and batch > 1 and -1 in self._shapes[name])
        ]
        return bool(set(inputs.values()) - _UNREAD and told)

    def learn(self, ask: Callable[[Request], Tensors]) -> None:
        """Asks what no reference answers. Call it when nothing else is asked."""
        for number, request in enumerate(self.subject.requests):
            if self._of_reference(request) is None and number not in self.alone:
                self.alone[number] = ask(request)

    def check(self, answers: Sequence[Answer | None], batch: int) -> Checked:
        """Holds answers against what is expected; those that belong to no request of the subject are left out."""
        found = Checked()
        for answer in answers:
            found += Checked(1, 1, _UNREADABLE) if answer is None else self._closest(answer, batch)
        return found

    def check_asked(self, answers: Mapping[int, Tensors]) -> Checked:
        """Holds answers that a client of our own got, by the number of the request, against what is expected."""
        found = Checked()
        for number, actual in answers.items():
            if (expected := self._expected(number)) is not None:
                found += self._judged(number, expected, actual)
        return found

    def _of_reference(self, request: Request) -> int | None:
        return request.sample if self.subject.expected is not None else None

    def _closest(self, answer: Answer, batch: int) -> Checked:
        """Beside what is expected of its request; of several that it may be, of the one that it fits best.

        Two requests are alike where their values are the same, or differ in what the record does not tell. In a batch
        others follow the one than the other.
        """
        found: list[Checked] = []
        for number in self._numbers(answer):
            found.append(self._compared(number, answer, batch))
            if not found[-1].differing:
                return found[-1]
        return min(found, key=lambda one: one.differing, default=Checked())

    def _numbers(self, answer: Answer) -> Iterator[int]:
        """Which of the requests it may be: perf_analyzer tells what it sent, not its number."""
        given = {name: printed.sent(value) for name, value in answer.inputs.items() if value is not None}
        return (number for number, row in enumerate(self._inputs) if printed.is_sent(row, given))

    def _compared(self, number: int, answer: Answer, batch: int) -> Checked:
        """All items of one request: perf_analyzer takes the requests of a batch from the rows in turn."""
        found = Checked()
        count = len(self.subject.requests)
        for item in range(batch):
            asked = (number + item) % count
            expected = self._expected(asked)
            if expected is None:
                continue
            if missing := [name for name in expected if name != LENGTHS and name not in answer.outputs]:
                return found + Checked(1, 1, f"{missing[0]} was not answered")
            actual = self._item(answer, expected, item, batch)
            if actual is not None:
                found += self._judged(asked, expected, actual)
        return found

    def _expected(self, number: int) -> Tensors | None:
        sample = self._of_reference(self.subject.requests[number])
        if sample is None:
            return self.alone.get(number)
        assert self.subject.expected is not None
        return {name: values[sample] for name, values in self.subject.expected.answers.items()}

    def _item(self, answer: Answer, expected: Tensors, item: int, batch: int) -> Tensors | None:
        """One item's outputs as arrays; None: they cannot be read."""
        found = {}
        for name, wanted in expected.items():
            if name in answer.outputs and self._dtypes.get(name) not in _UNREAD:
                # How many texts there are, where the config does not say, is as many as are expected.
                dims = wanted.shape if self._dtypes[name] == "BYTES" and batch == 1 else self._shapes[name]
                found[name] = printed.item_of(answer.outputs[name], self._dtypes[name], dims, item, batch)
        readable = {name: value for name, value in found.items() if value is not None}
        return readable or None

    def _judged(self, number: int, expected: Tensors, actual: Tensors) -> Checked:
        """One answer: off, or how far it agrees in what is judged over all of them."""
        said = self.subject.requests[number].digest[:8]
        if self._of_reference(self.subject.requests[number]) is None:
            differs = _differs(expected, actual, self._dtypes, said)
            return Checked(1, int(bool(differs)), differs)
        assert self.subject.facts is not None
        metric, tolerances = self.subject.facts.metric, self.subject.tolerances
        scale = {name: self._largest[name] for name in expected if name in actual}
        wanted, got = _stacked(scale, expected, actual)
        compared = compare(metric, wanted, got)
        if compared.failures:
            return Checked(1, 1, compared.failures[0].what)
        shares, judged = {}, figures_of(metric, wanted)
        for criterion in CRITERIA[metric]:
            if criterion.figure not in judged:
                continue
            limit, figure = criterion.limit(tolerances), compared.figures[criterion.figure]
            if criterion.figure in SHARES:
                # A mean of two rows, of which the second one agrees with itself.
                shares[criterion.figure] = Share.of(limit, number, 2 * figure - 1)
            elif not criterion.holds(compared.figures, tolerances):
                return Checked(1, 1, f"request {said}: {criterion.figure} is {figure:.6g}, not {limit:.6g}")
        return Checked(1, shares=shares)


def _largest(answers: Mapping[str, Any]) -> Tensors:
    """The largest value among all samples, as an answer of its own: differences are relative to it."""
    import numpy as np

    found = {}
    for name, values in answers.items():
        sizes = np.abs(values).reshape(len(values), -1).max(axis=1) if values.dtype.kind == "f" else [0]
        found[name] = values[int(np.argmax(sizes))]
    return found


def _stacked(scale: Tensors, expected: Tensors, actual: Tensors) -> tuple[Tensors, Tensors]:
    """Expected and actual answers, [2, …]: the one that is compared, and one that agrees with itself.

    Of outputs with an axis of tokens, the answer's own tokens are compared: what follows is padding.
    """
    import numpy as np

    wanted: Tensors = {}
    got: Tensors = {}
    own = int(expected[LENGTHS]) if LENGTHS in expected else None
    for name, holder in scale.items():
        one, other = expected[name], actual[name]
        if own is not None and one.ndim and other.shape[1:] == one.shape[1:]:
            one, other, holder = one[:own], other[:own], holder[:own]  # noqa: PLW2901
        if other.shape != one.shape or other.dtype.kind != one.dtype.kind:
            wanted[name], got[name] = np.stack([one]), np.stack([other])
        else:
            wanted[name], got[name] = np.stack([one, holder]), np.stack([other, holder])
    return wanted, got


def _differs(expected: Tensors, actual: Tensors, dtypes: Mapping[str, str], said: str) -> str:
    """In what an answer differs from the server's own to the same request alone."""
    import numpy as np

    for name, one in expected.items():
        if name not in actual:
            continue
        other = actual[name]
        if one.dtype.kind == "O":
            same = one.ravel().tolist() == other.ravel().tolist()
            off = "" if same else "other bytes"
        elif one.size != other.size:
            off = f"{other.size} values, not {one.size}"
        else:
            distance = np.abs(one.ravel().astype(float) - other.ravel().astype(float)).max(initial=0.0)
            scale = np.abs(one.astype(float)).max(initial=0.0) or 1.0
            allowed = _ALONE * (10 if dtypes.get(name) in _HALF else 1)
            off = "" if distance <= allowed * scale else f"{distance / scale:.3g} off, {allowed:g} is allowed"
        if off:
            return f"request {said}: {name} is not what the server answers alone: {off}"
    return ""

"""Asking the served model every sample, in three ways: alone, in mixed batches, and many clients at once."""

from __future__ import annotations

import logging
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from builder.errors import ServerError
from builder.parity.compare import Answers, Failure
from builder.parity.tokens import widened
from builder.tools.tensors import array_of
from builder.verify.rows import row_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from builder.artifacts import Row, Sample
    from builder.tools.triton_client import Client
    from builder.tools.triton_server import Server

log = logging.getLogger(__name__)

WAYS: Final = ("alone", "batched", "concurrent")
SEED: Final = 20
CLIENTS: Final = 8  # requests in flight when many clients ask at once
_INVALID_EVERY: Final = 16
_PATIENCE_SECONDS: Final = 30.0  # for a request that the server may have lost
INVALID_UTF8: Final = b"caf\xe9 \xff\xfe"
_TALK_SECONDS: Final = 3.0
_TIMEOUT_SECONDS: Final = 300.0
_GRACE_SECONDS: Final = 5.0  # for the end of a server that does not answer any more


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks one model of one server.

    ``dtypes`` are those of the tensors that clients send, where they are not all texts; ``readable`` names the tensors
    whose bytes are read as texts or images: others may hold any bytes.

    ``apart`` is for pipelines whose request goes to several steps at once. Where one of them refuses it while another
    still has it, the ensemble scheduler (seen with 2.51.0) may give its error to another client, or never answer
    anybody again: so it is looked at by itself, after all else.
    """

    server: Server
    client: Client
    model: str
    samples: tuple[Sample | Row, ...]
    text_pair: bool
    dtypes: Mapping[str, str] = field(default_factory=dict)
    readable: tuple[str, ...] = ("TEXT", "TEXT_PAIR", "IMAGE")
    apart: bool = False  # whether invalid requests are sent when no other is in flight
    per_token: bool = False  # answers have an axis of tokens, as long as the longest text of a request

    def ask(self, indices: Sequence[int], timeout_seconds: float = _TIMEOUT_SECONDS) -> dict[str, np.ndarray]:
        """One request with these samples.

        Returns:
            Output name → [len(indices), …].

        Raises:
            ServerError: the server refused it, or is gone.
        """
        return self.client.infer(self.model, self._inputs(indices), timeout_seconds=timeout_seconds)

    def ask_invalid(self) -> str:
        """One request whose texts are not UTF-8, and whose images are none.

        Returns:
            The server's error; empty where it answered.

        Raises:
            ServerError: the server is gone.
        """
        inputs = self._inputs([0])
        inputs |= {name: _column([INVALID_UTF8]) for name in inputs if name in self.readable}
        try:
            patience = _PATIENCE_SECONDS if self.apart else _TIMEOUT_SECONDS
            self.client.infer(self.model, inputs, timeout_seconds=patience)
        except ServerError as error:
            self.check_server()
            return error.message
        return ""

    def check_server(self) -> None:
        """After a failed request: was it the request, or has the server ended?

        Raises:
            ServerError: the server has ended, or does not answer.
        """
        try:
            self.client.server_metadata()
        except ServerError:
            self.server.process.wait(_GRACE_SECONDS)
            self.server.check()
            raise

    def _inputs(self, indices: Sequence[int]) -> dict[str, np.ndarray]:
        import numpy as np

        rows = [row_of(self.samples[index], text_pair=self.text_pair) for index in indices]
        return {
            name: np.stack([array_of(row[name], self.dtypes.get(name, "BYTES")) for row in rows]) for name in rows[0]
        }


@dataclass(frozen=True, slots=True)
class Asked:
    """What one way of asking brought: answers in the order of the samples, or why there are none."""

    answers: Answers
    requests: int
    failures: tuple[Failure, ...] = ()


def alone(asker: Asker) -> Asked:
    """Every sample in a request of its own, one after the other."""
    return _gather(asker, [(index,) for index in range(len(asker.samples))])


def batched(asker: Asker, max_batch_size: int) -> Asked:
    """Requests that hold many samples of mixed length, of sizes from 1 to the largest allowed."""
    return _gather(asker, compose(len(asker.samples), max_batch_size))


def concurrent(asker: Asker) -> tuple[Asked, tuple[str, ...]]:
    """Every sample alone, by many clients at once, so that the server forms batches.

    Requests whose text is not UTF-8 are thrown in: they must be refused, and nothing else.

    Returns:
        The answers to the samples; and the server's errors to the invalid requests, empty where it answered one.
    """
    order = list(range(len(asker.samples)))
    random.Random(SEED).shuffle(order)  # noqa: S311 - a fixed order, not a secret
    invalid: list[str] = []

    def ask(indices: Sequence[int]) -> dict[str, np.ndarray]:
        if indices[0] % _INVALID_EVERY == 0 and asker.readable and not asker.apart:
            invalid.append(asker.ask_invalid())
        return asker.ask(indices)

    asked = _gather(asker, [(index,) for index in order], ask, clients=CLIENTS)
    if asker.readable and asker.apart and not asked.failures:
        return _ask_apart(asker, asked, len(order[::_INVALID_EVERY]))
    return asked, tuple(invalid)


def _ask_apart(asker: Asker, asked: Asked, count: int) -> tuple[Asked, tuple[str, ...]]:
    """Some invalid requests, and after each of them a valid one, which must be answered."""
    invalid: list[str] = []
    for _ in range(count):
        invalid.append(asker.ask_invalid())
        try:
            asker.ask([0], timeout_seconds=_PATIENCE_SECONDS)
        except ServerError as error:
            what = f"after a request that is not UTF-8, a valid one is not answered: {error.message}"
            return Asked({}, asked.requests, (Failure("harmed", what, 0),)), tuple(invalid)
    return asked, tuple(invalid)


def compose(samples: int, max_batch_size: int) -> list[tuple[int, ...]]:
    """Splits the samples into batches: the largest, a single one, then sizes drawn from 1 to the largest.

    The order is shuffled first, so that short and long texts share a batch. Always the same for the same arguments.
    """
    source = random.Random(SEED)  # noqa: S311 - a fixed order, not a secret
    order = list(range(samples))
    source.shuffle(order)
    batches: list[tuple[int, ...]] = []
    sizes = [max_batch_size, 1]
    while order:
        size = sizes.pop(0) if sizes else source.randint(1, max_batch_size)
        batches.append(tuple(order[:size]))
        del order[:size]
    return batches


def _gather(
    asker: Asker,
    batches: Sequence[tuple[int, ...]],
    ask: Callable[[Sequence[int]], dict[str, np.ndarray]] | None = None,
    *,
    clients: int = 1,
) -> Asked:
    """Asks all batches and puts the answers into the order of the samples."""
    stop: list[Failure] = []
    progress = _Progress(len(asker.samples))

    def one(indices: tuple[int, ...]) -> dict[str, np.ndarray] | None:
        if stop:  # one refused request decides: the others are not asked any more
            return None
        try:
            answer = (ask or asker.ask)(indices)
        except ServerError as error:
            asker.check_server()
            stop.append(Failure("request-refused", error.message, indices[0]))
            return None
        stop.extend(_wrong_rows(answer, indices))
        progress.add(len(indices))
        return answer

    with ThreadPoolExecutor(clients) as pool:
        answered = [answer for answer in pool.map(one, batches) if answer is not None]
    if stop:
        return Asked({}, len(batches), tuple(stop[:1]))
    return _in_order(batches, [widened(one, answered) for one in answered] if asker.per_token else answered)


class _Progress:
    """Tells every few seconds how far it is; used by several threads, which may cost a line, never an answer."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.told = total, 0, time.monotonic()

    def add(self, count: int) -> None:
        self.done += count
        if time.monotonic() - self.told > _TALK_SECONDS:
            self.told = time.monotonic()
            log.info("%d of %d samples answered", self.done, self.total)


def _in_order(batches: Sequence[tuple[int, ...]], answered: Sequence[Mapping[str, np.ndarray]]) -> Asked:
    import numpy as np

    order = np.argsort(np.concatenate([np.asarray(batch) for batch in batches]))
    answers: dict[str, np.ndarray] = {}
    for name in answered[0]:
        shapes = {answer[name].shape[1:] for answer in answered}
        if len(shapes) > 1:
            what = f"{name} has different shapes in different answers: {sorted(map(list, shapes))}"
            return Asked({}, len(batches), (Failure("wrong-shape", what),))
        answers[name] = np.concatenate([answer[name] for answer in answered])[order]
    return Asked(answers, len(batches))


def _wrong_rows(answer: Mapping[str, np.ndarray], indices: Sequence[int]) -> list[Failure]:
    return [
        Failure("wrong-shape", f"{name} has shape {list(array.shape)} for {len(indices)} texts", indices[0])
        for name, array in answer.items()
        if array.shape[:1] != (len(indices),)
    ]


def _column(texts: Sequence[bytes]) -> np.ndarray:
    """[n, 1] of dtype object, as Triton's BYTES are given to its client."""
    import numpy as np

    column = np.empty((len(texts), 1), dtype=object)
    column[:, 0] = texts
    return column

"""Protobuf's wire format, field by field, from a stream: what is not wanted is skipped and never read.

Format: https://protobuf.dev/programming-guides/encoding. A field is a tag (number and kind) and a value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

VARINT: Final = 0
BYTES: Final = 2
_FIXED: Final = {1: 8, 5: 4}  # kind → bytes

_WINDOW_BYTES: Final = 4096  # read at once: small fields are many, and lie together
_SKIP_BYTES: Final = 1 << 20  # read at once where a stream cannot seek
_FIELDS_LIMIT: Final = 5_000_000  # of one file: some seconds
_VARINT_BYTES: Final = 10


class WireError(Exception):
    """The bytes are no protobuf message, or not a whole one; the message says why, without a place."""


class Fields:
    """The fields of one message, in the order in which they stand: yields ``(number, kind)``.

    Inside the loop, ``value`` is the number of a VARINT, and ``content()`` or ``inner()`` take the bytes of a BYTES
    field; what is not taken is skipped.

    Args:
        stream: stands at the begin of the message.
        size: bytes of the message.
        can_seek: whether the stream can seek; else what is skipped is read.
    """

    def __init__(self, stream: BinaryIO, size: int, *, can_seek: bool) -> None:
        self._source = _Source(stream, size, can_seek=can_seek)
        self._end = size
        self._taken_to = 0
        self.value = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        source = self._source
        while source.position < self._end:
            tag = source.varint(self._end)
            number, kind = tag >> 3, tag & 7
            if number == 0:
                raise WireError(f"a field with the number 0 at byte {source.position}")
            source.count()
            if kind == VARINT:
                self.value = source.varint(self._end)
                yield number, kind
            elif kind == BYTES:
                length = source.varint(self._end)
                self._taken_to = after = self._within(length)
                yield number, kind
                source.skip(after - source.position)
            elif kind in _FIXED:
                source.skip(self._within(_FIXED[kind]) - source.position)
            else:
                raise WireError(f"a field of the unknown kind {kind} at byte {source.position}")

    def inner(self) -> Fields:
        """The fields of the message that this field holds."""
        fields = Fields.__new__(Fields)
        fields._source = self._source
        fields._end = self._taken_to
        fields._taken_to = fields.value = 0
        return fields

    def content(self, limit: int) -> bytes:
        """The bytes of this field.

        Raises:
            WireError: there are more than ``limit``.
        """
        length = self._taken_to - self._source.position
        if length > limit:
            raise WireError(f"a name of {length} bytes at byte {self._source.position}")
        return self._source.take(length)

    def _within(self, length: int) -> int:
        end = self._source.position + length
        if end > self._end:
            raise WireError(f"cut off: a field needs {length} bytes at byte {self._source.position}")
        return end


class _Source:
    """A stream with a small window on it."""

    def __init__(self, stream: BinaryIO, size: int, *, can_seek: bool) -> None:
        self._stream = stream
        self._size = size
        self._window = b""
        self._at = 0  # in the window
        self._begin = 0  # of the window in the file
        self._fields = 0
        self._can_seek = can_seek

    @property
    def position(self) -> int:
        return self._begin + self._at

    def count(self) -> None:
        self._fields += 1
        if self._fields > _FIELDS_LIMIT:
            raise WireError(f"more than {_FIELDS_LIMIT} fields")

    def varint(self, end: int) -> int:
        if self._at < len(self._window) and (first := self._window[self._at]) < 0x80:  # most have one byte
            self._at += 1
            return first
        value = 0
        for index in range(_VARINT_BYTES):
            if self.position >= end:
                raise WireError(f"cut off: a number ends at byte {self.position}")
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF
        raise WireError(f"a number of more than {_VARINT_BYTES} bytes at byte {self.position}")

    def take(self, length: int) -> bytes:
        if self._at + length > len(self._window):
            self._fill(length)
        self._at += length
        return self._window[self._at - length : self._at]

    def skip(self, length: int) -> None:
        if self._at + length <= len(self._window):
            self._at += length
            return
        target = self.position + length
        ahead = target - self._begin - len(self._window)
        if self._can_seek:
            self._stream.seek(ahead, 1)
        else:
            while ahead:
                ahead -= len(self._read(min(ahead, _SKIP_BYTES)))
        self._window, self._at, self._begin = b"", 0, target

    def _fill(self, length: int) -> None:
        """Makes the window begin at the position, and hold ``length`` bytes."""
        rest = self._window[self._at :]
        self._begin, self._at, self._window = self.position, 0, rest
        left = self._size - self._begin - len(rest)
        wanted = min(max(length - len(rest), _WINDOW_BYTES), left)
        parts = [rest]
        got = len(rest)
        while wanted > 0 and (block := self._read(wanted)):
            parts.append(block)
            got += len(block)
            wanted -= len(block)
        self._window = b"".join(parts)
        if got < length:
            raise WireError(f"cut off at byte {self._begin + got}")

    def _read(self, length: int) -> bytes:
        block = self._stream.read(length)
        if not block:
            raise WireError(f"cut off after byte {self._begin + len(self._window)}")
        return block


def signed(value: int) -> int:
    """An int64 as protobuf's varints write it."""
    return value - (1 << 64) if value >= 1 << 63 else value

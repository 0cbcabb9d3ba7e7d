"""The facts of an ONNX file, from protobuf's wire format: tensors, opsets, external data. Weights are skipped.

Fields and numbers: ``onnx.proto`` of github.com/onnx/onnx. What this reader does not name, it skips.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final

from builder.errors import ModelError
from builder.tools.onnx_facts import DTYPES, ExternalFile, GraphTensor, OnnxHeader
from builder.tools.wire import BYTES, VARINT, Fields, WireError, signed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_KINDS: Final = {1: "tensor", 4: "sequence", 5: "map", 8: "sparse tensor", 9: "optional"}
_EXTERNAL: Final = 1  # TensorProto.DataLocation.EXTERNAL
_TEXT_LIMIT_BYTES: Final = 1 << 16  # of a name, a path, a number in digits
_COUNT_LIMIT: Final = 100_000  # of inputs, outputs, files, names of operators
_DEPTH_LIMIT: Final = 16  # of graphs within graphs
_MEND: Final = "export the model again, or fetch the file again and compare its size with the publisher's"


def read_onnx_header(path: Path, *, operators: bool = False) -> OnnxHeader:
    """The header of a file.

    Args:
        path: the file.
        operators: whether to read the nodes: lists the operators and the external data of constants inside nodes, and
            leaves out the external data of initializers that nothing uses. Some milliseconds for a thousand nodes.

    Raises:
        ModelError: it is no whole ONNX file.
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return read_onnx_stream(stream, path.stat().st_size, place=str(path), operators=operators)


def read_onnx_stream(
    stream: BinaryIO, size: int, *, place: str, operators: bool = False, can_seek: bool = True
) -> OnnxHeader:
    """The header of an ONNX file in a stream, which may be one that only goes forward.

    Args:
        stream: stands at the file's begin.
        size: bytes of the file.
        place: its path, for messages.
        operators: as for :func:`read_onnx_header`.
        can_seek: whether the stream can seek; else the weights are read, and thrown away.

    Raises:
        ModelError: it is no whole ONNX file.
    """
    found = _Found(operators)
    try:
        _model(Fields(stream, size, can_seek=can_seek), found)
    except WireError as error:
        raise ModelError(f"{place}: is no whole ONNX file: {error}", mend=_MEND) from error
    if not found.graphs:
        raise ModelError(f"{place}: is no ONNX file: it holds no graph", mend=_MEND)
    return found.header()


@dataclass(slots=True)
class _Found:
    """What was read so far."""

    with_operators: bool
    ir_version: int = 0
    producer: list[str] = field(default_factory=lambda: ["", ""])
    graphs: int = 0
    inputs: list[GraphTensor] = field(default_factory=list)
    outputs: list[GraphTensor] = field(default_factory=list)
    initializers: set[str] = field(default_factory=set)
    opsets: dict[str, int] = field(default_factory=dict)
    operators: dict[str, set[str]] = field(default_factory=dict)
    functions: dict[str, set[str]] = field(default_factory=dict)
    external: list[tuple[str, ExternalFile]] = field(default_factory=list)  # name of the tensor, where its data is
    used: set[str] = field(default_factory=set)  # what nodes take and graphs give

    def header(self) -> OnnxHeader:
        return OnnxHeader(
            self.ir_version,
            " ".join(part for part in self.producer if part),
            tuple(tensor for tensor in self.inputs if tensor.name not in self.initializers),
            tuple(tensor for tensor in self.inputs if tensor.name in self.initializers),
            tuple(self.outputs),
            dict(sorted(self.opsets.items())),
            {domain: frozenset(names) for domain, names in sorted(self.operators.items())},
            {domain: frozenset(names) for domain, names in sorted(self.functions.items())},
            self._files(),
        )

    def note_operator(self, domain: str, name: str) -> None:
        names = self.operators.setdefault("" if domain == "ai.onnx" else domain, set())
        names.add(name)
        _check_count("operators", len(names) + len(self.operators))

    def _files(self) -> tuple[ExternalFile, ...]:
        """The files of all tensors; of those that are used, where nodes were read (onnxruntime reads no others)."""
        used = {*self.used, *(tensor.name for tensor in (*self.inputs, *self.outputs))}
        files: dict[str, ExternalFile] = {}
        for name, one in self.external:
            if not self.with_operators or not name or name in used:
                known = files.get(one.location, ExternalFile(one.location, 0, 0))
                files[one.location] = ExternalFile(one.location, max(one.end, known.end), known.tensors + 1)
        return tuple(files[location] for location in sorted(files))

    def note_external(self, name: str, location: str, end: int) -> None:
        self.external.append((name, ExternalFile(location, end, 1)))
        _check_count("tensors in files", len(self.external))


def _model(fields: Fields, found: _Found) -> None:
    for number, kind in fields:
        if number == 1 and kind == VARINT:
            found.ir_version = signed(fields.value)
        elif number in {2, 3} and kind == BYTES:
            found.producer[number - 2] = _text(fields)
        elif number == 7 and kind == BYTES:
            found.graphs += 1
            _graph(fields.inner(), found, depth=0)
        elif number == 8 and kind == BYTES:
            _opset(fields.inner(), found)
        elif number == 25 and kind == BYTES and found.with_operators:
            _function(fields.inner(), found)


def _graph(fields: Fields, found: _Found, depth: int) -> None:
    """A GraphProto; of a graph within a graph only operators and external data count."""
    for number, kind in fields:
        if kind != BYTES:
            continue
        if number == 1 and found.with_operators:
            _node(fields.inner(), found, depth)
        elif number == 5:
            name = _tensor(fields.inner(), found)
            if depth == 0:
                found.initializers.add(name)
        elif number == 15 and depth == 0:
            found.initializers.add(_sparse_tensor(fields.inner(), found))
        elif number == 12 and depth and found.with_operators:
            found.used.add(_value(fields.inner()).name)
        elif number in {11, 12} and depth == 0:
            tensors = found.inputs if number == 11 else found.outputs
            tensors.append(_value(fields.inner()))
            _check_count("inputs or outputs", len(tensors))


def _function(fields: Fields, found: _Found) -> None:
    name = domain = ""
    for number, kind in fields:
        if kind != BYTES:
            continue
        if number == 1:
            name = _text(fields)
        elif number == 7:
            _node(fields.inner(), found, depth=0)
        elif number == 10:
            domain = _text(fields)
    names = found.functions.setdefault(domain, set())
    names.add(name)
    _check_count("functions", len(names) + len(found.functions))


def _node(fields: Fields, found: _Found, depth: int) -> None:
    name = domain = ""
    for number, kind in fields:
        if kind != BYTES:
            continue
        if number == 1:
            found.used.add(_text(fields))
        elif number == 4:
            name = _text(fields)
        elif number == 7:
            domain = _text(fields)
        elif number == 5:
            _attribute(fields.inner(), found, depth)
    found.note_operator(domain, name)


def _attribute(fields: Fields, found: _Found, depth: int) -> None:
    for number, kind in fields:
        if kind == BYTES and number in {5, 10}:
            _tensor(fields.inner(), found, constant=True)
        elif kind == BYTES and number in {6, 11}:
            if depth >= _DEPTH_LIMIT:
                raise WireError(f"graphs within graphs, more than {_DEPTH_LIMIT} deep")
            _graph(fields.inner(), found, depth + 1)


def _tensor(fields: Fields, found: _Found, *, constant: bool = False) -> str:
    """Notes where the data of a TensorProto lies, and gives its name; the data itself is skipped.

    A constant is used by whatever holds it, not by name.
    """
    name, external, stated = "", False, {}
    for number, kind in fields:
        if number == 8 and kind == BYTES:
            name = _text(fields)
        elif number == 13 and kind == BYTES:
            key, value = _entry(fields.inner())
            stated[key] = value
        elif number == 14 and kind == VARINT:
            external = fields.value == _EXTERNAL
    if external:
        end = _number(stated, "offset") + _number(stated, "length")
        found.note_external("" if constant else name, stated.get("location", ""), end)
    return name


def _sparse_tensor(fields: Fields, found: _Found) -> str:
    """The name of a SparseTensorProto: that of its values."""
    name = ""
    for number, kind in fields:
        if number in {1, 2} and kind == BYTES:
            inner = _tensor(fields.inner(), found, constant=True)
            name = inner if number == 1 else name
    return name


def _number(stated: Mapping[str, str], key: str) -> int:
    digits = stated.get(key, "0")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise WireError(f"external data with {key} {digits[:40]!r}")
    return int(digits)


def _entry(fields: Fields) -> tuple[str, str]:
    parts = ["", ""]
    for number, kind in fields:
        if number in {1, 2} and kind == BYTES:
            parts[number - 1] = _text(fields)
    return parts[0], parts[1]


def _opset(fields: Fields, found: _Found) -> None:
    domain, version = "", 0
    for number, kind in fields:
        if number == 1 and kind == BYTES:
            domain = _text(fields)
        elif number == 2 and kind == VARINT:
            version = signed(fields.value)
    found.opsets["" if domain == "ai.onnx" else domain] = version
    _check_count("opsets", len(found.opsets))


def _value(fields: Fields) -> GraphTensor:
    """A ValueInfoProto."""
    name, tensor = "", GraphTensor("", "", None, "unknown")
    for number, kind in fields:
        if number == 1 and kind == BYTES:
            name = _text(fields)
        elif number == 2 and kind == BYTES:
            tensor = _type(fields.inner())
    return GraphTensor(name, tensor.dtype, tensor.shape, tensor.kind)


def _type(fields: Fields) -> GraphTensor:
    tensor = GraphTensor("", "", None, "unknown")
    for number, kind in fields:
        if number == 1 and kind == BYTES:
            tensor = _tensor_type(fields.inner())
        elif number in _KINDS and kind == BYTES:
            tensor = GraphTensor("", "", None, _KINDS[number])
    return tensor


def _tensor_type(fields: Fields) -> GraphTensor:
    dtype = 0
    shape: tuple[int | str | None, ...] | None = None
    for number, kind in fields:
        if number == 1 and kind == VARINT:
            dtype = fields.value
        elif number == 2 and kind == BYTES:
            shape = _shape(fields.inner())
    return GraphTensor("", DTYPES.get(dtype, f"ONNX type {dtype}"), shape)


def _shape(fields: Fields) -> tuple[int | str | None, ...]:
    sizes: list[int | str | None] = []
    for number, kind in fields:
        if number == 1 and kind == BYTES:
            sizes.append(_axis(fields.inner()))
            _check_count("axes", len(sizes))
    return tuple(sizes)


def _axis(fields: Fields) -> int | str | None:
    size: int | str | None = None
    for number, kind in fields:
        if number == 1 and kind == VARINT:
            size = signed(fields.value)
        elif number == 2 and kind == BYTES:
            size = _text(fields) or None
    return size


def _text(fields: Fields) -> str:
    content = fields.content(_TEXT_LIMIT_BYTES)
    return content.decode("utf-8", "replace")


def _check_count(what: str, count: int) -> None:
    if count > _COUNT_LIMIT:
        raise WireError(f"more than {_COUNT_LIMIT} {what}")

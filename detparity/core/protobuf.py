"""The fields of a protobuf message in a file, what they hold passed over: read with the standard library alone, whatever the size."""

from __future__ import annotations

from typing import BinaryIO, Iterator, NamedTuple, Tuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
_LONGEST = 20  # bytes of a tag and a length
_FIXED = {FIXED64: 8, FIXED32: 4}


class Field(NamedTuple):
    """number and wire type; start, stop: of what it holds, in the file."""

    number: int
    wire: int
    start: int
    stop: int


def fields(stream: BinaryIO, start: int, stop: int) -> Iterator[Field]:
    """The fields of the message that lies there. Raises ValueError at what is none, after those before it."""
    position = start
    while position < stop:
        stream.seek(position)
        data = stream.read(_LONGEST)
        tag, used = _varint(data, 0)
        number, wire = tag >> 3, tag & 7
        length = _FIXED.get(wire, 0)
        if wire in (VARINT, BYTES):
            value, used = _varint(data, used)
            length = value if wire == BYTES else 0
        elif not length:
            raise ValueError(f"{wire} is no wire type")
        if not number:
            raise ValueError("a field has no number")
        first = position + used
        position = first + length
        yield Field(number, wire, first, position)


def _varint(data: bytes, at: int) -> Tuple[int, int]:
    """A number and the position after it."""
    value = 0
    for index, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError("a number does not end")

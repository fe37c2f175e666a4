"""Fields of a flatbuffer by their numbers in its schema, for files whose reader is not in a package."""

from __future__ import annotations

from typing import Any, Iterator

from flatbuffers import encode, number_types
from flatbuffers.table import Table

UINT8, INT16, UINT32 = number_types.Uint8Flags, number_types.Int16Flags, number_types.Uint32Flags
INT32 = number_types.Int32Flags


def root(content: bytes) -> Any:
    """The outermost table."""
    return Table(content, encode.Get(number_types.UOffsetTFlags.packer_type, content, 0))


def offset(table: Any, field: int) -> int:
    """Of a field within its table; 0 where it is not stored."""
    return int(table.Offset(4 + 2 * field))


def length(table: Any, field: int) -> int:
    """Of a vector."""
    at = offset(table, field)
    return int(table.VectorLen(at)) if at else 0


def number(table: Any, field: int, flags: Any) -> int:
    """An integer; 0 where it is not stored."""
    at = offset(table, field)
    return int(table.Get(flags, table.Pos + at)) if at else 0


def numbers(table: Any, field: int, flags: Any) -> Iterator[int]:
    """A vector of integers."""
    for k in range(length(table, field)):
        yield int(table.Get(flags, table.Vector(offset(table, field)) + flags.bytewidth * k))


def tables(table: Any, field: int) -> Iterator[Any]:
    """A vector of tables."""
    for k in range(length(table, field)):
        yield _inside(table, table.Vector(offset(table, field)) + 4 * k)


def inner(table: Any, field: int) -> Any:
    """A table in a field that is stored."""
    return _inside(table, table.Pos + offset(table, field))


def _inside(table: Any, at: int) -> Any:
    return Table(table.Bytes, table.Indirect(at))

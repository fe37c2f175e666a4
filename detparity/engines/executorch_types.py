"""In which types a .pte program stores what XNNPACK multiplies by: read from the graphs of that backend inside it.

Each is a flatbuffer with its identifier, by ExecuTorch's backends/xnnpack/serialization/schema.fbs; numbers of fields are from there.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, Tuple

from flatbuffers import encode, number_types
from flatbuffers.table import Table

IDENTIFIERS = (b"XN00", b"XN01")
VALUES, KIND, VALUE, DATATYPE, DIMS, CONSTANT = 2, 0, 1, 0, 2, 3  # fields of XNNGraph, XValue and XNNTensorValue
QUANTISED = 2  # the kind of a value that holds its tensor as its first field
TYPES = {1: "float32", 2: "float16", 3: "int8", 4: "uint8", 6: "int8", 8: "int4", 10: "int4", 11: "int8", 13: "float32"}
TYPES[14] = "bfloat16"


def stored(content: bytes) -> Dict[str, int]:
    """Constant numbers of more than one axis, by type."""
    found: Dict[str, int] = {}
    for identifier in IDENTIFIERS:
        at = content.find(identifier)
        while at >= 4:
            for kind, count in _tensors(content[at - 4 :]):
                found[kind] = found.get(kind, 0) + count
            at = content.find(identifier, at + 4)
    return found


def _tensors(graph: bytes) -> Iterator[Tuple[str, int]]:
    try:
        root = Table(graph, encode.Get(number_types.UOffsetTFlags.packer_type, graph, 0))
        for index in range(_length(root, VALUES)):
            entry = _inside(root, root.Vector(_offset(root, VALUES)) + 4 * index)
            tensor = _table(entry, VALUE)
            if _number(entry, KIND, number_types.Uint8Flags) == QUANTISED:
                tensor = _table(tensor, 0)
            count, start = _length(tensor, DIMS), _offset(tensor, DIMS)
            if _number(tensor, CONSTANT, number_types.Uint32Flags) and count > 1:
                sides = [tensor.Get(number_types.Uint32Flags, tensor.Vector(start) + 4 * k) for k in range(count)]
                kind = TYPES.get(_number(tensor, DATATYPE, number_types.Int16Flags), "")
                total = 1
                for side in sides:
                    total *= int(side)
                if kind:
                    yield kind, total
    except Exception:  # not such a graph: the four letters stand in other bytes
        return


def _offset(table: Any, field: int) -> int:
    return int(table.Offset(4 + 2 * field))


def _length(table: Any, field: int) -> int:
    at = _offset(table, field)
    return int(table.VectorLen(at)) if at else 0


def _number(table: Any, field: int, flags: Any) -> int:
    at = _offset(table, field)
    return int(table.Get(flags, table.Pos + at)) if at else 0


def _inside(table: Any, at: int) -> Any:
    return Table(table.Bytes, table.Indirect(at))


def _table(table: Any, field: int) -> Any:
    return _inside(table, table.Pos + _offset(table, field))

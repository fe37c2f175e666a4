"""In which types a .pte program stores what XNNPACK multiplies by: read from the graphs of that backend inside it.

Each is a flatbuffer with its identifier, by ExecuTorch's backends/xnnpack/serialization/schema.fbs; numbers of fields are from there.
"""

from __future__ import annotations

import math
from typing import Dict, Iterator, Tuple

from detparity.engines import flatbuffer

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
        for entry in flatbuffer.tables(flatbuffer.root(graph), VALUES):
            tensor = flatbuffer.inner(entry, VALUE)
            if flatbuffer.number(entry, KIND, flatbuffer.UINT8) == QUANTISED:
                tensor = flatbuffer.inner(tensor, 0)
            if flatbuffer.number(tensor, CONSTANT, flatbuffer.UINT32) and flatbuffer.length(tensor, DIMS) > 1:
                kind = TYPES.get(flatbuffer.number(tensor, DATATYPE, flatbuffer.INT16), "")
                if kind:
                    yield kind, math.prod(flatbuffer.numbers(tensor, DIMS, flatbuffer.UINT32))
    except Exception:  # not such a graph: the four letters stand in other bytes
        return

"""In which types a .mnn file stores the weights of its convolutions and its constants.

Numbers of fields are those of MNN's schema/default/MNN.fbs, CaffeOp.fbs and Tensor.fbs.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, Tuple

from detparity.engines import flatbuffer

OPERATORS, KIND, PARAMETER, TYPE = 3, 1, 2, 5  # fields of Net and Op
CONVOLUTION = 9  # the kind of an operator's parameter
WEIGHT, QUANTISED, SYMMETRIC = 1, 3, 4  # fields of Convolution2D
BUFFER, FORM, HALF = 0, 2, 3  # fields of IDSTQuan, and the form of one whose buffer is of float16
INT8_CONVOLUTIONS = (513, 515)  # types of an operator


def stored(content: bytes) -> Tuple[Dict[str, int], bool]:
    """Weights of convolutions by type, and whether an operator computes in integers."""
    found: Dict[str, int] = {}
    integers = False
    for operator in flatbuffer.tables(flatbuffer.root(content), OPERATORS):
        integers |= flatbuffer.number(operator, TYPE, flatbuffer.INT32) in INT8_CONVOLUTIONS
        if flatbuffer.number(operator, KIND, flatbuffer.UINT8) == CONVOLUTION:
            for kind, count in _weights(flatbuffer.inner(operator, PARAMETER)):
                found[kind] = found.get(kind, 0) + count
    return found, integers


def _weights(convolution: Any) -> Iterator[Tuple[str, int]]:
    yield "float32", flatbuffer.length(convolution, WEIGHT)
    if flatbuffer.offset(convolution, QUANTISED):
        quantised = flatbuffer.inner(convolution, QUANTISED)
        half = flatbuffer.number(quantised, FORM, flatbuffer.INT32) == HALF
        count = flatbuffer.length(quantised, BUFFER)
        yield ("float16", count // 2) if half else ("int8", count)
    if flatbuffer.offset(convolution, SYMMETRIC):
        yield "int8", flatbuffer.length(flatbuffer.inner(convolution, SYMMETRIC), 0)

"""The files beside an ONNX file that hold its tensors, found without reading tensors and without onnx."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Iterator, List, Tuple

from detparity.core import protobuf

GRAPH, INITIALIZER, EXTERNAL_DATA = 7, 5, 13  # fields of onnx.ModelProto, GraphProto, TensorProto
KEY, VALUE = 1, 2  # of onnx.StringStringEntryProto
MOST_FIELDS = 1_000_000  # no exporter writes more


def beside(path: Path) -> List[Path]:
    """Where an ONNX file keeps tensors outside itself; empty for any other file, and for one that cannot be read."""
    if path.suffix != ".onnx" or not path.is_file():
        return []
    try:
        with path.open("rb") as stream:
            return [path.parent / name for name in sorted(set(_locations(stream, path.stat().st_size)))]
    except (OSError, ValueError):  # it is reported where it is opened
        return []


def _locations(stream: BinaryIO, size: int) -> Iterator[str]:
    left = [MOST_FIELDS]
    for graph in _messages(stream, (0, size), GRAPH, left):
        for tensor in _messages(stream, graph, INITIALIZER, left):
            for entry in _messages(stream, tensor, EXTERNAL_DATA, left):
                if "location" in _texts(stream, entry, KEY, left):
                    yield from _texts(stream, entry, VALUE, left)


def _texts(stream: BinaryIO, span: Tuple[int, int], field: int, left: List[int]) -> List[str]:
    found = []
    for start, stop in _messages(stream, span, field, left):
        stream.seek(start)
        found.append(stream.read(stop - start).decode())
    return found


def _messages(stream: BinaryIO, span: Tuple[int, int], field: int, left: List[int]) -> Iterator[Tuple[int, int]]:
    """Begin and end of each value of a field in the message that lies at `span`. left: how many fields may yet be read.
    Raises ValueError for what is no message."""
    for one in protobuf.fields(stream, *span):
        left[0] -= 1
        if one.stop > span[1] or not left[0]:
            raise ValueError("cut short, or too large a message")
        if one.wire == protobuf.BYTES and one.number == field:
            yield one.start, one.stop

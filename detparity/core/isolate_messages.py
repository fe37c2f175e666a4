"""How a parent and its child process exchange requests: JSON and raw arrays in an unnamed shared file, and a word on a pipe."""

from __future__ import annotations

import json
import mmap
import os
import struct
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import numpy as np

Arrays = Mapping[str, np.ndarray]


Handler = Callable[[Mapping[str, Any], Arrays], Tuple[Any, Arrays]]


WORD = struct.Struct(
    "<QQ"
)  # the number of the worker addressed, and the length of the JSON at the start of the shared file


_ALIGN = 64


LEAST_BYTES = 1 << 20


class Shared:
    """The unnamed file both sides map. It grows, and is mapped again where the other side made it larger."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._map: Optional[mmap.mmap] = None

    def _mapped(self, size: int) -> mmap.mmap:
        if self._map is None or len(self._map) < size:
            there = os.fstat(self.descriptor).st_size
            if there < size:
                there = max(size, 2 * there, LEAST_BYTES)
                os.ftruncate(self.descriptor, there)
            self._map = mmap.mmap(self.descriptor, there)
        return self._map

    def write(self, content: Any, arrays: Arrays) -> int:
        """Put one message in; the length of its JSON."""
        described, offset = [], 0
        for name, array in arrays.items():
            described.append([name, array.dtype.str, list(array.shape), offset])
            offset += -(-array.nbytes // _ALIGN) * _ALIGN
        text = json.dumps([content, described]).encode()
        start = -(-len(text) // _ALIGN) * _ALIGN
        target = self._mapped(max(start + offset, 1))
        target[: len(text)] = text
        for (_, _, _, position), array in zip(described, arrays.values()):
            if array.nbytes:
                view = np.frombuffer(target, array.dtype, array.size, start + position).reshape(array.shape)
                view[...] = array
        return len(text)

    def read(self, length: int) -> Tuple[Any, Dict[str, np.ndarray]]:
        """Take one message out; the arrays are copies. Raises ValueError for what is no message."""
        size = os.fstat(self.descriptor).st_size
        if length > size:
            raise ValueError("a message is longer than the shared file")
        source = self._mapped(size)
        content, described = json.loads(source[:length])
        start = -(-length // _ALIGN) * _ALIGN
        arrays = {}
        for name, dtype, shape, position in described:
            kind = np.dtype(dtype)
            count = int(np.prod(shape, dtype=np.int64)) if shape else 1
            if kind.hasobject or count < 0 or start + position + count * kind.itemsize > size:
                raise ValueError(f"the array {name!r} does not fit the shared file")
            arrays[str(name)] = np.frombuffer(source, kind, count, start + position).reshape(shape).copy()
        return content, arrays


def exactly(descriptor: int, count: int) -> bytes:
    """Read so many bytes. Raises EOFError where the other side has closed."""
    found = b""
    while len(found) < count:
        part = os.read(descriptor, count - len(found))
        if not part:
            raise EOFError
        found += part
    return found

"""One text for each attribute and each constant: the same for equal values, different for different ones."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import numpy as np

FEW = 32  # as many numbers are spelled out; longer arrays and lists get a digest
LONG = 80  # characters of a text that are spelled out
WORD = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
PLAIN = ("float32", "int64")  # types that are not spelled out


def shape_text(shape: Any) -> str:
    """`32x3x3x3`; a scalar is `scalar`."""
    return "x".join(map(str, shape)) or "scalar"


def digest(value: np.ndarray) -> str:
    """The sha256 of the array's little-endian bytes in row order; of texts, of their JSON."""
    if value.dtype.kind in "OSU":
        return hashlib.sha256(json.dumps([str(item) for item in value.ravel()]).encode()).hexdigest()
    little = value.astype(value.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(np.ascontiguousarray(little).tobytes()).hexdigest()


def array_text(value: np.ndarray) -> str:
    """`0.45`, `[1, -1, 85]`, `[12.0, 16.0] as 1x1x2`, `int32 0`; `int64 8400 #d1ge57...` from FEW numbers on."""
    if value.size > FEW:
        return f"{value.dtype} {shape_text(value.shape)} #{digest(value)[:16]}"
    flat = [_item(item) for item in value.ravel()]
    text = flat[0] if value.ndim == 0 else f"[{', '.join(flat)}]"
    kind = "" if str(value.dtype) in PLAIN else "text " if value.dtype.kind in "OSU" else f"{value.dtype} "
    if not value.size and str(value.dtype) != "float32":
        kind = f"{value.dtype} "  # nothing in it distinguishes an integer from a float
    return f"{kind}{text}{f' as {shape_text(value.shape)}' if value.ndim > 1 else ''}"


def _item(item: Any) -> str:
    if isinstance(item, (str, bytes)):
        return text_of(item.decode(errors="backslashreplace") if isinstance(item, bytes) else item)
    if isinstance(item, (np.floating, np.integer, np.bool_, np.complexfloating)):
        return str(item)  # the shortest that reads back as the same number of its type
    return str(np.float64(item))  # the small types that numpy itself lacks


def text_of(value: str) -> str:
    """A text as it is where it is a word and no number, else in quotes; a long one by its digest."""
    if len(value) > LONG:
        return f"text of {len(value)} characters #{hashlib.sha256(value.encode(errors='backslashreplace')).hexdigest()[:16]}"
    return value if WORD.fullmatch(value) and not _is_number(value) else json.dumps(value)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def attribute_text(kind: str, value: Any) -> str:
    """An attribute's value, as `artifacts.onnx_graph.Attribute` has it. `1` and `1.0` are an INT and a FLOAT."""
    if kind == "FLOAT":
        return str(np.float32(value))
    if kind == "INT":
        return str(value)
    if kind == "STRING":
        return text_of(value)
    if kind == "TENSOR":
        return array_text(value)
    if kind == "REFERENCE":
        return f"@{value}"
    if kind in ("INTS", "FLOATS", "STRINGS", "TENSORS"):
        items = [attribute_text(kind[:-1], item) for item in value]
        if not items:
            return f"[] of {kind.lower()}"
        full = f"[{', '.join(items)}]"
        return full if len(items) <= FEW else f"{len(items)} {kind.lower()} #{_short(full)}"
    return f"{kind.lower()} #{_short(str(value))}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]

"""How an ONNX file takes its image: which input, of which type, with which order of axes; and what else it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Sequence, Tuple

import numpy as np

from detparity.artifacts.onnx_graph import Graph, Value
from detparity.core.precision import HALVES
from detparity.core.vocabulary import Arrays, Size

CHANNELS = 3
FLOATS = ("float32", "float64")
# What an input beside the image may be for, in the order it is tried: two numbers are most often the image's size.
FILLED = ("width, height", "height, width", "ones", "zeros")


@dataclass(frozen=True)
class InputForm:
    """image: the name of the input that takes the image, empty for a runtime that names none; dtype as numpy spells it; last: whether
    channels are the last axis; others: further inputs that a caller has to give."""

    image: str = ""
    dtype: str = "float32"
    last: bool = False
    others: Tuple[Value, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether the file takes (B, 3, H, W) float32 and nothing else."""
        return self.dtype in FLOATS and not self.last and not self.others

    @property
    def rounding(self) -> str:
        """What the type of the image does to its numbers: "8-bit", "float16", "bfloat16", or "" where it holds them."""
        if self.dtype in HALVES:
            return self.dtype
        return "8-bit" if integers(self.dtype) else ""

    def shape(self, images: np.ndarray) -> Tuple[int, ...]:
        """The shape in which (B, 3, H, W) images are given."""
        batch, channels, height, width = images.shape
        return (batch, height, width, channels) if self.last else (batch, channels, height, width)

    def feed(self, name: str, images: np.ndarray, filled: str) -> Dict[str, np.ndarray]:
        """What the file is called with for (B, 3, H, W) float32 images in 0..1, under the image's name."""
        given = images.transpose(0, 2, 3, 1) if self.last else images
        if integers(self.dtype):
            given = pixels(given, self.dtype)
        if not self.plain:
            given = np.ascontiguousarray(given.astype(_known(self.dtype)))
        size = (images.shape[2], images.shape[3])
        return {name: given, **{value.name: _fill(value, filled, len(images), size) for value in self.others}}


def integers(dtype: str) -> bool:
    """Whether an image of this type has integers for pixels, as numpy spells it."""
    return np.dtype(_known(dtype)).kind in "iu"


def pixels(images: np.ndarray, dtype: str) -> np.ndarray:
    """Images in 0..1 as integers of a type: 0 to 255, or -128 to 127 of int8. Integers are left as they are."""
    if images.dtype.kind in "iu":
        return images.astype(dtype)
    return (np.rint(images * np.float32(255)) - (128 if dtype == "int8" else 0)).astype(dtype)


def _known(dtype: str) -> str:
    """A type that numpy has; where it has not, the runtime says so of float32."""
    return dtype if dtype in ("float16", "float64", "uint8", "int8", "uint16", "int16", "int32", "int64") else "float32"


def _fill(value: Value, filled: str, batch: int, size: Size) -> np.ndarray:
    """Numbers for an input beside the image, of its declared shape; an axis without a number is the batch, or 1."""
    shape = tuple(
        dim if isinstance(dim, int) and dim > 0 else batch if axis == 0 else 1
        for axis, dim in enumerate(value.shape or ())
    )
    dtype = value.dtype if value.dtype == "bool" or value.dtype == "float32" else _known(value.dtype)
    if filled in FILLED[:2] and shape[-1:] == (2,):
        pair = size if filled == "height, width" else size[::-1]
        return np.broadcast_to(np.array(pair, dtype), shape).copy()
    return np.full(shape, filled != "zeros", dtype)


def input_form(graph: Graph) -> InputForm:
    """The form of a graph's inputs. The image is the first input of four axes with three channels, else the first of four axes,
    else the first."""
    given = [value for value in graph.inputs if value.name not in graph.initializers]
    if not given:
        return InputForm()
    four = [value for value in given if value.shape is not None and len(value.shape) == 4]
    coloured = [value for value in four if CHANNELS in (value.shape or ())[1::2]]
    image = (coloured or four or given)[0]
    others = tuple(value for value in given if value is not image)
    return InputForm(image.name, image.dtype, channels_last(image.shape), others)


def channels_last(shape: Optional[Sequence[object]]) -> bool:
    """Whether a declared shape of an image has its channels last."""
    return shape is not None and len(shape) == 4 and shape[3] == CHANNELS and shape[1] != CHANNELS


def in_order(shape: Sequence[object]) -> Tuple[object, ...]:
    """The declared axes of an image as batch, channels, height, width."""
    return (shape[0], shape[3], shape[1], shape[2]) if channels_last(shape) else tuple(shape)


def image_shape(graph: Graph) -> Tuple[object, ...]:
    """The declared shape of the image, in that order; empty where it declares none."""
    name = input_form(graph).image
    value = next((value for value in graph.inputs if value.name == name), None)
    return in_order(value.shape or ()) if value else ()


def transposed(outputs: Arrays, rows: int, fields: int) -> bool:
    """Whether the one output is (B, fields, rows) where (B, rows, fields) is promised."""
    arrays = list(outputs.values())
    return len(arrays) == 1 and rows != fields and arrays[0].ndim == 3 and arrays[0].shape[1:] == (fields, rows)

"""A part of which most numbers are zero: zeros take no room in a bundle, and every operator keeps its form.

Its weights become inputs, which a bundle stores compressed. Then half of an axis after the other is set to zero, in every input, where
that leaves some of what is wrong as it is: what other channels, rows and places give is not judged any more.
"""

from __future__ import annotations

from typing import Callable, List, Optional, Tuple

import numpy as np

from detparity.artifacts import onnx_fed
from detparity.checks.locating.bundle import Part, run
from detparity.core.errors import EngineDied, EngineError

Judge = Callable[[Part, Part], Optional[Part]]  # a part and a changed one: that, judged where both give the same


def blanked(part: Part, most: int, judge: Judge) -> Part:
    """The same with zeros, until it takes `most` bytes or nothing more can be left out."""
    fed = _fed(part, judge)
    for number in sorted(range(len(fed.inputs)), key=lambda one: -fed.inputs[one].nbytes):
        for axis in range(fed.inputs[number].ndim):
            if fed.size <= most:
                break
            fed = _narrowed(fed, number, axis, judge)
    return fed if fed.size < part.size else part


def _fed(part: Part, judge: Judge) -> Part:
    """Its weights as inputs, and products of few places by few channels, where it then gives the same."""
    model, weights = onnx_fed.weights_as_inputs(part.model)
    fed = _tried(part, model, [*part.inputs, *weights], judge) or part
    for data, weight, axis in onnx_fed.products(fed.model):
        inputs = _of_few_channels(fed.inputs, data, weight, axis)
        fed = (inputs and _tried(fed, fed.model, inputs, judge)) or fed
    return fed


def _of_few_channels(inputs: Tuple[np.ndarray, ...], data: int, weight: int, axis: int) -> Optional[List[np.ndarray]]:
    """Of a product over channels for p places the same over p channels, in another basis; None where there are not fewer. axis: of the
    channels in the weight, which are axis 1 of images and the last of rows."""
    x, w = inputs[data].astype(np.float64), inputs[weight].astype(np.float64)
    mine = 1 if axis == 1 else x.ndim - 1
    places = np.moveaxis(x, mine, -1).reshape(-1, x.shape[mine])
    if len(places) >= places.shape[1] or w.shape[axis] != places.shape[1]:
        return None
    basis, there = np.linalg.qr(places.T)  # (channels, p), (p, p)
    shape = [size for number, size in enumerate(x.shape) if number != mine]
    moved = np.moveaxis(there.T.reshape([*shape, len(places)]), -1, mine)
    found = list(inputs)
    found[data] = np.ascontiguousarray(moved, inputs[data].dtype)
    turned = np.moveaxis(np.tensordot(w, basis, (axis, 0)), -1, axis)
    found[weight] = np.ascontiguousarray(turned, inputs[weight].dtype)
    return found


def _narrowed(part: Part, number: int, axis: int, judge: Judge) -> Part:
    """With one axis of an input set to zero but for as short a piece of it as still shows the difference."""
    first, last = 0, part.inputs[number].shape[axis]
    while last - first > 1:
        middle = (first + last) // 2
        halves = [
            (one, ends)
            for ends in ((first, middle), (middle, last))
            for one in (_tried(part, part.model, _left(part, number, axis, *ends), judge),)
            if one is not None
        ]
        if not halves:
            break
        part, (first, last) = max(halves, key=lambda half: half[0].error)
    return part


def _left(part: Part, number: int, axis: int, first: int, last: int) -> List[np.ndarray]:
    """The inputs, one of them zero outside a piece of an axis."""
    found = list(part.inputs)
    found[number] = np.zeros_like(found[number])
    piece = tuple(slice(first, last) if k == axis else slice(None) for k in range(found[number].ndim))
    found[number][piece] = part.inputs[number][piece]
    return found


def _tried(part: Part, model: bytes, inputs: List[np.ndarray], judge: Judge) -> Optional[Part]:
    """The part with other inputs, where it still shows the difference."""
    try:
        found = run(model, inputs)
    except (EngineError, EngineDied):  # an operator that refuses them: the part stays as it is
        return None
    changed = judge(part, Part(model, tuple(inputs), found, part.expected, part.judged, part.allowed))
    return changed if changed is not None and changed.shows else None

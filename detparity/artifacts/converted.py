"""Outputs of a converted file in the model's order: converters drop the batch axis, exchange axes, and have an order of their own."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence

import numpy as np

from detparity.core.vocabulary import Arrays


def converted(found: Arrays, model: Sequence[np.ndarray]) -> Dict[str, np.ndarray]:
    """The outputs of a file, each in the shape of one of the model's and in their order, where each fits exactly one of them; else
    as they are. model: what it gives for the same images."""
    order: Dict[int, str] = {}
    fitted: Dict[str, np.ndarray] = {}
    for name, array in found.items():
        fits = [
            (k, one)
            for k, one in ((k, _in_shape(array, other.shape)) for k, other in enumerate(model))
            if one is not None
        ]
        same = len(found) == len(model) and any(k == len(fitted) for k, _ in fits)  # in its own position
        chosen = (
            next(((k, one) for k, one in fits if k == len(fitted)), None)
            if same
            else fits[0]
            if len(fits) == 1
            else None
        )
        if chosen is None or chosen[0] in order or chosen[1] is None:
            return dict(found)
        order[chosen[0]] = name
        fitted[name] = chosen[1]
    return {order[k]: fitted[order[k]] for k in sorted(order)}


def _in_shape(array: np.ndarray, shape: Sequence[int]) -> Optional[np.ndarray]:
    """The array in a shape that differs by axes of one, or by the order of the axes behind the batch."""
    if array.shape == tuple(shape):
        return array
    plain: List[int] = [side for side in array.shape if side != 1]
    if plain == [side for side in shape if side != 1]:
        return array.reshape(shape)
    if array.ndim == len(shape) == 3 and array.shape == (shape[0], shape[2], shape[1]):
        return array.transpose(0, 2, 1)
    if array.ndim == len(shape) == 4 and array.shape == (shape[0], shape[2], shape[3], shape[1]):
        return array.transpose(0, 3, 1, 2)
    return None

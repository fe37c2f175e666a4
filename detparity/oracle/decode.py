"""Decoding of the detection head in numpy, float64. Written from the published formula, independent of the torch code.

xy = (2 s - 0.5 + grid) stride, wh = (2 s)^2 anchor, scores = s, with s the sigmoid of the logit.
"""

from __future__ import annotations

from typing import List, Sequence, Tuple

import numpy as np

from detparity.core.vocabulary import ModelFacts


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * logits))


Levels = Tuple[np.ndarray, ...]


def decode(facts: ModelFacts, raw: Sequence[np.ndarray]) -> Tuple[Levels, Levels, Levels]:
    """Decode one image's logits, (na, ny, nx, fields) per level, to predictions and their two sensitivities.

    All are tuples of (rows, fields) per level, rows in order anchor, row, column. The sensitivities are the derivatives of each
    number by its own logit (px or probability per logit) and by the sigmoid of it.
    """
    levels: List[np.ndarray] = []
    slopes: List[np.ndarray] = []
    gains: List[np.ndarray] = []
    for logits, stride, anchors in zip(raw, facts.strides, facts.anchors):
        _, ny, nx, fields = logits.shape
        s = sigmoid(logits.astype(np.float64))
        ds = s * (1.0 - s)
        row, column = np.meshgrid(np.arange(ny), np.arange(nx), indexing="ij")
        anchor = np.asarray(anchors, np.float64)[:, None, None, :]
        values, gain = s.copy(), np.ones_like(s)
        values[..., 0:2] = (2.0 * s[..., 0:2] - 0.5 + np.stack([column, row], -1)) * stride
        gain[..., 0:2] = 2.0 * stride
        values[..., 2:4] = (2.0 * s[..., 2:4]) ** 2 * anchor
        gain[..., 2:4] = 8.0 * s[..., 2:4] * anchor
        levels.append(values.reshape(-1, fields))
        slopes.append((gain * ds).reshape(-1, fields))
        gains.append(gain.reshape(-1, fields))
    return tuple(levels), tuple(slopes), tuple(gains)

"""Where in a picture a file's numbers are off: errors in floors, by level, anchor and field, and cell by cell.

`checks/foreign/heat.py` does it for files of any detector."""

from __future__ import annotations

import base64
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from detparity.checks.context import Context, truth_head
from detparity.core.case import Case, called
from detparity.core.vocabulary import Picture
from detparity.inputs.encoded import png
from detparity.oracle.noise_floor import GROUPS, LIMITS, Truth, split_levels

MOST_FLOORS = 1e9  # of what is no number
FAINT, STRONG = (
    np.array([255.0, 214, 64, 90]),
    np.array([224.0, 16, 44, 165]),
)  # colour and opacity of little and of much


def heat_of(context: Context, picture: Picture) -> Optional[Dict[str, Any]]:
    """The entry `heat` of a report for one picture at the declared size; None where outputs are not compared number by number."""
    contract = context.contract
    if contract.variant.end2end:
        return None
    case = Case(contract.size, (picture,) * (1 if contract.variant.dynamic_batch else contract.batch))
    outputs = context.predict(case)
    if [array.shape for array in outputs.values()] != context.shapes(len(case.pictures), case.size):
        return None
    truth = context.truth(picture, case.size)
    levels = split_levels(truth_head(contract.variant), context.facts, case.size, outputs, 0)
    rows: List[Dict[str, Any]] = []
    worst: Tuple[float, Optional[np.ndarray], int, str] = (-1.0, None, 0, "")
    for level, (values, cells) in enumerate(zip(levels, context.facts.cells(case.size))):
        for group in GROUPS:
            floors = _floors(truth, values, level, group).reshape(context.facts.anchors_per_level, *cells)
            stride = int(context.facts.strides[level])
            highest = [round(float(one.max()), 3) for one in floors]
            rows.append({"stride": stride, "group": group, "anchors": highest})
            if max(highest) > worst[0]:
                worst = (max(highest), floors.max(axis=0), stride, group)
    assert worst[1] is not None
    return {
        "name": called(picture),
        "limit": LIMITS["max"],
        "stride": worst[2],
        "group": worst[3],
        "floors": worst[0],
        "cells": painted(worst[1]),
        "rows": rows,
    }


def _floors(truth: Truth, values: np.ndarray, level: int, group: str) -> np.ndarray:
    """The largest error of each row of a level, over the largest error of float32 there; what is no number counts as MOST_FLOORS."""
    error = np.abs(values[:, GROUPS[group]] - truth.levels[level][:, GROUPS[group]]).max(axis=1)
    return np.nan_to_num(error / truth.floor[level, group].max, nan=MOST_FLOORS, posinf=MOST_FLOORS)


def painted(floors: np.ndarray, worst: float = 0.0) -> str:
    """(ny, nx) floors as an image of one pixel a cell: clear up to 1 floor, then yellow to red, at the worst (or the limit)."""
    strongest = max(float(floors.max()), worst, LIMITS["max"])
    share = np.clip(np.log10(np.maximum(floors, 1.0)) / np.log10(strongest), 0.0, 1.0)[..., None]
    pixels = FAINT + share * (STRONG - FAINT)
    pixels[..., 3] *= share[..., 0] > 0
    return f"data:image/png;base64,{base64.b64encode(png(np.rint(pixels).astype(np.uint8))).decode()}"

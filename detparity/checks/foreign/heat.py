"""Where the numbers of any detector's file are off: errors in floors by output, field and level, over the rows of each."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from detparity.checks.foreign.context import ForeignContext
from detparity.checks.foreign.truth import paired
from detparity.checks.heat import MOST_FLOORS, painted
from detparity.core.case import Case, called
from detparity.core.vocabulary import Picture
from detparity.oracle.noise_floor import LIMITS
from detparity.oracle.output_floor import Group, tables_of

BINS = 64  # of the rows of a group, each as its worst row
SHOWN = 24  # groups of a report, the worst ones


def heat_of(context: ForeignContext, picture: Picture) -> Optional[Dict[str, Any]]:
    """The entry `heat` of a report for one picture at the declared size; None where nothing of it can be compared.

    Raises what the engine and the model raise."""
    case = Case(context.contract.size, (picture,) * context.contract.batch)
    truth, outputs = context.chosen_truth(case), context.predict(case)
    if any(outputs[name].ndim != array.ndim for name, array in truth.outputs.items()):
        return None
    one = truth.images[0]
    tables = tables_of(context.layout, {name: outputs[name] for name in truth.outputs}, 0)
    if not context.layout.selected and any(tables[name].shape != array.shape for name, array in one.tables.items()):
        return None
    floor = one.floor()
    mine, yours, _ = paired(one.tables, tables, context.layout, floor)
    found = [(group, _floors(group.of(mine), group.of(yours), floor[group].max)) for group in one.groups]
    found = [(group, floors) for group, floors in found if len(floors)]
    if not found:
        return None
    worst, floors = max(found, key=lambda pair: float(pair[1].max()))
    highest = float(floors.max())
    cells = _cells(worst, floors, case.size)
    return {
        "name": called(picture),
        "limit": LIMITS["max"],
        "stride": worst.stride,
        "group": f"{worst.output} {worst.field.name}",
        "floors": round(highest, 3),
        **({"cells": painted(cells)} if cells is not None else {}),
        "rows": _rows(found, highest),
    }


def _floors(one: np.ndarray, other: np.ndarray, floor: float) -> np.ndarray:
    """The largest error of each row over that of float32; what is no number on one side alone counts as MOST_FLOORS."""
    with np.errstate(invalid="ignore"):
        error = np.abs(other - one)
    both = ~np.isfinite(one) & ((one == other) | (np.isnan(one) & np.isnan(other)))
    error[both] = 0.0
    return np.nan_to_num(error.max(axis=1, initial=0.0) / floor, nan=MOST_FLOORS, posinf=MOST_FLOORS)


def _cells(group: Group, floors: np.ndarray, size: Tuple[int, int]) -> Optional[np.ndarray]:
    """The floors of a level as (ny, nx), where each cell of it has one row."""
    if not group.stride:
        return None
    shape = (-(-size[0] // group.stride), -(-size[1] // group.stride))
    return floors.reshape(shape) if shape[0] * shape[1] == len(floors) else None


def _rows(found: List[Tuple[Group, np.ndarray]], highest: float) -> List[Dict[str, Any]]:
    worst = sorted(range(len(found)), key=lambda index: -float(found[index][1].max()))[:SHOWN]
    rows = []
    for group, floors in (found[index] for index in sorted(worst)):
        bins = np.array([part.max() for part in np.array_split(floors, min(BINS, len(floors)))])
        name = f"{group.output} {group.field.name}"
        largest = round(float(floors.max()), 3)
        rows.append({"stride": group.stride, "group": name, "floors": largest, "strip": painted(bins[None], highest)})
    return rows

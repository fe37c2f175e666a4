"""Goldens of ratios: what one holds, when two are comparable, and whether one moved.

Seconds depend on the machine, ratios mostly on the export. Each is recorded with its noise, the spread of repeated measurements in the
same run, and is judged only on the processor, the threads and the versions it was recorded with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from detparity.core.statistics import RESOLUTION, median_interval

KIND = "runtime"


NOISES = 4.0  # how many noises a ratio may move


DIGITS = 4


@dataclass(frozen=True)
class Pair:
    """of, to: contenders by the titles `detparity bench` gives them."""

    of: str
    to: str
    about: str


PAIRS: Mapping[str, Pair] = {
    "decode": Pair("grid", "raw", "decoding all predictions in the graph"),
    "tail": Pair("end2end-ort", "raw", "suppression in the graph, of its own candidates only"),
    "dynamic": Pair("grid-dynamic", "grid", "leaving batch and size open"),
    "onnx": Pair("grid", "eager", "ONNX Runtime in place of PyTorch"),
    "traced": Pair("traced", "eager", "a trace in place of the model"),
    "frozen": Pair("traced, frozen", "traced", "freezing and optimising a trace"),
    "lite": Pair("lite", "traced", "the lite interpreter in place of TorchScript's"),
}


def names() -> List[str]:
    """The names of the goldens of ratios."""
    return [f"{KIND}/{name}" for name in PAIRS]


def content(
    pair: Pair, ratios: np.ndarray, given: Tuple[int, Tuple[int, int]], where: Mapping[str, str]
) -> Dict[str, Any]:
    """What a golden holds of a measured pair. ratios: (blocks, rounds); given: batch and size; where: processor, threads, versions."""
    middle = float(np.median(ratios))
    low, high = median_interval(ratios.ravel())
    spread = np.abs(np.log(np.median(ratios, axis=1) / middle))
    return {
        "of": pair.of,
        "to": pair.to,
        "batch": given[0],
        "size": list(given[1]),
        "ratio": round(middle, DIGITS),
        "interval": [round(low, DIGITS), round(high, DIGITS)],
        "noise": round(float(np.max(spread)), DIGITS),
        "rounds": int(ratios.size),
        "where": dict(sorted(where.items())),
    }


def comparable(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What keeps two contents from being compared: the first thing that differs of where they were measured; empty where nothing."""
    for key in sorted({*old["where"], *new["where"]}):
        if old["where"].get(key) != new["where"].get(key):
            return f"{key} {old['where'].get(key)}, and here {new['where'].get(key)}"
    return ""


def allowed(old: Mapping[str, Any], new: Mapping[str, Any]) -> float:
    """By how much, as a share, a ratio may differ from the recorded one: several times the larger noise of the two."""
    return max(RESOLUTION, NOISES * max(float(old["noise"]), float(new["noise"])))


def moved(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a ratio moved: all of its interval is further from the recorded ratio than noise explains."""
    bound = math.log1p(allowed(old, new))
    nearest = min(max(float(old["ratio"]), float(new["interval"][0])), float(new["interval"][1]))
    return abs(math.log(nearest / float(old["ratio"]))) > bound

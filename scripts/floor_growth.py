"""By how much the noise floor of an image grows with the ways of running float32: what docs/performance.md quotes.

python scripts/floor_growth.py
"""

from __future__ import annotations

import itertools
from typing import Dict, List

import numpy as np

from detparity.core.clock import Clock
from detparity.engines.reference_runs import make_oracle
from detparity.models.choice import ModelChoice, load_detector
from detparity.models.yolov7.seeded import seeded
from detparity.oracle.noise_floor import STATISTICS

SEEDED = (
    ("yolov7-tiny", 1.0),
    ("yolov7-tiny", 0.25),
    ("yolov7", 0.25),
    ("yolov7-w6", 0.25),
    ("yolov7-e6e", 0.25),
)
SIZES, KINDS, FIRST = ((256, 320), (384, 384)), ("mosaic", "scene"), 2


def main() -> None:
    models = [load_detector(ModelChoice()), *(seeded(name, width, seed) for name, width in SEEDED for seed in range(2))]
    found: Dict[str, List[float]] = {name: [] for name in STATISTICS}
    for detector in models:
        oracle = make_oracle(detector, Clock(), ("grid", "raw"))
        for kind, size, head in itertools.product(KINDS, SIZES, ("grid", "raw")):
            truths = make_oracle(detector, Clock(), (head,)).growing((kind, 0), size, head)
            before = [truth.floor for _, truth in zip(range(FIRST), truths)][-1]
            after = oracle.truth((kind, 0), size, head).floor
            for name, key in itertools.product(STATISTICS, after):
                found[name].append(getattr(after[key], name) / getattr(before[key], name))
        print(f"after {detector.facts.name}, times that a floor grew from {FIRST} runs to {len(oracle.ways)}")
        for name, grown in found.items():
            print(
                f"  {name:6}median {np.median(grown):.2f}, 99 % {np.quantile(grown, 0.99):.2f}, most {max(grown):.2f} of {len(grown)}"
            )


if __name__ == "__main__":
    main()

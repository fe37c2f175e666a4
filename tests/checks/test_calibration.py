"""No false alarm: correct exports of many random models, at random sizes, stay within the limits. Prints what
docs/tolerance.md quotes.

pytest tests/checks/test_calibration.py -m slow -s
"""

from __future__ import annotations

import numpy as np
import pytest

from detparity.checks.opening import make_context, open_file
from detparity.core.clock import Clock
from detparity.core.vocabulary import parse_variant
from detparity.engines.reference_runs import make_oracle
from detparity.inputs import images
from detparity.inputs.explore import explore
from detparity.inputs.images import batch_of
from detparity.models.yolov7.seeded import seeded
from detparity.oracle.noise_floor import STATISTICS, count_of, limit, measure, split_levels
from detparity.tools.export_cache import export_bytes

VARIANTS = ("grid", "raw", "grid-dynamic", "raw-dynamic-batch", "traced-dynamic")


def _reaches(run, folder):
    """Every statistic of one random export as (share of its limit, floors), by statistic; also the findings of compare."""
    rng = np.random.default_rng([run, 11])
    name = ("yolov7-tiny", "training-yolov7-tiny")[run % 2]
    detector = seeded(name, (0.125, 0.25, 0.25, 0.5)[int(rng.integers(4))], run, (80, 1, 3, 20)[int(rng.integers(4))])
    size = (32 * int(rng.integers(1, 9)), 32 * int(rng.integers(1, 9)))
    variant = parse_variant(VARIANTS[run % len(VARIANTS)], "grid" if run % 3 else "raw")
    path = folder / f"{run}.bin"
    path.write_bytes(export_bytes(detector, variant, size))
    clock = Clock()
    found = open_file(path, detector.facts, variant.name)
    oracle = make_oracle(detector, clock, (found.contract.variant.head,))
    context = make_context(detector, found, oracle, clock, explore)
    reaches = []
    for kind in rng.permutation(list(images.KINDS))[:4]:
        picture = (str(kind), int(rng.integers(1000)))
        for optimisation in ("all", "disabled") if variant.onnx else ("all",):
            outputs = context.run(batch_of([picture], size), optimisation=optimisation)
            truth = context.truth(picture, size)
            stats = measure(truth.levels, split_levels(truth.head, detector.facts, size, outputs, 0))
            for key, values in stats.items():
                for statistic in STATISTICS:
                    floors = getattr(values, statistic) / getattr(truth.floor[key], statistic)
                    reaches.append((statistic, floors / limit(statistic, count_of(truth, key)), floors))
    path.unlink()
    return reaches


def _judge(runs, tmp_path):
    reaches = [reach for run in runs for reach in _reaches(run, tmp_path)]
    print(f"\n{len(runs)} runs, {len(reaches)} statistics")
    for statistic in STATISTICS:
        share = np.array([r[1] for r in reaches if r[0] == statistic])
        floors = np.array([r[2] for r in reaches if r[0] == statistic])
        print(
            f"{statistic:5s} floors: median {np.median(floors):.2f}, 99 % {np.quantile(floors, 0.99):.2f}, largest {floors.max():.2f};"
            f" largest share of its limit {share.max():.2f}"
        )
    return max(share for _, share, _ in reaches)


@pytest.mark.slow
def test_two_hundred_random_exports_raise_no_alarm(tmp_path):
    assert _judge(range(200), tmp_path) < 1.0


@pytest.mark.proof
def test_an_export_of_each_variant_raises_no_alarm(tmp_path):
    """The same in small, in the default run: other seeds than the two hundred."""
    assert _judge(range(1000, 1000 + len(VARIANTS)), tmp_path) < 1.0

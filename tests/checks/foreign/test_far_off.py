"""The measurement behind FAR_OFF: near ties leave the median row where the model has one, other weights do not."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", minversion="1.13")

import torch
from detparity.kit.tests.checks.foreign.two_stages import WIDTH, Drawn, evaluated

from detparity.checks.foreign import parity
from detparity.checks.foreign.far_off import FAR_OFF, MANY_ROWS, plainly_wrong
from detparity.checks.foreign.rows import Explained
from detparity.core.case import Case
from detparity.core.findings import CannotRun, Finding
from detparity.core.layout import PRESETS
from detparity.oracle.output_floor import groups_of, tables_of
from detparity.oracle.row_matching import typical_distance

CANDIDATES, CHOSEN = 150, 40
LAYOUT = PRESETS["detr"]


class Many(Drawn):
    """As many rows as real models have; tied: the share of candidates that nearly tie with another."""

    def __init__(self, seed, tied):
        super().__init__(seed)
        rng = np.random.default_rng([seed, 77])
        self.candidates, self.count = CANDIDATES, CHOSEN
        groups = int(CANDIDATES * (1 - tied))
        self.group = np.concatenate([np.arange(groups), rng.integers(0, groups, CANDIDATES - groups)])
        score = self.score.numpy()[:, 0].astype(np.float64)
        across = rng.standard_normal((CANDIDATES, WIDTH))
        across -= np.outer(across @ score / (score @ score), score)
        self.across = torch.from_numpy(across.astype(np.float32))


def _compared(seed, tied, other_weights):
    """(the distance of the median row, whether that is called wrong) of a float32 evaluation against float64."""
    module = Many(seed, tied).eval()
    images = np.random.default_rng([seed, 5]).random((1, 3, 4, CANDIDATES), dtype=np.float32)
    with torch.no_grad():
        exact = {name: value.numpy() for name, value in module.double()(torch.from_numpy(images).double()).items()}
    module.float()
    rng = np.random.default_rng([seed, 9])
    for _, value in module.named_buffers() if other_weights else ():
        value.copy_(value[torch.from_numpy(rng.permutation(len(value)))])
    outputs, _ = evaluated(module, images, rng)
    one, other = (tables_of(LAYOUT, side, 0) for side in (exact, outputs))
    groups = groups_of(LAYOUT, one, (4, CANDIDATES))
    joined = [np.concatenate([group.of(side) for group in groups], axis=1) for side in (one, other)]
    scales = np.concatenate([np.full(group.of(one).shape[1], np.std(group.of(one))) for group in groups])
    return typical_distance(*joined, scales), plainly_wrong(groups, one, other)


@pytest.mark.parametrize("tied", [0.05, 0.5])
def test_near_ties_are_not_plainly_wrong_and_other_weights_are(tied):
    for seed in range(3):
        assert not _compared(seed, tied, False)[1]
        assert _compared(seed, tied, True)[1]


def test_few_rows_are_never_plainly_wrong():
    assert not plainly_wrong(groups_of(LAYOUT, _rows(MANY_ROWS - 1, 0), (4, 9)), _rows(MANY_ROWS - 1, 0), _rows(31, 9))
    assert plainly_wrong(groups_of(LAYOUT, _rows(MANY_ROWS, 0), (4, 9)), _rows(MANY_ROWS, 0), _rows(32, 9))


def _rows(count, by):
    rng = np.random.default_rng(0)
    names = ("logits", "pred_boxes")
    return {name: rng.random((count, width)) + by for name, width in zip(names, (3, 4))}


@pytest.mark.slow
def test_distances_of_the_median_row():
    """`FAR_OFF` parts the two, with a factor on either side."""
    rows = {}
    for other_weights in (False, True):
        rows[other_weights] = [
            _compared(seed, tied, other_weights)[0] for tied in (0.02, 0.1, 0.2, 0.5, 0.8) for seed in range(60)
        ]
    print(
        f"\ncorrect: at most {max(rows[False]):.3f} of {len(rows[False])}; other weights: at least {min(rows[True]):.3f}"
    )
    assert 1.5 * max(rows[False]) < FAR_OFF < min(rows[True]) / 1.5


@pytest.mark.parametrize(("by", "left", "found"), [(9, 80, True), (9, 50, False), (0, 80, False)])
def test_more_rows_than_near_ties_exchange_are_a_finding_where_they_are_far_off(monkeypatch, by, left, found):
    """Where 30 near ties are left: 80 rows far off are a finding; fewer, or as near as the model's, are what the ties may exchange."""
    case = Case((64, 96), (("noise", 0),))
    tables = _rows(MANY_ROWS, 0)
    image = SimpleNamespace(groups=groups_of(LAYOUT, tables, (4, 9)), tables=tables)
    truth = SimpleNamespace(images=[image], outputs={name: value[None] for name, value in tables.items()})
    context = SimpleNamespace(layout=LAYOUT, truth=lambda case: truth, choices=lambda case, every: ())
    monkeypatch.setattr(parity, "by_ties", lambda *_: Explained((), (), left, 30))
    outputs = {name: value[None] for name, value in _rows(MANY_ROWS, by).items()}
    wrong = Finding("selects other rows.")
    if found:
        assert parity.settled(context, case, outputs, wrong) is wrong
    else:
        with pytest.raises(CannotRun, match="30 near ties"):
            parity.settled(context, case, outputs, wrong)

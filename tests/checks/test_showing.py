"""When what differs on pictures is called near-ties: only where the checks that judged those pictures passed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from detparity.checks.showing import _within_noise
from detparity.core.findings import Outcome


@pytest.mark.parametrize(
    "photos, outcomes, expected",
    [
        ((), {"parity.declared": "passed", "parity.values": "passed"}, True),
        ((), {"nms.detections": "passed"}, True),
        ((), {"parity.declared": "passed", "parity.values": "failed"}, False),
        ((), {"structure.load": "passed"}, False),
        (("own",), {"parity.images": "passed"}, True),
        (("own",), {"parity.images": "passed", "parity.declared": "failed"}, False),
        (("own",), {"parity.images": "failed"}, False),
        (("own",), {"parity.declared": "passed"}, False),
        (("own",), {"parity.images": "skipped", "parity.declared": "passed"}, False),
    ],
)
def test_near_ties_rest_on_checks_that_passed(photos, outcomes, expected):
    found = {name: Outcome(name, "MUST", outcome) for name, outcome in outcomes.items()}

    assert _within_noise(SimpleNamespace(photos=photos, outcomes=found)) is expected

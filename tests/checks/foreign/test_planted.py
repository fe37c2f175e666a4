"""Every planted defect turns the check it names red."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", minversion="1.13")  # float64 of any module

from detparity.kit.tests.checks.foreign.registry import registry

from detparity.checks import ON_ENDPOINT
from detparity.checks.foreign import registry as checks
from detparity.core.contract import LEVELS
from detparity.core.text import render

pytestmark = pytest.mark.proof
PLANTED = registry()

# Checks that no planted defect turns red by itself, and why.
UNPROVEN = {
    "parity.images": "tests/checks/test_images.py judges a defect on pictures of a folder",
    **dict.fromkeys(ON_ENDPOINT, "tests/engines/test_kserve.py judges servers with such defects"),
    "structure.target": "of --for alone; tests/checks/test_target.py has files for every target",
    "engine.load": "of other engines alone; tests/engines/test_other_engines.py has files that they refuse",
    "engine.default": "of other engines alone; tests/engines/test_other_engines.py has a default that rounds otherwise",
    **dict.fromkeys(
        [name for name in checks() if name.startswith("precision.")],
        "of files of lower precision; tests/checks/test_precision.py and test_quantised.py plant defects in them",
    ),
    "nms.class-offset": "test_class_offset.py judges it on a captured head",
    "structure.load": "a file that ONNX Runtime refuses is refused by the checker too",
    "structure.inferred": "the home family's planted defects prove it: it reads the file alone",
    "parity.optimisation": "a runtime's own defect: its findings follow from parity.declared",
    "parity.threads": "a runtime's own defect: its findings follow from parity.declared",
    "script.load": "an archive torch cannot load is unusable and refused before any check runs",
    "script.devices": "needs a GPU; the home family's planted defects prove what it reads",
}


@pytest.mark.parametrize("name", PLANTED)
def test_the_named_check_turns_red(name, judged):
    planted = PLANTED[name]
    context = judged(
        planted.on, planted.kind, planted.make(), planted.module, planted.asked, planted.quick, planted.layout
    )
    outcome = context.outcome(planted.check)
    texts = [render(name, planted.check, finding) for finding in outcome.findings]

    assert outcome.outcome == "failed", f"{planted.about} {planted.check} {outcome.outcome}: {outcome.reason}"
    assert min((finding.level for finding in outcome.findings), key=LEVELS.index) == planted.level
    assert planted.says in " ".join(" ".join(texts).split()), "\n\n".join(texts)
    for finding in outcome.findings:
        assert finding.message.endswith(".") and "\n" not in finding.message
        assert all(isinstance(cell, str) for row in finding.rows for cell in row)


@pytest.mark.smoke
def test_every_check_is_proven():
    assert set(checks()) - {planted.check for planted in PLANTED.values()} == set(UNPROVEN)

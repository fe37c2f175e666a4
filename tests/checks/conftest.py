"""Files that are edited and judged in the same process."""

from __future__ import annotations

import onnx
import pytest

from detparity.artifacts.open import Asked
from detparity.checks.context import applicable
from detparity.checks.opening import make_context, open_file
from detparity.tools.export_cache import exported

SIZE = (64, 96)


@pytest.fixture(scope="module")
def clean(session, shared_folder):
    """Call with an exporter's name for a model (ONNX) or the bytes (TorchScript) of the bundled detector's export."""

    def load(name="grid", **options):
        content = exported(session.detector, name, options.pop("size", SIZE), shared_folder, **options).read_bytes()
        return content if name.startswith(("traced", "scripted", "lite")) else onnx.load_from_string(content)

    return load


@pytest.fixture
def judged(session, tmp_path):
    """Call with a model or the bytes of one for its context, judged against the bundled detector or the one given."""

    def judge(model, detector=None, oracle=None, name="edited.onnx", asked=Asked()):
        path = tmp_path / name
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        detector = detector or session.detector
        found = open_file(path, detector.facts, asked=asked)
        return make_context(detector, found, oracle or session.oracle_of(found.contract), session.clock)

    return judge


@pytest.fixture
def outcomes():
    """Call with a context for the outcomes of its checks, by id, but that of the slow evaluator, which decides nothing."""
    return lambda context: {
        check: context.outcome(check) for check in applicable(context) if check != "parity.evaluator"
    }


@pytest.fixture
def red():
    """Call with outcomes for the ids of checks that fail with a MUST and follow from no other."""

    def own(found):
        return {
            check
            for check, outcome in found.items()
            if outcome.outcome == "error"
            or any(finding.level == "MUST" and not finding.follows for finding in outcome.findings)
        }

    return own

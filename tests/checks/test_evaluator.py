"""The second implementation of every operator is slow by design, and decides nothing where it does not come to an end."""

import pytest

from detparity.core.errors import EngineDied


@pytest.mark.parametrize("how", ["time", "memory"])
def test_an_evaluator_that_is_ended_is_no_fault_of_the_file(clean, judged, monkeypatch, how):
    context = judged(clean())
    monkeypatch.setattr("detparity.checks.parity.EVALUATOR_PIXELS", 10**9)
    plain = context.predict

    def predict(case, **engine):
        if engine.get("engine") == "onnx_reference":
            raise EngineDied(how, "is not done after 110 s while onnx_reference runs it", 110.0)
        return plain(case, **engine)

    monkeypatch.setattr(context, "predict", predict, raising=False)
    outcome = context.outcome("parity.evaluator")
    assert (outcome.outcome, outcome.incomplete) == ("skipped", False)
    assert outcome.reason == "the reference evaluator is not done after 110 s while onnx_reference runs it"

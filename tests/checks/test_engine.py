"""What an engine computes by default, of files whose numbers no floor judges, and where its default does not run."""

from __future__ import annotations

import types

import pytest

from detparity import checks
from detparity.checks import engine, precision, quantised
from detparity.checks.foreign.context import OutputsDiffer
from detparity.checks.run import engine_facts
from detparity.core.budget import USUAL
from detparity.core.errors import EngineDied
from detparity.core.findings import CannotRun


def _context(default, **contract):
    """A file whose engine has these facts by default, or raises that."""

    def runner(precision="float32"):
        if precision == "float32":
            return types.SimpleNamespace(facts={"precision": "int8, float32", "winograd": "off"})
        if isinstance(default, Exception):
            raise default
        return types.SimpleNamespace(facts=default)

    return types.SimpleNamespace(
        runner=runner,
        engine=lambda: "ncnn",
        elsewhere=True,
        artifact=types.SimpleNamespace(kind="ncnn"),
        contract=types.SimpleNamespace(**contract),
    )


def test_a_file_of_8_bits_is_compared_with_no_floor():
    same = {"precision": "int8, float32", "winograd": "on"}
    other = {"precision": "int8, bfloat16", "winograd": "on"}

    assert list(engine.default(_context(same, quantised=True))) == []
    (found,) = engine.default(_context(other, quantised=True))
    assert found.level == "INFO" and found.message == "computes in int8, bfloat16 by default on this processor."


def test_a_default_that_ends_the_process_ends_no_run():
    facts = engine_facts(_context(EngineDied("crash", "crashes the process while openvino loads it")))

    assert (facts["name"], facts["by default"]) == ("ncnn", "")


def test_a_promised_precision_and_a_target_are_judged_where_an_engine_is_asked_for():
    assert {"precision.promised", "structure.target"} <= set(checks.on_engines(checks.registry()))


class _OfAnotherModel:
    """A file of any detector with more outputs than its model."""

    contract, notes, photos, budget = types.SimpleNamespace(), {}, (("scene", 0),), USUAL

    @property
    def layout(self):
        raise OutputsDiffer("has 3 outputs where the model gives 1")


def test_a_file_of_8_bits_with_other_outputs_than_its_model_violates():
    (found,) = quantised.budget(_OfAnotherModel())

    assert found.message == "has 3 outputs where the model gives 1."
    with pytest.raises(CannotRun, match="it has 3 outputs") as reason:
        precision._of_layout(_OfAnotherModel(), {})
    assert not reason.value.hides

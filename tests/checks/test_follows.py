"""One cause, one finding: what follows from another check's finding is marked, and keeps its outcome."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from detparity.kit.exporters.options import ExportOptions, to_onnx
from detparity.kit.tests.defects import edits
from onnx import TensorProto

from detparity.checks.follows import fold
from detparity.checks.inputs import FEWEST, distinct, pictures, slots_note
from detparity.core.case import Case
from detparity.core.vocabulary import parse_variant
from detparity.models.yolov7.network import FixedPredictions


def _follows(outcomes):
    return {
        check: finding.follows
        for check, outcome in outcomes.items()
        for finding in outcome.findings
        if finding.level == "MUST" and outcome.outcome == "failed"
    }


def test_one_excess_on_one_picture_is_one_finding(clean, judged, outcomes, red):
    model = clean()
    edits.on_columns(model, "output", 4, 5, lambda x, op: op("Sigmoid", x))
    found = outcomes(judged(model))

    assert red(found) == {"parity.declared"}
    assert _follows(found)["parity.values"] == _follows(found)["parity.optimisation"] == "parity.declared"


def test_one_excess_at_other_sizes_is_one_finding(clean, judged, outcomes, red):
    model = clean("grid-dynamic")
    edits.on_columns(model, "output", 4, 5, lambda x, op: op("Mul", x, 0.99))
    found = outcomes(judged(model))

    assert red(found) == {"parity.declared"}
    assert {"parity.values", "parity.sizes", "parity.batches"} <= set(_follows(found))


def test_what_fails_elsewhere_is_its_own(clean, judged, outcomes, red):
    """Objectness is a little wrong everywhere; on a black picture everything is."""
    model = clean()

    def scaled(x, op):
        total = op("ReduceSum", x, axes=[1, 2, 3], keepdims=1)
        return op("Mul", x, op("Div", total, op("Mul", total, 1.0)))

    edits.splice(model, "images", scaled)
    found = outcomes(judged(model))

    assert red(found) == {"parity.values"}


def test_a_baked_grid_is_one_finding(session, judged, outcomes, red):
    options, variant = ExportOptions((64, 96)), parse_variant("grid-dynamic")
    module = FixedPredictions(session.detector.network, options.size).eval()
    found = outcomes(judged(to_onnx(session.detector, variant, options, module)))

    assert red(found) == {"structure.baked-size"}
    assert _follows(found)["parity.sizes"] == "structure.baked-size"


def test_a_converted_output_is_one_finding(clean, judged, outcomes, red):
    model = clean()
    edits.splice(model, "output", lambda x, op: op("Cast", x, to=TensorProto.FLOAT16))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    found = outcomes(judged(model))

    assert red(found) == {"structure.outputs"}
    assert found["parity.declared"].outcome == "failed"


def test_detections_wrong_in_one_respect_are_one_finding(clean, judged, outcomes, red):
    model = clean("end2end-ort")
    concat = next(node for node in edits.nodes(model, "Concat") if node.output[0] == "output")
    edits.splice(model, concat.input[2], lambda x, op: op("Add", x, 1.0))
    found = outcomes(judged(model))

    assert _follows(found).get("nms.optimisation", "nms.detections") == "nms.detections"
    assert "nms.detections" in red(found)


def test_an_opset_of_operators_that_are_not_promised_follows(clean, judged, outcomes):
    model = clean()
    edits.splice(model, "output", lambda x, op: op("Decode", x, domain="vendor"))
    model.opset_import.append(onnx.helper.make_opsetid("vendor", 1))
    found = outcomes(judged(model))

    assert _follows(found)["structure.opset"] == "structure.operators"
    assert found["structure.opset"].outcome == "failed"


def test_another_opset_is_its_own(clean, judged):
    model = clean()
    next(item for item in model.opset_import if item.domain in ("", "ai.onnx")).version = 13
    edits.splice(model, "output", lambda x, op: op("Decode", x, domain="vendor"))
    model.opset_import.append(onnx.helper.make_opsetid("vendor", 1))
    context = judged(model)
    (finding,) = context.outcome("structure.opset").findings

    assert finding.follows == ""


def test_a_should_never_follows(clean, judged):
    context = judged(clean())

    assert fold(context, "structure.opset", ()) == ()


# --- large batches


@pytest.mark.parametrize("batch, size, count", [(1, (640, 640), 1), (4, (640, 640), 4), (32, (640, 640), 4)])
def test_few_pictures_of_a_large_batch_are_different(batch, size, count):
    found = pictures(batch, "scene", 1, size)

    assert (len(found), len(set(found)), found[0]) == (batch, count, ("scene", 1))
    assert distinct(batch, size) == count


@pytest.mark.parametrize("batch", [8, 16, 32, 64])
def test_no_shift_or_reversal_of_a_large_batch_leaves_it_as_it_is(batch):
    found = np.array([hash(picture) for picture in pictures(batch, "noise", 0, (1280, 1280))])

    assert len(set(found.tolist())) == FEWEST
    assert not (found == found[::-1]).all()
    assert all((np.roll(found, shift) != found).any() for shift in range(1, batch))


def test_the_other_pictures_are_those_of_every_case():
    cases = [pictures(32, kind, seed, (640, 640)) for kind, seed in (("noise", 0), ("scene", 0), ("black", 1))]

    assert len({picture for case in cases for picture in case}) <= 3 + 3


def test_a_report_states_how_many_pictures_differ(session, clean, judged):
    contract = judged(clean()).contract

    assert slots_note(contract) == ""
    assert Case((64, 96), pictures(2, size=(64, 96))).pictures == pictures(2)

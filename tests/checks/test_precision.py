"""Files of half precision: read as what they are, judged by the noise of half precision, and defects beyond it found."""

from __future__ import annotations

import types

import numpy as np
import pytest
from detparity.kit.exporters.low_precision import to_half
from detparity.kit.tests.defects import edits
from onnx import TensorProto

from detparity.artifacts.open import Asked
from detparity.checks import structure
from detparity.core.errors import EngineError, InputError
from detparity.core.findings import CannotRun
from detparity.core.precision import EPSILON, Precision, floor_of, named

HALF, FLOAT, BFLOAT = TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.BFLOAT16


def _sorted(model):
    """The nodes in an order that the standard allows, which onnxruntime's converter does not leave them in."""
    known = {value.name for value in model.graph.input} | {one.name for one in model.graph.initializer} | {""}
    left, done = list(model.graph.node), []
    while left:
        ready = [node for node in left if known.issuperset(node.input)]
        assert ready
        done += ready
        known.update(name for node in ready for name in node.output)
        left = [node for node in left if node not in ready]
    del model.graph.node[:]
    model.graph.node.extend(done)
    return model


def _converted(model, keep):
    float16 = pytest.importorskip("onnxruntime.transformers.float16")
    return _sorted(float16.convert_float_to_float16(model, keep_io_types=keep))


@pytest.mark.parametrize(
    "head, make, given",
    [
        ("grid", to_half, "float32"),
        pytest.param("raw", to_half, "float32", marks=pytest.mark.more),
        ("grid", lambda model: _converted(model, False), "float16"),
        pytest.param("grid", lambda model: _converted(model, True), "float32", marks=pytest.mark.more),
    ],
    ids=["ours", "ours-raw", "converted", "converted, float32 in and out"],
)
def test_a_good_half_file_passes_at_half_to_two_floors(head, make, given, clean, judged, outcomes, red):
    context = judged(make(clean(head)))
    assert (context.precision.name, context.contract.precision) == ("float16", "float16")
    assert context.form.dtype == given and set(context.oracle.ways) >= {"float16 layers"}

    found = outcomes(context)
    assert red(found) == set()
    assert found["parity.declared"].outcome == found["structure.weights"].outcome == "passed"


def _twice(model):
    name = edits.nodes(model, "Conv")[20].output[0]
    edits.splice(model, name, lambda x, op: op("Cast", op("Cast", x, to=BFLOAT), to=HALF))
    return model


def _lost_cast(model):
    node = next(one for one in reversed(model.graph.node) if one.op_type == "Cast")
    edits.rename(model, {node.output[0]: node.input[0]})
    model.graph.node.remove(node)
    return model


def _clipped(model):
    edits.on_columns(model, "output", 4, edits.END, lambda x, op: op("Min", x, 0.4))
    return model


def _over_one(model):
    edits.on_columns(model, "output", 4, 5, lambda x, op: op("Add", x, 0.75))
    return model


@pytest.mark.parametrize(
    "spoil, check, says",
    [
        (_twice, "precision.casts", "rounds to bfloat16 in a file of float16, in 1 nodes"),
        (_lost_cast, "structure.load", "does not load"),
        (_clipped, "parity.declared", "float16 itself does to this image"),
        (_over_one, "precision.scores", "gives scores outside 0 to 1 in 'output'"),
    ],
)
def test_what_half_precision_does_not_explain_is_found(spoil, check, says, clean, judged):
    outcome = judged(spoil(to_half(clean("grid")))).outcome(check)

    assert outcome.outcome == "failed", outcome.reason
    assert says in outcome.findings[0].message + str(outcome.findings[0].rows)


def test_an_offset_of_classes_in_half_precision_is_found(clean, judged):
    model = to_half(clean("end2end-ort"))
    assert judged(model).outcome("nms.class-offset").outcome == "passed"

    boxes = edits.nodes(model, "NonMaxSuppression")[0].input[0]
    edits.splice(model, boxes, lambda x, op: op("Cast", op("Cast", x, to=HALF), to=FLOAT))
    (finding,) = judged(model).outcome("nms.class-offset").findings
    assert finding.message.startswith("moves classes apart in float16: a box of the last class is at ")


def test_a_tensor_beyond_the_range_is_shown(clean, judged):
    model = to_half(clean("grid"))
    name = edits.nodes(model, "Conv")[20].output[0]

    def large(x, op):
        scales = (np.array(6e4, np.float16), np.array(1 / 6e4, np.float16))
        return op("Mul", op("Mul", x, scales[0]), scales[1])

    edits.splice(model, name, large)
    outcome = judged(model).outcome("precision.range")
    found = outcome.findings
    assert found, outcome.reason
    assert found[0].level == "INFO" and "the range of float16 (65504)" in found[0].message


def test_another_precision_than_promised_is_one_finding(clean, judged):
    context = judged(to_half(clean("grid")), asked=Asked(precision="float32"))

    (finding,) = context.outcome("precision.promised").findings
    assert finding.message == "is float16 by its weights where float32 is promised."
    assert context.outcome("parity.declared").outcome == "failed"  # judged as promised


@pytest.mark.parametrize(
    "weights, quantises, name, floor",
    [
        ({"float32": 100}, False, "float32", "float32"),
        ({"float16": 99, "float32": 1}, False, "float16", "float16"),
        ({"float16": 60, "float32": 40}, False, "mixed", "float16"),
        ({"float16": 10, "float32": 90}, False, "mixed", "float32"),
        ({"int8": 10, "float32": 90}, False, "mixed", "float32"),
        ({"int8": 10, "float32": 90}, True, "int8", "int8"),
        ({"bfloat16": 100}, False, "bfloat16", "bfloat16"),
        ({}, False, "float32", "float32"),
    ],
)
def test_a_precision_is_that_of_the_weights(weights, quantises, name, floor):
    found = Precision(named(weights, quantises), weights)

    assert (found.name, found.floor, floor_of(found, None)) == (name, floor, floor)
    assert floor_of(found, "float16") == "float16"
    assert found.floor == "int8" or found.floor in EPSILON


def test_bfloat16_without_kernels_is_not_judged_and_says_where_it_is():
    def runner(**how):
        raise EngineError("Could not find an implementation for Conv(22)")

    graph = types.SimpleNamespace(inputs=(), inferred={}, declared={}, constants={}, walk=lambda: ())
    context = types.SimpleNamespace(
        onnx=types.SimpleNamespace(died=None, graph=graph),
        runner=runner,
        contract=types.SimpleNamespace(precision="bfloat16"),
    )
    with pytest.raises(CannotRun, match=r"no kernels for bfloat16 on this processor.*--engine openvino") as reason:
        list(structure.load(context))
    assert reason.value.hides

    context.contract.precision = "float16"
    assert len(list(structure.load(context))) == 1


def test_a_half_torchscript_file_is_fed_and_judged_as_half(session, judged, outcomes, red):
    from detparity.core.vocabulary import parse_variant
    from detparity.tools.export_cache import export_bytes

    try:
        content = export_bytes(session.detector, parse_variant("traced"), (64, 96), half=True)
    except InputError as error:
        pytest.skip(str(error))
    context = judged(content, name="half.pt")
    assert (context.precision.name, context.contract.precision) == ("float16", "float16")
    assert red(outcomes(context)) == set()


def test_a_wholly_half_torchscript_file_is_given_half_images(session, judged, outcomes, red):
    import copy

    import torch
    from detparity.kit.exporters.options import ExportOptions
    from detparity.kit.tests.defects import modules

    from detparity.core.vocabulary import parse_variant
    from detparity.models.yolov7.network import Predictions

    try:
        module = copy.deepcopy(Predictions(session.detector.network)).half().eval()
        traced = torch.jit.trace(module, torch.zeros(1, 3, 64, 96).half())
    except RuntimeError as error:
        pytest.skip(f"this torch has no half kernels: {error}")
    content = modules.archive(traced, session.detector, parse_variant("traced"), ExportOptions((64, 96)))
    context = judged(content, name="half.pt")
    assert context.form.dtype == context.contract.precision == "float16"
    assert red(outcomes(context)) == set()

"""Stored weights: another model's file, files of lower precision, files without weights that can be compared."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from detparity.kit.tests.defects import edits
from onnx import TensorProto, helper

from detparity.artifacts.other_model import other_model
from detparity.checks.metadata import judge
from detparity.checks.weights import stored_convs
from detparity.core.clock import Clock
from detparity.core.contract import NmsPromise, contract_for
from detparity.core.vocabulary import parse_variant
from detparity.engines.reference_runs import make_oracle
from detparity.inputs import images
from detparity.models.yolov7.seeded import seeded
from detparity.tools.export_cache import exported

SIZE = (64, 96)


@pytest.fixture(scope="module")
def others():
    """Detectors by what they differ in from `yolov7-tiny` of width 0.125 with 5 classes."""
    return {
        "model": seeded("yolov7-tiny", 0.125, 0, 5),
        "classes": seeded("yolov7-tiny", 0.125, 0, 7),
        "width": seeded("yolov7-tiny", 0.25, 0, 5),
        "architecture": seeded("yolov7", 0.125, 0, 5),
        "weights": seeded("yolov7-tiny", 0.125, 1, 5),
    }


@pytest.fixture(scope="module")
def oracles():
    made = {}

    def of(detector):
        return made.setdefault(detector.facts.digest, make_oracle(detector, Clock(), ("grid",)))

    return of


def _message(context, check):
    return [finding.message for finding in context.outcome(check).findings]


OTHERS = {
    "classes": "is an export of another model: it scores 7 classes where the model has 5.",
    "width": "is an export of another model: ",
    "architecture": "is an export of another model: ",
    "weights": "stores the weights of another checkpoint: none of its 58 convolutions is the model's.",
}


OF_SHAPES = (
    "width",
    "architecture",
)  # seen by the shapes of the first convolutions, as "classes" is by those of the last


@pytest.mark.parametrize(
    "name, check, other",
    [
        *(
            pytest.param("grid", "structure.weights", other, marks=pytest.mark.more if other in OF_SHAPES else ())
            for other in OTHERS
        ),
        *(
            pytest.param("traced", "script.weights", other, marks=pytest.mark.more if other != "weights" else ())
            for other in OTHERS
        ),
    ],
)
def test_the_file_of_another_model_is_one_finding(
    name, check, other, others, oracles, shared_folder, judged, outcomes, red
):
    content = exported(others[other], name, SIZE, shared_folder).read_bytes()
    context = judged(
        content, others["model"], oracles(others["model"]), "other." + ("onnx" if name == "grid" else "pt")
    )
    found = outcomes(context)

    assert [outcome.reason for outcome in found.values() if outcome.outcome == "error"] == []
    assert _message(context, check)[0].startswith(OTHERS[other])
    assert found["parity.declared"].outcome == "failed"
    assert red(found) == ({check} if other != "weights" else {check, "parity.declared"})


def test_names_without_meaning_do_not_hide_another_model(others, oracles, shared_folder, judged, outcomes, red):
    model = onnx.load(str(exported(others["classes"], "grid", SIZE, shared_folder)))
    edits.rename(model, {tensor.name: f"onnx::Conv_{k}" for k, tensor in enumerate(model.graph.initializer)})
    found = outcomes(judged(model, others["model"], oracles(others["model"])))

    assert red(found) == {"structure.weights"}
    assert "scores 7 classes where the model has 5" in found["structure.weights"].findings[0].message


def test_a_few_convolutions_of_another_width_are_counted(others, shared_folder, judged):
    context = judged(exported(others["model"], "grid", SIZE, shared_folder).read_bytes(), others["model"])
    stored = stored_convs(context)
    wider = [
        one if k != 3 else type(one)(one.name, np.concatenate([one.weight, one.weight[:1]]), None)
        for k, one in enumerate(stored)
    ]

    assert other_model(others["model"].weights, stored, others["model"].facts) is None
    text = other_model(others["model"].weights, wider, others["model"].facts)
    assert text.startswith("holds 1 of 58 convolutions that fit nowhere in the model, the first is model.")
    assert " where the model has " in text


def _half(model):
    for index in range(len(edits.nodes(model, "Conv"))):
        name = edits.weight(model, index)
        edits.set_value(model, name, edits.value_of(model, name).astype(np.float16))
        edits.splice(model, name, lambda x, op: op("Cast", x, to=TensorProto.FLOAT))
    return model


def _pairs(model):
    """Weights in eight bits, one scale a channel, dequantised in the graph."""
    for index in range(len(edits.nodes(model, "Conv"))):
        name = edits.weight(model, index)
        values = edits.value_of(model, name)
        scale = (np.abs(values).reshape(len(values), -1).max(1) / 127).astype(np.float32)
        edits.set_value(model, name, np.rint(values / scale[:, None, None, None]).astype(np.int8))
        zero = np.zeros(len(values), np.int8)
        edits.splice(model, name, lambda x, op, s=scale, z=zero: op("DequantizeLinear", x, s, z, axis=0))
    model.opset_import[0].version = 13
    return model


@pytest.mark.parametrize("store, precision", [(_half, "float16"), (_pairs, "int8")])
def test_weights_are_compared_in_the_precision_that_the_file_stores(store, precision, clean, judged):
    context = judged(store(clean("raw")))

    assert context.contract.precision == context.precision.name == precision
    assert context.outcome("structure.weights").outcome == "passed"


@pytest.mark.parametrize("store", [_half, _pairs])
def test_weights_rounded_twice_are_found(store, clean, judged):
    model = clean("raw")
    name = edits.weight(model, 20)
    coarse = edits.value_of(model, name)
    edits.set_value(model, name, (coarse.view(np.uint32) & np.uint32(0xFFF00000)).view(np.float32))

    (message,) = _message(judged(store(model)), "structure.weights")
    assert message.startswith("stores 1 tensor that differs from the fused checkpoint, first model.")


def test_weights_that_become_integers_before_they_are_read_are_found(clean, judged):
    model = clean("raw")
    name = edits.weight(model, 20)
    edits.splice(model, name, lambda x, op: op("Cast", op("Cast", x, to=TensorProto.INT32), to=TensorProto.FLOAT))

    (message,) = _message(judged(model), "structure.weights")
    assert message.startswith("stores 1 tensor that differs from the fused checkpoint, first model.")


def test_exchanged_scales_of_channels_are_found(clean, judged):
    model = _pairs(clean("raw"))
    scale = next(node.input[1] for node in edits.nodes(model, "DequantizeLinear"))
    values = edits.value_of(model, scale)
    edits.set_value(model, scale, values[[1, 0, *range(2, len(values))]])

    (message,) = _message(judged(model), "structure.weights")
    assert message.startswith("stores 1 tensor that differs from the fused checkpoint, first model.")


def _optimised(source, target):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def _dynamic(source, target):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(source), str(target), weight_type=QuantType.QUInt8)


def _static(source, target):
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    pictures = iter([{"images": images.make("noise", SIZE, seed)[None]} for seed in range(2)])
    reader = type("Reader", (), {"get_next": lambda self: next(pictures, None)})()
    kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(str(source), str(target), reader, quant_format=QuantFormat.QOperator, **kinds)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make, own, says, weights",
    [
        (_optimised, {"structure.operators"}, "com.microsoft.nchwc", "failed"),
        (_dynamic, set(), "", "passed"),
        (
            _static,
            {"precision.calibration", "precision.resolution"},
            "An 8-bit file of ONNX Runtime: no other runtime reads these operators",
            "passed",
        ),
    ],
)
def test_what_onnx_runtime_writes_is_named_once(make, own, says, weights, clean, judged, outcomes, red, tmp_path):
    from onnxruntime.capi.onnxruntime_pybind11_state import (
        RuntimeException,
    )  # 1.10's tool reduces tensors of no numbers

    onnx.save(clean(), tmp_path / "clean.onnx")
    try:
        make(tmp_path / "clean.onnx", tmp_path / "made.onnx")
    except (ImportError, AttributeError, RuntimeException) as error:
        pytest.skip(f"this ONNX Runtime does not make it: {error}")
    found = outcomes(judged((tmp_path / "made.onnx").read_bytes()))

    assert [outcome.reason for outcome in found.values() if outcome.outcome == "error"] == []
    assert red(found) == own
    assert says in " ".join(_said(outcome) for outcome in found.values())
    assert found["structure.weights"].outcome == weights


def _said(outcome):
    return " ".join(" ".join((one.message, *map(str, one.rows), *one.notes)) for one in outcome.findings)


def test_a_file_without_comparable_weights_does_not_pass(clean, judged):
    model = clean()
    for index in range(len(edits.nodes(model, "Conv"))):
        edits.splice(model, edits.weight(model, index), lambda x, op: op("Add", x, 0.0))
    context = judged(model)
    outcome = context.outcome("structure.weights")

    assert (outcome.outcome, [finding.level for finding in outcome.findings]) == ("failed", ["SHOULD"])
    assert "none of the 58 convolutions could be compared" in outcome.findings[0].message
    assert context.outcome("parity.declared").outcome == "passed"


def test_a_frozen_module_is_compared(session, clean, judged, tmp_path):
    path = tmp_path / "traced.pt"
    path.write_bytes(clean("traced"))
    extra = {"detparity.json": ""}
    module = torch.jit.load(str(path), _extra_files=extra)
    frozen = torch.jit.freeze(module.eval())
    frozen.save(str(tmp_path / "frozen.pt"), _extra_files=extra)
    context = judged((tmp_path / "frozen.pt").read_bytes(), name="edited.pt")

    assert len(stored_convs(context)) == 58
    assert context.outcome("script.weights").outcome == "passed"


def _refolded(model, weights, epsilon):
    """The file with batch-norm folded by another epsilon."""
    convs = edits.nodes(model, "Conv")
    for index, conv in enumerate(weights):
        if conv.norm is None:
            continue
        factor = np.sqrt((conv.norm.variance + conv.norm.epsilon) / (conv.norm.variance + epsilon))
        weight, bias = convs[index].input[1:3]
        added = conv.norm.added
        values = edits.value_of(model, weight) * factor.reshape(-1, 1, 1, 1), (conv.bias - added) * factor + added
        for name, value in zip((weight, bias), values):
            edits.set_value(model, name, value.astype(np.float32))
    return model


def test_batch_norm_folded_with_another_epsilon_is_named(session, clean, judged, outcomes, red):
    model = _refolded(clean(), session.detector.weights, 1e-5)
    (message,) = _message(judged(model), "structure.weights")

    assert message.endswith(": batch-norm was folded with eps 1e-05, the model's is 0.001.")


def test_nor_is_it_named_where_it_leaves_something(session, clean, judged):
    model = _refolded(clean(), session.detector.weights, 1e-5)
    name = edits.weight(model, 12)
    edits.set_value(model, name, edits.value_of(model, name) * np.float32(1.001))
    (message,) = _message(judged(model), "structure.weights")

    assert "eps" not in message


def _no_input(model):
    node = model.graph.node.add(op_type="Identity")
    node.output.append(edits.nodes(model, "Conv")[3].input[1])


def _no_output(model):
    del edits.nodes(model, "Conv")[3].output[:]


def _circle(model):
    conv = edits.nodes(model, "Conv")[3]
    model.graph.node.extend([helper.make_node("Identity", ["a"], ["b"]), helper.make_node("Identity", ["b"], ["a"])])
    conv.input[1] = "a"


def _list_for_number(model):
    (alpha,) = edits.nodes(model, "LeakyRelu")[0].attribute
    alpha.CopyFrom(helper.make_attribute("alpha", [0.1, 0.2]))


@pytest.mark.parametrize("spoil", [_no_input, _no_output, _circle, _list_for_number])
def test_a_graph_that_makes_no_sense_breaks_no_check(spoil, clean, judged, outcomes):
    model = clean()
    spoil(model)
    found = outcomes(judged(model))

    assert [(outcome.check, outcome.reason) for outcome in found.values() if outcome.outcome == "error"] == []
    assert any(outcome.outcome == "failed" for outcome in found.values())


def test_a_tensor_of_another_shape_under_an_official_name_breaks_nothing(clean, judged):
    model = clean()
    name = edits.weight(model, 0)
    edits.set_value(model, name, np.concatenate([edits.value_of(model, name)] * 2))
    context = judged(model)

    assert context.outcome("structure.weights").outcome in ("failed", "passed")
    assert context.outcome("structure.attributes").outcome != "error"


@pytest.mark.parametrize(
    "value, says",
    [
        (lambda names: dict(enumerate(names)), ""),
        (lambda names: {str(k): name for k, name in reversed(list(enumerate(names)))}, ""),
        (lambda names: {k + 1: name for k, name in enumerate(names)}, "numbers its 5 class names 1 to 5, without 0"),
        (lambda names: names[:2], "2 classes"),
        (lambda names: [*names, "more"], "6 classes"),
        (lambda names: None, "names no classes"),
        (lambda names: {name: k for k, name in enumerate(names)}, "which is no class number"),
    ],
)
def test_names_in_metadata_are_read_by_class_number(value, says, session, clean, judged):
    model = clean()
    edits.set_metadata(model, names=json.dumps(value(list(session.detector.facts.names))))
    outcome = judged(model).outcome("structure.metadata")

    assert outcome.outcome == ("failed" if says else "passed")
    assert says in str([finding.rows for finding in outcome.findings])


@pytest.mark.parametrize(("key", "value"), [("conf-thres", 0.5), ("topk-all", 200), (None, None)])
def test_numbers_of_a_suppression_in_metadata_are_those_promised(key, value, session):
    promised = {"iou-thres": 0.45, "conf-thres": 0.25, "topk-all": 100, "max-wh": 4096}
    nms = NmsPromise(max_wh=4096.0)
    contract = contract_for(parse_variant("end2end-ort"), session.detector.facts, SIZE, nms=nms)
    stored = {**promised, **({key: value} if key else {})}
    found = [one for one in judge({"detparity.nms": json.dumps(stored)}, contract) if one.level == "MUST"]

    assert [one.evidence["keys"] for one in found] == ([[key]] if key else [])


def test_a_domain_is_one_finding_and_an_unused_one_is_a_should(clean, judged):
    model = clean()
    convs, activations = edits.nodes(model, "Conv"), {n.input[0]: n for n in edits.nodes(model, "LeakyRelu")}
    for conv in convs[:3]:
        activation = activations[conv.output[0]]
        conv.op_type, conv.domain = "FusedConv", "com.microsoft"
        edits.set_attribute(conv, "activation", "LeakyRelu")
        edits.set_attribute(conv, "activation_params", [0.1])
        conv.output[0] = activation.output[0]
        model.graph.node.remove(activation)
    for domain in ("com.microsoft", "ai.onnx.ml", "com.microsoft.nchwc"):
        model.opset_import.append(helper.make_opsetid(domain, 1))
    context = judged(model)
    (operators,) = context.outcome("structure.operators").findings
    used, unused = context.outcome("structure.opset").findings

    assert operators.rows[0][:2] == ("com.microsoft:FusedConv", "3 nodes")
    assert "Deploy the file it was made from" in operators.notes[0]
    assert (used.level, used.follows) == ("MUST", "structure.operators")
    assert (unused.level, unused.message) == (
        "SHOULD",
        "imports 2 domains that no node uses: ai.onnx.ml, com.microsoft.nchwc.",
    )
    assert context.outcome("structure.weights").outcome == "passed"

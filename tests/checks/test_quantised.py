"""Files of 8 bits: good and ruined ones are distinguished, each by the check that names what is wrong."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from detparity.kit.exporters.low_precision import _in_float, _Pictures, to_int8
from detparity.kit.tests.defects import edits

from detparity.checks import quantised
from detparity.core.budget import DEFAULTS, budget_of
from detparity.core.errors import InputError
from detparity.core.findings import CannotRun
from detparity.inputs import images
from detparity.oracle.detection_budget import Loss, Losses
from detparity.tools.export_cache import exported

pytest.importorskip("onnxruntime.quantization")
pytestmark = pytest.mark.filterwarnings("ignore")
SIZE = (128, 160)


@pytest.fixture(scope="module")
def source(session, shared_folder):
    pytest.importorskip("torch", minversion="1.8")  # the first that writes opset 13, which scales of channels need
    return exported(session.detector, "grid", SIZE, shared_folder, opset=13).read_bytes()


@pytest.fixture(scope="module")
def good(source):
    """A file of 8 bits, calibrated on scenes."""
    return to_int8(source, [images.make("scene", SIZE, 9000 + seed) for seed in range(8)])


@pytest.mark.parametrize(
    "photos, low, looked_at, wrong", [((), 0.06, 96, 1), ((), 0.04, 96, 0), (("mine",), 0.06, 24, 0)]
)
def test_where_24_scenes_leave_it_open_more_are_looked_at(photos, low, looked_at, wrong, monkeypatch):
    def lost(count):
        loss = Loss(0.08, low if count > quantised.SCENES else 0.02, 0.1)
        return Losses({"lost": loss}, count, 9 * count, 9 * count, True)

    monkeypatch.setattr(quantised, "_seen", lambda context, count: [None] * count)
    monkeypatch.setattr(quantised, "_losses", lambda context, seen: lost(len(seen)))
    monkeypatch.setattr(quantised, "_costliest", lambda context: [])
    monkeypatch.setattr(quantised, "knows_scenes", lambda contract: True)
    contract = SimpleNamespace(variant=SimpleNamespace(dynamic_size=False))
    artifact = SimpleNamespace(kind="torchscript")
    context = SimpleNamespace(photos=photos, notes={}, budget=budget_of(), contract=contract, artifact=artifact)
    if wrong:
        assert len(list(quantised.budget(context))) == 1
    else:
        with pytest.raises(CannotRun, match="open: give more by --images"):
            list(quantised.budget(context))
    assert context.notes["losses"].pictures == looked_at


@pytest.mark.parametrize(
    "plain, low, operator, domain, named",
    [
        (0.01, 0.06, "Conv", "", True),
        (0.01, 0.02, "Conv", "", True),
        (0.07, 0.06, "Conv", "", False),
        (0.01, 0.06, "QLinearConv", "", False),
        (0.01, 0.06, "MatMulIntegerToFloat", "com.microsoft", False),
    ],
)
def test_what_kernels_of_8_bits_lose_is_distinguished_from_what_rounding_does(
    plain, low, operator, domain, named, monkeypatch
):
    def seen(context, count, size=None, **engine):
        return [engine.get("optimisation", "all")] * count

    def lost(context, seen):
        loss = Loss(0.08, low, 0.1) if seen[0] == "all" else Loss(plain, 0.0, 0.1)
        return Losses({"lost": loss}, len(seen), 200, 200, True)

    monkeypatch.setattr(quantised, "_seen", seen)
    monkeypatch.setattr(quantised, "_losses", lost)
    monkeypatch.setattr(quantised, "_costliest", lambda context: [])
    graph = SimpleNamespace(nodes=[SimpleNamespace(op=operator, domain=domain)])
    context = SimpleNamespace(
        photos=("mine",),
        notes={},
        budget=budget_of(),
        contract=SimpleNamespace(variant=SimpleNamespace(dynamic_size=False)),
        artifact=SimpleNamespace(kind="onnx"),
        onnx=SimpleNamespace(graph=graph),
        elsewhere=False,
        endpoint=None,
        forget=lambda **how: None,
    )
    try:
        text = " ".join(note for finding in quantised.budget(context) for note in finding.notes)
    except CannotRun as reason:
        assert low < 0.05
        text = str(reason)
    assert ("is 0.0100. The rest is what the kernels of this processor add" in text) is named


def test_a_good_file_of_8_bits_conforms(good, judged, outcomes, red):
    context = judged(good)
    found = outcomes(context)

    assert context.contract.precision == "int8" and context.contract.opsets[""] == 13
    assert red(found) == set()
    assert not [one for one in found.values() if one.incomplete]
    losses = context.notes["budget"]["losses"]
    assert set(losses) == set(DEFAULTS) and all(row["low"] <= row["high"] for row in losses.values())


def test_calibration_on_black_images_is_found(source, judged):
    context = judged(to_int8(source, [np.zeros((3, *SIZE), np.float32)] * 2))

    (finding,) = context.outcome("precision.calibration").findings
    assert finding.message.startswith("was calibrated on other pictures: ")
    (over,) = context.outcome("precision.budget").findings
    assert over.message.startswith("is over its budget in ") and "Costliest tensors" in over.notes[0]


@pytest.mark.parametrize("share, over, level", [(0.22, False, "SHOULD"), (0.22, True, "MUST"), (0.6, False, "MUST")])
def test_a_range_that_costs_nothing_is_no_violation(share, over, level, good, judged, monkeypatch):
    """A yolo11n that 8 pictures calibrated had one tensor of 312 cut off in 22 % of its numbers on most of three pictures, and lost no
    box; more than half of a tensor cut off, and what detections lose by, remain findings that violate."""
    own = quantised._codes

    def codes(context):
        (first, *_), *others = own(context)
        return [(first, share, 200, True), *others]

    monkeypatch.setattr(quantised, "_codes", codes)
    monkeypatch.setattr(quantised, "_over_budget", lambda context: over)
    (finding,) = judged(good).outcome("precision.calibration").findings
    assert finding.level == level and f"cut off in {share:.0%} of its numbers" in finding.message


def test_what_detections_lose_decides_about_a_range(good, source, judged):
    assert not quantised._over_budget(judged(good))
    assert quantised._over_budget(judged(to_int8(source, [np.zeros((3, *SIZE), np.float32)] * 2)))


def _dequantising(model, index=-1):
    constants = {one.name for one in model.graph.initializer}
    return [node for node in edits.nodes(model, "DequantizeLinear") if node.input[0] not in constants][index]


def _constant_off(model, position, change):
    """Another scale or zero point where one tensor is read."""
    node = _dequantising(model, 20)
    value = change(edits.value_of(model, node.input[position]))
    node.input[position] = edits.add_constant(model, value)
    return model


@pytest.mark.parametrize(
    "spoil",
    [
        lambda model: _constant_off(model, 1, lambda scale: (scale * np.float32(256 / 255)).astype(np.float32)),
        lambda model: _constant_off(model, 2, lambda zero: (zero + np.uint8(1)).astype(zero.dtype)),
        lambda model: _constant_off(model, 1, lambda scale: (scale * np.float32(2)).astype(np.float32)),
    ],
    ids=["scale off by one step", "zero point off by one", "wrong scale"],
)
def test_a_tensor_read_by_another_scale_is_found(spoil, good, judged):
    (finding,) = judged(spoil(onnx.load_from_string(good))).outcome("precision.scales").findings

    assert finding.message.startswith("reads 1 quantised tensors by another scale than they were made by, first in ")


def _reversed(x, op):
    return op("Gather", x, np.array([2, 1, 0]), axis=1)


def _cut_to_integers(x, op):
    return op("Cast", op("Cast", x, to=onnx.TensorProto.INT32), to=onnx.TensorProto.FLOAT)


@pytest.mark.parametrize(
    "where, change, cause", [(0, _reversed, "the channels of its image"), (-3, _cut_to_integers, "")]
)
def test_what_no_loss_shows_is_found_without_the_rounding(where, change, cause, good, judged):
    model = onnx.load_from_string(good)
    edits.splice(model, edits.nodes(model, "QuantizeLinear")[where].input[0], change)

    context = judged(model)
    (finding,) = context.outcome("precision.unrounded").findings
    assert (
        finding.message.startswith("without its rounding to 8 bits differs from the model at ")
        and cause in finding.message
    )
    assert context.outcome("structure.weights").outcome == "passed"


def test_exchanged_channels_are_found_under_another_name(good, judged):
    model = onnx.load_from_string(good)
    node = next(
        one for one in edits.nodes(model, "DequantizeLinear") if one.input[0].endswith("68.block.conv.weight_quantized")
    )
    value = edits.value_of(model, node.input[0])
    node.input[0] = edits.add_constant(model, np.concatenate([value[1::-1], value[2:]]))

    context = judged(model)
    (finding,) = context.outcome("structure.weights").findings
    assert finding.message == "stores 1 tensor that differs from the fused checkpoint, first model.68.conv.weight."
    assert context.outcome("precision.unrounded").reason == "blocked by structure.weights"


@pytest.mark.parametrize("form", ["QOperator", "dynamic"])
def test_other_forms_of_8_bits_are_judged_without_their_rounding(form, source, judged, tmp_path):
    from onnxruntime import quantization as tool

    if form == "dynamic":
        path, target = tmp_path / "x.onnx", tmp_path / "y.onnx"
        path.write_bytes(source)
        left = _in_float(onnx.load_from_string(source).graph)
        tool.quantize_dynamic(path, target, weight_type=tool.QuantType.QUInt8, nodes_to_exclude=left)
        made = target.read_bytes()
    else:
        pictures = [images.make("scene", SIZE, 9000)]
        made = _static(source, pictures, tmp_path, quant_format=tool.QuantFormat.QOperator)

    assert judged(made).outcome("precision.unrounded").outcome == "passed"


def _static(source, pictures, folder, **options):
    """As ONNX Runtime's tool does it by itself, heads in float."""
    from onnxruntime import quantization as tool

    model = onnx.load_from_string(source)
    path, target, left = folder / "x.onnx", folder / "y.onnx", _in_float(model.graph)
    path.write_bytes(source)
    reader = _Pictures(model.graph.input[0], pictures)
    tool.quantize_static(path, target, reader, nodes_to_exclude=left, **options)
    return target.read_bytes()


def test_biases_by_scales_of_other_channels_are_found(good, judged):
    model = onnx.load_from_string(good)
    constants = {one.name for one in model.graph.initializer}
    stored = [one for one in edits.nodes(model, "DequantizeLinear") if one.input[0] in constants]
    node = next(one for one in stored if edits.value_of(model, one.input[0]).dtype == np.int32)
    values = edits.value_of(model, node.input[1]).copy()
    values[[values.argmin(), values.argmax()]] = values[[values.argmax(), values.argmin()]]
    node.input[1] = edits.add_constant(model, values)

    (finding,) = judged(model).outcome("precision.scales").findings
    assert finding.message.startswith("stores biases of 1 convolutions by another scale than features and weights have")
    assert ", in 2 of " in finding.message


def test_one_unlike_picture_is_no_wrong_calibration(source, judged, tmp_path):
    black = judged(_static(source, [np.zeros((3, *SIZE), np.float32)] * 2, tmp_path, per_channel=True))
    share = {kind: {one[0].name: one[1] for one in quantised._codes(_on(black, kind))} for kind in ("black", "scene")}
    most = max(share["scene"], key=lambda name: share["scene"][name])

    assert share["scene"][most] > quantised.SATURATED > share["black"][most]


def _on(context, kind):
    """The same with two of three pictures of this kind."""
    other = "scene" if kind == "black" else "black"
    context.photos = ((kind, 0), (other, 1), (kind, 2))
    return context


def test_a_calibration_without_a_range_is_found(good, judged):
    model = onnx.load_from_string(good)
    node = edits.nodes(model, "QuantizeLinear")[10]
    edits.set_value(model, node.input[1], np.zeros((), np.float32))

    found = judged(model).outcome("precision.scales").findings
    assert any("whose scale is zero, no number or too small" in one.message for one in found)


def test_one_scale_for_pixels_and_scores_is_named(good, judged):
    model = onnx.load_from_string(good)
    scale, zero = np.array(1.3, np.float32), np.array(4, np.uint8)

    def coarse(x, op):
        return op("DequantizeLinear", op("QuantizeLinear", x, scale, zero), scale, zero)

    edits.splice(model, "output", coarse)
    (finding,) = judged(model).outcome("precision.resolution").findings
    assert finding.message.startswith("cannot resolve a score in 'output': ")
    assert "gives all of 'output' by one scale 1.3, zero point 4" in finding.message


@pytest.mark.parametrize("text", ["map50=x", "speed=1", "lost=-1", "map50"])
def test_a_budget_that_is_none_is_refused(text):
    with pytest.raises(InputError, match="is not one of its limits as NAME=NUMBER"):
        budget_of(text)


def test_a_budget_is_stated_over_the_defaults():
    found = budget_of("map50=0.01, lost=0")

    assert found.limits == {**DEFAULTS, "map50": 0.01, "lost": 0.0}
    assert found.text == "map50=0.01,lost=0"

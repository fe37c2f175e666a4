"""Good files of every layout pass every check that applies: no false alarm."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", minversion="1.13")  # float64 of any module

from detparity.kit.tests.checks.foreign import stand_ins
from detparity.kit.tests.checks.foreign.stand_ins import BATCH, SIZES, STAND_INS, STATIC, TRACED
from detparity.kit.tests.defects import edits

from detparity.checks.foreign.measured import low_power, measured
from detparity.checks.foreign.open_file import record
from detparity.core.verdict import outcome_record, worded

pytestmark = pytest.mark.proof
VARIED = (
    "ultralytics",
    "yolov5",
    "detr",
    "ultralytics-end2end",
    "several",
)  # sizes that vary have a batch that varies as well
SHOWN = {
    STATIC: 3,
    TRACED: 2,
}  # of these kinds the default run has every third and every second layout; of the others all


def _each():
    for number, (name, one) in enumerate(STAND_INS.items()):
        for kind in one.kinds():
            if kind != BATCH or name in VARIED:
                marks = () if number % SHOWN.get(kind, 1) == 0 else pytest.mark.more
                yield pytest.param(name, kind, marks=marks, id=f"{name}-{kind}")


def _file(name, kind, module=None):
    return stand_ins.traced_of(name, module) if kind == TRACED else stand_ins.onnx_of(name, kind, module)


def _bad(found):
    """What is not passed, in a few words."""
    return {
        check: [finding.message for finding in outcome.findings] or outcome.reason
        for check, outcome in found.items()
        if outcome.outcome != "passed"
    }


@pytest.mark.parametrize(("name", "kind"), list(_each()))
def test_every_check_passes(name, kind, judged, outcomes):
    context = judged(name, kind, _file(name, kind))
    assert _bad(outcomes(context)) == {}


@pytest.mark.parametrize("seed", [1, 2])
def test_every_check_passes_at_other_seeds(seed, judged, outcomes):
    module = stand_ins.made("ultralytics-nms", seed)
    context = judged("ultralytics-nms", STATIC, _file("ultralytics-nms", STATIC, module), module, quick=False)
    assert _bad(outcomes(context)) == {}


@pytest.mark.parametrize("name", ["yolov5", "detr", "ultralytics-end2end"])
def test_every_check_passes_in_full(name, judged, outcomes):
    context = judged(name, SIZES, _file(name, SIZES), quick=False)
    assert _bad(outcomes(context)) == {}
    assert low_power(context) == []


@pytest.mark.parametrize(
    ("name", "shift", "text"),
    [
        ("ultralytics", 60.0, "every score is 0 or 1"),
        ("ultralytics", -60.0, "no score exceeds"),
        ("ultralytics-nms", -60.0, "nothing is detected on any picture"),
        ("torchvision", -60.0, "nothing is detected on any picture"),
    ],
)
def test_low_power_is_stated(name, shift, text, judged, outcomes):
    module = stand_ins.made(name, shift=shift)
    context = judged(name, STATIC, _file(name, STATIC, module), module)
    found = outcomes(context)
    assert _bad(found) == {}

    stated = measured(context)["low_power"]
    assert any(text in one for one in stated), stated
    entry = {**record(context), "low_power": stated, "checks": [outcome_record(one, ()) for one in found.values()]}
    assert worded(entry, strict=False) == "conforms"
    assert worded(entry, strict=True) == "incomplete"


@pytest.mark.parametrize("name", list(STAND_INS))
def test_a_good_stand_in_has_power(name, judged):
    assert low_power(judged(name, STATIC, _file(name, STATIC))) == []


METADATA = {"task": "detect", "stride": "32", "names": str(dict(enumerate(stand_ins.NAMES))), "imgsz": "[64, 96]"}


@pytest.mark.parametrize(
    ("name", "metadata", "found"),
    [
        ("ultralytics", METADATA, "ultralytics"),
        ("ultralytics-seg", {**METADATA, "task": "segment"}, "ultralytics-seg"),
        ("ultralytics-obb", {**METADATA, "task": "obb"}, "ultralytics-obb"),
        ("ultralytics-nms", METADATA, "ultralytics-nms"),
        ("ultralytics-end2end", {**METADATA, "end2end": "True"}, "ultralytics-end2end"),
        ("ultralytics-end2end", {}, "ultralytics-end2end"),
        ("yolox", {"model_family": "YOLOX"}, "yolox"),
        ("detr", {}, "detr"),
        ("torchvision", {}, "torchvision"),
        ("yolov5", {}, "generic"),
        ("maps", {}, "generic"),
    ],
)
def test_a_file_states_its_layout(name, metadata, found, judged, outcomes):
    model = stand_ins.onnx_of(name)
    edits.set_metadata(model, **metadata)
    context = judged(name, STATIC, model, layout="")
    assert context.layout.name == found
    assert _bad({check: context.outcome(check) for check in ("parity.declared", "structure.metadata")}) == {}

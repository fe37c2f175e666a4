"""Class names of a checkpoint: a list, or a dictionary by class number; never moved, never made up."""

from __future__ import annotations

import json

import onnx
import pytest
from detparity.kit.exporters.onnx_grid import export
from detparity.kit.exporters.options import ExportOptions
from detparity.kit.tests.models.yolov7 import standins

from detparity.core.errors import InputError
from detparity.core.vocabulary import parse_variant
from detparity.models.choice import ModelChoice, load_detector
from detparity.models.compat.pickler import save
from detparity.models.yolov7 import yaml_config

COUNT = 12  # "10" comes before "2" as text
TABLE = {
    "nc": COUNT,
    "depth_multiple": 1.0,
    "width_multiple": 0.25,
    "anchors": [[10, 13, 16, 30, 33, 23]],
    "backbone": [[-1, 1, "Conv", [32, 3, 2]], [-1, 1, "Conv", [64, 3, 2]], [-1, 1, "Conv", [64, 3, 2]]],
    "head": [[[2], 1, "IDetect", ["nc", "anchors"]]],
}
NAMES = [f"label{k}" for k in range(COUNT)]


def _saved(names, folder):
    model = standins.build(yaml_config.plan_of(TABLE)[0], COUNT, 3)
    model.names = names
    path = folder / "best.pt"
    with standins.installed():
        save({"epoch": -1, "model": model, "ema": None}, path)
    return path


@pytest.mark.parametrize(
    "names",
    [
        NAMES,
        tuple(NAMES),
        dict(enumerate(NAMES)),
        {str(k): name for k, name in enumerate(NAMES)},
        {k: NAMES[k] for k in reversed(range(COUNT))},
        {str(k): NAMES[k] for k in sorted(range(COUNT), key=str)},
    ],
)
def test_names_are_sorted_by_class_number(names, tmp_path):
    detector = load_detector(ModelChoice((_saved(names, tmp_path),)))

    assert detector.facts.names == tuple(NAMES)


def test_export_writes_them_in_that_order(tmp_path):
    detector = load_detector(ModelChoice((_saved({str(k): name for k, name in enumerate(NAMES)}, tmp_path),)))
    content = export(detector, parse_variant("grid"), ExportOptions((64, 64)))
    entries = {item.key: item.value for item in onnx.load_from_string(content).metadata_props}

    assert json.loads(entries["names"]) == NAMES


@pytest.mark.parametrize(
    "names, says",
    [
        ({k + 1: name for k, name in enumerate(NAMES)}, "numbers its 12 class names 1 to 12, without 0"),
        (
            {k if k < 5 else k + 1: name for k, name in enumerate(NAMES)},
            "numbers its 12 class names 0 to 12, without 5",
        ),
        (NAMES[:2], "names 2 classes but its head scores 12"),
        ([*NAMES, "more"], "names 13 classes but its head scores 12"),
        ({**dict(enumerate(NAMES)), "3": "again"}, "has two names for class 3"),
        ({name: k for k, name in enumerate(NAMES)}, "has a class name under 'label0', which is no class number"),
        ({**{k: name for k, name in enumerate(NAMES) if k != 1}, True: "label1"}, "which is no class number"),
        ({}, "names no classes"),
        ([], "names no classes"),
        (None, "names no classes"),
        ("label", "neither a list nor a dictionary"),
    ],
)
def test_other_names_are_one_line(names, says, tmp_path):
    with pytest.raises(InputError, match=says) as raised:
        load_detector(ModelChoice((_saved(names, tmp_path),)))

    assert "\n" not in str(raised.value)

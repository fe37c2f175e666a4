"""Verdicts on the real files of the official export script, where they lie beside the checkout."""

from __future__ import annotations

import pytest

from detparity.checks.baked_size import _named
from detparity.checks.context import applicable
from detparity.checks.opening import make_context, open_file
from detparity.checks.session import Options, Session
from detparity.checks.weights import coverage
from detparity.core.contract import INFO
from detparity.core.vocabulary import parse_variant
from detparity.inputs.explore import explore
from detparity.models.choice import ModelChoice
from detparity.tools.export_cache import export_bytes

FOLDER = "artifacts/yolov7-tiny"


@pytest.fixture(scope="module")
def official(shared_data):
    """The session of the checkpoint those files were made from."""
    return Session(Options(ModelChoice((shared_data / "checkpoints" / "yolov7-tiny-torch1.13.pt",))))


def _context(official, path, variant=None):
    found = open_file(path, official.detector.facts, variant)
    return make_context(official.detector, found, official.oracle, official.clock, explore)


def _must(context):
    outcomes = [context.outcome(check) for check in applicable(context) if context.checks[check].level != INFO]
    assert [outcome for outcome in outcomes if outcome.outcome == "error"] == []
    return {
        outcome.check: [finding.message for finding in outcome.findings if finding.level == "MUST"]
        for outcome in outcomes
        if any(finding.level == "MUST" for finding in outcome.findings)
    }


@pytest.mark.parametrize(
    "name, variant",
    [
        ("grid.onnx", "grid"),
        pytest.param("grid-dynamic-batch.onnx", "grid-dynamic-batch", marks=pytest.mark.more),
        pytest.param("raw.onnx", "raw", marks=pytest.mark.more),
        ("grid.torchscript.pt", "traced"),
    ],
)
def test_right_files_conform(name, variant, official, shared_data):
    context = _context(official, shared_data / FOLDER / name)

    assert context.contract.variant.name == variant
    assert context.contract.size == (320, 320)
    assert _must(context) == {}


def test_the_dynamic_file_violates_by_its_grid_and_its_axis(official, shared_data):
    found = _must(_context(official, shared_data / FOLDER / "grid-dynamic.onnx"))

    assert set(found) == {"structure.axes", "structure.baked-size", "parity.sizes", "parity.sequence"}
    assert found["structure.axes"] == ["declares axis 2 of 'output' as 'y': a symbol where 85 is promised."]
    assert "the grid of 320x320 baked in as 3 constants" in found["structure.baked-size"][0]


def test_the_trace_taken_as_dynamic_names_what_is_frozen(official, shared_data):
    found = _must(_context(official, shared_data / FOLDER / "grid.torchscript.pt", "traced-dynamic"))

    assert set(found) == {"script.baked-size", "parity.sizes", "parity.sequence"}
    assert found["script.baked-size"] == [
        "has the grid of 320x320 frozen into the trace as 3 constants, so it decodes at no other size."
    ]


def test_the_frozen_grids_are_shown_one_by_one(official, shared_data):
    """Shape, cells, the image size they belong to, and the line of the official model that the graph records. Any batch is right."""
    context = _context(official, shared_data / FOLDER / "grid.torchscript.pt", "traced-dynamic")
    (finding,) = context.outcome("script.baked-size").findings
    head, *rows = finding.rows

    assert head == ("constant", "shape", "cells", "image size", "recorded at")
    assert [row[:4] for row in rows] == [
        ("in the graph", f"1x1x{side}x{side}x2", f"{side}x{side}", "320x320") for side in (40, 20, 10)
    ]
    assert all("models/yolo.py" in row[4] for row in rows)
    assert context.outcome("parity.batches").outcome == "passed"
    # Nothing but the grid is stuck: without it the numbers of the graph name no size.
    assert list(_named(context, context.contract.size)) == []


@pytest.mark.parametrize("name", ["scripted", pytest.param("lite", marks=pytest.mark.more)])  # one graph, saved twice
def test_the_official_weights_can_be_scripted(name, official, tmp_path):
    path = tmp_path / "official"
    path.write_bytes(export_bytes(official.detector, parse_variant(name), (64, 96)))
    context = _context(official, path)

    for check in ("script.structure", "script.weights", "script.operators", "parity.declared", "parity.isolation"):
        assert context.outcome(check).outcome == "passed", check
    assert coverage(context) == (len(official.detector.weights), [])


def test_the_official_suppression_is_right_in_numbers_and_unsafe_in_its_offset(official, shared_data):
    context = _context(official, shared_data / FOLDER / "end2end-ort.onnx")
    found = _must(context)

    assert set(found) == {"nms.class-offset"}
    assert "the smallest safe offset is 509" in found["nms.class-offset"][0]
    assert context.outcome("nms.detections").outcome == "passed"


def test_the_official_dynamic_batch_calls_its_count_batch(official, shared_data):
    found = _must(_context(official, shared_data / FOLDER / "end2end-ort-dynamic-batch.onnx"))

    assert set(found) == {"nms.class-offset", "structure.axes", "structure.shapes"}
    assert found["structure.axes"] == ["declares axis 0 of 'output' as 'batch': the name of another number."]


def test_the_official_plugin_node_has_wrong_types_and_right_numbers(official, shared_data):
    context = _context(official, shared_data / FOLDER / "end2end-trt.onnx")
    found = _must(context)

    assert set(found) == {"nms.attributes", "structure.axes"}
    assert "background_class, box_coding" in found["nms.attributes"][0]
    assert len(found["structure.axes"]) == 4
    assert all("a numeral used as a symbol" in message for message in found["structure.axes"])
    assert [context.outcome(check).outcome for check in ("nms.detections", "nms.tail", "nms.repeat")] == ["passed"] * 3

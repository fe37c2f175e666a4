"""What numbers of an output mean: levels, tables, and which layout a file has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detparity.core.layout import (
    PRESETS,
    STRIDES,
    Layout,
    OutputLayout,
    fields_of,
    fits,
    generic,
    levels,
    recognise,
    table,
)
from detparity.oracle.output_floor import groups_of, tables_of

FAST = settings(max_examples=100, derandomize=True, database=None, deadline=None)
SIDES = st.integers(1, 20).map(lambda n: n * 32)
SHAPES = st.lists(st.integers(1, 7), max_size=5).map(tuple)


@FAST
@given(SIDES, SIDES, st.sampled_from(STRIDES), st.sampled_from([1, 3]))
def test_levels_of_a_pyramid(height, width, strides, anchors):
    counts = [anchors * -(-height // stride) * -(-width // stride) for stride in strides]
    found = levels(sum(counts), (height, width))
    assert [first for _, first, _ in found] == [0, *(last for _, _, last in found[:-1])]
    assert found[-1][2] == sum(counts)
    if all(stride for stride, _, _ in found) and len(found) == len(strides) and found[0][0] == strides[0]:
        assert [last - first for _, first, last in found] == counts


@FAST
@given(st.integers(0, 5000), SIDES, SIDES)
def test_levels_cover_every_row_once(rows, height, width):
    found = levels(rows, (height, width))
    assert found[0][1] == 0 and found[-1][2] == rows
    assert all(before[2] == after[1] for before, after in zip(found, found[1:]))
    if found[0][0] == 0:
        assert found == [(0, 0, rows)]


@FAST
@given(SHAPES, st.one_of(st.none(), st.integers(1, 3)))
def test_generic_tables_hold_every_number_once(shape, batch):
    array = np.arange(float(np.prod(shape, dtype=int))).reshape(shape)
    layout = generic([shape], batch)
    images = shape[0] if layout.outputs[0].batched else 1
    seen = np.concatenate([table(layout.outputs[0], array, image).ravel() for image in range(images)])
    assert sorted(seen.tolist()) == array.ravel().tolist()
    for values in (table(layout.outputs[0], array, image) for image in range(images)):
        assert values.ndim == 2


@FAST
@given(SHAPES, st.integers(1, 3), SIDES)
def test_groups_hold_every_number_once(shape, batch, side):
    layout = generic([shape], batch)
    tables = tables_of(layout, {"a": np.ones(shape)}, 0)
    counted = sum(group.of(tables).size for group in groups_of(layout, tables, (side, side)))
    assert counted == tables["a"].size


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("columns", [60, 85])
def test_fields_of_presets_hold_every_column_once(name, columns):
    for one in PRESETS[name].outputs:
        covered = [k for field in fields_of(one, columns) for k in range(columns)[field.start : field.stop]]
        assert covered == list(range(columns))


@pytest.mark.parametrize(
    ("name", "shape", "fit"),
    [
        ("ultralytics", (1, 5, 9), True),
        ("ultralytics", (1, 4, 9), False),
        ("ultralytics", (5, 9), False),
        ("ultralytics-obb", (1, 6, 9), True),
        ("ultralytics-obb", (1, 5, 9), False),
        ("ultralytics-end2end", (1, 9, 7), True),
        ("ultralytics-end2end", (1, 9, 5), False),
    ],
)
def test_what_fits(name, shape, fit):
    assert fits(PRESETS[name], [np.zeros(shape)]) is fit


def test_tables_of_images_follow_the_axis():
    array = np.random.default_rng(0).random((2, 9, 5))
    for image in range(2):
        assert np.array_equal(table(OutputLayout((), 1), array, image), array[image].T)
        assert np.array_equal(table(OutputLayout((), 2), array, image), array[image])
        assert np.array_equal(table(OutputLayout((), -1), array, image), array[image])
    assert np.array_equal(table(OutputLayout((), 1, False), array[0], 0), array[0])


@FAST
@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_empty_rows_of_a_selection_are_left_out(used):
    rows = np.where(np.array(used)[:, None], np.arange(1.0, 7.0), 0.0)[None]
    assert len(tables_of(PRESETS["ultralytics-nms"], {"a": rows}, 0)["a"]) == sum(used)
    assert len(tables_of(PRESETS["ultralytics"], {"a": rows.transpose(0, 2, 1)}, 0)["a"]) == len(used)


def test_a_selection_whose_outputs_have_other_numbers_of_rows():
    outputs = {"boxes": np.ones((3, 4)), "labels": np.ones(2), "scores": np.ones(3)}
    assert {len(rows) for rows in tables_of(PRESETS["torchvision"], outputs, 0).values()} == {2}


TEXT = st.text(max_size=8)
METADATA = st.dictionaries(
    st.sampled_from(["task", "stride", "end2end", "model_family"]),
    st.one_of(st.sampled_from(["detect", "segment", "pose", "obb", "32", "True", "YOLOX"]), TEXT),
)
NAMES = st.sampled_from([("output0",), ("logits", "pred_boxes"), ("boxes", "labels", "scores"), ("a", "b")])


@FAST
@given(METADATA, NAMES, st.lists(SHAPES, min_size=3, max_size=3), st.one_of(st.none(), st.integers(1, 3)))
def test_whatever_is_recognised_fits(metadata, names, shapes, batch):
    outputs = {name: np.linspace(0, 1, int(np.prod(shape))).reshape(shape) for name, shape in zip(names, shapes)}
    found = recognise(outputs, metadata, batch)
    assert isinstance(found, Layout) and fits(found, list(outputs.values()))
    tables = tables_of(found, outputs, 0)
    for name, array in tables.items():
        covered = sum(group.of(tables).size for group in groups_of(found, tables, (64, 96)) if group.output == name)
        assert covered == array.size


@pytest.mark.parametrize(
    ("metadata", "shape", "name"),
    [
        ({"task": "detect", "stride": "32"}, (1, 84, 8400), "ultralytics"),
        ({"task": "detect", "stride": "32"}, (1, 300, 6), "ultralytics-nms"),
        ({"task": "detect", "stride": "32", "end2end": "True"}, (1, 300, 6), "ultralytics-end2end"),
        ({"task": "pose", "stride": "32"}, (1, 56, 8400), "ultralytics-pose"),
        ({"task": "classify", "stride": "32"}, (1, 1000), "generic"),
        ({"task": "detect"}, (1, 84, 8400), "generic"),
        ({}, (1, 6, 8400), "generic"),
    ],
)
def test_by_metadata(metadata, shape, name):
    array = np.random.default_rng(0).random(shape)
    assert recognise({"output0": array}, metadata, shape[0]).name == name


@pytest.mark.parametrize(
    ("task", "more", "last", "selected"),
    [("segment", 32, "mask coefficients", False), ("pose", 51, "keypoints 0", True), ("obb", 1, "angle", True)],
)
def test_a_file_of_another_task_that_suppresses(task, more, last, selected):
    """ultralytics nms=True: rows of box, score, class number and what the task adds; prototypes have rows of their own."""
    metadata = {"task": task, "stride": "32", "kpt_shape": "[17, 3]"}
    outputs = {"output0": np.zeros((1, 300, 6 + more))}
    if task == "segment":
        outputs["output1"] = np.zeros((1, 32, 64, 64))
    found = recognise(outputs, metadata, 1)
    names = [field.name for field in fields_of(found.outputs[0], 6 + more)]
    assert names[:4] == ["corners", "score", "class", last] and (found.selected, found.box) == (selected, "xyxy")

"""What the numbers of an output mean, as data: columns by unit, boxes, scores, suppression or selection, preprocessing.

Presets for the families of detectors people export; `generic` where nothing is known: then every column is a group of its own.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

PIXELS, PROBABILITY, LOGIT, FRACTION, RADIANS, NUMBER = (
    "px",
    "probability",
    "logit",
    "fraction of the side",
    "rad",
    "number",
)
BOX, SCORE, CLASS, OTHER = "box", "score", "class", "other"
COLUMN = "column "  # begins the name of a field of which nothing else is known
MOST_COLUMNS = 256  # of a generic output, each a group of its own; beyond, they share one
STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32), (8, 16, 32, 64, 128))


@dataclass(frozen=True)
class Preprocessing:
    """What the model takes: pixel values from 0 to `scale`, from which `mean` is taken and which `std` divides, for each channel in
    units of 0..1; resize: "letterbox" or "stretch"."""

    scale: float = 1.0
    mean: Tuple[float, ...] = ()
    std: Tuple[float, ...] = ()
    resize: str = "letterbox"

    def apply(self, images: np.ndarray) -> np.ndarray:
        """(..., 3, H, W) float32 in 0..1 as the model takes them."""
        found = images
        if self.mean:
            mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (self.mean, self.std))
            found = (found - mean) / std
        return found if self.scale == 1.0 else found * np.float32(self.scale)


@dataclass(frozen=True)
class Field:
    """Columns `start` to `stop` (None: to the last; negative: from the end), of one unit and role. each: whether every column is a
    group of its own, as where units alternate."""

    name: str
    start: int
    stop: Optional[int]
    unit: str
    role: str = OTHER
    each: bool = False


@dataclass(frozen=True)
class OutputLayout:
    """One output. axis: that holds the fields, counted with the batch; fields: none means that each column is a group of its own;
    batched: whether axis 0 is the batch; name: by which outputs are put in order, where exporters differ in it."""

    fields: Tuple[Field, ...] = ()
    axis: int = -1
    batched: bool = True
    name: str = ""


@dataclass(frozen=True)
class Layout:
    """outputs: in the order of the file; box: "cxcywh", "xyxy" or "" where there is none; selected: whether the rows are a choice (by
    suppression or by score) out of more, in which case rows of all outputs belong together; after: what follows outside the file."""

    name: str
    outputs: Tuple[OutputLayout, ...]
    box: str = ""
    selected: bool = False
    after: str = ""
    preprocessing: Preprocessing = Preprocessing()
    rule: str = ""  # how the layout was found, for the report


CENTRES = (Field("xy", 0, 2, PIXELS, BOX), Field("wh", 2, 4, PIXELS, BOX))
CORNERS = (Field("corners", 0, 4, PIXELS, BOX),)
RELATIVE = (Field("box", 0, 4, FRACTION, BOX),)
CHOSEN = (*CORNERS, Field("score", 4, 5, PROBABILITY, SCORE), Field("class", 5, 6, NUMBER, CLASS))
LEVEL_RANK, LEVEL = 5, OutputLayout((Field("logits", 0, None, LOGIT),))
IMAGENET = Preprocessing(1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "stretch")


def _one(fields: Sequence[Field], axis: int) -> Tuple[OutputLayout, ...]:
    return (OutputLayout(tuple(fields), axis),)


def _posed(columns: int) -> Tuple[OutputLayout, ...]:
    """Boxes, classes, and so many columns of key points (x, y, visibility)."""
    score = Field("class", 4, -columns, PROBABILITY, SCORE)
    return _one((*CENTRES, score, Field("keypoints", -columns, None, NUMBER, each=True)), 1)


PRESETS: Mapping[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            "yolov5",
            _one(
                (*CENTRES, Field("objectness", 4, 5, PROBABILITY, SCORE), Field("class", 5, None, PROBABILITY, SCORE)),
                2,
            ),
            "cxcywh",
            after="NMS on objectness x class",
        ),
        Layout("ultralytics", _one((*CENTRES, Field("class", 4, None, PROBABILITY, SCORE)), 1), "cxcywh", after="NMS"),
        Layout(
            "ultralytics-seg",
            (
                OutputLayout(
                    (
                        *CENTRES,
                        Field("class", 4, -32, PROBABILITY, SCORE),
                        Field("mask coefficients", -32, None, NUMBER),
                    ),
                    1,
                ),
                OutputLayout((Field("prototypes", 0, None, NUMBER),), 1),
            ),
            "cxcywh",
            after="NMS",
        ),
        Layout(
            "ultralytics-pose",
            _posed(17 * 3),
            "cxcywh",
            after="NMS",
        ),
        Layout(
            "ultralytics-obb",
            _one((*CENTRES, Field("class", 4, -1, PROBABILITY, SCORE), Field("angle", -1, None, RADIANS)), 1),
            "cxcywh",
            after="NMS by rotated IoU",
        ),
        Layout("ultralytics-end2end", _one(CHOSEN, 2), "xyxy", True),
        Layout("ultralytics-nms", _one(CHOSEN, 2), "xyxy", True),
        Layout(
            "ultralytics-rtdetr",
            _one((*RELATIVE, Field("score", 4, 5, PROBABILITY, SCORE), Field("class", 5, 6, NUMBER, CLASS)), 2),
            "cxcywh",
            True,
            preprocessing=Preprocessing(resize="stretch"),
        ),
        Layout(
            "yolox",
            _one(
                (*CENTRES, Field("objectness", 4, 5, PROBABILITY, SCORE), Field("class", 5, None, PROBABILITY, SCORE)),
                2,
            ),
            "cxcywh",
            after="NMS on objectness x class",
            preprocessing=Preprocessing(255.0),
        ),
        Layout("yolo9", _one((*CORNERS, Field("class", 4, None, PROBABILITY, SCORE)), 1), "xyxy", after="NMS"),
        Layout(
            "detr",
            (OutputLayout((Field("logits", 0, None, LOGIT, SCORE),), 2), OutputLayout(RELATIVE, 2)),
            "cxcywh",
            after="top-k",
            preprocessing=Preprocessing(resize="stretch"),
        ),
        Layout(
            "torchvision",
            (
                OutputLayout(CORNERS, 1, False, "boxes"),
                OutputLayout((Field("class", 0, None, NUMBER, CLASS),), -1, False, "labels"),
                OutputLayout((Field("score", 0, None, PROBABILITY, SCORE),), -1, False, "scores"),
            ),
            "xyxy",
            True,
        ),
    )
}


def generic(shapes: Sequence[Tuple[int, ...]], batch: Optional[int]) -> Layout:
    """The layout of outputs of which nothing is known but their shapes. batch: images per input, None where it has no batch axis."""
    return Layout("generic", tuple(OutputLayout((), _axis(shape, batch), _batched(shape, batch)) for shape in shapes))


def _batched(shape: Tuple[int, ...], batch: Optional[int]) -> bool:
    return batch is not None and len(shape) > 1 and shape[0] == batch


def _axis(shape: Tuple[int, ...], batch: Optional[int]) -> int:
    """The axis of fields: of feature maps the second, of (batch, rows, fields) the shorter of the two, else the last."""
    if len(shape) == 4 and _batched(shape, batch):
        return 1
    if len(shape) == 3 and _batched(shape, batch):
        return 1 if shape[1] < shape[2] else 2
    return -1


def fields_of(layout: OutputLayout, columns: int) -> Tuple[Field, ...]:
    """The fields of an output with so many columns; a column of none is a group of its own."""
    if layout.fields:
        found: List[Field] = []
        for field in layout.fields:
            found += _columns(field, columns) if field.each else [field]
        taken = {column for field in found for column in range(columns)[field.start : field.stop]}
        return (*found, *(_column(index) for index in range(columns) if index not in taken))
    if columns > MOST_COLUMNS:
        return (Field("all columns", 0, None, NUMBER),)
    return tuple(map(_column, range(columns)))


def _column(index: int) -> Field:
    return Field(f"{COLUMN}{index}", index, index + 1, NUMBER)


def _columns(field: Field, columns: int) -> List[Field]:
    among = range(columns)[field.start : field.stop]
    return [replace(field, name=f"{field.name} {k}", start=at, stop=at + 1) for k, at in enumerate(among)]


def table(layout: OutputLayout, array: np.ndarray, image: int) -> np.ndarray:
    """(rows, columns) of one image of an output, the axis of fields last; every other axis counts as rows."""
    if layout.batched and array.ndim > 0:
        array = array[image]
        axis = layout.axis - 1 if layout.axis > 0 else layout.axis
    else:
        axis = layout.axis
    if array.ndim < 2:
        return array.reshape(-1, 1)
    moved = np.moveaxis(array, axis, -1)
    return moved.reshape(-1, moved.shape[-1])


def levels(rows: int, size: Tuple[int, int]) -> List[Tuple[int, int, int]]:
    """(stride, first row, last row + 1) of each level, where the number of rows is that of a pyramid at this size of image; else one
    level of stride 0."""
    for strides in STRIDES:
        cells = [-(-size[0] // stride) * -(-size[1] // stride) for stride in strides]
        anchors, left = divmod(rows, sum(cells))
        if not left and anchors in (1, 3):
            edges = np.cumsum([0, *(anchors * count for count in cells)])
            return [(stride, int(a), int(b)) for stride, a, b in zip(strides, edges, edges[1:])]
    return [(0, 0, rows)]


def recognise(
    outputs: Mapping[str, np.ndarray], metadata: Mapping[str, str], batch: Optional[int], classes: int = 0
) -> Layout:
    """The layout of a file by its metadata and by what its model gives; `generic` where neither says.

    outputs: of the reference, by name; metadata: of the file; classes: how many there are, 0 where that is not known.
    """
    arrays = list(outputs.values())
    decoded = {name: array for name, array in outputs.items() if array.ndim != LEVEL_RANK} or outputs
    for finder in (_by_metadata, _by_names, _by_selection, functools.partial(_by_classes, classes)):
        found = finder(decoded, metadata)
        if found is not None and _fits(with_levels(found, arrays), arrays):
            return with_levels(found, arrays)
    found = with_levels(generic([array.shape for array in decoded.values()], batch), arrays)
    return found if _fits(found, arrays) else generic([array.shape for array in arrays], batch)


def with_levels(layout: Layout, arrays: Sequence[np.ndarray]) -> Layout:
    """The layout, where logits by level (batch, anchors, height, width, fields) follow the outputs that it has, with those as well."""
    more = arrays[len(layout.outputs) :]
    if not all(array.ndim == LEVEL_RANK for array in more):
        return layout
    return replace(layout, outputs=(*layout.outputs, *(LEVEL for _ in more)))


def in_order(layout: Layout, names: Sequence[str]) -> Layout:
    """The layout with its outputs in the order of these names, where it names them."""
    known = {one.name: one for one in layout.outputs}
    return replace(layout, outputs=tuple(known[name] for name in names)) if set(known) == set(names) else layout


def fits(layout: Layout, arrays: Sequence[np.ndarray]) -> bool:
    """Whether outputs have the number and the ranks that a layout has."""
    return _fits(layout, arrays)


def _fits(layout: Layout, arrays: Sequence[np.ndarray]) -> bool:
    if len(layout.outputs) != len(arrays):
        return False
    for one, array in zip(layout.outputs, arrays):
        if array.ndim <= one.axis:
            return False
        flat = array.ndim - int(one.batched) < 2
        columns = range(1 if flat else array.shape[one.axis])
        taken = [columns[field.start : field.stop] for field in one.fields]
        if not all(taken) or sum(map(len, taken)) > len(set().union(*taken)):
            return False
    return True


TASKS: Mapping[str, str] = {
    "detect": "ultralytics",
    "segment": "ultralytics-seg",
    "pose": "ultralytics-pose",
    "obb": "ultralytics-obb",
}


def _by_metadata(outputs: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> Optional[Layout]:
    """Ultralytics states the task; a file that suppresses or selects inside gives rows of six."""
    task = metadata.get("task", "")
    arrays = list(outputs.values())
    if task not in TASKS or "stride" not in metadata:
        return None
    chosen = len(arrays) == 1 and arrays[0].ndim == 3 and arrays[0].shape[2] == 6 and arrays[0].shape[1] <= 1000
    if task == "detect" and chosen:
        name = "ultralytics-end2end" if metadata.get("end2end") == "True" else "ultralytics-nms"
        return replace(PRESETS[name], rule="by the metadata's task and rows of six")
    found = replace(PRESETS[TASKS[task]], rule="by the metadata's task")
    columns = [int(number) for number in re.findall(r"\d{1,3}", metadata.get("kpt_shape", ""))]
    points = columns[0] * columns[1] if task == "pose" and len(columns) == 2 else 0
    more = {"segment": 32, "obb": 1, "pose": points}.get(task, 0)
    if more and arrays[0].ndim == 3 and arrays[0].shape[2] == 6 + more and arrays[0].shape[1] <= 1000:
        return _chosen(found, more)
    return replace(found, outputs=_posed(points)) if points else found


def _chosen(dense: Layout, more: int) -> Layout:
    """The layout of files that suppress or select, with so many further columns; rows of another output do not belong to these."""
    last = replace(dense.outputs[0].fields[-1], start=-more)
    rows = OutputLayout((*CHOSEN, last), 2)
    return replace(
        dense,
        outputs=(rows, *dense.outputs[1:]),
        box="xyxy",
        selected=len(dense.outputs) == 1,
        after="",
        rule=f"{dense.rule}, rows",
    )


def _by_names(outputs: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> Optional[Layout]:
    names = tuple(outputs)
    if names == ("logits", "pred_boxes") or names == ("pred_logits", "pred_boxes"):
        logits, boxes = outputs.values()
        if boxes.ndim == 3 and boxes.shape[2] == 4 and logits.ndim == 3:
            return replace(PRESETS["detr"], rule="by the names of the outputs")
    if set(names) == {"boxes", "labels", "scores"} and all(
        array.ndim == 1 + (n == "boxes") for n, array in outputs.items()
    ):
        return replace(in_order(PRESETS["torchvision"], names), rule="by the names of the outputs")
    if metadata.get("model_family", "").lower() == "yolox":
        return replace(PRESETS["yolox"], rule="by the metadata's model family")
    return None


def _by_classes(classes: int, outputs: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> Optional[Layout]:
    """One output with four columns of a box and one of each class, perhaps objectness between: dense rows."""
    arrays = list(outputs.values())
    if classes < 1 or len(arrays) != 1 or arrays[0].ndim != 3:
        return None
    box = (Field("box, first two", 0, 2, NUMBER, BOX), Field("box, last two", 2, 4, NUMBER, BOX))
    for axis in (1, 2):
        extra = arrays[0].shape[axis] - 4 - classes
        if extra not in (0, 1) or arrays[0].shape[3 - axis] <= arrays[0].shape[axis]:
            continue
        objectness = (Field("objectness", 4, 5, NUMBER, SCORE),) if extra else ()
        fields = (*box, *objectness, Field("class", 4 + extra, None, NUMBER, SCORE))
        return Layout("dense", _one(fields, axis), after="NMS", rule="by the number of classes")
    return None


def _by_selection(outputs: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> Optional[Layout]:
    """Rows of box, score and class number, ordered by score: a choice out of more."""
    arrays = list(outputs.values())
    if len(arrays) != 1 or arrays[0].ndim != 3 or arrays[0].shape[2] != 6 or not 1 < arrays[0].shape[1] <= 1000:
        return None
    scores, classes = arrays[0][0, :, 4], arrays[0][0, :, 5]
    ordered = bool(np.all(np.diff(scores) <= 1e-6)) and bool(np.all((scores >= 0) & (scores <= 1)))
    if ordered and np.all(classes == np.rint(classes)) and np.any(scores > 0):
        return replace(PRESETS["ultralytics-end2end"], rule="rows of box, score and class number in order of score")
    return None


def describe(layout: Layout) -> Dict[str, str]:
    """What a report says of a layout."""
    found = {"name": layout.name}
    if layout.box:
        found["box"] = layout.box
    if layout.after:
        found["after"] = layout.after
    return found

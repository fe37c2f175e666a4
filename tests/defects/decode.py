"""Planted: how logits become predictions."""

from __future__ import annotations

from typing import Any, List

import numpy as np
import onnx
import torch
from detparity.kit.exporters import onnx_raw
from detparity.kit.exporters.options import ExportOptions, to_onnx
from detparity.kit.tests.defects import edits, modules
from detparity.kit.tests.defects.registry import defect
from onnx import numpy_helper
from torch import Tensor

from detparity.core.vocabulary import Variant
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import FixedPredictions, Level, Predictions


@defect("parity.declared", variant="grid", says="stride 8 anchor 1 is 15x15 in the model, 1.875x1.875 in the file")
def anchors_in_cells(model: onnx.ModelProto) -> onnx.ModelProto:
    """The anchors are in cells where the decode wants pixels."""
    for name, stride in zip(edits.anchors(model), (8, 16, 32)):
        edits.set_value(model, name, edits.value_of(model, name) / np.float32(stride))
    return model


@defect("parity.declared", "parity.map", variant="grid", says="Anchors differ: stride 16")
def anchors_permuted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The three anchors of one level stand in another order."""
    name = edits.anchors(model)[1]
    edits.set_value(model, name, edits.value_of(model, name)[:, [1, 2, 0]])
    return model


@defect("parity.declared", variant="raw-dynamic")
def concat_order(model: onnx.ModelProto) -> onnx.ModelProto:
    """Two inputs of a Concat have changed places."""
    node = edits.nodes(model, "Concat")[0]
    node.input[1], node.input[2] = node.input[2], node.input[1]
    return model


@defect("parity.declared", variant="grid")
def corners_for_centres(model: onnx.ModelProto) -> onnx.ModelProto:
    """Boxes are corners where the promise says centre, width and height."""

    def corners(x: str, op: edits.Op) -> str:
        centre, half = edits.cut(op, x, 0, 2, -1), op("Mul", edits.cut(op, x, 2, 4, -1), 0.5)
        return op("Concat", op("Sub", centre, half), op("Add", centre, half), axis=-1)

    edits.on_columns(model, "output", 0, 4, corners)
    return model


@defect("structure.float64", variant="grid-dynamic", unseen_by=("parity.declared",))
def double_grid(model: onnx.ModelProto) -> onnx.ModelProto:
    """The grid is counted in float64, which no Cast and no stored constant shows: its ones come from ConstantOfShape."""
    one = numpy_helper.from_array(np.ones(1, np.float64))
    for ones in edits.counted(model):
        edits.replace(model, ones, lambda x, op: op("ConstantOfShape", op("Shape", x), value=one))
    for count in edits.nodes(model, "CumSum"):
        edits.splice(model, count.output[0], lambda x, op: op("Cast", x, to=onnx.TensorProto.FLOAT))
    return model


@defect(
    "structure.baked-size",
    "parity.sizes",
    variant="grid-dynamic",
    unseen_by=("parity.declared",),
    says="the grid of 256x320 baked in",
)
def grid_baked(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The grid of the export's size is a constant in a file that promises every size."""
    return to_onnx(detector, variant, options, FixedPredictions(detector.network, options.size).eval())


@defect("parity.sizes", variant="grid-dynamic", unseen_by=("parity.declared",))
def grid_clamped(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The grid ends where the export's did: cells beyond it get the last one's place."""

    def clamped(level: Level, raw: Tensor) -> Tensor:
        return torch.clamp(level.grid(raw), max=max(options.size) / level.stride - 1)

    return to_onnx(detector, variant, options, modules.Regridded(modules.network_of(detector), clamped).eval())


def swapped(level: Level, raw: Tensor) -> Tensor:
    return level.grid(raw.transpose(2, 3)).reshape(1, 1, raw.shape[2], raw.shape[3], 2)


@defect("parity.sizes", "parity.threads", variant="grid-dynamic", unseen_by=("parity.declared",), size=(192, 192))
def grid_reshaped(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The grid is made for (nx, ny) cells and reshaped to (ny, nx): right on a square, wrong elsewhere."""
    return to_onnx(detector, variant, options, modules.Regridded(modules.network_of(detector), swapped).eval())


@defect("parity.declared", variant="grid-dynamic", says="the grid is transposed")
def grid_transposed(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The grid has rows for columns and columns for rows."""
    module = modules.Regridded(modules.network_of(detector), lambda level, raw: level.grid(raw).flip(4))
    return to_onnx(detector, variant, options, module.eval())


@defect("parity.declared", variant="grid", says="objectness, class, stride 8, stride 32")
def level_not_decoded(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """One level's centres and sizes leave the graph as they left the sigmoid."""

    class Undecoded(Predictions):
        def decode(self, raw: List[Tensor]) -> Tensor:
            levels: Any = self.network.levels
            rows = [level.decode(logits, level.grid(logits)) for level, logits in zip(levels, raw)]
            rows[1] = torch.sigmoid(raw[1]).view(raw[1].shape[0], -1, raw[1].shape[4])
            return torch.cat(rows, 1)

    return to_onnx(detector, variant, options, Undecoded(detector.network).eval())


@defect("parity.declared", variant="grid")
def levels_reversed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The coarsest level's rows come first."""
    last = edits.nodes(model, "Concat")[-1]
    last.input[:] = list(reversed(last.input))
    return model


@defect("parity.declared", variant="grid", says="class at stride 8, 16, 32")
def objectness_in_classes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Class scores are already multiplied by objectness, and the consumer will do it again."""

    def multiplied(x: str, op: edits.Op) -> str:
        scores = op("Mul", edits.cut(op, x, 5, edits.END, -1), edits.cut(op, x, 4, 5, -1))
        return op("Concat", edits.cut(op, x, 0, 5, -1), scores, axis=-1)

    edits.splice(model, "output", multiplied)
    return model


@defect("parity.declared", variant="grid")
def offset_lost(model: onnx.ModelProto) -> onnx.ModelProto:
    """One level's centres lack the half cell: the assignment into a slice was dropped by the tracer."""
    edits.replace(model, edits.nodes(model, "Sub")[1], lambda x, op: op("Identity", x))
    return edits.prune(model)


@defect("structure.outputs", "structure.axes", "structure.shapes", "parity.declared", variant="grid")
def raw_under_output_name(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The logits of the levels were exported where decoded predictions were asked for."""
    return onnx_raw.export(detector, Variant("raw", variant.axes), options)


@defect("parity.declared", variant="grid")
def rows_cell_major(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rows run cell by cell with the anchors inside, where the promise runs anchor by anchor."""
    for name in edits.nodes(model, "Concat")[-1].input:
        node = edits.producer(model, name)
        assert node is not None
        edits.splice(model, node.input[0], lambda x, op: op("Transpose", x, perm=[0, 2, 3, 1, 4]))
    return model


@defect("parity.declared", variant="grid", says="objectness at stride 8, 16, 32")
def sigmoid_twice(model: onnx.ModelProto) -> onnx.ModelProto:
    """Objectness goes through the sigmoid twice, everything else is right."""
    edits.on_columns(model, "output", 4, 5, lambda x, op: op("Sigmoid", x))
    return model


@defect("parity.sizes", variant="grid-dynamic", size=(256, 320))
def boxes_scaled_by_one_size(model: onnx.ModelProto) -> onnx.ModelProto:
    """Boxes are brought to the image's width by the width of the export: right there, too small or too large elsewhere."""

    def build(x: str, op: edits.Op) -> str:
        width = op("Cast", op("Gather", op("Shape", "images"), np.array(3), axis=0), to=onnx.TensorProto.FLOAT)
        return op("Mul", op("Div", x, width), 320.0)

    edits.on_columns(model, "output", 0, 4, build)
    return model

"""Planted: names, opsets, axes, metadata; sizes and batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from detparity.kit.tests.checks.foreign import stand_ins
from detparity.kit.tests.checks.foreign.registry import defect, on_input
from detparity.kit.tests.checks.foreign.stand_ins import BATCH, SIZES, STATIC
from detparity.kit.tests.defects import edits

from detparity.core.promises import Promises

ROWS = 2  # the axis of rows of an ultralytics output
HEIGHT, WIDTH = stand_ins.SIZE


@defect("structure.checker")
def opset_of_another_time(model):
    """The file states opset 9 where its nodes are written in 13."""
    model.opset_import[0].version = 9
    return model


@defect("structure.opset", says="opset 12 where 13 was asked for")
def another_opset_than_asked():
    """The exporter writes opset 12 where 13 was asked for."""
    return stand_ins.onnx_of("ultralytics", opset=12)


@defect("structure.names")
def output_named_otherwise(model):
    """The output has another name than asked for."""
    edits.rename(model, {"output0": "predictions"})
    return model


@defect("structure.names")
def input_named_otherwise(model):
    """The input has another name than asked for."""
    edits.rename(model, {"images": "input.1"})
    return model


@defect("structure.names", on="detr")
def outputs_in_another_order(model):
    """Both outputs are there, the boxes first."""
    model.graph.output.reverse()
    return model


@defect("structure.outputs", on="detr", asked=Promises(), says="1 output where the model gives 2: pred_boxes is absent")
def boxes_absent(model):
    """The file has the logits alone."""
    del model.graph.output[1]
    return edits.prune(model)


@defect("structure.outputs", on="ultralytics-seg", asked=Promises("torch.onnx.export", written=2))
def prototypes_cut_off(model):
    """A step after the export removed the second output."""
    del model.graph.output[1]
    return edits.prune(model)


@defect("parity.declared", on="detr")
def outputs_exchanged(model):
    """The name of each output is the other's."""
    edits.rename(model, {"logits": "x", "pred_boxes": "logits"})
    edits.rename(model, {"x": "pred_boxes"})
    return model


@defect(
    "structure.contradicting",
    on="detr",
    build=(("classes", 12),),
    asked=replace(stand_ins.promises_of("detr", STATIC), outputs=("pred_boxes", "pred_logits")),
)
def names_exchanged_by_the_exporter(model):
    """The exporter asked for the two names in the wrong order."""
    edits.rename(model, {"logits": "pred_boxes", "pred_boxes": "pred_logits"})
    return model


@defect(
    "structure.contradicting",
    on="detr",
    build=(("classes", 12),),
    asked=replace(stand_ins.promises_of("detr", STATIC), outputs=("pred_boxes", "pred_logits")),
)
def names_exchanged_where_columns_are_not_declared(model):
    """The same, where a simplifier left the last axis open."""
    names_exchanged_by_the_exporter(model)
    for output in model.graph.output:
        edits.set_axis(output, 2, "columns")
    return model


@defect("structure.axes", kind=BATCH)
def batch_fixed():
    """The batch was asked to vary and is a number."""
    return stand_ins.onnx_of("ultralytics", STATIC)


@defect("structure.shapes")
def declares_another_shape(model):
    """The output is declared with more rows than it has."""
    edits.set_axis(model.graph.output[0], ROWS, 127)
    del model.graph.value_info[:]
    return model


@defect("structure.metadata", says="3 class names")
def names_too_few(model):
    """The metadata names three classes of five."""
    edits.set_metadata(model, names="{0: 'disc', 1: 'ring', 2: 'bar'}")
    return model


@defect("structure.metadata")
def names_stale(model):
    """The metadata names the classes of an earlier data set."""
    edits.set_metadata(model, names="{0: 'disc', 1: 'ring', 2: 'bar', 3: 'cup', 4: 'star'}")
    return model


@defect("structure.metadata", layout="", says="4 class names where 'output0' has 5 columns")
def names_fewer_than_columns(model):
    """One name less than the file's task gives it columns of scores, where the model has no names."""
    edits.set_metadata(model, names="{0: 'a', 1: 'b', 2: 'c', 3: 'd'}", task="detect", stride="32")
    return model


@defect("structure.metadata", on="detr", layout="", says="3 class names where 'logits' has 5 columns")
def names_fewer_than_logits(model):
    """Names of another data set beside the logits of queries, where the model has none."""
    edits.set_metadata(model, names="{0: 'a', 1: 'b', 2: 'c'}")
    return model


@defect("structure.metadata", says="`imgsz`")
def size_stale(model):
    """The metadata states the training's image size."""
    edits.set_metadata(model, imgsz="[640, 640]")
    return model


# Sizes and batches


@defect("parity.sizes", kind=SIZES)
def grid_baked():
    """The grid of cells is that of the exported size."""
    return stand_ins.onnx_of("ultralytics", SIZES, stand_ins.made("ultralytics", baked=True))


@defect("parity.sizes", kind=SIZES, on="ultralytics-seg")
def enlarged_to_one_size(model):
    """Prototypes are enlarged to the size of the exported image."""
    node = edits.nodes(model, "Resize")[0]
    sizes = edits.add_constant(model, np.array([1, 32, HEIGHT // 2, WIDTH // 2], np.int64))
    node.input[:] = [node.input[0], "", "", sizes]
    return edits.prune(model)


@defect("parity.batches", kind=BATCH)
def batch_of_one(model):
    """Only the first image is read."""
    return on_input(model, lambda x, op: edits.cut(op, x, 0, 1, 0))


@defect("parity.batches", kind=BATCH)
def first_image_repeated(model):
    """Every image of a batch gets the first one's boxes."""

    def repeat(x, op):
        return op("Add", edits.cut(op, x, 0, 1, 0), op("Mul", x, 0.0))

    edits.splice(model, "output0", repeat)
    return model


@defect("parity.batches", kind=BATCH, on="yolov5")
def first_image_replaced(model):
    """The first image of a batch gets the last one's rows."""

    def mixed(x, op):
        return op("Concat", edits.cut(op, x, -1, edits.END, 0), edits.cut(op, x, 1, edits.END, 0), axis=0)

    edits.splice(model, "output0", mixed)
    return model


@defect("parity.declared", on="torchvision", says="gives other shapes than the model")
def file_of_another_network(model):
    """Another network, under the same names: its outputs have another rank than the model's selection of rows."""
    edits.another_network(model)
    return model

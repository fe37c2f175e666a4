"""Planted: what a file declares: inputs, outputs, axes, metadata."""

from __future__ import annotations

import json

import onnx
from detparity.kit.tests.defects import edits
from detparity.kit.tests.defects.registry import defect
from onnx import helper


@defect("structure.axes", variant="grid-dynamic", says="fixed where the contract says it varies")
def axes_fixed(model: onnx.ModelProto) -> onnx.ModelProto:
    """A simplifier wrote the example's numbers over the input's symbols."""
    for axis, number in ((0, 1), (2, 256), (3, 320)):
        edits.set_axis(model.graph.input[0], axis, number)
    return model


@defect("structure.axes", variant="grid-dynamic", says="another name than 'height' and 1 more")
def axes_swapped(model: onnx.ModelProto) -> onnx.ModelProto:
    """The input's height is called width and its width height."""
    edits.set_axis(model.graph.input[0], 2, "width")
    edits.set_axis(model.graph.input[0], 3, "height")
    return model


@defect("structure.axes", variant="grid-dynamic", level="SHOULD", says="unnamed")
def axes_unnamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The output's axes say nothing: neither number nor symbol."""
    for axis in range(3):
        edits.set_axis(model.graph.output[0], axis, None)
    return model


@defect(
    "structure.axes", "structure.shapes", variant="grid-dynamic-batch", says="fixed where the contract says it varies"
)
def axis_fixed_in_output(model: onnx.ModelProto) -> onnx.ModelProto:
    """The batch is a symbol in the input and 1 in the output."""
    edits.set_axis(model.graph.output[0], 0, 1)
    return model


@defect(
    "structure.axes",
    variant="grid",
    unseen_by=("structure.shapes", "parity.declared"),
    says="a numeral used as a symbol",
)
def axis_numeral(model: onnx.ModelProto) -> onnx.ModelProto:
    """A fixed number is written as a symbol: "10"."""
    edits.set_axis(model.graph.output[0], 2, str(edits.fields(model)))
    return model


@defect("structure.axes", variant="grid-dynamic-batch", says="another name than 'batch'")
def axis_renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The batch has a name the exporter made up."""
    edits.set_axis(model.graph.input[0], 0, "s77")
    edits.set_axis(model.graph.output[0], 0, "s77")
    return model


@defect("structure.axes", variant="grid", says="a symbol where 1 is promised")
def axis_varies(model: onnx.ModelProto) -> onnx.ModelProto:
    """The batch is a symbol in a file that promises a fixed one."""
    edits.set_axis(model.graph.input[0], 0, "batch")
    edits.set_axis(model.graph.output[0], 0, "batch")
    return model


@defect("structure.axes", "structure.shapes", variant="grid-dynamic-batch")
def axis_wrong_index(model: onnx.ModelProto) -> onnx.ModelProto:
    """The batch symbol stands on axis 1 of the output instead of axis 0."""
    edits.set_axis(model.graph.output[0], 0, 1)
    edits.set_axis(model.graph.output[0], 1, "batch")
    return model


@defect(
    "structure.shapes",
    variant="raw-dynamic",
    unseen_by=("structure.axes",),
    says="Equal symbols must stand for equal numbers",
)
def cells_one_symbol(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rows and columns of a level share one symbol although they are different numbers."""
    edits.set_axis(model.graph.output[0], 2, "cells")
    edits.set_axis(model.graph.output[0], 3, "cells")
    return model


@defect(
    "structure.axes",
    "structure.shapes",
    variant="grid",
    unseen_by=("parity.declared",),
    says="5041 where 5040 is promised",
)
def dim_lie(model: onnx.ModelProto) -> onnx.ModelProto:
    """The output declares one row more than it has; the runtime only warns."""
    edits.set_axis(model.graph.output[0], 1, model.graph.output[0].type.tensor_type.shape.dim[1].dim_value + 1)
    return model


@defect("structure.initializers", variant="grid", unseen_by=("structure.inputs", "parity.declared"))
def initializers_as_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every initializer is listed as an input, as old exporters do."""
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return model


@defect("structure.inputs", variant="grid", says="image_size")
def input_extra(model: onnx.ModelProto) -> onnx.ModelProto:
    """The file wants a second input nobody promised."""
    model.graph.input.append(helper.make_tensor_value_info("image_size", onnx.TensorProto.FLOAT, [1, 2]))
    return model


@defect("structure.inputs", "structure.load", variant="grid")
def input_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The input says float16 and nothing else was changed: a test that reads the file is content, a run is not."""
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    return model


@defect("structure.inputs", variant="grid")
def input_renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The input is called by another name."""
    edits.rename(model, {"images": "image"})
    return model


@defect("structure.metadata", variant="raw", says="4 classes")
def metadata_class_count(model: onnx.ModelProto) -> onnx.ModelProto:
    """The metadata lists one class fewer than the model has."""
    names = json.loads(edits.metadata(model)["names"])
    edits.set_metadata(model, names=json.dumps(names[:-1]))
    return model


@defect("structure.metadata", variant="grid", level="SHOULD", says="carries no metadata names, stride, imgsz")
def metadata_missing(model: onnx.ModelProto) -> onnx.ModelProto:
    """Names, stride and image size are not in the file."""
    del model.metadata_props[:]
    return model


@defect("structure.metadata", variant="grid", says="names[0]")
def metadata_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """The class names stand in another order."""
    names = json.loads(edits.metadata(model)["names"])
    edits.set_metadata(model, names=json.dumps([*names[1:], names[0]]))
    return model


@defect("structure.metadata", variant="grid", says="imgsz")
def metadata_size(model: onnx.ModelProto) -> onnx.ModelProto:
    """The metadata has width before height."""
    height, width = json.loads(edits.metadata(model)["imgsz"])
    edits.set_metadata(model, imgsz=json.dumps([width, height]))
    return model


@defect("structure.metadata", variant="grid", says="64")
def metadata_stride(model: onnx.ModelProto) -> onnx.ModelProto:
    """The metadata says stride 64 where the model has 32."""
    edits.set_metadata(model, stride="64")
    return model


@defect("structure.checker", variant="raw")
def names_clash(model: onnx.ModelProto) -> onnx.ModelProto:
    """An initializer has the name of a node's output."""
    edits.rename(model, {edits.bias(model, 3): edits.nodes(model, "LeakyRelu")[0].output[0]})
    return model


@defect("structure.outputs", "parity.declared", variant="grid")
def output_extra(model: onnx.ModelProto) -> onnx.ModelProto:
    """The levels' logits leak out beside the predictions."""
    logits = edits.nodes(model, "Sigmoid")[0].input[0]
    shape = [1, 3, 32, 40, edits.fields(model)]
    model.graph.output.append(helper.make_tensor_value_info(logits, onnx.TensorProto.FLOAT, shape))
    return model


@defect("structure.outputs", "parity.declared", variant="grid", says="float16")
def output_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The output is float16."""
    edits.splice(model, "output", lambda x, op: op("Cast", x, to=onnx.TensorProto.FLOAT16))
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    return model


@defect("structure.outputs", "parity.declared", variant="raw")
def output_missing(model: onnx.ModelProto) -> onnx.ModelProto:
    """The last level is not among the outputs."""
    del model.graph.output[2]
    return edits.prune(model)


@defect("structure.outputs", variant="raw", level="SHOULD", says="540")
def output_numbered(model: onnx.ModelProto) -> onnx.ModelProto:
    """A raw output after the first has the number the exporter gave it."""
    edits.rename(model, {"output_1": "540"})
    return model


@defect("structure.outputs", variant="grid")
def output_renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The output is called by another name."""
    edits.rename(model, {"output": "predictions"})
    return model


@defect("structure.outputs", "structure.shapes", "parity.declared", variant="raw")
def outputs_swapped(model: onnx.ModelProto) -> onnx.ModelProto:
    """The second and the third level are listed in the opposite order."""
    _, second, third = list(model.graph.output)
    del model.graph.output[1:]
    model.graph.output.extend([third, second])
    return model


@defect("structure.axes", "structure.shapes", variant="grid-dynamic", says="the name of another number")
def rows_called_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """The rows are called by the batch's name."""
    edits.set_axis(model.graph.output[0], 1, "batch")
    return model


@defect("structure.axes", variant="raw", says="declares no shape")
def shape_missing(model: onnx.ModelProto) -> onnx.ModelProto:
    """The output declares no shape at all."""
    model.graph.output[1].type.tensor_type.ClearField("shape")
    return model


@defect("structure.inferred", variant="grid")
def value_info_lie(model: onnx.ModelProto) -> onnx.ModelProto:
    """The declared shape of an inner value is not the one its operator makes."""
    inner = edits.nodes(model, "LeakyRelu")[0].output[0]
    model.graph.value_info.append(helper.make_tensor_value_info(inner, onnx.TensorProto.FLOAT, [1, 8, 128, 161]))
    return model

"""Control: other names for nodes and inner tensors of a file with suppression inside."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ()
VARIANT = "end2end-ort-dynamic-batch"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    names = {tensor.name: f"onnx::Conv_{k}" for k, tensor in enumerate(model.graph.initializer)}
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
        names.update({name: str(500 + index) for name in node.output if name not in kept})
    edits.rename(model, names)
    return model

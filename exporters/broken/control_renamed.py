"""Control: other names for nodes, inner tensors and initializers, as torch up to 1.13 gives them."""

from __future__ import annotations

from typing import Dict

import onnx

from exporters.broken import edits

CAUGHT_BY = ()
VARIANT = "grid-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    names: Dict[str, str] = {tensor.name: f"onnx::Conv_{k}" for k, tensor in enumerate(model.graph.initializer)}
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
        names.update({name: str(500 + index) for name in node.output if name not in kept})
    edits.rename(model, names)
    return model

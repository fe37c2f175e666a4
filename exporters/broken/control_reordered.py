"""Control: the nodes in another order that is as good, every node as late as the outputs allow."""

from __future__ import annotations

from typing import List

import onnx

CAUGHT_BY = ()
VARIANT = "raw-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    left = list(model.graph.node)
    ready = {"", *(value.name for value in model.graph.input), *(tensor.name for tensor in model.graph.initializer)}
    ordered: List[onnx.NodeProto] = []
    while left:
        node = next(node for node in reversed(left) if ready.issuperset(node.input))
        left.remove(node)
        ready.update(node.output)
        ordered.append(node)
    del model.graph.node[:]
    model.graph.node.extend(ordered)
    return model

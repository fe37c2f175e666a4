"""Control: the same decode in other words: x + x for 2 x, x x for x squared, a factor of one, a division by one."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ()
VARIANT = "grid-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    ones = [node.output[0] for node in edits.counted(model)]
    for node in edits.nodes(model, "Pow"):
        if node.output[0] in ones:
            continue
        edits.replace(model, node, lambda x, op: op("Mul", x, x))
    for node in edits.nodes(model, "Slice"):
        for reader in [other for other in edits.nodes(model, "Mul") if other.input[0] == node.output[0]]:
            edits.replace(model, reader, lambda x, op: op("Add", x, x))
    edits.splice(model, "output", lambda x, op: op("Div", op("Mul", x, 1.0), 1.0))
    return edits.prune(model)

"""Control: nameless weights, and two parallel convolutions of one shape in the opposite order: only their content tells them apart."""

from __future__ import annotations

import onnx

from exporters.broken import control_renamed, edits

CAUGHT_BY = ()
VARIANT = "raw-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    first, second = edits.nodes(model, "Conv")[2:4]
    assert first.input[0] == second.input[0]
    place = list(model.graph.node).index(first)
    model.graph.node.remove(second)
    model.graph.node.insert(place, second)
    return control_renamed.plant(model)

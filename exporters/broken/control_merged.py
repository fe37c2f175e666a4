"""Control: two convolutions that read the same tensor are one, its output split afterwards, as a simplifier may do."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from exporters.broken import edits

CAUGHT_BY = ()
VARIANT = "raw-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    first, second = edits.nodes(model, "Conv")[2:4]
    assert first.input[0] == second.input[0]
    both = [np.concatenate([edits.value_of(model, node.input[k]) for node in (first, second)]) for k in (1, 2)]
    half = len(both[1]) // 2
    first.input[1:] = [edits.add_constant(model, array) for array in both]
    source, right = first.output[0], second.output[0]
    model.graph.node.remove(second)
    first.output[0] = edits.fresh(model)
    split = helper.make_node("Split", [first.output[0]], [source, right], axis=1, split=[half, half])
    model.graph.node.insert(list(model.graph.node).index(first) + 1, split)
    return edits.prune(model)

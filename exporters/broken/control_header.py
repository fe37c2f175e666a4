"""Control: an older IR version that carries the opset as well, another producer, notes, and metadata nobody asked for."""

from __future__ import annotations

import onnx

from exporters.broken import edits

CAUGHT_BY = ()
VARIANT = "raw-dynamic"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    model.ir_version = 6
    model.producer_name, model.producer_version, model.doc_string = "another", "9.1", "made elsewhere"
    model.graph.name = "renamed"
    model.graph.node[0].doc_string = "where this came from"
    edits.set_metadata(model, author="somebody", stride_note="none")
    return model

"""Control: the same metadata in another notation: a Python dict of names, all strides, the size as a tuple."""

from __future__ import annotations

import json

import onnx

from exporters.broken import edits

CAUGHT_BY = ()
VARIANT = "grid"


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    entries = edits.metadata(model)
    names = dict(enumerate(json.loads(entries["names"])))
    edits.set_metadata(model, names=str(names), stride="[8, 16, 32]", imgsz=str(tuple(json.loads(entries["imgsz"]))))
    return model

"""The opset number was edited from 12 to 13 and no node with it; these nodes happen to mean the same (issue 2; museum 069)."""

from __future__ import annotations

import onnx

CAUGHT_BY = ("structure.opset",)
UNSEEN_BY = ("structure.checker", "parity.declared")
VARIANT = "grid"
SAYS = "promised 12"
WHERE = {"torch": ">=1.10"}  # 1.7 and 1.8 leave Unsqueeze nodes in the graph, which do not mean the same


def plant(model: onnx.ModelProto) -> onnx.ModelProto:
    model.opset_import[0].version = 13
    return model

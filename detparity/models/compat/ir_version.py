"""The IR version of an ONNX file, no newer than its opset needs."""

from __future__ import annotations

from typing import Any

from detparity.core.contract import IR_FOR_OPSET
from detparity.models.compat.shims import Need, Shim, bare

SHIM = Shim(
    needs=(Need({"onnx": ">=1.13"}, r"AssertionError: IR \d+ where opset 12 needs 7"),),
    without="onnx.helper and the torch.export-based exporter stamp the newest IR they know, which older runtimes refuse",
    until="onnx stamps what the opset needs",
)


def stamp(model: Any) -> None:
    """Lower the IR version of an onnx.ModelProto to what its default-domain opset needs; a lower one stays."""
    opset = max([entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")], default=0)
    if not bare("ir_version") and opset in IR_FOR_OPSET:
        model.ir_version = min(model.ir_version, IR_FOR_OPSET[opset])


def probe() -> None:
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)])
    stamp(model)
    if model.ir_version > IR_FOR_OPSET[12]:
        raise AssertionError(f"IR {model.ir_version} where opset 12 needs {IR_FOR_OPSET[12]}")

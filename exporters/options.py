"""What an export can be asked for, and the steps all ONNX exporters share."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from typing import Dict, Optional

import onnx
import torch

from detparity.compat.onnx_export import export_onnx
from detparity.contract import OPSET, Axis, Contract, contract_for
from detparity.detectors.detector import YoloDetector
from detparity.errors import InputError
from detparity.subject import Size, Variant

SIMPLIFIERS = ("onnxsim", "onnxslim")


@dataclass(frozen=True)
class ExportOptions:
    """size: height and width in pixels; batch: images a static file takes; simplify: a simplifier's name or None."""

    size: Size
    batch: int = 1
    simplify: Optional[str] = None


def metadata(detector: YoloDetector, variant: Variant, options: ExportOptions) -> Dict[str, str]:
    """What travels with every file."""
    facts = detector.facts
    return {
        "detparity.variant": variant.name,
        "names": json.dumps(list(facts.names)),
        "stride": str(facts.max_stride),
        "imgsz": json.dumps(list(options.size)),
        "batch": str(options.batch),
    }


def to_onnx(detector: YoloDetector, variant: Variant, options: ExportOptions, module: torch.nn.Module) -> bytes:
    """Export `module` to what the contract of `variant` promises, simplify it if asked, and return the file's bytes."""
    contract = contract_for(variant, detector.facts, options.size, options.batch)
    axes = {
        promise.name: {index: axis.symbol for index, axis in enumerate(promise.axes) if axis.number is None}
        for promise in (*contract.inputs, *contract.outputs)
    }
    example = torch.zeros(options.batch, 3, *options.size)
    exported = export_onnx(
        module,
        example,
        [promise.name for promise in contract.inputs],
        [promise.name for promise in contract.outputs],
        {name: symbols for name, symbols in axes.items() if symbols},
        OPSET,
    )
    model = onnx.load_from_string(exported)
    if options.simplify:
        model = simplified(model, options.simplify)
    declare_axes(model, contract)
    del model.metadata_props[:]
    for key, value in metadata(detector, variant, options).items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def declare_axes(model: onnx.ModelProto, contract: Contract) -> None:
    """Write the promised axes into the outputs: from torch 1.13 the exporter invents names for axes it cannot infer."""
    for value, promise in zip(model.graph.output, contract.outputs):
        for dim, axis in zip(value.type.tensor_type.shape.dim, promise.axes):
            _set_axis(dim, axis)


def _set_axis(dim: onnx.TensorShapeProto.Dimension, axis: Axis) -> None:
    if axis.number is None:
        dim.dim_param = axis.symbol
    else:
        dim.dim_value = axis.number


def simplified(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Run a simplifier. Raises InputError where it is not installed; a failing simplifier fails the export."""
    try:
        tool = importlib.import_module(name)
    except ImportError:
        raise InputError(
            f"--simplify needs {name}, which is not installed: pip install 'detparity[simplify]'"
        ) from None
    if name == "onnxslim":
        return tool.slim(model)
    result, checked = tool.simplify(model)
    if not checked:
        raise RuntimeError("onnxsim says that its own check of the simplified graph failed")
    return result

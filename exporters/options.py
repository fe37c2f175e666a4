"""What an export can be asked for, and the steps all ONNX exporters share."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from typing import Dict, Optional

import onnx
import torch

from detparity.compat.onnx_export import export_onnx
from detparity.contract import OPSET, Axis, Contract, NmsPromise, contract_for
from detparity.detectors.detector import YoloDetector
from detparity.errors import InputError
from detparity.subject import Size, Variant

SIMPLIFIERS = ("onnxsim", "onnxslim")


@dataclass(frozen=True)
class ExportOptions:
    """size: height and width in pixels; batch: images a static file takes; simplify: a simplifier's name or None;
    nms: what an end2end variant suppresses by."""

    size: Size
    batch: int = 1
    simplify: Optional[str] = None
    nms: NmsPromise = field(default_factory=NmsPromise)


def metadata(detector: YoloDetector, variant: Variant, options: ExportOptions) -> Dict[str, str]:
    """What travels with every file."""
    facts = detector.facts
    found = {
        "detparity.variant": variant.name,
        "names": json.dumps(list(facts.names)),
        "stride": str(facts.max_stride),
        "imgsz": json.dumps(list(options.size)),
        "batch": str(options.batch),
    }
    if variant.end2end:
        nms = options.nms
        numbers = {"iou-thres": nms.iou_threshold, "conf-thres": nms.score_threshold, "topk-all": nms.cap}
        if variant.head == "end2end-ort":
            numbers["max-wh"] = nms.max_wh or 0
        found["detparity.nms"] = json.dumps(numbers)
    return found


def export_graph(
    detector: YoloDetector, variant: Variant, options: ExportOptions, module: torch.nn.Module
) -> onnx.ModelProto:
    """Export `module` with the inputs and outputs its variant promises, axes named."""
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
    return onnx.load_from_string(exported)


def finish(detector: YoloDetector, variant: Variant, options: ExportOptions, model: onnx.ModelProto) -> bytes:
    """Simplify if asked, name the axes, write the metadata, check, and return the file's bytes."""
    if options.simplify:
        model = simplified(model, options.simplify)
    declare_axes(model, contract_for(variant, detector.facts, options.size, options.batch, nms=options.nms))
    del model.metadata_props[:]
    for key, value in metadata(detector, variant, options).items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def to_onnx(detector: YoloDetector, variant: Variant, options: ExportOptions, module: torch.nn.Module) -> bytes:
    """Export `module` to what the contract of `variant` promises and return the file's bytes."""
    return finish(detector, variant, options, export_graph(detector, variant, options, module))


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

"""The options of an export, and the steps all ONNX exporters share."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from typing import Dict, Optional, Sequence

import onnx
import torch

from detparity.core.contract import OPSETS, Axis, Contract, NmsPromise, TensorPromise, contract_for
from detparity.core.errors import InputError
from detparity.core.vocabulary import Size, Variant
from detparity.models.compat.ir_version import stamp
from detparity.models.compat.onnx_export import export_onnx
from detparity.models.yolov7.detector import YoloDetector

from .low_precision import to_half

SIMPLIFIERS = ("onnxsim", "onnxslim")


@dataclass(frozen=True)
class ExportOptions:
    """size: height and width in pixels; batch: images a static file takes; simplify: a simplifier's name or None;
    nms: what an end2end variant suppresses by; opset: of an ONNX file, None for its variant's default;
    half: the network in float16."""

    size: Size
    batch: int = 1
    simplify: Optional[str] = None
    nms: NmsPromise = field(default_factory=NmsPromise)
    opset: Optional[int] = None
    half: bool = False


def contract_of(detector: YoloDetector, variant: Variant, options: ExportOptions) -> Contract:
    """What the file must look like."""
    return contract_for(variant, detector.facts, options.size, options.batch, options.opset, options.nms)


def metadata(detector: YoloDetector, variant: Variant, options: ExportOptions) -> Dict[str, str]:
    """What travels with every file. The opset is the one requested, not the one found: the file is judged by it."""
    facts = detector.facts
    found = {
        "detparity.variant": variant.name,
        "names": json.dumps(list(facts.names)),
        "stride": str(facts.max_stride),
        "imgsz": json.dumps(list(options.size)),
        "batch": str(options.batch),
    }
    if variant.onnx:
        found["detparity.opset"] = str(contract_of(detector, variant, options).opsets[""])
    if variant.end2end:
        nms = options.nms
        numbers = {"iou-thres": nms.iou_threshold, "conf-thres": nms.score_threshold, "topk-all": nms.cap}
        if variant.head == "end2end-ort":
            numbers["max-wh"] = nms.max_wh or 0
        found["detparity.nms"] = json.dumps(numbers)
    return found


def export_graph(
    detector: YoloDetector,
    variant: Variant,
    options: ExportOptions,
    module: torch.nn.Module,
    inner: Sequence[str] = (),
) -> onnx.ModelProto:
    """Export `module` with the inputs and outputs its variant promises, axes named; inner: its outputs where a tail follows.

    Raises InputError for an opset this version of torch cannot write.
    """
    contract = contract_of(detector, variant, options)
    opset = contract.opsets[""]
    if opset not in OPSETS:
        raise InputError(
            f"opset {opset} is none of {OPSETS[0]} to {OPSETS[-1]}, which the TorchScript-based exporter writes"
        )
    try:
        exported = export_onnx(
            module,
            torch.zeros(options.batch, 3, *options.size),
            [promise.name for promise in contract.inputs],
            list(inner) or [promise.name for promise in contract.outputs],
            {
                promise.name: symbols
                for promise in (*contract.inputs, *(() if inner else contract.outputs))
                if (symbols := _symbols(promise))
            },
            opset,
        )
    except Exception:
        written = writable(OPSETS)
        if opset in written:
            raise
        raise InputError(
            f"torch {torch.__version__} cannot write opset {opset}; it can write {', '.join(map(str, written))}"
        ) from None
    model = onnx.load_from_string(exported)
    must_be_at(model, opset)
    return model


def _symbols(promise: TensorPromise) -> Dict[int, str]:
    return {index: axis.symbol for index, axis in enumerate(promise.axes) if axis.number is None}


def must_be_at(model: onnx.ModelProto, opset: int) -> None:
    """Raise RuntimeError where an exporter wrote another opset than requested, as some do without an error."""
    found = opset_of(model)
    if found != opset:
        raise RuntimeError(f"the exporter wrote opset {found} where {opset} was asked for")


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the default domain."""
    return next(int(item.version) for item in model.opset_import if item.domain in ("", "ai.onnx"))


def writable(opsets: Sequence[int]) -> Sequence[int]:
    """Those of `opsets` that this version of torch writes, found by exporting a ReLU at each."""
    return [opset for opset in opsets if _writes(opset)]


def _writes(opset: int) -> bool:
    try:
        found = export_onnx(torch.nn.ReLU(), torch.zeros(1, 1), ["x"], ["y"], {}, opset)
    except Exception:  # ValueError, RuntimeError, CheckerError or UnsupportedOperatorError, by version
        return False
    return opset_of(onnx.load_from_string(found)) == opset


def finish(detector: YoloDetector, variant: Variant, options: ExportOptions, model: onnx.ModelProto) -> bytes:
    """Simplify if requested, name the axes, write metadata and IR version, check, and return the file's bytes."""
    if options.simplify:
        model = simplified(model, options.simplify)
    if options.half:
        model = to_half(model)
    contract = contract_of(detector, variant, options)
    declare_axes(model, contract)
    stamp(model)
    del model.metadata_props[:]
    for key, value in metadata(detector, variant, options).items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def to_onnx(detector: YoloDetector, variant: Variant, options: ExportOptions, module: torch.nn.Module) -> bytes:
    """Export `module` to what the contract of `variant` promises and return the file's bytes."""
    return finish(detector, variant, options, export_graph(detector, variant, options, module))


def declare_axes(model: onnx.ModelProto, contract: Contract) -> None:
    """Write the promised axes into the outputs: from torch 1.13 the exporter invents names for axes it cannot infer, and by
    torch.export it writes the arithmetic of its symbols, in the input as well."""
    declared = [*zip(model.graph.input, contract.inputs), *zip(model.graph.output, contract.outputs)]
    for value, promise in declared:
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

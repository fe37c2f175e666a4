"""ONNX through torch.export, the default of torch.onnx.export from torch 2.9 on: opset 18 and up, or converted down from it."""

from __future__ import annotations

from typing import Dict, Tuple

import onnx
import torch

from detparity.core.contract import DYNAMO_OPSET, Contract
from detparity.core.errors import InputError
from detparity.core.vocabulary import Variant
from detparity.models.compat import dynamo_export
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import FixedPredictions, Predictions, RawTuple

from . import opset_downgrade
from .options import ExportOptions, contract_of, finish, opset_of

VARIANTS = tuple(f"{head}-dynamo{axes}" for head in ("raw", "grid") for axes in ("", "-dynamic-batch", "-dynamic"))
unavailable = dynamo_export.unavailable


def export(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    contract = contract_of(detector, variant, options)
    opset = contract.opsets[""]
    model = export_graph(detector, contract, max(opset, DYNAMO_OPSET))
    if opset >= DYNAMO_OPSET:
        return finish(detector, variant, options, model)
    before = model.SerializeToString()
    made = finish(detector, variant, options, opset_downgrade.converted(model, opset))
    opset_downgrade.must_agree(detector, contract, before, made)
    return made


def export_graph(detector: YoloDetector, contract: Contract, opset: int) -> onnx.ModelProto:
    """Raises InputError where this version has no such exporter or writes another opset."""
    reason = unavailable()
    if reason:
        raise InputError(f"{contract.variant.name} cannot be made: {reason}")
    exported = dynamo_export.export_dynamo(
        _module(detector, contract),
        torch.zeros(_example_batch(contract), 3, *contract.size),
        contract.inputs[0].name,
        [promise.name for promise in contract.outputs],
        _axes(contract),
        opset,
    )
    model = onnx.load_from_string(exported)
    if opset_of(model) != opset:
        raise InputError(
            f"torch {torch.__version__} writes opset {opset_of(model)} through torch.export where {opset} is requested"
        )
    _tidy(model)
    return model


def _module(detector: YoloDetector, contract: Contract) -> torch.nn.Module:
    network = detector.network
    if contract.variant.head == "raw":
        return RawTuple(network).eval()
    return (Predictions(network) if contract.variant.dynamic_size else FixedPredictions(network, contract.size)).eval()


def _example_batch(contract: Contract) -> int:
    """An example of one image would fix the batch: torch.export takes a length of 1 for a constant."""
    return max(contract.batch, 2) if contract.variant.dynamic_batch else contract.batch


def _axes(contract: Contract) -> Dict[int, Tuple[str, int]]:
    """The axes of the image that vary, by position: their names, and what their lengths are multiples of."""
    return {
        index: (axis.symbol, 1 if index == 0 else contract.facts.max_stride)
        for index, axis in enumerate(contract.inputs[0].axes)
        if axis.number is None
    }


def _tidy(model: onnx.ModelProto) -> None:
    """Take off what only IR 10 can carry, notes on every node with the paths of this machine among them, and inner shapes in
    symbols that no input binds."""
    graph = model.graph
    for holder in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer, *graph.value_info):
        del holder.metadata_props[:]
    numeric = [value for value in graph.value_info if _in_numbers(value)]
    del graph.value_info[:]
    graph.value_info.extend(numeric)


def _in_numbers(value: onnx.ValueInfoProto) -> bool:
    return all(dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim)

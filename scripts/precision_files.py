"""The files of `precision_table.py`: half precision by each maker, 8 bits by each method, and defects planted into both.

A maker takes a `Source` and returns the bytes of a file, or raises `DoesNotApply` with the reason.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

import numpy as np
import onnx
import torch
from detparity.kit.exporters.low_precision import _in_float, _Pictures, to_half, to_int8
from detparity.kit.tests.defects import edits
from onnx import TensorProto
from torch import nn

OPSET = 13
HALF, FLOAT, BFLOAT = TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.BFLOAT16
CLIPPED = 0.3
Model = onnx.ModelProto


class DoesNotApply(Exception):
    """Why a file is not made of a model."""


@dataclass
class Source:
    """A model as it is exported. module: in float32; half: makes it in half precision; shape: of its image; plain: its ONNX file in
    float32; scores: axis of the columns of the output and the first of scores; suppressing: its file with suppression, where there is
    one; checkpoint: of ultralytics."""

    module: nn.Module
    half: Callable[[], nn.Module]
    shape: Tuple[int, ...]
    plain: bytes
    scores: Tuple[int, int]
    pictures: Sequence[np.ndarray]
    suppressing: Callable[[], bytes]
    checkpoint: str = ""
    made: Dict[str, bytes] = field(default_factory=dict)
    own: bool = False  # of the YOLOv7 family, which `export` takes


class _Cast(nn.Module):
    """A half module with inputs and outputs in float32."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Any) -> Any:
        found = self.module(images.half())
        one = found[0] if isinstance(found, (tuple, list)) else found
        return one.float()


class _First(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Any) -> Any:
        found = self.module(images)
        return found[0] if isinstance(found, (tuple, list)) else found


def exported(module: nn.Module, x: torch.Tensor, opset: int = OPSET) -> bytes:
    names: Dict[str, Any] = {"input_names": ["images"], "output_names": ["output"]}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = os.path.join(folder, "x.onnx")
        torch.onnx.export(module, (x,), path, opset_version=opset, dynamo=False, **names)
        return Path(path).read_bytes()


# --- half precision


def torch_half(source: Source, keep: bool) -> bytes:
    half = source.half().eval()
    opset = 12 if source.own else OPSET  # what is promised where no metadata state another
    x = torch.zeros(source.shape)
    return exported(_Cast(half), x, opset) if keep else exported(_First(half), x.half(), opset)


def converted(tool: str) -> Callable[[Source, bool], bytes]:
    def make(source: Source, keep: bool) -> bytes:
        import importlib

        converter: Any = importlib.import_module(tool)
        made: Model = converter.convert_float_to_float16(onnx.load_from_string(source.plain), keep_io_types=keep)
        return bytes(made.SerializeToString())

    return make


def ultralytics_half(source: Source, keep: bool) -> bytes:
    if not source.checkpoint:
        raise DoesNotApply("no model of ultralytics")
    if not keep:
        raise DoesNotApply("it makes one form")
    from ultralytics import YOLO

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, "x.pt")
        checkpoint.write_bytes(Path(source.checkpoint).read_bytes())
        model = YOLO(str(checkpoint))
        return Path(model.export(format="onnx", half=True, imgsz=list(source.shape[-2:]), opset=OPSET)).read_bytes()


def sorted_nodes(content: bytes) -> bytes:
    """The nodes in an order that the standard allows."""
    model = onnx.load_from_string(content)
    known = {value.name for value in model.graph.input} | {one.name for one in model.graph.initializer} | {""}
    left: List[Any] = list(model.graph.node)
    done: List[Any] = []
    while left:
        ready = [node for node in left if known.issuperset(node.input)]
        if not ready:
            raise DoesNotApply("its nodes have no order")
        done += ready
        known.update(name for node in ready for name in node.output)
        left = [node for node in left if not known.issuperset(node.output)]
    del model.graph.node[:]
    model.graph.node.extend(done)
    return bytes(model.SerializeToString())


def ours(source: Source, keep: bool) -> bytes:
    if not source.own:
        raise DoesNotApply("`export` takes models of the YOLOv7 family")
    if not keep:
        raise DoesNotApply("`export --half` leaves inputs and outputs in float32")
    return bytes(to_half(onnx.load_from_string(source.plain)).SerializeToString())


TRANSFORMERS = converted("onnxruntime.transformers.float16")
MAKERS: Mapping[str, Callable[[Source, bool], bytes]] = {
    "export --half": ours,
    "torch half export": torch_half,
    "onnxconverter-common": converted("onnxconverter_common.float16"),
    "onnxruntime.transformers": TRANSFORMERS,
    "onnxruntime.transformers, sorted": lambda source, keep: sorted_nodes(TRANSFORMERS(source, keep)),
    "ultralytics half=True": ultralytics_half,
    "ultralytics half=True, sorted": lambda source, keep: sorted_nodes(ultralytics_half(source, keep)),
}

# --- 8 bits


def _static(source: Source, pictures: Sequence[np.ndarray], **options: Any) -> bytes:
    from onnxruntime import quantization as tool

    model = onnx.load_from_string(source.plain)
    left = _in_float(model.graph) if options.pop("heads", True) else []
    types: Dict[str, Any] = {"activation_type": tool.QuantType.QUInt8, "weight_type": tool.QuantType.QInt8}
    kind = getattr(tool.QuantFormat, options.pop("form", "QDQ"))
    with tempfile.TemporaryDirectory() as folder:
        path, target = os.path.join(folder, "x.onnx"), os.path.join(folder, "y.onnx")
        onnx.save(model, path)
        reader: Any = _Pictures(model.graph.input[0], pictures)
        given = {"quant_format": kind, "nodes_to_exclude": left, "per_channel": True, **types, **options}
        tool.quantize_static(path, target, reader, **given)
        return Path(target).read_bytes()


def _dynamic(source: Source) -> bytes:
    from onnxruntime import quantization as tool

    model = onnx.load_from_string(source.plain)
    left = _in_float(model.graph)
    with tempfile.TemporaryDirectory() as folder:
        path, target = os.path.join(folder, "x.onnx"), os.path.join(folder, "y.onnx")
        onnx.save(model, path)
        tool.quantize_dynamic(path, target, weight_type=tool.QuantType.QUInt8, nodes_to_exclude=left)
        return Path(target).read_bytes()


def _flat(source: Source, kind: str) -> List[np.ndarray]:
    if kind == "black":
        return [np.zeros(source.shape[1:], np.float32)] * 4
    draw = np.random.default_rng(0)
    return [np.float32(source.pictures[0].max()) * draw.random(source.shape[1:], np.float32) for _ in range(4)]


EIGHT_BITS: Mapping[str, Tuple[bool, Callable[[Source], bytes]]] = {
    "QDQ, a scale a channel, weights in 7 bits, heads in float": (True, lambda one: to_int8(one.plain, one.pictures)),
    "QDQ, a scale a channel, heads in float": (True, lambda one: _static(one, one.pictures)),
    "QDQ, a scale a tensor, heads in float": (True, lambda one: _static(one, one.pictures, per_channel=False)),
    "QLinear operators, heads in float": (True, lambda one: _static(one, one.pictures, form="QOperator")),
    "dynamic, heads in float": (True, _dynamic),
    "QDQ, decode and output in 8 bits": (False, lambda one: _static(one, one.pictures, heads=False)),
    "QDQ, calibrated on noise": (False, lambda one: to_int8(one.plain, _flat(one, "noise"))),
    "QDQ, calibrated on black pictures": (False, lambda one: to_int8(one.plain, _flat(one, "black"))),
}

# --- defects


def _middle(model: Model) -> Any:
    convs = edits.nodes(model, "Conv")
    return convs[len(convs) // 3]


def rounded_twice(model: Model, source: Source) -> None:
    """features of one layer rounded to bfloat16 on their way"""
    edits.splice(model, _middle(model).output[0], lambda x, op: op("Cast", op("Cast", x, to=BFLOAT), to=HALF))


def weights_rounded_twice(model: Model, source: Source) -> None:
    """weights of one layer rounded to bfloat16, then to float16"""
    name = _middle(model).input[1]
    values = torch.from_numpy(edits.value_of(model, name).astype(np.float32)).bfloat16().float().numpy()
    edits.set_value(model, name, values.astype(np.float16))


def lost_cast(model: Model, source: Source) -> None:
    """the last cast is left out"""
    node = next(one for one in reversed(model.graph.node) if one.op_type == "Cast")
    inner, outer = node.input[0], node.output[0]
    model.graph.node.remove(node)
    for one in model.graph.node:
        one.input[:] = [outer if name == inner else name for name in one.input]
        one.output[:] = [outer if name == inner else name for name in one.output]


def clipped(model: Model, source: Source) -> None:
    """scores over 0.3 are cut off"""
    axis, first = source.scores

    def build(x: str, op: edits.Op) -> str:
        scores = edits.cut(op, x, first, edits.END, axis)
        return op("Concat", edits.cut(op, x, 0, first, axis), op("Min", scores, CLIPPED), axis=axis)

    edits.splice(model, model.graph.output[0].name, build)


def offset_in_half(model: Model, source: Source) -> None:
    """boxes and the offset of their classes go through float16 before the suppression"""
    boxes = edits.nodes(model, "NonMaxSuppression")[0].input[0]
    edits.splice(model, boxes, lambda x, op: op("Cast", op("Cast", x, to=HALF), to=FLOAT))


def _reader(model: Model, index: int) -> Any:
    constants = {one.name for one in model.graph.initializer}
    found = [node for node in edits.nodes(model, "DequantizeLinear") if node.input[0] not in constants]
    return found[index if index < 0 else len(found) // 2]


def _changed(model: Model, index: int, position: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
    node = _reader(model, index)
    old = edits.value_of(model, node.input[position])
    node.input[position] = edits.add_constant(model, change(old).astype(old.dtype))


def scale_off(model: Model, source: Source) -> None:
    """one tensor is read by a scale of 256 / 255"""
    _changed(model, 0, 1, lambda scale: scale * (256 / 255))


def zero_off(model: Model, source: Source) -> None:
    """one tensor is read by a zero point that is one off"""
    _changed(model, 0, 2, lambda zero: np.where(zero < 255, zero + 1, zero - 1))


def output_scale(model: Model, source: Source) -> None:
    """the last tensor is read by twice its scale"""
    _changed(model, -1, 1, lambda scale: scale * 2)


def bias_channels_swapped(model: Model, source: Source) -> None:
    """the scales of two channels of a bias are exchanged"""
    _exchange(model, np.dtype(np.int32))


def channels_swapped(model: Model, source: Source) -> None:
    """the scales of two channels of one layer are exchanged"""
    _exchange(model, np.dtype(np.int8))


def _exchange(model: Model, kind: np.dtype) -> None:
    constants = {one.name for one in model.graph.initializer}
    weights = [node for node in edits.nodes(model, "DequantizeLinear") if node.input[0] in constants]
    weights = [node for node in weights if edits.value_of(model, node.input[0]).dtype == kind]
    scales = [node for node in weights if np.ndim(edits.value_of(model, node.input[1])) == 1]
    node = scales[len(scales) // 3]
    values = edits.value_of(model, node.input[1])
    low, high = int(values.argmin()), int(values.argmax())
    values[[low, high]] = values[[high, low]]
    edits.set_value(model, node.input[1], values)


# By name: base file, edit, the checks of which one has to find it.
DEFECTS: Mapping[str, Tuple[str, Callable[[Model, Source], None], Sequence[str]]] = {
    "a layer's features rounded twice": ("half", rounded_twice, ("precision.casts",)),
    "a layer's weights rounded twice": ("half", weights_rounded_twice, ("structure.weights", "precision.weights")),
    "a lost cast": ("half", lost_cast, ("structure.load",)),
    "clipped scores": ("half", clipped, ("parity.declared", "parity.values", "parity.images")),
    "class offsets in half": ("suppressing", offset_in_half, ("nms.class-offset", "parity.declared")),
    "a scale off by one step": ("8 bits", scale_off, ("precision.scales",)),
    "a zero point off by one": ("8 bits", zero_off, ("precision.scales",)),
    "channel scales exchanged": ("8 bits", channels_swapped, ("structure.weights", "precision.weights")),
    "scales of a bias exchanged": ("8 bits", bias_channels_swapped, ("precision.scales",)),
    "a wrong output scale": ("8 bits", output_scale, ("precision.scales",)),
}


def planted(name: str, base: bytes, source: Source) -> bytes:
    model = onnx.load_from_string(base)
    DEFECTS[name][1](model, source)
    return bytes(model.SerializeToString())

"""What each variant promises, as plain data with the source of every clause. Checks compare a file with this contract alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Mapping, Optional, Tuple

from detparity.core.precision import FLOAT32, INT8
from detparity.core.vocabulary import ModelFacts, Size, Variant

MUST, SHOULD, INFO = "MUST", "SHOULD", "INFO"
LEVELS = (MUST, SHOULD, INFO)

OPSET, DYNAMO_OPSET = 12, 18
OPSETS = tuple(range(11, 18))  # what the TorchScript-based exporter can write; suppression needs 11
IR_FOR_OPSET = {
    **{11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9},
    **{21: 10, 22: 10, 23: 11, 24: 12, 25: 13, 26: 13},
}


@dataclass(frozen=True)
class Axis:
    """One axis: a promised number, a symbol promised by name, or free (a count that depends on the run, any symbol)."""

    number: Optional[int] = None
    symbol: str = ""
    free: bool = False

    def __str__(self) -> str:
        return self.symbol if self.number is None else str(self.number)


@dataclass(frozen=True)
class TensorPromise:
    """name; dtype as numpy spells it; axes in order. `invented_name_ok`: the official exporter leaves this name to torch."""

    name: str
    dtype: str
    axes: Tuple[Axis, ...]
    invented_name_ok: bool = False


@dataclass(frozen=True)
class NmsPromise:
    """What a suppression promises: thresholds, the cap per image, and for `end2end-ort` the class offset in pixels (0 is
    class-agnostic, None does not apply). sources: where each number comes from."""

    iou_threshold: float = 0.45
    score_threshold: float = 0.25
    cap: int = 100
    max_wh: Optional[float] = None
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contract:
    """Everything `variant` promises for one model. size and batch: what the file fixes, or its example when it varies.

    sources: where each clause comes from, by clause name, for the report; precision: whose rounding is the noise.
    """

    variant: Variant
    facts: ModelFacts
    size: Size
    batch: int
    inputs: Tuple[TensorPromise, ...]
    outputs: Tuple[TensorPromise, ...]
    opsets: Mapping[str, int]
    ir_version: int
    sources: Mapping[str, str]
    nms: Optional[NmsPromise] = None
    precision: str = FLOAT32
    promised_precision: Optional[str] = None

    @property
    def quantised(self) -> bool:
        """Whether a budget judges the numbers, and no floor."""
        return self.precision == INT8


SOURCES: Mapping[str, str] = {
    "inputs": "yolov7 export: one input `images`, (B, 3, H, W) float32, RGB in 0..1",
    "outputs": "yolov7 export: `--grid` gives `output` (B, rows, 5 + classes); without it one (B, na, ny, nx, 5 + classes) per level",
    "axes": "design: promised symbols are `batch`, `height`, `width`; every other axis is a number",
    "opsets": "yolov7 export: torch.onnx.export at opset 12, default domain alone; by torch.export 18, the first it writes",
    "ir_version": "ONNX: the first IR version that carries the opset",
    "metadata": "design: names, stride, image size and variant travel with the file",
}


def default_opset(variant: Variant) -> int:
    """The opset promised where none is given."""
    return DYNAMO_OPSET if variant.dynamo else OPSET


def axis_of(value: int, symbol: str, varies: bool) -> Axis:
    return Axis(symbol=symbol) if varies else Axis(number=value)


def contract_for(
    variant: Variant,
    facts: ModelFacts,
    size: Size,
    batch: int = 1,
    opset: Optional[int] = None,
    nms: Optional[NmsPromise] = None,
) -> Contract:
    """Return the promises of `variant` for this model at this size (pixels, height first) and batch.

    opset: of the default domain; `default_opset` where not given.
    nms: what an end2end variant suppresses by; the official script's defaults where not given.
    """
    b = axis_of(batch, "batch", variant.dynamic_batch)
    height = axis_of(size[0], "height", variant.dynamic_size)
    width = axis_of(size[1], "width", variant.dynamic_size)
    images = TensorPromise("images", "float32", (b, Axis(number=3), height, width))
    if variant.end2end:
        nms = nms or NmsPromise()
        outputs = _detections(variant, nms, b)
    else:
        nms, outputs = None, _outputs(variant, facts, size, b)
    opset = opset or default_opset(variant)
    opsets = {"": opset, "TRT": 1} if variant.head == "end2end-trt" else {"": opset}
    ir_version = IR_FOR_OPSET.get(opset, max(IR_FOR_OPSET.values()))
    return Contract(variant, facts, size, batch, (images,), outputs, opsets, ir_version, SOURCES, nms)


def _detections(variant: Variant, nms: NmsPromise, b: Axis) -> Tuple[TensorPromise, ...]:
    if variant.head == "end2end-ort":
        return (TensorPromise("output", "float32", (Axis(symbol="detections", free=True), Axis(number=7))),)
    cap = Axis(number=nms.cap)
    return (
        TensorPromise("num_dets", "int32", (b, Axis(number=1))),
        TensorPromise("det_boxes", "float32", (b, cap, Axis(number=4))),
        TensorPromise("det_scores", "float32", (b, cap)),
        TensorPromise("det_classes", "int32", (b, cap)),
    )


def _outputs(variant: Variant, facts: ModelFacts, size: Size, b: Axis) -> Tuple[TensorPromise, ...]:
    fields = Axis(number=facts.fields)
    if variant.head == "grid":
        rows = Axis(symbol="rows", free=True) if variant.dynamic_size else Axis(number=facts.rows(size))
        return (TensorPromise("output", "float32", (b, rows, fields)),)
    promises = []
    for index, (stride, (ny, nx)) in enumerate(zip(facts.strides, facts.cells(size))):
        if variant.dynamic_size:
            cells = (Axis(symbol=f"height/{stride}", free=True), Axis(symbol=f"width/{stride}", free=True))
        else:
            cells = (Axis(number=ny), Axis(number=nx))
        name = "output" if index == 0 else f"output_{index}"
        axes = (b, Axis(number=facts.anchors_per_level), *cells, fields)
        promises.append(TensorPromise(name, "float32", axes, invented_name_ok=index > 0))
    return tuple(promises)


def largest_size(contract: Contract) -> Size:
    """The largest size promised or, where sizes vary, the largest sensible one: half as long again as the declared one."""
    if not contract.variant.dynamic_size:
        return contract.size
    stride = contract.facts.max_stride
    side = max(contract.size) * 3 // 2 // stride * stride
    return side, side


def expected_shapes(contract: Contract, batch: int, size: Size) -> Dict[str, Tuple[int, ...]]:
    """Shapes the outputs must have when the input is (batch, 3, *size); -1 for a count that depends on the run."""
    facts = contract.facts
    if contract.variant.end2end:
        return {
            promise.name: tuple(
                batch if axis.symbol == "batch" else -1 if axis.number is None else axis.number for axis in promise.axes
            )
            for promise in contract.outputs
        }
    if contract.variant.head == "grid":
        return {contract.outputs[0].name: (batch, facts.rows(size), facts.fields)}
    return {
        promise.name: (batch, facts.anchors_per_level, ny, nx, facts.fields)
        for promise, (ny, nx) in zip(contract.outputs, facts.cells(size))
    }

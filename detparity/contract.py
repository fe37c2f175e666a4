"""What each variant promises, as plain data with the source of every clause. Checks compare a file to this, never to a guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Mapping, Optional, Tuple

from detparity.subject import ModelFacts, Size, Variant

MUST, SHOULD, INFO = "MUST", "SHOULD", "INFO"
LEVELS = (MUST, SHOULD, INFO)

OPSET = 12
IR_FOR_OPSET = {11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10}
METADATA_KEYS = ("detparity.variant", "names", "stride", "imgsz")


@dataclass(frozen=True)
class Axis:
    """One axis: a promised number, a symbol promised by name, or free (a count only the run decides, any symbol)."""

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
class Contract:
    """Everything `variant` promises for one model. size and batch: what the file fixes, or its example when it varies.

    sources: where each clause comes from, by clause name, for the report.
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

    @property
    def image_range(self) -> Tuple[float, float]:
        return (0.0, 1.0)


SOURCES: Mapping[str, str] = {
    "inputs": "yolov7 export: one input `images`, (B, 3, H, W) float32, RGB in 0..1",
    "outputs": "yolov7 export: `--grid` gives `output` (B, rows, 5 + classes); without it one (B, na, ny, nx, 5 + classes) per level",
    "axes": "design: promised symbols are `batch`, `height`, `width`; every other axis is a number",
    "opsets": "yolov7 export: torch.onnx.export at opset 12, default domain alone",
    "ir_version": "ONNX: the first IR version that carries the opset",
    "metadata": "design: names, stride, image size and variant travel with the file",
}


def axis_of(value: int, symbol: str, varies: bool) -> Axis:
    return Axis(symbol=symbol) if varies else Axis(number=value)


def contract_for(variant: Variant, facts: ModelFacts, size: Size, batch: int = 1, opset: int = OPSET) -> Contract:
    """Return the promises of `variant` for this model at this size (pixels, height first) and batch."""
    b = axis_of(batch, "batch", variant.dynamic_batch)
    height = axis_of(size[0], "height", variant.dynamic_size)
    width = axis_of(size[1], "width", variant.dynamic_size)
    images = TensorPromise("images", "float32", (b, Axis(number=3), height, width))
    outputs = _outputs(variant, facts, size, b)
    ir_version = IR_FOR_OPSET.get(opset, max(IR_FOR_OPSET.values()))
    return Contract(variant, facts, size, batch, (images,), outputs, {"": opset}, ir_version, SOURCES)


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


def expected_shapes(contract: Contract, batch: int, size: Size) -> Dict[str, Tuple[int, ...]]:
    """Shapes the outputs must have when the input is (batch, 3, *size)."""
    facts = contract.facts
    if contract.variant.head == "grid":
        return {contract.outputs[0].name: (batch, facts.rows(size), facts.fields)}
    return {
        promise.name: (batch, facts.anchors_per_level, ny, nx, facts.fields)
        for promise, (ny, nx) in zip(contract.outputs, facts.cells(size))
    }

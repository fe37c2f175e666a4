"""The contract of a file that is not of the home family: what its exporter was asked for, and what the file itself declares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional, Sequence

from detparity.artifacts.input_form import channels_last
from detparity.artifacts.onnx_graph import OnnxFile, Value
from detparity.core.precision import FLOAT32, INT8
from detparity.core.promises import Promises
from detparity.core.vocabulary import Size

DRAWN_STRIDE = 64  # sizes that vary are multiples of it: every pyramid known to us takes them


@dataclass(frozen=True)
class ForeignContract:
    """kind: of the artifact; promises: of its exporter; size (height, width) and batch: what the file fixes, or its example where it
    varies; batched: whether the image has a batch axis; varies_batch, varies_size: what the file declares or was promised to take;
    class_offset: whether it keeps classes apart by a constant, and it is known where its head can put boxes, or it adds that in
    half precision."""

    kind: str
    promises: Promises
    size: Size
    batch: int = 1
    batched: bool = True
    varies_batch: bool = False
    varies_size: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    opsets: Mapping[str, int] = field(default_factory=dict)
    class_offset: bool = False
    precision: str = FLOAT32
    promised_precision: Optional[str] = None

    @property
    def quantised(self) -> bool:
        """Whether a budget judges the numbers, and no floor."""
        return self.precision == INT8

    @property
    def onnx(self) -> bool:
        return self.kind == "onnx"

    @property
    def name(self) -> str:
        """What reports call the kind of file."""
        axes = "-dynamic" if self.varies_size else "-dynamic-batch" if self.varies_batch else ""
        return ("onnx" if self.onnx else self.kind) + axes


def of_onnx(file: OnnxFile, image: Value, shape: Sequence[object], size: Size, promises: Promises) -> ForeignContract:
    """The contract of an ONNX file. shape: declared of the image, (batch, 3, H, W) or (3, H, W), symbols as text; size: to be used
    where it is not fixed."""
    batched = len(shape) == 4
    height, width = shape[-2:]
    asked = promises.varying(image.name)
    first = shape[0] if batched else 1
    last = channels_last(image.shape)
    spatial = [axis for axis in asked if axis in ((1, 2) if last else (len(shape) - 2, len(shape) - 1))]
    return ForeignContract(
        "onnx",
        promises,
        size,
        first if isinstance(first, int) and first > 0 else 1,
        batched,
        batched and (not isinstance(first, int) or 0 in asked),
        not (isinstance(height, int) and isinstance(width, int)) or bool(spatial),
        dict(file.metadata),
        dict(file.opsets),
    )


def fixed_size(shape: Sequence[object]) -> Optional[Size]:
    """The size that a declared shape fixes."""
    height, width = shape[-2:] if len(shape) >= 3 else (None, None)
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None

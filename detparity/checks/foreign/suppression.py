"""The suppression in a file of somebody else's exporter, where the head of its model is known."""

from __future__ import annotations

from math import floor, log2
from typing import Iterator, Tuple

from detparity.artifacts import onnx_nms
from detparity.checks.foreign.context import ForeignContext
from detparity.checks.nms_graph import unsafe_offset
from detparity.core.contract import MUST
from detparity.core.findings import CannotRun, Check, Finding
from detparity.core.precision import EPSILON
from detparity.oracle.class_offset import HeadRange

COARSE = 1.0  # pixels
NORMALISED = 2.0  # an offset of up to so much is that of boxes in parts of the image's longer side


def class_offset(context: ForeignContext) -> Iterator[Finding]:
    """Whether two boxes of different classes that the model can decode could suppress each other after the offset, and whether it is
    added in half precision where that has no pixels left."""
    facts, found = context.oracle.reference.facts, onnx_nms.find(context.onnx.graph)
    half = onnx_nms.half_offset(context.onnx.graph)
    if half is not None:
        yield from _coarse(context, half)
    if not facts.anchors:
        return
    if found is None or found.max_wh is None or found.iou_threshold is None:
        raise CannotRun("the suppression has no constant IoU threshold or class offset", hides=False)
    size = max([context.contract.size, *context.sizes()], key=lambda one: one[0] * one[1])
    head = HeadRange(facts.anchors, facts.strides, size, len(facts.names) or 2)  # more than two make no difference
    yield from unsafe_offset(head, found.max_wh, found.iou_threshold)


def _coarse(context: ForeignContext, half: onnx_nms.HalfOffset) -> Iterator[Finding]:
    """Corners that half precision has no pixels for, with the offset of the last class."""
    side = max(max(size) for size in (context.contract.size, *context.sizes()))
    apart = half.pixels if half.pixels > NORMALISED else side
    furthest = apart * max(len(context.oracle.reference.facts.names) - 1, 1)
    step = 2.0 ** floor(log2(furthest)) * EPSILON[half.kind]
    if step >= COARSE:
        yield Finding(
            f"rounds the boxes that it suppresses to {half.kind} after their class offset was added, in {half.node.title}: that of "
            f"the last class is {furthest:g} px, where {half.kind} has steps of {step:g} px.",
            notes=("Boxes overlap by other amounts than they do: neighbours are lost, or one object is there twice.",),
            evidence={"node": half.node.title, "precision": half.kind, "offset": furthest, "step": step},
        )


CHECKS: Tuple[Check, ...] = (
    Check(
        "nms.class-offset",
        MUST,
        "No two classes of this head can meet in the suppression.",
        class_offset,
        lambda one: one.class_offset,
    ),
)

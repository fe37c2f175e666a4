"""The suppression in a file of somebody else's exporter, where the head of its model is known."""

from __future__ import annotations

from typing import Iterator, Tuple

from detparity.artifacts import onnx_nms
from detparity.checks.foreign.context import ForeignContext
from detparity.checks.nms_graph import unsafe_offset
from detparity.core.contract import MUST
from detparity.core.findings import CannotRun, Check, Finding
from detparity.oracle.class_offset import HeadRange


def class_offset(context: ForeignContext) -> Iterator[Finding]:
    """Whether two boxes of different classes that the model can decode could suppress each other after the offset."""
    facts, found = context.oracle.reference.facts, onnx_nms.find(context.onnx.graph)
    if found is None or found.max_wh is None or found.iou_threshold is None:
        raise CannotRun("the suppression has no constant IoU threshold or class offset", hides=False)
    size = max([context.contract.size, *context.sizes()], key=lambda one: one[0] * one[1])
    head = HeadRange(facts.anchors, facts.strides, size, len(facts.names) or 2)  # more than two make no difference
    yield from unsafe_offset(head, found.max_wh, found.iou_threshold)


CHECKS: Tuple[Check, ...] = (
    Check(
        "nms.class-offset",
        MUST,
        "No two classes of this head can meet in the suppression.",
        class_offset,
        lambda one: one.class_offset,
    ),
)

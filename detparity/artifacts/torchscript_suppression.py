"""What a TorchScript graph suppresses boxes with: the numbers of the first operator for it."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Set

from detparity.artifacts.torchscript_facts import SUPPRESSION
from detparity.artifacts.torchscript_graph import Known, inputs_of

WITH_INDICES = ("aten::max", "aten::topk", "aten::sort")  # whose second output says which


def numbers(known: Known) -> Dict[str, float]:
    """iou: over which boxes suppress; score: that the first comparison asks for; most: detections that are taken; apart: 0 where no
    class moves boxes, else 1. Left out is what is no constant; all of it where nothing suppresses."""
    operator = next((node for node in known.nodes if node.kind() == SUPPRESSION), None)
    if operator is None:
        return {}
    boxes, _, iou = inputs_of(operator)
    over = next((node for node in known.nodes if node.kind() == "aten::gt"), None)
    cut = next((use.user for use in operator.outputsAt(0).uses() if use.user.kind() == "aten::slice"), None)
    found = {
        "iou": _float(known.value(iou)),
        "score": None if over is None else _float(known.value(over.inputsAt(1))),
        "most": None if cut is None else _float(known.number(cut.inputsAt(3))),
        "apart": float(_by_class(boxes)),
    }
    return {name: value for name, value in found.items() if value is not None}


def _float(value: Any) -> Optional[float]:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _by_class(boxes: Any) -> bool:
    """Whether the number of a class reaches these boxes."""
    seen: Set[str] = set()
    waiting: List[Any] = [boxes]
    while waiting:
        value = waiting.pop()
        if value.debugName() in seen:
            continue
        seen.add(value.debugName())
        node = value.node()
        kind = node.kind()
        if kind == "aten::argmax" or (kind in WITH_INDICES and _is(value, node, 1)):
            return True
        waiting += inputs_of(node)
    return False


def _is(value: Any, node: Any, index: int) -> bool:
    return node.outputsSize() > index and bool(node.outputsAt(index).debugName() == value.debugName())

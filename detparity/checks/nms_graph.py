"""The suppression as the graph holds it: one operator, its numbers and attributes, classes that cannot meet, no baked counts."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

from detparity.artifacts import onnx_nms
from detparity.checks.context import Context
from detparity.core.contract import SHOULD, Contract, NmsPromise, largest_size
from detparity.core.findings import CannotRun, Finding, Row
from detparity.core.text import listed, number
from detparity.oracle import class_offset as offset

PLUGIN_KINDS = {
    "background_class": ("INT", -1),
    "box_coding": ("INT", 1),
    "class_agnostic": ("INT", 0),
    "plugin_version": ("STRING", "1"),
    "score_activation": ("INT", 0),
}


def promise_of(context: Context) -> NmsPromise:
    assert context.contract.nms is not None
    return context.contract.nms


def suppression_of(context: Context) -> onnx_nms.Suppression:
    found = onnx_nms.find(context.onnx.graph)
    if found is None:
        raise CannotRun("the graph has no suppression operator")
    return found


def operator(context: Context) -> Iterator[Finding]:
    """One operator of the promised kind, all its inputs there and of the right rank; no loop around it."""
    graph = context.onnx.graph
    expected = "EfficientNMS_TRT" if context.contract.variant.head == "end2end-trt" else "NonMaxSuppression"
    found = onnx_nms.find(graph)
    nodes = [] if found is None else [node for node in found.nodes if node.op == expected]
    if len(nodes) != 1 or found is None or len(found.nodes) != 1:
        titles = [] if found is None else [node.title for node in found.nodes]
        yield Finding(
            f"has {len(nodes)} {expected} nodes where one is promised"
            + (f" (suppression: {listed(titles)})." if titles else ": nothing is suppressed."),
            evidence={"nodes": titles},
        )
        return
    controls = [node.title for node in graph.walk() if node.op in ("If", "Loop", "Scan")]
    if controls:
        yield Finding(f"suppresses under control flow: {listed(controls)}.", evidence={"nodes": controls})
    if expected == "NonMaxSuppression":
        yield from _inputs(context, nodes[0])


def _inputs(context: Context, node: Any) -> Iterator[Finding]:
    names = ("boxes", "scores", "max_output_boxes_per_class", "iou_threshold", "score_threshold")
    given = list(node.inputs) + [""] * (5 - len(node.inputs))
    rows: List[Row] = []
    for name, tensor in zip(names, given):
        if not tensor:
            missing = "missing: the operator then returns nothing" if "max" in name else "missing"
            rows.append((name, missing))
            continue
        value = onnx_nms.constant(context.onnx.graph, tensor)
        if name in names[2:] and value is not None and value.size != 1:
            rows.append((name, f"{value.size} numbers where one is promised"))
    if rows:
        yield Finding(
            f"gives {node.title} other inputs than the operator needs.",
            tuple(rows),
            evidence={"inputs": [r[0] for r in rows]},
        )
    if node.get("center_point_box", 0) != 0:
        yield Finding(
            f"tells {node.title} that boxes are centre and size (center_point_box {node.get('center_point_box')}); they are corners.",
            evidence={"center_point_box": node.get("center_point_box")},
        )


def thresholds(context: Context) -> Iterator[Finding]:
    """IoU and score thresholds, cap and class offset of the operator against the promise."""
    found, promise = suppression_of(context), promise_of(context)
    table: List[Tuple[str, Optional[float], Optional[float], str]] = [
        ("iou threshold", promise.iou_threshold, found.iou_threshold, "iou-thres"),
        ("score threshold", promise.score_threshold, found.score_threshold, "conf-thres"),
        ("cap per image", promise.cap, found.cap, "topk-all"),
    ]
    if promise.max_wh is not None:
        table.append(("class offset", promise.max_wh, found.max_wh, "max-wh"))
    rows: List[Row] = [("", "promised", "file")]
    for title, expected, value, key in table:
        if value is None or expected is None or np.float32(value) != np.float32(expected):
            source = promise.sources.get(key, "")
            rows.append(
                (
                    title,
                    f"{number(float(expected or 0))} ({source})",
                    "no constant" if value is None else f"{value:.6g}",
                )
            )
    if len(rows) > 1:
        yield Finding(
            f"suppresses by other numbers than promised: {rows[1][0]} {rows[1][2]} where {rows[1][1]} is promised.",
            tuple(rows),
            headed=True,
            evidence={"numbers": [row[0] for row in rows[1:]]},
        )


def attributes(context: Context) -> Iterator[Finding]:
    """The plugin's attributes by name, type and value."""
    node = suppression_of(context).node
    expected: Dict[str, Tuple[str, Any]] = {
        **PLUGIN_KINDS,
        "iou_threshold": ("FLOAT", None),
        "score_threshold": ("FLOAT", None),
        "max_output_boxes": ("INT", None),
    }
    rows: List[Row] = [("attribute", "promised", "file")]
    for key, (kind, value) in sorted(expected.items()):
        found = node.attributes.get(key)
        text = f"{kind}{'' if value is None else f' {value}'}"
        if found is None:
            if key == "class_agnostic":
                yield Finding(
                    "leaves out class_agnostic, which the plugin asks for from TensorRT 8.6 on.",
                    evidence={"attribute": key},
                    level=SHOULD,
                )
            else:
                rows.append((key, text, "missing"))
        elif found.kind != kind or (value is not None and found.value != value):
            rows.append((key, text, f"{found.kind} {found.value}"))
    extra = sorted(set(node.attributes) - set(expected))
    rows += [(key, "nothing", f"{node.attributes[key].kind} {node.attributes[key].value}") for key in extra]
    if len(rows) > 1:
        names = [row[0] for row in rows[1:]]
        yield Finding(
            f"gives {node.op} other attributes than promised: {listed(names)}.",
            tuple(rows),
            headed=True,
            evidence={"attributes": names},
        )
    if node.domain != "TRT":
        yield Finding(f"puts {node.op} into the domain {node.domain!r} where 'TRT' is promised.")


def head_range(contract: Contract) -> offset.HeadRange:
    """Where this head can put boxes at the largest promised size."""
    facts = contract.facts
    return offset.HeadRange(facts.anchors, facts.strides, largest_size(contract), facts.classes)


def class_offset(context: Context) -> Iterator[Finding]:
    """Whether two boxes of different classes that this head can decode could suppress each other after the offset."""
    found, promise = suppression_of(context), promise_of(context)
    if found.max_wh is None:
        return  # no constant to judge: nms.tail presses on it with neighbouring classes on one box
    yield from unsafe_offset(head_range(context.contract), found.max_wh, promise.iou_threshold)


def unsafe_offset(head: offset.HeadRange, max_wh: float, iou_threshold: float) -> Iterator[Finding]:
    """The finding about an offset in pixels that lets boxes of neighbouring classes meet."""
    breach = offset.judge(head, max_wh, iou_threshold)
    if breach:
        rows = tuple((key.replace("_", " "), str(value)) for key, value in breach.facts.items())
        yield Finding(f"keeps classes apart by an unsafe offset. {breach.sentence}", rows, evidence=dict(breach.facts))


def baked(context: Context) -> Iterator[Finding]:
    """Counts of one image size or batch fixed in the tail of a file that promises to vary."""
    graph, contract, facts = context.onnx.graph, context.contract, context.facts
    found = suppression_of(context)
    counts = {facts.rows(contract.size), *facts.level_rows(contract.size)}
    around = {node.index: node for name in found.node.inputs for node in onnx_nms.before(graph, name)[-60:]}
    around.update({node.index: node for node in found.tail})
    rows: List[Row] = [("node", "fixed")]
    for _, node in sorted(around.items()):
        position = {"Reshape": 1, "Expand": 1, "TopK": 1, "ConstantOfShape": 0, "Slice": 2, "Tile": 1}.get(node.op)
        if position is None or position >= len(node.inputs):
            continue
        value = onnx_nms.constant(graph, node.inputs[position])
        if value is None or value.dtype.kind not in "iu":
            continue
        numbers = [int(v) for v in np.ravel(value)]
        if contract.variant.dynamic_size and counts.intersection(numbers):
            rows.append((node.title, f"{numbers}: rows of a {contract.size[0]}x{contract.size[1]} image"))
    if len(rows) > 1:
        yield Finding(
            f"fixes the number of predictions in its tail in {len(rows) - 1} nodes.",
            tuple(rows),
            headed=True,
            evidence={"nodes": [row[0] for row in rows[1:]]},
        )

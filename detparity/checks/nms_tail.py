"""Where the tail of a file begins (the last tensor that still holds all predictions), and what to feed it there.

The cut is at the decoded predictions or, where no tensor holds them, at the logits of each level; then predictions are turned back
into logits, and what the tail should answer follows from those logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from detparity.artifacts import onnx_nms
from detparity.artifacts.onnx_graph import Graph, Node
from detparity.checks.context import Context
from detparity.core.vocabulary import ModelFacts, Size
from detparity.oracle.decode import decode

NO_OBJECT = -30.0
MOVES = ("Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
EDGE = 1e-4  # a decoded number is at least this share of its range away from what the head cannot reach


@dataclass(frozen=True)
class Cut:
    """names: the tensors to feed, with their ranks; logits: whether they are the logits of each level, in rows (B, na, ny, nx, fields)
    or as a convolution leaves them (B, na * fields, ny, nx), else the predictions."""

    names: Mapping[str, int]
    logits: bool

    @property
    def planes(self) -> bool:
        """Whether they are logits as a convolution leaves them."""
        return self.logits and 4 in self.names.values()


def find_cut(context: Context) -> Optional[Cut]:
    """Return the cut of an ONNX file with suppression inside, or None where no set of tensors separates tail from body."""
    graph, facts, contract = context.onnx.graph, context.facts, context.contract
    found = onnx_nms.find(graph)
    if found is None:
        return None
    nodes = {node.index: node for name in found.node.inputs for node in onnx_nms.before(graph, name)}
    last = ("Concat", "Reshape", "Transpose")
    planes = _planes(graph)
    candidates = [
        name for _, node in sorted(nodes.items()) for name in node.outputs[:1] if node.op in last or name in planes
    ]
    images = np.zeros((contract.batch, 3, *contract.size), np.float32)
    made = context.shapes_of(candidates, images).items()  # a tail is fed float32
    shapes = {name: value.shape if value.dtype == np.float32 else () for name, value in made}
    rows = (contract.batch, facts.rows(contract.size), facts.fields)
    for name in reversed(candidates):
        if shapes[name] == rows and _separates(graph, {name}):
            return Cut({name: 3}, False)
    na, fields, cells = facts.anchors_per_level, facts.fields, facts.cells(contract.size)
    in_rows = [(contract.batch, na, ny, nx, fields) for ny, nx in cells]
    in_planes = [(contract.batch, na * fields, ny, nx) for ny, nx in cells]
    for names, expected in ((candidates, in_rows), ([name for name in candidates if name in planes], in_planes)):
        levels = _levels(names, shapes, expected)
        if levels and _separates(graph, set(levels)):
            return Cut(levels, True)
    return None


def _planes(graph: Graph) -> Set[str]:
    """Outputs of the last convolutions that meet a sigmoid before any other operator. They can be the logits of levels; what an
    implicit vector is still to be added to or multiplied with cannot."""
    producers, consumers = graph.producers(), graph.consumers()
    waiting, seen, found = [value.name for value in graph.outputs], set(), set()
    while waiting:
        node = producers.get(waiting.pop())
        if node is None or node.index in seen:
            continue
        seen.add(node.index)
        if node.op != "Conv":
            waiting.extend(node.inputs)
        elif _done_first(node.outputs[0], consumers) == {"Sigmoid"}:
            found.add(node.outputs[0])
    return found


def _done_first(name: str, consumers: Mapping[str, Sequence[Node]]) -> Set[str]:
    """The operators that a tensor meets behind those that only move its numbers."""
    waiting, seen, found = [name], {name}, set()
    while waiting:
        for node in consumers.get(waiting.pop(), ()):
            if node.op in MOVES:
                waiting.extend(one for one in node.outputs if one not in seen)
                seen.update(node.outputs)
            elif node.op != "Shape":
                found.add(node.op)
    return found


def _levels(
    candidates: Sequence[str], shapes: Mapping[str, Tuple[int, ...]], expected: Sequence[Tuple[int, ...]]
) -> Dict[str, int]:
    """The last tensor of each level's shape, with its rank; empty where one has none."""
    levels: Dict[str, int] = {}
    for k, shape in enumerate(expected):
        hits = [name for name in candidates if shapes[name] == shape]
        # Members of an ensemble have levels of one size: each has its share of the tensors, in the order they run.
        before, equal = expected[:k].count(shape), expected.count(shape)
        if len(hits) < equal:
            return {}
        levels[hits[(before + 1) * len(hits) // equal - 1]] = len(shape)
    return levels if len(levels) == len(expected) else {}


def _separates(graph: Graph, cut: Set[str]) -> bool:
    """Whether nothing but the image's shape reaches the outputs past `cut`."""
    producers = graph.producers()
    inputs = {value.name for value in graph.inputs}
    waiting, seen = [value.name for value in graph.outputs], set(cut)
    while waiting:
        name = waiting.pop()
        if name in seen or name in graph.constants:
            continue
        seen.add(name)
        if name in inputs:
            return False
        node = producers.get(name)
        if node is not None and not (node.op == "Shape" and node.first in inputs):
            waiting.extend(node.inputs)
    return True


def feed(context: Context, cut: Cut, predictions: np.ndarray) -> Tuple[Dict[str, np.ndarray], np.ndarray]:
    """What to feed the tail for these predictions (B, n, fields), and the predictions (B, rows, fields) that they are.

    Rows not given are background. At a logits cut, boxes the head cannot express there are moved to where it can.
    """
    facts, size = context.facts, context.contract.size
    count = len(predictions)
    if not cut.logits:
        given = np.zeros((count, facts.rows(size), facts.fields), np.float32)
        given[..., 2:4] = 1.0
        given[:, : predictions.shape[1]] = predictions
        return {next(iter(cut.names)): given}, given.astype(np.float64)
    raw = [
        np.full((count, facts.anchors_per_level, ny, nx, facts.fields), NO_OBJECT, np.float32)
        for ny, nx in facts.cells(size)
    ]
    for image in range(count):
        _position([level[image] for level in raw], predictions[image], facts)
    means = [np.concatenate(decode(facts, [level[image] for level in raw])[0]) for image in range(count)]
    levels = [_as_planes(level) for level in raw] if cut.planes else raw
    return dict(zip(cut.names, levels)), np.stack(means)


def _as_planes(level: np.ndarray) -> np.ndarray:
    """Logits (B, na, ny, nx, fields) of a level as (B, na * fields, ny, nx)."""
    count, na, ny, nx, fields = level.shape
    return np.ascontiguousarray(level.transpose(0, 1, 4, 2, 3).reshape(count, na * fields, ny, nx))


def as_rows(cut: Cut, outputs: Mapping[str, np.ndarray], fields: int) -> Dict[str, np.ndarray]:
    """What a file gives at a cut, logits in rows (B, na, ny, nx, fields)."""
    found = {name: outputs[name] for name in cut.names}
    if not cut.planes:
        return found
    return {
        name: array.reshape(len(array), -1, fields, *array.shape[2:]).transpose(0, 1, 3, 4, 2)
        for name, array in found.items()
    }


def _position(raw: Sequence[np.ndarray], boxes: np.ndarray, facts: ModelFacts) -> None:
    """Write boxes (n, fields) into one image's logits, each into a free anchor of a cell that can express it."""
    taken: Set[Tuple[int, int, int, int]] = set()
    for box in boxes:
        if not box[4] > 0:
            continue
        slot = next((s for s in _slots(raw, box, facts) if s not in taken), None)
        if slot is None:
            continue
        taken.add(slot)
        level, anchor, y, x = slot
        stride, limit = facts.strides[level], np.asarray(facts.anchors[level][anchor])
        s = np.concatenate(
            [((box[0:2] / stride - (x, y)) + 0.5) / 2.0, np.sqrt(np.maximum(box[2:4], 0) / limit) / 2.0, box[4:]]
        )
        s[:4] = np.clip(s[:4], EDGE, 1 - EDGE)
        s[4:] = np.clip(s[4:], 1e-12, 1 - 1e-7)
        raw[level][anchor, y, x] = np.log(s / (1 - s))


def _slots(raw: Sequence[np.ndarray], box: np.ndarray, facts: ModelFacts) -> List[Tuple[int, int, int, int]]:
    """Slots that could hold this box, best first: anchors large enough, then any; its own cell, then those around it."""
    found: List[Tuple[bool, int, Tuple[int, int, int, int]]] = []
    for level, stride in enumerate(facts.strides):
        _, ny, nx, _ = raw[level].shape
        y, x = (int(np.clip(box[k] // stride, 0, n - 1)) for k, n in ((1, ny), (0, nx)))
        for anchor, (w, h) in enumerate(facts.anchors[level]):
            small = bool(box[2] > 3.9 * w or box[3] > 3.9 * h)
            for far, (dy, dx) in enumerate(((0, 0), (0, -1), (-1, 0), (-1, -1))):
                if y + dy >= 0 and x + dx >= 0:
                    # A neighbouring cell reaches half a stride into this one, so only the near half fits exactly.
                    found.append((small, far, (level, anchor, y + dy, x + dx)))
    return [slot for _, _, slot in sorted(found, key=lambda item: (item[0], item[1]))]


CLOSE = (0.002, 0.01, 0.03)  # by which a second class scores less, in parts
SURE = 0.9999  # the score of a class where the objectness decides alone


def dense(facts: ModelFacts, size: Size, iou: float, score: float, cap: int, batch: int, seed: int) -> np.ndarray:
    """Predictions (batch, n, fields) that press on every number at once: pairs whose IoU and boxes whose score lie just beside
    their thresholds, by score and by objectness alone, which a filter before the suppression may ask for, neighbouring classes on
    one box up to the last class, boxes with a second class that is close, different counts. Even seeds give more boxes than the
    cap, odd ones fewer, since a full answer hides the lowest scores."""
    rng = np.random.default_rng([seed, 13])
    most = max(cap // 4, 8) if seed % 2 else cap + 30
    counts = [max(1, most // (image + 1)) for image in range(batch)]
    values = np.zeros((batch, 2 * max(counts), facts.fields))
    values[..., 2:4] = 1.0
    for image, count in enumerate(counts):
        for k in range(count):
            w, h = rng.uniform(20, 80, 2)
            cx, cy = rng.uniform(0, size[1]), rng.uniform(0, size[0])
            top = score + (1 - score) * rng.uniform(0.05, 0.95)
            label = facts.classes - 1 if k % 5 == 0 else int(rng.integers(facts.classes))
            apart = w * (1 - iou) / (1 + iou) + rng.choice((-1, 1)) * 0.004 * w
            other = max(label - 1, 0) if k % 3 == 0 else label
            low = score + rng.choice((-1, 1)) * rng.uniform(0.002, 0.006) if k % 4 == 0 else top - 0.02
            for j, (x, name, number) in enumerate(((cx, label, top), (cx + apart, other, low))):
                row = values[image, 2 * k + j]
                row[:4] = x, cy, w, h
                confidence = float(np.clip(number, 0.0, 0.999))
                sure = 1.0 if facts.classes == 1 else SURE if k % 8 == 0 else np.sqrt(confidence)
                row[4], row[5 + name] = min(confidence / sure, 1.0), sure
                if k % 4 == 1 and facts.classes > 1:
                    second = (name + int(rng.integers(1, facts.classes))) % facts.classes
                    row[5 + second] = row[5 + name] * (1 - rng.choice(CLOSE))
    return values

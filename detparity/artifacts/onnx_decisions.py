"""Where an ONNX file decides, and the same file with what it decides from, and what it chose, as further outputs or as inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
import onnx

from detparity.artifacts.onnx_graph import Graph, Node
from detparity.core.decisions import BEST, CUT, SUPPRESSION, Choice

CHOOSING = ("TopK", "ArgMax", "ArgMin")
COMPARING = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
RISING = ("ArgMin", "Less", "LessOrEqual")
PASSING = ("And", "Or", "Not", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Transpose", "Identity", "Expand")
GATHERING = ("NonZero", "Compress")
LENGTHS = ("Shape", "Size")  # what they give follows from counts, and not from what was chosen
LEARNED = frozenset(
    (
        "Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "Einsum", "LSTM",
        "GRU", "RNN", "Attention", "MultiHeadAttention", "LayerNormalization", "FusedConv", "FusedMatMul", "RoiAlign",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Selection:
    """A node that decides: its title, operator and kind, the tensors it reads and the one that holds what it chose, the axis it
    counts along; learned: whether learned layers follow; largest and ordered: see `core.decisions.Forced`;
    stated, centred: of a suppression, its tensors of number, IoU and score, and whether boxes are centres and sizes."""

    node: str
    operator: str
    kind: str
    read: Tuple[str, ...]
    chosen: str
    axis: int = 0
    learned: bool = True
    largest: bool = True
    ordered: bool = True
    stated: Tuple[str, ...] = ()
    centred: bool = False

    def _limits(self, values: Mapping[str, np.ndarray]) -> Tuple[float, float, int]:
        """IoU, score and number of a suppression."""
        most, iou, least = (
            float(np.ravel(values[name])[0]) if name else None for name in (*self.stated, "", "", "")[:3]
        )
        return iou or 0.0, -np.inf if least is None else least, int(most or 0)

    def tensors(self, constants: Mapping[str, np.ndarray]) -> List[str]:
        """What is to be shown, where it is no constant."""
        return [name for name in (*self.read, *self.stated, self.chosen) if name and name not in constants]

    def choice(self, shown: Mapping[str, np.ndarray], constants: Mapping[str, np.ndarray]) -> Optional[Choice]:
        """What was chosen, from the tensors shown; None where they are not, or hold no numbers that a float32 run may differ in."""
        values = {**constants, **shown}
        if any(name and name not in values for name in (*self.read, *self.stated, self.chosen)):
            return None
        arrays = [np.asarray(values[name]) for name in self.read]
        if arrays[0].dtype.kind != "f" or not arrays[0].size:
            return None
        arrays = [array.astype(np.float64) for array in arrays]
        indices = values[self.chosen]
        if self.kind == CUT:
            scores = np.broadcast_to(arrays[0] - arrays[1], indices.shape)
            return Choice(self.node, np.ascontiguousarray(scores), indices, 0, CUT, learned=self.learned)
        if self.kind == SUPPRESSION:
            boxes = arrays[0]
            if self.centred:
                half = boxes[..., 2:] / 2
                boxes = np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], -1)
            return Choice(self.node, arrays[1], indices, 0, SUPPRESSION, boxes, self.learned, self._limits(values))
        return Choice(self.node, arrays[0], indices, self.axis % arrays[0].ndim, learned=self.learned)


def selections(graph: Graph) -> Tuple[Selection, ...]:
    """Every node of the main graph that decides and whose choice something reads, in the order they run."""
    consumers = graph.consumers()
    read = {name for node in graph.walk() for name in node.inputs} | {value.name for value in graph.outputs}
    found = []
    for node in graph.nodes:
        kind, tensors, chosen = _parts(node)
        if not kind or chosen not in read or node.domain or (kind == CUT and not _gathers(chosen, consumers)):
            continue
        axis = int(node.get("axis", -1 if node.op == "TopK" else 0))
        largest = node.op not in RISING and bool(node.get("largest", 1))
        ordered = kind == BEST and bool(node.get("sorted", 1))
        learned = _learned(node, consumers)
        found.append(
            Selection(
                node.title,
                node.op,
                kind,
                tensors,
                chosen,
                axis,
                learned,
                largest,
                ordered,
                tuple(node.inputs[2:]) if kind == SUPPRESSION else (),
                bool(node.get("center_point_box", 0)),
            )
        )
    return tuple(found)


def _parts(node: Node) -> Tuple[str, Tuple[str, ...], str]:
    """The kind of a node that decides, what it reads, and what it gives; an empty kind for any other."""
    if node.op in CHOOSING and node.inputs and node.outputs:
        chosen = node.outputs[1:2] if node.op == "TopK" else node.outputs[:1]
        return (BEST, node.inputs[:1], chosen[0]) if chosen else ("", (), "")
    if node.op in COMPARING and len(node.inputs) == 2:
        return CUT, node.inputs, node.outputs[0]
    if node.op == "NonMaxSuppression" and len(node.inputs) >= 2:
        return SUPPRESSION, node.inputs[:2], node.outputs[0]
    return "", (), ""


def _following(names: Sequence[str], consumers: Mapping[str, List[Node]], only: Sequence[str] = ()) -> Iterator[Node]:
    """Nodes that read these tensors or what follows from them; only: operators beyond which to look."""
    seen: Set[int] = set()
    left = list(names)
    while left:
        for node in consumers.get(left.pop(), ()):
            if node.index in seen:
                continue
            seen.add(node.index)
            yield node
            if node.op not in LENGTHS and (not only or node.op in only):
                left += node.outputs


def _gathers(name: str, consumers: Mapping[str, List[Node]]) -> bool:
    return any(node.op in GATHERING for node in _following([name], consumers, PASSING))


def _learned(node: Node, consumers: Mapping[str, List[Node]]) -> bool:
    return any(
        one.op in LEARNED or (one.domain and not one.domain.startswith("com.microsoft"))
        for one in _following(node.outputs, consumers)
    )


def exposed(path: Path, names: Sequence[str]) -> bytes:
    """The model with these inner tensors as outputs beside its own."""
    model = onnx.load(str(path))
    own = {value.name for value in (*model.graph.output, *model.graph.input)}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in own)
    return bytes(model.SerializeToString())


def forced(path: Path, chosen: Sequence[Selection], names: Sequence[str] = ()) -> bytes:
    """The model with what these nodes choose as further inputs, called as the tensors are, and `names` as further outputs. The best
    values of a TopK are gathered by the indices given."""
    model = onnx.load_from_string(exposed(path, names))
    by_tensor: Dict[str, Selection] = {one.chosen: one for one in chosen}
    nodes: List[onnx.NodeProto] = []
    for node in model.graph.node:
        one = next((by_tensor[name] for name in node.output if name in by_tensor), None)
        if one is None:
            nodes.append(node)
        elif node.op_type == "TopK" and node.output[0]:
            inputs = [node.input[0], one.chosen]
            nodes.append(onnx.helper.make_node("GatherElements", inputs, [node.output[0]], node.name, axis=one.axis))
    kinds = {CUT: onnx.TensorProto.BOOL}
    for one in chosen:
        kind = kinds.get(one.kind, onnx.TensorProto.INT64)
        model.graph.input.append(onnx.helper.make_tensor_value_info(one.chosen, kind, None))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString())

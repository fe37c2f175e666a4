"""Where an ONNX file decides, and the same file with what it decides from, and what it chose, as further outputs or as inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
COUNTING = ("ReduceSum", "ReduceMax", *COMPARING)  # of booleans: how many of them, and whether that is none
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
    stated, centred: of a suppression, its tensors of number, IoU and score, and whether boxes are centres and sizes; inside: whether
    it is in a body of an `If`."""

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
    inside: bool = False

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
    """Every node that decides and whose choice something reads, in the order they run, of the main graph and of bodies of its `If`."""
    consumers = _readers(graph)
    read = {name for node in graph.walk() for name in node.inputs}
    read |= {
        value.name
        for one in (graph, *(body for node in graph.nodes for body in _bodies(node)))
        for value in one.outputs
    }
    found: List[Selection] = []
    for node in graph.nodes:
        one = _selection(node, read, consumers, _learned(node, consumers))
        found += [one] if one is not None else []
        for body in _bodies(node):
            learned = _learned(node, consumers)
            made = [_selection(sub, read, _readers(body), learned) for sub in body.nodes]
            found += [replace(one, inside=True) for one in made if one is not None]
    return tuple(found)


def _bodies(node: Node) -> Tuple[Graph, ...]:
    return node.subgraphs if node.op == "If" and not node.domain else ()


def _readers(graph: Graph) -> Dict[str, List[Node]]:
    """Nodes by what they read, or what their bodies do."""
    found = graph.consumers()
    for node in graph.nodes:
        for name in {name for body in node.subgraphs for sub in body.walk() for name in sub.inputs}:
            found.setdefault(name, []).append(node)
    return found


def _selection(node: Node, read: Set[str], consumers: Mapping[str, List[Node]], learned: bool) -> Optional[Selection]:
    kind, tensors, chosen = _parts(node)
    if not kind or chosen not in read or node.domain or (kind == CUT and not _gathers(chosen, consumers)):
        return None
    axis = int(node.get("axis", -1 if node.op == "TopK" else 0))
    largest = node.op not in RISING and bool(node.get("largest", 1))
    ordered = kind == BEST and bool(node.get("sorted", 1))
    stated = tuple(node.inputs[2:]) if kind == SUPPRESSION else ()
    centred = bool(node.get("center_point_box", 0))
    return Selection(node.title, node.op, kind, tensors, chosen, axis, learned, largest, ordered, stated, centred)


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
    return any(node.op in GATHERING for node in _following([name], consumers, PASSING + COUNTING))


def _learned(node: Node, consumers: Mapping[str, List[Node]]) -> bool:
    return any(
        one.op in LEARNED or (one.domain and not one.domain.startswith("com.microsoft"))
        for one in _following(node.outputs, consumers)
    )


SHOWN = "/shown"  # ends the name of an inner tensor of a body, as an output of its `If`


def exposed(path: Path, which: Sequence[Selection], constants: Mapping[str, np.ndarray]) -> bytes:
    """The model with what these nodes read and choose as outputs beside its own; of nodes inside bodies as outputs of the `If`, where
    the other branch gives nothing, called NAME/shown."""
    inner = {name: kind for one in which if one.inside for name, kind in _types(one).items()}
    model = onnx.load(str(path))
    within = set(_shown_inside(model.graph, inner))
    names = [name for one in which for name in one.tensors(constants) if name not in within]
    return _with_outputs(model, [*names, *(name + SHOWN for name in within)])


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> bytes:
    own = {value.name for value in (*model.graph.output, *model.graph.input)}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in own)
    return bytes(model.SerializeToString())


def plainly(shown: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """What the copy of `exposed` gives, by the names that the tensors have in the file."""
    return {name[: -len(SHOWN)] if name.endswith(SHOWN) else name: value for name, value in shown.items()}


def _types(one: Selection) -> Dict[str, int]:
    """The element types of what a node reads and gives, by name, in a file of float32."""
    kind = onnx.TensorProto.BOOL if one.kind == CUT else onnx.TensorProto.INT64
    stated = (onnx.TensorProto.INT64, onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT)
    found = {name: onnx.TensorProto.FLOAT for name in one.read}
    found.update({name: number for name, number in zip(one.stated, stated) if name})
    return {**found, one.chosen: kind}


def _shown_inside(graph: onnx.GraphProto, tensors: Mapping[str, int]) -> List[str]:
    """Give each `If` of a graph these tensors, where its bodies make them, as further outputs; their names."""
    found: List[str] = []
    for node in graph.node:
        bodies = [one.g for one in node.attribute if one.name in ("then_branch", "else_branch")]
        if node.op_type != "If" or node.domain or len(bodies) != 2:
            continue
        for body, other in (bodies, bodies[::-1]):
            for name in sorted({name for inner in body.node for name in inner.output} & set(tensors)):
                kind = tensors[name]
                empty = onnx.helper.make_tensor(name + "/none", kind, [0], [])
                other.node.append(onnx.helper.make_node("Constant", [], [name + "/none"], value=empty))
                body.node.append(onnx.helper.make_node("Identity", [name], [name + "/copy"]))
                for side, title in ((body, name + "/copy"), (other, name + "/none")):
                    side.output.append(onnx.helper.make_tensor_value_info(title, kind, None))
                node.output.append(name + SHOWN)
                found.append(name)
    return found


def forced(path: Path, chosen: Sequence[Selection], names: Sequence[str] = ()) -> bytes:
    """The model with what these nodes choose as further inputs, called as the tensors are, and `names` as further outputs. The best
    values of a TopK are gathered by the indices given."""
    model = onnx.load_from_string(_with_outputs(onnx.load(str(path)), names))
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

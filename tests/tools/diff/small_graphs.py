"""Small ONNX models, other spellings of the same one, and single changes that make it another."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 6
CHANNELS = 4


def value(
    name: str, shape: Optional[Sequence[Any]] = (1, CHANNELS, SIDE, SIDE), kind: int = TensorProto.FLOAT
) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def tensor(name: str, array: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(array, order="C"), name)


def model(
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[Any],
    stored: Dict[str, Any],
    inputs: Sequence[Any] = (),
    opset: int = 13,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """A model of IR version 8; inputs default to one image `images`, outputs may be bare names."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        list(inputs) or [value("images")],
        [value(item) if isinstance(item, str) else item for item in outputs],
        [tensor(name, array) for name, array in stored.items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    made = helper.make_model(graph, opset_imports=imports, functions=list(functions))
    made.ir_version = 8
    return made


def network(seed: int = 0, opset: int = 12) -> onnx.ModelProto:
    """What a detector is made of, in twenty nodes: convolutions by official names, activations, a pool, a resize, concats, a
    decode with a threshold in it. Input (1, 3, 32, 32), output (1, 60, 6)."""
    rng = np.random.default_rng(seed)
    stored: Dict[str, Any] = {}
    nodes: List[onnx.NodeProto] = []

    def conv(index: int, before: str, cin: int, cout: int, kernel: int = 3, stride: int = 1) -> str:
        stored[f"model.{index}.conv.weight"] = rng.normal(size=(cout, cin, kernel, kernel)).astype(np.float32)
        stored[f"model.{index}.conv.bias"] = rng.normal(size=cout).astype(np.float32)
        pad = kernel // 2
        nodes.append(
            helper.make_node(
                "Conv",
                [before, f"model.{index}.conv.weight", f"model.{index}.conv.bias"],
                [f"conv{index}"],
                kernel_shape=[kernel, kernel],
                strides=[stride, stride],
                pads=[pad] * 4,
                dilations=[1, 1],
                group=1,
            )
        )
        nodes.append(helper.make_node("LeakyRelu", [f"conv{index}"], [f"act{index}"], alpha=0.1))
        return f"act{index}"

    first = conv(0, "images", 3, 8, stride=2)
    left, right = conv(1, first, 8, 8, 1), conv(2, first, 8, 8, 1)
    nodes.append(helper.make_node("Concat", [left, right], ["joined"], axis=1))
    nodes.append(helper.make_node("MaxPool", ["joined"], ["pooled"], kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4))
    down = conv(3, "pooled", 16, 8, stride=2)
    stored.update(roi=np.zeros(0, np.float32), scales=np.array([1, 1, 2, 2], np.float32))
    nodes.append(helper.make_node("Resize", [down, "roi", "scales"], ["up"], mode="nearest"))
    nodes.append(helper.make_node("Concat", ["up", left], ["both"], axis=1))
    last = conv(4, "both", 16, 6, 1)
    stored.update(shape=np.array([1, 6, -1]), stride=np.array(8, np.float32), limit=np.array([0.45], np.float32))
    nodes += [
        helper.make_node("Reshape", [last, "shape"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["rows"], perm=[0, 2, 1]),
        helper.make_node("Mul", ["rows", "stride"], ["pixels"]),
        helper.make_node("Sub", ["pixels", "limit"], ["output"]),
    ]
    return model(nodes, [value("output", [1, 256, 6])], stored, [value("images", [1, 3, 32, 32])], opset)


def drawn(seed: int, size: int = 24) -> onnx.ModelProto:
    """A random graph in which no two nodes do the same: images (1, 4, 6, 6) through convolutions, activations and arithmetic,
    with two outputs and now and then a node that leads nowhere."""
    rng = np.random.default_rng(seed)
    stored: Dict[str, Any] = {}
    nodes: List[onnx.NodeProto] = []
    made, seen = ["images"], set()
    while len(nodes) < size:
        name = f"t{len(nodes)}"
        kind = str(rng.choice(["Conv", "LeakyRelu", "Add", "Mul", "Sub", "Div", "Max", "Scale", "Relu", "Concat"]))
        a, b = (str(rng.choice(made[-8:])) for _ in range(2))
        read = [a]
        if kind == "Conv":
            official = bool(rng.integers(2))
            stem = f"model.{len(nodes)}.conv." if official else f"onnx::Conv_{len(nodes)}_"
            stored[stem + "weight"] = rng.normal(size=(CHANNELS, CHANNELS, 1, 1)).astype(np.float32)
            read.append(stem + "weight")
            if rng.integers(2):
                stored[stem + "bias"] = rng.normal(size=CHANNELS).astype(np.float32)
                read.append(stem + "bias")
            nodes.append(helper.make_node("Conv", read, [name], kernel_shape=[1, 1]))
        elif kind == "LeakyRelu":
            nodes.append(helper.make_node(kind, read, [name], alpha=round(0.01 * (len(nodes) + 1), 2)))
        elif kind == "Scale":
            stored[f"by{len(nodes)}"] = np.array(len(nodes) + 0.5, np.float32)
            nodes.append(helper.make_node("Mul", [a, f"by{len(nodes)}"], [name]))
        elif kind == "Relu":
            nodes.append(helper.make_node(kind, read, [name]))
        elif kind == "Concat":
            stored[f"pick{len(nodes)}"] = np.arange(CHANNELS) + int(rng.integers(CHANNELS))
            nodes.append(helper.make_node(kind, [a, b], [f"{name}all"], axis=1))
            nodes.append(helper.make_node("Gather", [f"{name}all", f"pick{len(nodes) - 1}"], [name], axis=1))
            read = [a, b, name]
        else:
            read = sorted((a, b)) if kind in ("Add", "Mul", "Max") else [a, b]
            nodes.append(helper.make_node(kind, read, [name]))
        if (kind, *read) in seen or (len(set(read)) < len(read) and kind != "Concat"):
            nodes.pop()
            continue
        seen.add((kind, *read))
        made.append(name)
    return model(nodes, [made[-1], made[-3]], stored)


def conditional(slope: float = 0.1, shift: float = 0.5, swap: bool = False) -> onnx.ModelProto:
    """An If whose branches capture what the graph around them made, and a Loop that carries and captures; `swap` makes the first
    branch read the other of two captured values of one shape."""
    stored = {
        "model.0.conv.weight": np.random.default_rng(0).normal(size=(CHANNELS, CHANNELS, 1, 1)).astype(np.float32),
        "model.1.conv.weight": np.random.default_rng(1).normal(size=(CHANNELS, CHANNELS, 1, 1)).astype(np.float32),
        "three": np.array(3),
        "true": np.array(True),
        "zero": np.array(0, np.float32),
    }
    then = helper.make_graph(
        [
            helper.make_node("LeakyRelu", ["right" if swap else "left"], ["inner"], alpha=slope),
            helper.make_node("Add", ["inner", "shift"], ["then_out"]),
        ],
        "then",
        [],
        [value("then_out")],
        [tensor("shift", np.array(shift, np.float32))],
    )
    otherwise = helper.make_graph(
        [helper.make_node("Sub", ["left", "right"], ["else_out"])], "else", [], [value("else_out")]
    )
    body = helper.make_graph(
        [
            helper.make_node("Add", ["carried", "chosen"], ["more"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [value("iteration", [], TensorProto.INT64), value("go", None, TensorProto.BOOL), value("carried")],
        [value("go_on", None, TensorProto.BOOL), value("more")],
    )
    nodes = [
        helper.make_node("Conv", ["images", "model.0.conv.weight"], ["conv0"], kernel_shape=[1, 1]),
        helper.make_node("Conv", ["images", "model.1.conv.weight"], ["conv1"], kernel_shape=[1, 1]),
        # ONNX Runtime 1.19 aborts while it fuses a convolution that a branch alone reads.
        helper.make_node("Neg", ["conv0"], ["left"]),
        helper.make_node("Neg", ["conv1"], ["right"]),
        helper.make_node("ReduceMax", ["left"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["chosen"], then_branch=then, else_branch=otherwise),
        helper.make_node("Loop", ["three", "true", "images"], ["looped"], body=body),
    ]
    return model(nodes, ["looped"], stored)


# --- other spellings of the same model -------------------------------------------------------------------------------


def graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph and every graph in it."""
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting += [item.g for node in graph.node for item in node.attribute if item.HasField("g")]


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def respelled(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The same graph with other names of inner values, nodes and initializers, in another order, with its operands of commutative
    operators exchanged, Identity nodes put in, initializers as Constant nodes, and attributes in another order."""
    made, rng = copied(model), np.random.default_rng(seed)
    for graph in graphs(made):
        _identities(graph, rng)
        _as_nodes(graph, rng)
        _exchanged(graph, rng)
    _renamed(made, rng)
    for graph in graphs(made):
        _shuffled(graph, rng)
    return made


def _unused_names(graph: onnx.GraphProto, stem: str) -> Iterator[str]:
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    return (name for name in (f"{stem}{index}" for index in range(10**6)) if name not in taken)


def _identities(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    names = _unused_names(graph, f"same{rng.integers(10**9)}_")
    for node in list(graph.node):
        if node.input and node.input[0] and rng.random() < 0.3:
            between = next(names)
            graph.node.append(helper.make_node("Identity", [node.input[0]], [between]))
            node.input[0] = between


def _as_nodes(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    remaining = []
    for item in graph.initializer:
        if rng.random() < 0.5:
            graph.node.append(helper.make_node("Constant", [], [item.name], value=item))
        else:
            remaining.append(item)
    rng.shuffle(remaining)
    del graph.initializer[:]
    graph.initializer.extend(remaining)


def _exchanged(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    for node in graph.node:
        if node.op_type in ("Add", "Mul", "Max") and rng.random() < 0.5:
            read = list(node.input)[::-1]
            del node.input[:]
            node.input.extend(read)
        attributes = list(node.attribute)
        rng.shuffle(attributes)
        del node.attribute[:]
        node.attribute.extend(attributes)


def _renamed(made: onnx.ModelProto, rng: np.random.Generator) -> None:
    remaining = {item.name for item in (*made.graph.input, *made.graph.output)}
    names: Dict[str, str] = {}
    stem = f"v{rng.integers(10**6)}_"

    def new(name: str) -> str:
        return name if not name or name in remaining else names.setdefault(name, f"{stem}{len(names)}")

    for graph in graphs(made):
        for node in graph.node:
            read, written = [new(name) for name in node.input], [new(name) for name in node.output]
            del node.input[:], node.output[:]
            node.input.extend(read)
            node.output.extend(written)
            node.name = f"n{rng.integers(10**9)}"
        for item in (*graph.initializer, *graph.input, *graph.output):
            item.name = new(item.name)
        del graph.value_info[:]


def _shuffled(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    """Another order in which the nodes can run."""
    left = list(graph.node)
    makes = {name for node in left for name in node.output}
    ready: set = set()
    placed: List[onnx.NodeProto] = []
    while left:
        able = [node for node in left if reads(node) & makes <= ready]
        node = able[int(rng.integers(len(able)))]
        placed.append(node)
        ready.update(node.output)
        left.remove(node)
    del graph.node[:]
    graph.node.extend(placed)


def reads(node: onnx.NodeProto) -> set:
    """The names a node reads, those its graphs capture included."""
    found = set(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            inner = {name for other in attribute.g.node for name in reads(other)}
            found |= inner | {item.name for item in attribute.g.output}
    return found


# --- single changes --------------------------------------------------------------------------------------------------


def _stored(made: onnx.ModelProto) -> List[onnx.TensorProto]:
    return list(made.graph.initializer)


def one_number(model: onnx.ModelProto, rng: np.random.Generator) -> onnx.ModelProto:
    """The smallest step of one number of one stored tensor."""
    made = copied(model)
    item = _stored(made)[int(rng.integers(len(made.graph.initializer)))]
    array = np.array(numpy_helper.to_array(item))
    index = int(rng.integers(array.size))
    old = array.reshape(-1)[index]
    array.reshape(-1)[index] = np.nextafter(old, np.float32(np.inf)) if array.dtype.kind == "f" else old + 1
    item.CopyFrom(tensor(item.name, array))
    return made


def one_attribute(model: onnx.ModelProto, rng: np.random.Generator) -> Optional[onnx.ModelProto]:
    """One attribute of one node."""
    made = copied(model)
    there = [item for node in made.graph.node for item in node.attribute if item.type in (1, 2, 7)]
    if not there:
        return None
    item = there[int(rng.integers(len(there)))]
    if item.type == onnx.AttributeProto.FLOAT:
        item.f = float(np.nextafter(np.float32(item.f), np.float32(1)))
    elif item.type == onnx.AttributeProto.INT:
        item.i += 1
    else:
        item.ints[int(rng.integers(len(item.ints)))] += 1
    return made


def one_wire(model: onnx.ModelProto, rng: np.random.Generator) -> Optional[onnx.ModelProto]:
    """One input of one node, read from another node that comes before it."""
    made = copied(model)
    node_index = int(rng.integers(1, len(made.graph.node)))
    node = made.graph.node[node_index]
    inner = {name for other in made.graph.node for name in other.output} | {item.name for item in made.graph.input}
    slots = [slot for slot, name in enumerate(node.input) if name in inner]
    before = ["images", *(name for other in made.graph.node[:node_index] for name in other.output)]
    if not slots:
        return None
    slot = slots[int(rng.integers(len(slots)))]
    others = [name for name in before if name not in node.input]
    if not others:
        return None
    node.input[slot] = others[int(rng.integers(len(others)))]
    return made


def one_operator(model: onnx.ModelProto, rng: np.random.Generator) -> Optional[onnx.ModelProto]:
    """One operator of two operands for another."""
    made = copied(model)
    there = [node for node in made.graph.node if node.op_type in ("Add", "Mul", "Sub", "Div", "Max")]
    if not there:
        return None
    node = there[int(rng.integers(len(there)))]
    node.op_type = {"Add": "Sub", "Sub": "Add", "Mul": "Div", "Div": "Mul", "Max": "Min"}[node.op_type]
    return made


CHANGES: Tuple[Callable[..., Optional[onnx.ModelProto]], ...] = (one_number, one_attribute, one_wire, one_operator)

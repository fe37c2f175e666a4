"""An ONNX file as plain facts: the only reader of onnx protobufs that checks use."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Protocol, Sequence, Set, Tuple, Union

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message
from onnx import numpy_helper

from detparity.core.errors import EngineDied, InputError, clipped

LARGEST_FILE = 2**31 - 1  # protobuf's limit, in bytes
DEEPEST = 40  # functions in one another; torch's own exporter has used three
MOST_EXPANDED = 1_000_000  # nodes, with every call of a function replaced by what the function does

Dim = Optional[object]  # int, str (a symbol) or None (not stated)


@dataclass(frozen=True)
class Value:
    """A graph input, output or inferred value: name, dtype as numpy spells it, and one entry per axis (None: rank unknown)."""

    name: str
    dtype: str
    shape: Optional[Tuple[Dim, ...]]


@dataclass(frozen=True)
class Attribute:
    """kind: INT, FLOAT, STRING, TENSOR, INTS, ...; value: plain Python or numpy. GRAPH and GRAPHS: how many there are, which
    are in the node's `subgraphs`; REFERENCE, inside a function: the name of the function's own attribute."""

    kind: str
    value: Any


@dataclass(frozen=True)
class Node:
    """index: position in the file's order; title: the node's own name, else its operator and first output."""

    index: int
    name: str
    op: str
    domain: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    attributes: Mapping[str, Attribute]
    subgraphs: Tuple[Graph, ...] = ()

    @property
    def title(self) -> str:
        return self.name or (
            f"{self.op} making {self.outputs[0]!r}" if self.outputs else f"{self.op} that makes nothing"
        )

    @property
    def full_op(self) -> str:
        return f"{self.domain}:{self.op}" if self.domain else self.op

    def get(self, key: str, default: Any = None) -> Any:
        return self.attributes[key].value if key in self.attributes else default

    def number(self, key: str, default: float) -> float:
        """An attribute that is a number; NaN where the file gives it as something else."""
        found = self.get(key, default)
        return float(found) if isinstance(found, (int, float)) else math.nan

    @property
    def first(self) -> str:
        """The name of the first input, empty where the file gives none."""
        return self.inputs[0] if self.inputs else ""


@dataclass(frozen=True)
class Graph:
    """One graph. constants: initializers and the values of Constant nodes; initializers: the names of the former."""

    inputs: Tuple[Value, ...]
    outputs: Tuple[Value, ...]
    nodes: Tuple[Node, ...]
    constants: Mapping[str, np.ndarray]
    initializers: Tuple[str, ...]
    declared: Mapping[str, Value]
    inferred: Mapping[str, Value] = field(default_factory=dict)

    def walk(self) -> Iterator[Node]:
        """Every node, those of subgraphs included."""
        for node in self.nodes:
            yield node
            for sub in node.subgraphs:
                yield from sub.walk()

    def producers(self) -> Dict[str, Node]:
        return {name: node for node in self.nodes for name in node.outputs if name}

    def consumers(self) -> Dict[str, List[Node]]:
        found: Dict[str, List[Node]] = {}
        for node in self.nodes:
            for name in set(node.inputs):
                found.setdefault(name, []).append(node)
        return found


def behind(name: str, graph: Graph, producers: Mapping[str, Node], passing: Sequence[str]) -> str:
    """The tensor behind operators that only pass it on: a constant, or what another operator makes. A circle of them is left."""
    seen: Set[str] = set()
    while name not in graph.constants and name not in seen and name in producers and producers[name].op in passing:
        seen.add(name)
        name = producers[name].first
    return name


@dataclass(frozen=True)
class Function:
    """An operator that the file itself defines: its body, the opsets the body is written in, its attributes and their defaults
    (None: must be given)."""

    body: Graph
    opsets: Mapping[str, int]
    attributes: Mapping[str, Optional[Attribute]]


@dataclass(frozen=True)
class Operator:
    """What the standard states of an operator: the defaults of its attributes and the names of its inputs, the last of which may
    be variadic. Both are empty where the installed onnx does not know it."""

    defaults: Mapping[str, Attribute]
    inputs: Tuple[str, ...]


@dataclass(frozen=True)
class OnnxFile:
    """A file: its versions, metadata and main graph. problem: the checker's complaint, if any; torch_export: whether it bears the
    marks of torch's torch.export-based exporter; functions: operators of its own, by `Node.full_op`; died: how
    onnx's process ended over it, if it did."""

    ir_version: int
    opsets: Mapping[str, int]
    producer: str
    metadata: Mapping[str, str]
    graph: Graph
    problem: Optional[str]
    torch_export: bool = False
    functions: Mapping[str, Function] = field(default_factory=dict)
    died: Optional[EngineDied] = None


def _dtype(elem_type: int) -> str:
    try:
        return str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem_type)))
    except (KeyError, TypeError):
        return onnx.TensorProto.DataType.Name(elem_type).lower()


def _value(info: onnx.ValueInfoProto) -> Value:
    tensor = info.type.tensor_type
    if not info.type.HasField("tensor_type"):
        return Value(info.name, info.type.WhichOneof("value") or "unknown", None)
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(_dim(dim) for dim in tensor.shape.dim)
    return Value(info.name, _dtype(tensor.elem_type), shape)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    kind = dim.WhichOneof("value")
    if kind == "dim_value":
        return int(dim.dim_value)
    return dim.dim_param if kind == "dim_param" and dim.dim_param else None


def _attribute(proto: onnx.AttributeProto) -> Attribute:
    if proto.ref_attr_name:
        return Attribute("REFERENCE", proto.ref_attr_name)
    kind = onnx.AttributeProto.AttributeType.Name(proto.type)
    if kind == "TENSOR":
        return Attribute(kind, numpy_helper.to_array(proto.t))
    if kind == "TENSORS":
        return Attribute(kind, [numpy_helper.to_array(tensor) for tensor in proto.tensors])
    if kind in ("GRAPH", "GRAPHS"):
        return Attribute(kind, len(proto.graphs) if kind == "GRAPHS" else 1)
    value = onnx.helper.get_attribute_value(proto)
    if kind == "STRINGS":
        return Attribute(kind, [_text(item) for item in value])
    return Attribute(kind, list(value) if kind.endswith("S") else _text(value) if kind == "STRING" else value)


def _text(value: bytes) -> str:
    """Different bytes that are no UTF-8 remain different."""
    return value.decode(errors="backslashreplace")


def _node(index: int, proto: onnx.NodeProto) -> Node:
    subgraphs: List[Graph] = []
    for attribute in proto.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            subgraphs.append(_graph(attribute.g))
        subgraphs.extend(_graph(graph) for graph in attribute.graphs)
    attributes = {attribute.name: _attribute(attribute) for attribute in proto.attribute}
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    op = _overloaded(proto.op_type, proto)
    return Node(index, proto.name, op, domain, tuple(proto.input), tuple(proto.output), attributes, tuple(subgraphs))


def _overloaded(name: str, proto: Union[onnx.NodeProto, onnx.FunctionProto]) -> str:
    """IR version 10 lets a file hold several functions of one name."""
    overload = getattr(proto, "overload", "")
    return f"{name}:{overload}" if overload else name


def _functions(model: onnx.ModelProto) -> Dict[str, Function]:
    found = {}
    for proto in model.functions:
        holder = onnx.GraphProto(node=proto.node, value_info=getattr(proto, "value_info", ()))
        holder.input.extend(onnx.ValueInfoProto(name=name) for name in proto.input)
        holder.output.extend(onnx.ValueInfoProto(name=name) for name in proto.output)
        attributes: Dict[str, Optional[Attribute]] = dict.fromkeys(proto.attribute)
        attributes.update({item.name: _attribute(item) for item in getattr(proto, "attribute_proto", ())})
        found[_function_key(proto, proto.name)] = Function(_graph(holder), _opsets(proto), attributes)
    return found


def _opsets(proto: Union[onnx.ModelProto, onnx.FunctionProto]) -> Dict[str, int]:
    return {("" if item.domain == "ai.onnx" else item.domain): item.version for item in proto.opset_import}


def _constant(node: Node) -> Optional[np.ndarray]:
    for key in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if key in node.attributes:
            value = node.attributes[key].value
            dtype = np.float32 if "float" in key else np.int64
            return np.asarray(value) if key == "value" else np.asarray(value, dtype)
    return None


def _graph(proto: onnx.GraphProto, inferred: Optional[onnx.GraphProto] = None) -> Graph:
    nodes = tuple(_node(index, node) for index, node in enumerate(proto.node))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.initializer}
    for node in nodes:
        if node.op == "Constant" and not node.domain and node.outputs:
            value = _constant(node)
            if value is not None:
                constants[node.outputs[0]] = value
    return Graph(
        tuple(_value(info) for info in proto.input),
        tuple(_value(info) for info in proto.output),
        nodes,
        constants,
        tuple(tensor.name for tensor in proto.initializer),
        {info.name: _value(info) for info in proto.value_info},
        {info.name: _value(info) for info in [*inferred.value_info, *inferred.output]} if inferred else {},
    )


class Native(Protocol):
    """What onnx does in C++, in another process. Both raise EngineDied where the file ends that process."""

    def problem(self, path: Path) -> Optional[str]:
        """What the checker says of the file."""

    def inferred(self, path: Path) -> Optional[bytes]:
        """A serialised graph with the shapes that onnx infers."""


def read(path: Path, native: Optional[Native] = None) -> OnnxFile:
    """Read an ONNX file. native: None leaves out the checker's verdict and inferred shapes.

    Raises InputError where it is no ONNX model, is truncated, or its external data is missing.
    """
    _require_readable_size(path)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise InputError(f"{path} is not an ONNX model or is truncated ({type(error).__name__})") from None
    if not model.graph.node and not model.opset_import:
        raise InputError(f"{path} is not an ONNX model: it holds no graph and no opset")
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # missing file, path outside the folder, short file
        raise InputError(f"{path}: its external data cannot be read ({' '.join(str(error).split())})") from None
    if not all(isinstance(text, str) for text in _texts(model)):
        raise InputError(f"{path} holds a name that is not UTF-8")
    _require_shallow(model, path)
    inferred, problem, died = _by_native(path, native)
    try:
        graph, functions = _graph(model.graph, inferred), _functions(model)
    except (ValueError, TypeError, IndexError, KeyError) as error:  # a tensor or attribute that contradicts itself
        raise InputError(f"{path} holds a tensor or an attribute that cannot be read ({clipped(error)})") from None
    return OnnxFile(
        model.ir_version,
        _opsets(model),
        " ".join(filter(None, (model.producer_name, model.producer_version))),
        {item.key: item.value for item in model.metadata_props},
        graph,
        problem,
        _bears_marks(model),
        functions,
        died,
    )


def _by_native(
    path: Path, native: Optional[Native]
) -> Tuple[Optional[onnx.GraphProto], Optional[str], Optional[EngineDied]]:
    """Inferred shapes, the checker's complaint, and how onnx's process ended where it did: the checker then is not asked as well."""
    if native is None:
        return None, None, None
    try:
        found = native.inferred(path)
        graph = None if found is None else onnx.GraphProto.FromString(found)
        return graph, native.problem(path), None
    except EngineDied as error:
        return None, None, error


def _require_readable_size(path: Path) -> None:
    """Raise InputError, before anything is read into memory, for a file that protobuf cannot hold."""
    if path.is_file() and path.stat().st_size > LARGEST_FILE:
        raise InputError(f"{path} is larger than the 2 GiB that an ONNX file can be")


def _texts(message: Any) -> Iterator[Any]:
    """Every name and text in a model. Protobuf hands out bytes for what is declared as text and is none."""
    if isinstance(message, onnx.TensorProto):
        yield message.name  # the rest is numbers, and may be large
        return
    for kind, value in message.ListFields():
        if kind.type == kind.TYPE_STRING:
            yield from (value,) if isinstance(value, (str, bytes)) else value
        elif kind.type == kind.TYPE_MESSAGE:
            for item in (value,) if isinstance(value, Message) else value:
                yield from _texts(item)


def _require_shallow(model: onnx.ModelProto, path: Path) -> None:
    """Raise InputError for functions that call themselves, or one another too deep, or that expand to too many nodes: onnx follows
    them until its stack overflows, or for hours."""
    own = {_function_key(proto, proto.name): proto for proto in model.functions}
    calls = {key: [_function_key(node, node.op_type) for node in all_nodes(proto.node)] for key, proto in own.items()}
    left = set(own)
    expanded: Dict[str, int] = {}
    for _ in range(DEEPEST):
        leaves = {key for key in left if not left.intersection(calls[key])}
        if left and not leaves:
            raise InputError(f"{path}: its functions call themselves: {', '.join(sorted(left)[:3])}")
        expanded.update({key: sum(expanded.get(call, 1) for call in calls[key]) for key in leaves})
        left -= leaves
        if not left:
            break
    else:
        raise InputError(f"{path}: its functions call one another more than {DEEPEST} deep")
    nodes = sum(expanded.get(_function_key(node, node.op_type), 1) for node in all_nodes(model.graph.node))
    if nodes > MOST_EXPANDED:
        raise InputError(f"{path}: its functions expand to more than {MOST_EXPANDED} nodes, which no model needs")


def _function_key(proto: Union[onnx.NodeProto, onnx.FunctionProto], name: str) -> str:
    """What `Node.full_op` is for a call of the function."""
    op = _overloaded(name, proto)
    return f"{proto.domain}:{op}" if proto.domain not in ("", "ai.onnx") else op


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """These and those of the graphs in them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from all_nodes(inner.node)


def operator(op: str, domain: str, version: int) -> Operator:
    """What the standard states of an operator at this version of its domain's opset."""
    try:
        schema = onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return Operator({}, ())
    given = {name: item.default_value for name, item in schema.attributes.items()}
    defaults = {name: _attribute(value) for name, value in given.items() if value.name}
    return Operator(defaults, tuple(item.name for item in schema.inputs))


def _bears_marks(model: onnx.ModelProto) -> bool:
    """torch 2.5 and later leave `pkg.torch.` keys on graph and nodes, 2.2 to 2.5 functions of the domains below."""
    keys = [entry.key for holder in (model.graph, *model.graph.node) for entry in holder.metadata_props]
    domains = [entry.domain for entry in (*model.opset_import, *model.functions)]
    return any(key.startswith("pkg.torch.") for key in keys) or any(
        domain.startswith(("pkg.torch.", "pkg.onnxscript.torch_lib")) for domain in domains
    )


def plain_name(name: str) -> str:
    """A parameter's path in official terms where our own exporters named it: without our blocks and our wrapper."""
    return name.replace(".block.", ".").replace("network.", "")


def nodes_of(path: Path) -> Tuple[Node, ...]:
    """The nodes of a file that a runtime wrote, in its order. Nothing is checked or inferred: it may hold the runtime's operators."""
    model = onnx.load(str(path), load_external_data=False)
    return tuple(_node(index, node) for index, node in enumerate(model.graph.node))

"""Models cut, exposed and renamed, as bytes: what an engine is given in place of a file. No check reads protobuf here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import AbstractSet, Dict, Mapping, Sequence, Union

import onnx

from detparity.artifacts.onnx_graph import all_nodes


def _model(source: Union[Path, bytes]) -> onnx.ModelProto:
    return onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(str(source))


def expose(source: Union[Path, bytes], names: Sequence[str]) -> bytes:
    """The model with these inner tensors as outputs instead of its own; nodes that reach none of them are left out."""
    model = _model(source)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    prune(model)
    return bytes(model.SerializeToString())


def named_by_outputs(source: Union[Path, bytes]) -> bytes:
    """The model with a name for every node: those that have none of their own get that of the first tensor they make."""
    model = _model(source)
    nodes = list(all_nodes(model.graph.node))
    count = Counter(node.name for node in nodes)
    for node in nodes:
        if not node.name or count[node.name] > 1:
            node.name = next(filter(None, node.output), "")
    return bytes(model.SerializeToString())


def tail_of(source: Union[Path, bytes], cut: Mapping[str, int], integers: Sequence[str] = ()) -> bytes:
    """The part of the model after the tensors of `cut` (name to rank), which become its inputs: float32, those of `integers` int32.

    The image stays an input where the tail still reads its shape.
    """
    model = _model(source)
    prune(model, set(cut))
    used = {name for node in model.graph.node for name in node.input}
    inputs = [value for value in model.graph.input if value.name in used]
    del model.graph.input[:]
    for value in inputs:
        value.type.tensor_type.ClearField("shape")
    model.graph.input.extend(inputs)
    for name, rank in cut.items():
        shape = [f"{name}_{axis}" for axis in range(rank)]
        kind = onnx.TensorProto.INT32 if name in integers else onnx.TensorProto.FLOAT
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, shape))
    return bytes(model.SerializeToString())


def scaled(source: Union[Path, bytes], name: str, factor: float) -> bytes:
    """The model with a constant times a factor, in the constant's own type."""
    model = _model(source)
    makers = [node for node in model.graph.node if node.op_type == "Constant" and name in node.output]
    tensors = [tensor for tensor in model.graph.initializer if tensor.name == name]
    for tensor in [*tensors, *(one.t for node in makers for one in node.attribute if one.name == "value")]:
        value = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array((value * factor).astype(value.dtype), tensor.name))
    return bytes(model.SerializeToString())


def prune(model: onnx.ModelProto, stop: AbstractSet[str] = frozenset()) -> None:
    """Keep the nodes that lead to the outputs, looking back no further than `stop`; inferred shapes go with the rest."""
    needed = {value.name for value in model.graph.output}
    retained = []
    for node in reversed(model.graph.node):
        makes = set(node.output) - stop
        if needed & makes:
            retained.append(node)
            needed.update(node.input)
            for attribute in node.attribute:
                needed.update(name for inner in attribute.g.node for name in inner.input)
    del model.graph.node[:]
    model.graph.node.extend(reversed(retained))
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)
    del model.graph.value_info[:]
    domains = {node.domain for node in retained} | {""}
    imports = [item for item in model.opset_import if item.domain in domains]
    del model.opset_import[:]
    model.opset_import.extend(imports)


def newest() -> Dict[str, int]:
    """The IR version and opset that onnx.helper stamps by default."""
    return {"onnx_ir": int(onnx.IR_VERSION), "onnx_opset": int(onnx.defs.onnx_opset_version())}


def smallest(ir_version: int, opset: int) -> bytes:
    """A model of one Identity with these versions, to test which a runtime takes."""
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])], "smallest", values[:1], values[1:]
    )
    imports = [onnx.helper.make_opsetid("", opset)]
    model = onnx.helper.make_model(graph, opset_imports=imports)
    model.ir_version = ir_version
    return bytes(model.SerializeToString())

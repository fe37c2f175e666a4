"""An ONNX graph in an older opset: by onnx's own converter, with help where it has no adapter, and refused where that is not the same.

The converter knows few steps down: between most versions of an operator there is no adapter, even where nothing but types or
optional attributes were added. A node that the older version takes as it is stays as it is; the converter adapts the rest. The
result counts only if it passes the checker, loads, and computes what the graph it was made from computes.
"""

from __future__ import annotations

import re
from typing import Iterator, List, Optional

import numpy as np
import onnx
from onnx import helper, numpy_helper, version_converter

from detparity.core.clock import Clock
from detparity.core.contract import Contract
from detparity.core.errors import EngineError, InputError
from detparity.core.vocabulary import Arrays, Size
from detparity.engines import onnxruntime
from detparity.engines.reference_runs import make_oracle
from detparity.inputs.images import batch_of
from detparity.models.yolov7.detector import YoloDetector
from detparity.oracle.noise_floor import excesses, measure, split_levels

HELD = "held"  # a domain the converter passes by
REDEFINED = (
    "Softmax",
    "LogSoftmax",
    "Hardmax",
)  # opset 13 gave the same attribute another meaning; the converter overlooks it
NO_ADAPTER = re.compile(r"No Adapter (?:From|To) Version \$(\d+) for (\w+)")
# Attributes newer than the operator, at the value that says what the older form does without them.
NEWER = {
    ("Resize", "antialias"): 0,
    ("Resize", "keep_aspect_ratio_policy"): b"stretch",
    ("Reshape", "allowzero"): 0,
}


def converted(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Return `model` in `opset`. Raises InputError, in one line, where an operator has no older form that means the same."""
    ready = onnx.ModelProto()
    ready.CopyFrom(model)
    changed = sorted({node.op_type for node in model.graph.node if node.op_type in REDEFINED and opset < 13})
    if changed:
        raise InputError(
            f"cannot be converted down to opset {opset}: {changed[0]} means something else before opset 13"
        )
    for tensor in ready.graph.initializer:
        _spell_out(tensor)
    nodes = [made for node in model.graph.node for made in _older(ready.graph, node, opset)]
    del ready.graph.node[:]
    ready.graph.node.extend(nodes)
    ready.opset_import.append(helper.make_opsetid(HELD, 1))
    try:
        result = version_converter.convert_version(ready, opset)
        for node in result.graph.node:
            node.domain = "" if node.domain == HELD else node.domain
        retained = [entry for entry in result.opset_import if entry.domain != HELD]
        del result.opset_import[:]
        result.opset_import.extend(retained)
        onnx.checker.check_model(result, full_check=True)
    except Exception as error:  # RuntimeError, ConvertError, ValidationError and InferenceError share no base
        raise InputError(f"cannot be converted down to opset {opset}: {_reason(error)}") from None
    return result


def _spell_out(tensor: onnx.TensorProto) -> None:
    """Store integers one by one: the converter reads axes only so, and takes raw bytes for no axes at all."""
    if tensor.data_type == onnx.TensorProto.INT64 and tensor.HasField("raw_data"):
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(helper.make_tensor(tensor.name, tensor.data_type, tensor.dims, values.ravel().tolist()))


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    missing = NO_ADAPTER.search(text)
    if missing:
        return f"onnx {onnx.__version__} has no adapter for {missing[2]} (at version {missing[1]})"
    return text[:300]


def _older(graph: onnx.GraphProto, node: onnx.NodeProto, opset: int) -> Iterator[onnx.NodeProto]:
    """The node as the converter should meet it: held where the older operator takes it, in two parts where it is a Shape of
    some axes, with a region of interest where it is a Resize that had to have one."""
    made = onnx.NodeProto()
    made.CopyFrom(node)
    if node.domain not in ("", "ai.onnx"):
        yield made
        return
    zeros = _allows_zero(graph, made)
    for attribute in list(made.attribute):
        if NEWER.get((made.op_type, attribute.name)) == helper.get_attribute_value(attribute) or (
            zeros and attribute.name == "allowzero"
        ):
            made.attribute.remove(attribute)
    cut: List[onnx.NodeProto] = []
    if made.op_type == "Shape" and made.attribute and opset < 15:
        cut = [_cut(graph, made)]
    if made.op_type == "Resize" and opset < 13 and not made.input[1]:
        made.input[1] = _constant(graph, f"{made.output[0]}/roi", np.zeros(0, np.float32))
    if _takes(made, opset):
        made.domain = HELD
    yield made
    yield from cut


def _allows_zero(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    """Whether a Reshape says that zeros mean zeros and names none: computed sizes are those of axes, never empty ones here."""
    if node.op_type != "Reshape" or not any(a.name == "allowzero" and a.i for a in node.attribute):
        return False
    target = next((t for t in graph.initializer if t.name == node.input[1]), None)
    return target is None or bool(numpy_helper.to_array(target).all())


def _cut(graph: onnx.GraphProto, node: onnx.NodeProto) -> onnx.NodeProto:
    """Make `node` a Shape of all axes and return the Slice that leaves those it takes."""
    span = {attribute.name: attribute.i for attribute in node.attribute}
    del node.attribute[:]
    name, node.output[0] = node.output[0], f"{node.output[0]}/all"
    bounds = [
        _constant(graph, f"{name}/{part}", np.array([span.get(part, otherwise)], np.int64))
        for part, otherwise in (("start", 0), ("end", 2**31 - 1))
    ]
    return helper.make_node("Slice", [node.output[0], *bounds], [name], name=f"{node.name}/cut", domain=HELD)


def _constant(graph: onnx.GraphProto, name: str, value: np.ndarray) -> str:
    graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def _takes(node: onnx.NodeProto, opset: int) -> bool:
    """Whether the operator as `opset` has it knows these attributes and this many inputs."""
    schema = _schema(node.op_type, opset)
    if schema is None:
        return False
    fits = schema.min_input <= len(node.input) <= schema.max_input
    return fits and {attribute.name for attribute in node.attribute} <= set(schema.attributes)


def _schema(op: str, opset: int) -> Optional[onnx.defs.OpSchema]:
    try:
        return onnx.defs.get_schema(op, opset)
    except onnx.defs.SchemaError:
        return None


def must_agree(detector: YoloDetector, contract: Contract, before: bytes, after: bytes) -> None:
    """Raise InputError unless both files compute the same: their difference must lie within the noise of float32 on noise images,
    at the declared size and, where it varies, at another."""
    clock, facts = Clock(), detector.facts
    head = "raw" if contract.variant.head == "raw" else "grid"
    oracle = make_oracle(detector, clock, (head,))
    opset = contract.opsets[""]
    for size in _sizes(contract):
        batch = 2 if contract.variant.dynamic_batch else contract.batch
        pictures = [("noise", seed) for seed in range(batch)]
        feed = {contract.inputs[0].name: batch_of(pictures, size)}
        try:
            one, other = (_run(content, feed) for content in (before, after))
        except EngineError as error:
            raise InputError(f"cannot be converted down to opset {opset}: the result does not run ({error})") from None
        for slot, picture in enumerate(pictures):
            truth = oracle.truth(picture, size, head)
            left, right = (split_levels(head, facts, size, arrays, slot) for arrays in (one, other))
            if excesses(truth, measure(left, right)):
                raise InputError(f"cannot be converted down to opset {opset}: the result computes other numbers")


def _sizes(contract: Contract) -> List[Size]:
    stride = contract.facts.max_stride
    return [contract.size, (2 * stride, 3 * stride)] if contract.variant.dynamic_size else [contract.size]


def _run(content: bytes, feed: Arrays) -> Arrays:
    return onnxruntime.prepare(content).call(feed)

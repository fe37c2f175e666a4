"""Planted: the graph: operators, opset, types, dead parts, randomness."""

from __future__ import annotations

import numpy as np
import onnx
from detparity.kit.tests.defects import edits
from detparity.kit.tests.defects.registry import defect
from onnx import helper


@defect("structure.float64", variant="grid", unseen_by=("parity.declared",))
def double_cast(model: onnx.ModelProto) -> onnx.ModelProto:
    """The predictions pass through float64 on their way out."""

    def through_double(x: str, op: edits.Op) -> str:
        return op("Cast", op("Cast", x, to=onnx.TensorProto.DOUBLE), to=onnx.TensorProto.FLOAT)

    edits.splice(model, "output", through_double)
    return model


@defect("structure.operators", variant="grid-dynamic", says="Dropout in training mode")
def dropout_training(model: onnx.ModelProto) -> onnx.ModelProto:
    """A Dropout was exported in training mode."""
    edits.splice(
        model,
        edits.nodes(model, "LeakyRelu")[9].output[0],
        lambda x, op: op("Dropout", x, 0.1, np.array(True)),
    )
    return model


@defect("structure.operators", variant="grid", level="SHOULD", says="control flow (If)")
def flow_controlled(model: onnx.ModelProto) -> onnx.ModelProto:
    """A branch with one possible outcome is in the graph, as squeeze on an unknown axis leaves it."""

    def branch(x: str, name: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node("Identity", [x], [name])], name, [], [value])

    edits.splice(
        model,
        "output",
        lambda x, op: op("If", np.array(True), then_branch=branch(x, "kept"), else_branch=branch(x, "same")),
    )
    return model


@defect("parity.declared", variant="grid-dynamic")
def half_in_the_middle(model: onnx.ModelProto) -> onnx.ModelProto:
    """The activations pass through float16 once, in the middle of the graph."""

    def through_half(x: str, op: edits.Op) -> str:
        return op("Cast", op("Cast", x, to=onnx.TensorProto.FLOAT16), to=onnx.TensorProto.FLOAT)

    edits.splice(model, edits.nodes(model, "LeakyRelu")[20].output[0], through_half)
    return model


@defect("structure.initializers", variant="raw")
def initializer_dead(model: onnx.ModelProto) -> onnx.ModelProto:
    """An initializer is left that nothing reads."""
    edits.add_constant(model, np.ones((4, 4), np.float32))
    return model


@defect("structure.ir-version", variant="grid", level="SHOULD")
def ir_version(model: onnx.ModelProto) -> onnx.ModelProto:
    """The IR version is newer than the opset needs, and older runtimes refuse it."""
    model.ir_version = 8
    return model


@defect("structure.dead-nodes", variant="raw", unseen_by=("parity.declared",))
def node_dead(model: onnx.ModelProto) -> onnx.ModelProto:
    """Nodes are left that reach no output."""
    inner = edits.nodes(model, "LeakyRelu")[5].output[0]
    model.graph.node.append(helper.make_node("Relu", [inner], ["leaked"]))
    model.graph.node.append(helper.make_node("Neg", ["leaked"], ["leaked_further"]))
    return model


@defect("structure.checker", variant="raw", unseen_by=("structure.dead-nodes",))
def nodes_unsorted(model: onnx.ModelProto) -> onnx.ModelProto:
    """A node stands before those it reads from; some runtimes sort for themselves."""
    node = edits.nodes(model, "LeakyRelu")[8]
    model.graph.node.remove(node)
    model.graph.node.insert(0, node)
    return model


@defect("structure.operators", "structure.opset", "structure.load", variant="grid", says="uses vendor:Decode")
def operator_custom(model: onnx.ModelProto) -> onnx.ModelProto:
    """A node comes from a domain that no runtime has without a plugin."""
    edits.splice(model, "output", lambda x, op: op("Decode", x, domain="vendor"))
    model.opset_import.add(domain="vendor", version=1)
    return model


@defect(
    "structure.operators",
    "structure.opset",
    variant="raw",
    unseen_by=("parity.declared",),
    says="com.microsoft:FusedConv",
)
def operator_fused(model: onnx.ModelProto) -> onnx.ModelProto:
    """The file was saved after one runtime's own fusion: right there, unreadable elsewhere."""
    conv = edits.nodes(model, "Conv")[0]
    activation = edits.nodes(model, "LeakyRelu")[0]
    conv.op_type, conv.domain = "FusedConv", "com.microsoft"
    edits.set_attribute(conv, "activation", "LeakyRelu")
    edits.set_attribute(conv, "activation_params", [0.1])
    conv.output[0] = activation.output[0]
    model.graph.node.remove(activation)
    model.opset_import.add(domain="com.microsoft", version=1)
    return model


@defect(
    "structure.opset",
    variant="grid",
    unseen_by=("structure.checker", "parity.declared"),
    says="promised 12",
    where={"torch": ">=1.10"},
)
def opset_13(model: onnx.ModelProto) -> onnx.ModelProto:
    """The opset number was edited from 12 to 13 and no node with it; these nodes happen to mean the same."""
    model.opset_import[0].version = 13
    return model


@defect("structure.opset", "structure.checker", "structure.load", variant="grid-dynamic")
def opset_unconverted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The opset number was edited in a file whose nodes changed their form with it."""
    model.opset_import[0].version = 13
    return model


@defect("parity.optimisation", variant="raw-dynamic", unseen_by=("parity.declared",))
def overflow_unfused(model: onnx.ModelProto) -> onnx.ModelProto:
    """A factor that overflows float32 is hidden by the runtime's fusion and shows without it."""
    channels = len(edits.value_of(model, edits.bias(model, 2)))
    large = np.full((channels, 1, 1), 2.0**126, np.float32)
    small = np.full((channels, 1, 1), 2.0**-126, np.float32)
    edits.splice(
        model,
        edits.nodes(model, "Conv")[2].output[0],
        lambda x, op: op("Mul", op("Mul", x, large), small),
    )
    return model


@defect(
    "structure.operators", "parity.repeat", variant="raw", unseen_by=("parity.declared",), says="other bits on call 2"
)
def random_bits(model: onnx.ModelProto) -> onnx.ModelProto:
    """Random numbers far below the noise of float32 change the last bits from call to call."""
    edits.splice(model, "output", lambda x, op: op("Add", x, op("Mul", op("RandomNormalLike", x), 1e-8)))
    return model


@defect("structure.operators", "parity.declared", variant="grid-dynamic", says="RandomNormalLike")
def random_noise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Random numbers of 1e-3 are added to the output."""
    edits.splice(model, "output", lambda x, op: op("Add", x, op("Mul", op("RandomNormalLike", x), 1e-3)))
    return model


@defect("structure.load", variant="grid")
def types_mixed(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float tensor meets an int64 one: the file was saved anyway."""
    edits.splice(model, "output", lambda x, op: op("Where", np.array(True), x, np.array(0, np.int64)))
    return model

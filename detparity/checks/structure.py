"""What an ONNX file says of itself, compared with what its variant promises. No number of the model is computed here."""

from __future__ import annotations

import re
from typing import Dict, Iterator, List, Optional, Sequence, Set, Tuple

import numpy as np

from detparity.artifacts.onnx_graph import Graph, Node, Value
from detparity.checks.context import Context
from detparity.core.case import Case
from detparity.core.contract import MUST, SHOULD, Axis, Contract, TensorPromise
from detparity.core.findings import CannotRun, Check, Finding, Row
from detparity.core.text import listed
from detparity.core.vocabulary import EngineError

INVENTED_AXIS = re.compile(r"(_dim_\d+|^unk__\d+)$")
INVENTED_FREE_AXIS = re.compile(r"(_dim_\d+|^unk__\d+|^s\d+)$")
INVENTED_NAME = re.compile(r"^\d+$|^onnx::|/|_output_\d+$")
RANDOM_OPS = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
)
CONTROL_FLOW = frozenset(("If", "Loop", "Scan"))
DOUBLE = 11  # TensorProto.DOUBLE


def checker(context: Context) -> Iterator[Finding]:
    if context.onnx.died:
        raise CannotRun("onnx is not asked again: structure.load says what it does to the process")
    if context.onnx.problem:
        yield Finding("is refused by the ONNX checker.", notes=(context.onnx.problem[:600],))


def load(context: Context) -> Iterator[Finding]:
    if context.onnx.died:
        yield Finding(f"{context.onnx.died}.")
        return
    for optimisation in ("all", "disabled"):
        try:
            context.runner(optimisation=optimisation)
        except EngineError as error:
            yield Finding(
                f"does not load in ONNX Runtime with graph optimisations {optimisation}.", notes=(str(error)[:600],)
            )
            return


def opset(context: Context) -> Iterator[Finding]:
    promised, found = context.contract.opsets, context.onnx.opsets
    rows = [
        (
            f"domain {domain or 'ai.onnx'!r}",
            f"promised {promised.get(domain, 'nothing')}",
            f"file {found.get(domain, 'nothing')}",
        )
        for domain in sorted({*promised, *found})
        if promised.get(domain) != found.get(domain)
    ]
    if rows:
        note = f"`--opset {found['']}` promises the one it has." if set(promised) == set(found) else ""
        yield Finding(
            "imports other operator sets than promised.",
            tuple(rows),
            notes=(note,) if note else (),
            evidence={"opsets": dict(found)},
        )


def ir_version(context: Context) -> Iterator[Finding]:
    found, needed = context.onnx.ir_version, context.contract.ir_version
    if found > needed:
        yield Finding(
            f"is written in IR version {found} where opset {context.contract.opsets['']} needs only {needed}.",
            notes=("Older runtimes refuse a newer IR version even where they know every operator.",),
            evidence={"ir_version": found},
            level=SHOULD,
        )


def _dtype_text(value: Value) -> str:
    return f"{value.dtype} {_shape_text(value.shape)}"


def _shape_text(shape: Optional[Tuple[object, ...]]) -> str:
    return (
        "of unknown rank" if shape is None else "(" + ", ".join("?" if dim is None else str(dim) for dim in shape) + ")"
    )


def inputs(context: Context) -> Iterator[Finding]:
    found = [value for value in context.onnx.graph.inputs if value.name not in context.onnx.graph.initializers]
    yield from _names("input", context.contract.inputs, found)


def outputs(context: Context) -> Iterator[Finding]:
    yield from _names("output", context.contract.outputs, context.onnx.graph.outputs)


def _names(what: str, promised: Tuple[TensorPromise, ...], found: Sequence[Value]) -> Iterator[Finding]:
    rows: List[Row] = [("", "promised", "file")]
    wrong, invented = False, []
    for index in range(max(len(promised), len(found))):
        promise = promised[index] if index < len(promised) else None
        value = found[index] if index < len(found) else None
        mark = ""
        if promise is None or value is None or promise.dtype != value.dtype:
            wrong, mark = True, "<- differs"
        elif promise.name != value.name:
            if promise.invented_name_ok and INVENTED_NAME.search(value.name):
                invented.append(value.name)
            else:
                wrong, mark = True, "<- differs"
        rows.append(
            (
                f"{what} {index}",
                f"{promise.name} {promise.dtype}" if promise else "nothing",
                f"{value.name} {value.dtype}" if value else "nothing",
                mark,
            )
        )
    if wrong:
        yield Finding(
            f"has other {what}s than promised (names, order, count and types are compared).",
            tuple(rows),
            evidence={what + "s": [value.name for value in found]},
        )
    if invented:
        yield Finding(
            f"leaves the names of {what}s to the exporter: {listed(invented)}.",
            notes=("Such names change with the exporter's version; name every output.",),
            evidence={"invented": invented},
            level=SHOULD,
        )


def axes(context: Context) -> Iterator[Finding]:
    """Declared axes of inputs and outputs, position by position."""
    declared = {value.name: value for value in (*context.onnx.graph.inputs, *context.onnx.graph.outputs)}
    positions = list(zip(context.contract.inputs, context.onnx.graph.inputs)) + list(
        zip(context.contract.outputs, context.onnx.graph.outputs)
    )
    for promise, value in positions:
        yield from _axes_of(promise, declared.get(promise.name, value), context.contract)


def _axes_of(promise: TensorPromise, value: Value, contract: Contract) -> Iterator[Finding]:
    if value.shape is None or len(value.shape) != len(promise.axes):
        found = "no shape" if value.shape is None else f"{len(value.shape)} axes {_shape_text(value.shape)}"
        yield Finding(f"declares {found} for {value.name!r} where {len(promise.axes)} axes are promised.")
        return
    taken = {axis.symbol for tensor in contract.inputs for axis in tensor.axes if axis.symbol}
    judged = [_axis(axis, dim, taken) for axis, dim in zip(promise.axes, value.shape)]
    for level in (MUST, SHOULD):
        wrong = [(index, reason) for index, (found, reason) in enumerate(judged) if found == level]
        if not wrong:
            continue
        reasons = dict(wrong)
        rows: List[Row] = [("axis", "contract", "graph")]
        for index, (axis, dim) in enumerate(zip(promise.axes, value.shape)):
            mark = f"<- {reasons[index]}" if index in reasons else ""
            rows.append((str(index), str(axis), "?" if dim is None else str(dim), mark))
        index, reason = wrong[0]
        count = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        yield Finding(
            f"declares axis {index} of {value.name!r} as {value.shape[index]!r}: {reason}{count}.",
            tuple(rows),
            headed=True,
            evidence={"tensor": value.name, "axes": [index for index, _ in wrong], "declared": list(value.shape)},
            level=level,
        )


def _axis(axis: Axis, dim: object, taken: Set[str]) -> Tuple[str, str]:
    """Return (level, reason) for one axis; ("", "") where it is as promised."""
    if dim is None:
        return SHOULD, "unnamed"
    if isinstance(dim, int):
        if axis.number is None:
            return MUST, "fixed where the contract says it varies"
        return ("", "") if dim == axis.number else (MUST, f"{dim} where {axis.number} is promised")
    symbol = str(dim)
    if re.fullmatch(r"-?\d+", symbol):
        return MUST, "a numeral used as a symbol"
    if axis.free:
        if symbol in taken:
            return MUST, "the name of another number"
        return (SHOULD, "a name the exporter invented") if INVENTED_FREE_AXIS.search(symbol) else ("", "")
    if axis.number is not None:
        if INVENTED_AXIS.search(symbol):
            return SHOULD, f"a name the exporter invented where {axis.number} is promised"
        return MUST, f"a symbol where {axis.number} is promised"
    return ("", "") if symbol == axis.symbol else (MUST, f"another name than {axis.symbol!r}")


def inferred(context: Context) -> Iterator[Finding]:
    """Shapes that follow from the operators must not contradict what the file declares."""
    graph = context.onnx.graph
    declared = {**graph.declared, **{value.name: value for value in graph.outputs}}
    rows: List[Row] = [("value", "declared", "inferred")]
    for name, value in declared.items():
        other = graph.inferred.get(name)
        if other is None or other.shape is None or value.shape is None:
            continue
        clash = len(value.shape) != len(other.shape) or any(
            isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(value.shape, other.shape)
        )
        if clash:
            rows.append((name, _shape_text(value.shape), _shape_text(other.shape)))
    if len(rows) > 1:
        yield Finding(
            f"declares {len(rows) - 1} shapes that contradict its own operators.",
            tuple(rows[:9]),
            headed=True,
            evidence={"values": [row[0] for row in rows[1:]]},
        )


def shapes(context: Context) -> Iterator[Finding]:
    """Produced shapes against declared and promised ones, at the declared size and, where axes vary, at another."""
    contract, graph = context.contract, context.onnx.graph
    for case in shape_cases(contract):
        images = context.batch(case)
        try:
            produced = context.run(images)
        except EngineError as error:
            if case.size == contract.size:
                yield Finding(f"does not run on the size it declares, {case}.", notes=(str(error)[:600],))
            continue  # at another size the failure is parity.sizes' to report
        rows: List[Row] = [("output", "promised", "declared", "produced")]
        bound: Dict[str, int] = {}
        for value in graph.inputs[:1]:
            _bind(bound, value, images.shape)
        wrong = False
        for index, (value, array) in enumerate(zip(graph.outputs, produced.values())):
            promised = context.shapes(*_batch_and_size(case))
            expected = promised[index] if index < len(promised) else None
            agrees = _fits(array.shape, expected) and _bind(bound, value, array.shape)
            wrong = wrong or not agrees
            rows.append(
                (value.name, str(expected), _shape_text(value.shape), str(array.shape) + ("" if agrees else "  <-"))
            )
        if wrong:
            yield Finding(
                f"produces other shapes than it declares or promises at {case}.",
                tuple(rows),
                headed=True,
                notes=("Equal symbols must stand for equal numbers.",),
                evidence={"case": str(case), "produced": {name: list(array.shape) for name, array in produced.items()}},
            )
            return


def _fits(shape: Tuple[int, ...], expected: Optional[Tuple[int, ...]]) -> bool:
    """Whether a shape is as promised; -1 promises nothing but an axis."""
    return expected is not None and len(shape) == len(expected) and all(b in (-1, a) for a, b in zip(shape, expected))


def shape_cases(contract: Contract) -> List[Case]:
    """The declared size and batch, and one case where every axis that may vary takes another, distinct number."""
    declared = Case(contract.size, tuple(("noise", k) for k in range(contract.batch)))
    size, batch = contract.size, contract.batch
    if contract.variant.dynamic_size:
        stride = contract.facts.max_stride
        size = (2 * stride, 3 * stride)
    if contract.variant.dynamic_batch:
        batch += 1
    other = Case(size, tuple(("noise", k) for k in range(batch)))
    return [declared] if other == declared else [declared, other]


def _batch_and_size(case: Case) -> Tuple[int, Tuple[int, int]]:
    return len(case.pictures), case.size


def _bind(bound: Dict[str, int], value: Value, shape: Tuple[int, ...]) -> bool:
    """Bind the symbols of `value` to `shape`; False where a number or an earlier binding contradicts it."""
    if value.shape is None:
        return True
    if len(value.shape) != len(shape):
        return False
    agrees = True
    for dim, number in zip(value.shape, shape):
        if isinstance(dim, int):
            agrees = agrees and dim == number
        elif dim is not None:
            agrees = agrees and bound.setdefault(str(dim), number) == number
    return agrees


def initializers(context: Context) -> Iterator[Finding]:
    graph = context.onnx.graph
    as_inputs = [value.name for value in graph.inputs if value.name in graph.initializers]
    if as_inputs:
        yield Finding(
            f"lists {len(as_inputs)} initializers as inputs: {listed(as_inputs)}.",
            notes=("A caller could override them, and runtimes may not fold them.",),
            evidence={"names": as_inputs},
        )
    used = _used(graph)
    dead = [name for name in graph.initializers if name not in used]
    if dead:
        yield Finding(f"carries {len(dead)} initializers nothing reads: {listed(dead)}.", evidence={"names": dead})


def _used(graph: Graph) -> Set[str]:
    names = {name for node in graph.walk() for name in node.inputs}
    for node in graph.walk():
        for sub in node.subgraphs:
            names.update(value.name for value in sub.outputs)
    return names | {value.name for value in graph.outputs}


def dead_nodes(context: Context) -> Iterator[Finding]:
    graph = context.onnx.graph
    alive = {value.name for value in graph.outputs}
    dead: List[Node] = []
    for node in reversed(graph.nodes):
        if alive.isdisjoint(node.outputs):
            dead.append(node)
            continue
        alive.update(node.inputs)
        for sub in node.subgraphs:
            alive.update(_used(sub))
    if dead:
        titles = [node.title for node in reversed(dead)]
        yield Finding(f"has {len(dead)} nodes that reach no output: {listed(titles)}.", evidence={"nodes": titles})


def operators(context: Context) -> Iterator[Finding]:
    """Domains, random and training-mode operators, control flow."""
    known = set(context.contract.opsets)
    for node in context.onnx.graph.walk():
        if node.domain not in known:
            yield Finding(f"uses {node.full_op}, of a domain its variant does not promise.", (("node", node.title),))
        elif node.op in RANDOM_OPS:
            yield Finding(f"uses the random operator {node.op}.", (("node", node.title),))
        elif _trains(node, context.onnx.graph):
            yield Finding(f"has a {node.op} in training mode.", (("node", node.title),))
        elif node.op in CONTROL_FLOW:
            yield Finding(f"has control flow ({node.op}) in its graph.", (("node", node.title),), level=SHOULD)


def _trains(node: Node, graph: Graph) -> bool:
    if node.op == "BatchNormalization":
        return bool(node.get("training_mode", 0)) or len([name for name in node.outputs if name]) > 1
    if node.op == "Dropout":
        flag = graph.constants.get(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
        return flag is not None and bool(np.any(flag))
    return False


def float64(context: Context) -> Iterator[Finding]:
    graph = context.onnx.graph
    constants = [name for name, value in graph.constants.items() if value.dtype == np.float64]
    casts = [node.title for node in graph.walk() if node.op == "Cast" and node.get("to") == DOUBLE]
    values = [name for name, value in {**graph.declared, **graph.inferred}.items() if value.dtype == "float64"]
    found = {"constants": constants, "casts": casts, "values": values}
    rows = tuple((what, listed(names)) for what, names in found.items() if names)
    if rows:
        yield Finding("computes in float64 in places.", rows, evidence=found)


def batch_norm(context: Context) -> Iterator[Finding]:
    nodes = [node.title for node in context.onnx.graph.walk() if node.op == "BatchNormalization"]
    if nodes:
        yield Finding(
            f"keeps {len(nodes)} batch-norm nodes that should be folded: {listed(nodes)}.", evidence={"nodes": nodes}
        )


def _on_onnx(contract: Contract) -> bool:
    return contract.variant.onnx


LOADED = ("structure.load",)
CHECKS: Tuple[Check, ...] = (
    Check(
        "structure.checker", MUST, "The ONNX checker, shape inference included, accepts the file.", checker, _on_onnx
    ),
    Check("structure.load", MUST, "ONNX Runtime loads it, graph optimisations on and off.", load, _on_onnx),
    Check("structure.opset", MUST, "Operator-set versions of every domain are as promised.", opset, _on_onnx),
    Check("structure.ir-version", SHOULD, "The IR version is no newer than the opset needs.", ir_version, _on_onnx),
    Check("structure.inputs", MUST, "Names, order, count and types of the inputs.", inputs, _on_onnx),
    Check("structure.outputs", MUST, "Names, order, count and types of the outputs.", outputs, _on_onnx),
    Check(
        "structure.axes",
        MUST,
        "Promised symbols are symbols by name, every other axis is the right number.",
        axes,
        _on_onnx,
    ),
    Check("structure.inferred", MUST, "Inferred shapes do not contradict declared ones.", inferred, _on_onnx),
    Check("structure.shapes", MUST, "Produced shapes equal declared and promised ones.", shapes, _on_onnx, LOADED),
    Check(
        "structure.initializers", MUST, "No initializers as inputs, none that nothing reads.", initializers, _on_onnx
    ),
    Check("structure.dead-nodes", MUST, "Every node reaches an output.", dead_nodes, _on_onnx),
    Check("structure.operators", MUST, "No random, training-mode or foreign-domain operators.", operators, _on_onnx),
    Check("structure.float64", MUST, "Nothing is computed in float64.", float64, _on_onnx),
    Check("structure.batch-norm", MUST, "Batch-norm is folded into the convolutions.", batch_norm, _on_onnx),
)

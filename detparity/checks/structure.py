"""What an ONNX file says of itself, compared with what its variant promises. No number of the model is computed here."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from detparity.artifacts.onnx_graph import Graph, Node, Value
from detparity.checks.context import Context
from detparity.checks.inputs import pictures
from detparity.checks.interface import axes, inputs, outputs, shape_text
from detparity.core.case import Case
from detparity.core.contract import MUST, SHOULD, Contract
from detparity.core.errors import EngineError
from detparity.core.findings import CannotRun, Check, Finding, Row
from detparity.core.precision import BFLOAT16
from detparity.core.text import listed

QUANTISED = re.compile(r"QLinear|Dynamic|MatMulInteger|QGemm|QAttention|QuantizeLinear|DequantizeLinear|ConvInteger")
RANDOM_OPS = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
)
CONTROL_FLOW = frozenset(("If", "Loop", "Scan"))
DOUBLE = 11  # TensorProto.DOUBLE
NO_KERNEL = "Could not find an implementation for"  # ONNX Runtime, of an operator that it has for other types


def checker(context: Context) -> Iterator[Finding]:
    if context.onnx.died:
        raise CannotRun("onnx is not asked again: structure.load reports what it does to the process")
    if context.onnx.problem:
        yield Finding("is refused by the ONNX checker.", notes=(context.onnx.problem[:600],))


def load(context: Context) -> Iterator[Finding]:
    if context.onnx.died:
        raise context.onnx.died
    for optimisation in ("all", "disabled"):
        try:
            context.runner(optimisation=optimisation)
        except EngineError as error:
            if context.contract.precision == BFLOAT16 and NO_KERNEL in str(error):
                raise CannotRun(
                    "ONNX Runtime has no kernels for bfloat16 on this processor: an engine that has them judges it, such as "
                    "--engine openvino"
                ) from None
            yield Finding(
                f"does not load in ONNX Runtime with graph optimisations {optimisation}.",
                notes=(str(error)[:600], *_no_kernel(context.onnx.graph, str(error))),
            )
            return


def _no_kernel(graph: Graph, error: str) -> List[str]:
    """What the node is given that ONNX Runtime has no kernel for, as a sentence; nothing where it complains of something else."""
    named = next(
        (node for node in graph.walk() if NO_KERNEL in error and node.name and f"'{node.name}'" in error), None
    )
    values = (*graph.inputs, *graph.inferred.values(), *graph.declared.values())
    types = {name: str(value.dtype) for name, value in graph.constants.items()}
    types.update({value.name: value.dtype for value in values})
    given = [(name, types[name]) for name in named.inputs if name in types] if named is not None else []
    if named is None or not given:
        return []
    text = listed([f"{name!r} {dtype}" for name, dtype in given], 4)
    return [f"ONNX Runtime has {named.op} for some types alone, and here it is given {text}."]


def _of_quantisation(context: Context, rows: Sequence[Row]) -> bool:
    """Whether a later opset, or the runtime's own domain, is all that quantisation changed: scales for each channel need opset 13."""
    promised, found = context.contract.opsets, context.onnx.opsets
    own = {row[0] for row in rows} <= {"domain 'ai.onnx'", "domain 'com.microsoft'"}
    return context.contract.quantised and own and found.get("", 0) >= promised[""]


def opset(context: Context) -> Iterator[Finding]:
    promised, found = context.contract.opsets, context.onnx.opsets
    used = {*promised, *(node.domain for node in context.onnx.graph.walk())}
    unused = sorted(set(found) - used)
    rows = [
        (
            f"domain {domain or 'ai.onnx'!r}",
            f"promised {promised.get(domain, 'nothing')}",
            f"file {found.get(domain, 'nothing')}",
        )
        for domain in sorted({*promised, *found} - set(unused))
        if promised.get(domain) != found.get(domain)
    ]
    if rows and not _of_quantisation(context, rows):
        note = f"`--opset {found['']}` promises the one it has." if set(promised) == set(found) else ""
        own = promised.get("") != found.get("")
        yield Finding(
            "imports other operator sets than promised.",
            tuple(rows),
            notes=(note,) if note else (),
            evidence={"opsets": dict(found), **({"version": found.get("")} if own else {})},
        )
    if unused:
        what = "a domain" if len(unused) == 1 else f"{len(unused)} domains"
        yield Finding(
            f"imports {what} that no node uses: {listed(unused)}.",
            notes=("A runtime that does not know a domain may refuse the file.",),
            evidence={"unused": unused},
            level=SHOULD,
            fix="Remove the entry from model.opset_import.",
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


def inferred(context: Context) -> Iterator[Finding]:
    """Shapes that follow from the operators must not contradict what the file declares."""
    graph = context.onnx.graph
    if context.onnx.died:
        raise CannotRun("onnx is not asked again: structure.load reports what it does to the process")
    if not graph.inferred:
        raise CannotRun("onnx infers no shape of this graph, so nothing was compared")
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
            rows.append((name, shape_text(value.shape), shape_text(other.shape)))
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
            produced = context.outputs(case)
        except EngineError as error:
            if case.size == contract.size:
                text = str(error)[:600]
                yield Finding(
                    f"does not run on the size it declares, {case}.", notes=(text,), evidence={"refused": text}
                )
            continue  # at another size the failure is parity.sizes' to report
        rows: List[Row] = [("output", "promised", "declared", "produced")]
        bound: Dict[str, int] = {}
        for value in graph.inputs:
            if value.name == context.form.image:
                _bind(bound, value, context.form.shape(images))
        wrong, as_declared = False, True
        for index, (value, array) in enumerate(zip(graph.outputs, produced.values())):
            promised = context.shapes(*_batch_and_size(case))
            expected = promised[index] if index < len(promised) else None
            declared = _bind(bound, value, array.shape)
            agrees, as_declared = _fits(array.shape, expected) and declared, as_declared and declared
            wrong = wrong or not agrees
            rows.append(
                (value.name, str(expected), shape_text(value.shape), str(array.shape) + ("" if agrees else "  <-"))
            )
        if wrong:
            yield Finding(
                f"produces other shapes than it declares or promises at {case}.",
                tuple(rows),
                headed=True,
                notes=("Equal symbols must stand for equal numbers.",),
                evidence={
                    "case": str(case),
                    "produced": {name: list(array.shape) for name, array in produced.items()},
                    "as_declared": as_declared,
                },
            )
            return


def _fits(shape: Tuple[int, ...], expected: Optional[Tuple[int, ...]]) -> bool:
    """Whether a shape is as promised; -1 promises nothing but an axis."""
    return expected is not None and len(shape) == len(expected) and all(b in (-1, a) for a, b in zip(shape, expected))


def shape_cases(contract: Contract) -> List[Case]:
    """The declared size and batch, and one case where every axis that may vary takes another, distinct number."""
    variant, size, batch = contract.variant, contract.size, contract.batch
    declared = Case(size, pictures(batch, size=size))  # the first of `parity.declared`: both need one run
    if variant.dynamic_size:
        stride = contract.facts.max_stride
        size = (2 * stride, 3 * stride)
    if variant.dynamic_batch:
        batch += 1
    other = Case(size, tuple(("noise", k) for k in range(batch)))
    return [declared, other] if variant.dynamic_size or variant.dynamic_batch else [declared]


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
    """Whatever the order of the nodes: that they are sorted is another check's to say."""
    graph = context.onnx.graph
    makers = {name: k for k, node in enumerate(graph.nodes) for name in node.outputs if name}
    left = [value.name for value in graph.outputs]
    alive: Set[int] = set()
    while left:
        k = makers.get(left.pop())
        if k is None or k in alive:
            continue
        alive.add(k)
        left += graph.nodes[k].inputs
        for sub in graph.nodes[k].subgraphs:
            left += _used(sub)
    titles = [node.title for k, node in enumerate(graph.nodes) if k not in alive]
    if titles:
        yield Finding(f"has {len(titles)} nodes that reach no output: {listed(titles)}.", evidence={"nodes": titles})


def operators(context: Context) -> Iterator[Finding]:
    """Domains, random and training-mode operators, control flow. One finding a domain."""
    graph = context.onnx.graph
    domains: Dict[str, List[Node]] = {}
    for node in graph.walk():
        if node.domain not in context.contract.opsets:
            domains.setdefault(node.domain, []).append(node)
        elif node.op in RANDOM_OPS:
            yield Finding(f"uses the random operator {node.op}.", (("node", node.title),))
        elif _trains(node, graph):
            yield Finding(f"has a {node.op} in training mode.", (("node", node.title),))
        elif node.op in CONTROL_FLOW:
            fix = "Replace the Python branch or loop by tensor operators such as torch.where, and squeeze with an axis."
            yield Finding(f"has control flow ({node.op}) in its graph.", (("node", node.title),), level=SHOULD, fix=fix)
    for domain, nodes in domains.items():
        level = SHOULD if context.contract.quantised and domain == "com.microsoft" else MUST
        yield replace(_foreign(domain, nodes), level=level)


def _foreign(domain: str, nodes: Sequence[Node]) -> Finding:
    """The finding about the nodes of a domain that is not promised."""
    counts: Dict[str, int] = {}
    for node in nodes:
        counts[node.full_op] = counts.get(node.full_op, 0) + 1
    what = next(iter(counts)) if len(counts) == 1 else f"{len(counts)} operators of {domain}"
    rows = tuple((op, f"{count} nodes" if count > 1 else "1 node", _first(nodes, op)) for op, count in counts.items())
    note = _made_by(domain, counts)
    return Finding(
        f"uses {what}, of a domain its variant does not promise.",
        rows[:12],
        notes=(note,) if note else (),
        evidence={"domain": domain, "operators": counts},
    )


def _first(nodes: Sequence[Node], op: str) -> str:
    return f"first {next(node.title for node in nodes if node.full_op == op)}"


def _made_by(domain: str, counts: Mapping[str, int]) -> str:
    """What wrote these operators, and what to do."""
    if domain == "com.microsoft.nchwc":
        return (
            "ONNX Runtime wrote them when it optimised the file for the processor it ran on: no export, and no other runtime "
            "or processor reads it. Deploy the file it was made from."
        )
    names = [op.partition(":")[2] for op in counts]
    if domain == "com.microsoft" and any(QUANTISED.match(name) for name in names):
        return (
            "An 8-bit file of ONNX Runtime: no other runtime reads these operators. Quantise to pairs of QuantizeLinear and "
            "DequantizeLinear."
        )
    if domain == "com.microsoft":
        return "ONNX Runtime wrote them when it optimised the file: no other runtime reads it. Deploy the file it was made from."
    return ""


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

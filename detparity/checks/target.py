"""What the target of `--for` is known not to take of an ONNX file: read from the graph, with nothing run."""

from __future__ import annotations

from typing import Any, Iterator, List, Sequence, Tuple

import numpy as np

from detparity.artifacts.input_form import image_shape
from detparity.artifacts.onnx_graph import OnnxFile
from detparity.core.contract import MUST
from detparity.core.findings import Check, Finding
from detparity.core.targets import Rule, targets
from detparity.core.text import listed

SHOWN = 4


def target(context: Any) -> Iterator[Finding]:
    """A finding for each rule of the target that the file meets."""
    file: OnnxFile = context.onnx
    for rule in targets()[context.target].rules:
        found = _met(rule, file)
        if found:
            yield Finding(
                f"has what {context.target} is known not to take as it is: {rule.effect}.",
                (("target", targets()[context.target].about), ("file", listed(found, SHOWN)), ("source", rule.source)),
                evidence={"target": context.target, "found": found[:20]},
                level=rule.level,
                fix=rule.advice,
            )


def _met(rule: Rule, file: OnnxFile) -> List[str]:
    """What of a file meets a rule."""
    graph, opset = file.graph, file.opsets.get("", 0)
    found = [node.title for node in graph.walk() if node.op in rule.operators]
    if rule.opset_over and opset > rule.opset_over:
        found.append(f"opset {opset}")
    if rule.varies:
        shape = image_shape(graph)
        parts: Tuple[Tuple[str, Sequence[object]], ...] = (("batch", shape[:1]), ("size", shape[2:4]))
        found += [f"the {name} varies" for name, dims in parts if name in rule.varies and not _fixed(dims)]
    if rule.rank_from:
        found += [node.title for node in graph.walk() if _axes(node, graph.constants) >= rule.rank_from]
    own = [value for value in graph.inputs if value.name not in graph.initializers]
    found += [f"{value.name}: {value.dtype}" for value in (*own, *graph.outputs) if value.dtype in rule.dtypes]
    return found


def _fixed(dims: Sequence[object]) -> bool:
    return all(isinstance(dim, int) for dim in dims)


def _axes(node: Any, constants: Any) -> int:
    """How many axes a node gives its tensor, where that is stated."""
    if node.op == "Transpose":
        return len(node.get("perm", None) or ())
    if node.op == "Reshape" and len(node.inputs) > 1 and node.inputs[1] in constants:
        return int(np.size(constants[node.inputs[1]]))
    return 0


def _onnx(contract: Any) -> bool:
    return bool(contract.variant.onnx) if hasattr(contract, "variant") else bool(contract.onnx)


CHECKS: Tuple[Check, ...] = (
    Check("structure.target", MUST, "Nothing in it that the target of --for is known not to take.", target, _onnx),
)

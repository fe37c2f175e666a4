"""Whether a mutant gives the same numbers in float64: what survives may be no defect."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from detparity.artifacts.onnx_choice_mutations import DECIDING
from detparity.artifacts.onnx_edit import expose
from detparity.artifacts.onnx_graph import Graph
from detparity.checks.context import Context
from detparity.checks.session import AnyContext
from detparity.core.case import Case
from detparity.core.errors import EngineError
from detparity.core.vocabulary import Arrays, Load, Size
from detparity.engines.remote import client

EQUAL = 1e-12  # of a number: rounding in float64, where a step of float32 is a hundred thousand times as large
KINDS = ("noise", "natural", "scene", "gradient", "mosaic", "dark", "white", "black")


class Equivalence:
    """Of mutants of one file: outputs, and the numbers that choices are made from, in float64, on `KINDS` of pictures at its size, and
    on noise at another size where that varies. Each of them reaches every node that is not inside the body of another."""

    def __init__(self, context: AnyContext) -> None:
        self._context = context
        self._expected: Optional[List[Arrays]] = None

    def of(self, path: Path) -> Dict[str, Any]:
        """What a record has of a mutant that survived: `equivalent`, or by how much its numbers move, in parts of the largest of
        each output."""
        if self._context.artifact.kind != "onnx":
            return {}
        try:
            if self._expected is None:
                self._expected = self._run(self._context.artifact.path)
            found = self._run(path)
        except (EngineError, ImportError) as error:  # torch before 1.13 evaluates no graph in float64
            return {"unknown": str(error)[:200]}
        moved = max(_moved(one, other) for one, other in zip(self._expected, found))
        return {"outcome": "equivalent", "moved": moved} if moved <= EQUAL else {"moved": moved}

    def _run(self, path: Path) -> List[Arrays]:
        graph = self._context.onnx.graph
        names = list(dict.fromkeys([*(value.name for value in graph.outputs), *_decided(graph)]))
        runner = client().prepare("onnx_exact", expose(path, names), Load("exact"))
        return [runner.call(self._feed(case, runner)) for case in self._cases()]

    def _feed(self, case: Case, runner: Any) -> Arrays:
        context = self._context
        if isinstance(context, Context):
            return context.feed(context.batch(case), context.filled, runner)
        return context.feed(case, runner)

    def _cases(self) -> Sequence[Case]:
        context = self._context
        size, batch = context.contract.size, context.contract.batch
        found = [_case(size, kind, batch) for kind in KINDS]
        if isinstance(context, Context) and context.contract.variant.dynamic_size:
            stride = context.facts.max_stride
            found.append(_case((stride, 2 * stride), "noise", batch))
        return found


def _case(size: Size, kind: str, batch: int) -> Case:
    return Case(size, tuple((kind, slot) for slot in range(batch)))


def _decided(graph: Graph) -> List[str]:
    """What choices are made from, where a node computes it."""
    made = {name for node in graph.nodes for name in node.outputs}
    read = [name for node in graph.nodes if node.op in DECIDING for name in node.inputs[:2]]
    return [name for name in read if name in made]


def _moved(one: Arrays, other: Arrays) -> float:
    """The largest difference of an output in parts of its largest number; infinite where shapes or types differ."""
    return max((_difference(one[name], other[name]) if name in other else np.inf) for name in one)


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    if one.shape != other.shape or one.dtype != other.dtype:
        return float("inf")
    if np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
        return 0.0
    a, b = one.astype(np.float64), other.astype(np.float64)
    found = float(np.abs(a - b).max()) / max(float(np.abs(a).max()), 1e-300)
    return found if np.isfinite(found) else float("inf")

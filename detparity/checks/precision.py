"""The precision of a file: as promised, no rounding to less than it, scores that are scores, and which tensors leave its range."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Tuple

import numpy as np

from detparity.artifacts.onnx_edit import expose
from detparity.artifacts.onnx_graph import Graph
from detparity.checks.foreign.context import ForeignContext, OutputsDiffer
from detparity.core.case import Case
from detparity.core.contract import INFO, MUST
from detparity.core.errors import EngineError
from detparity.core.findings import CannotRun, Check, Finding, Row
from detparity.core.precision import EPSILON, FLOAT16, FLOAT32, HALVES, INT8, LARGEST
from detparity.core.text import listed, number
from detparity.core.vocabulary import Arrays, Load
from detparity.engines.remote import client

CASTS = {1: FLOAT32, 10: FLOAT16, 16: "bfloat16"}
AT_ONCE = 40  # tensors that are shown in one run
NEAR = 0.25  # of the largest number
COMPUTING = ("Conv", "Add", "Sub", "Mul", "Div", "Pow", "Exp", "MatMul", "Gemm", "ReduceSum", "Sqrt")


def promised(context: Any) -> Iterator[Finding]:
    """The file's precision is the one that was promised by --precision."""
    asked, found = context.contract.promised_precision, context.precision
    if asked == found.name:
        return
    rows: List[Row] = [("weights", listed([f"{count:,} {kind}" for kind, count in found.weights.items()]) or "none")]
    rows += [("in", listed([f"{name} {kind}" for name, kind in found.inputs]))] if found.inputs else []
    rows += [("out", listed([f"{name} {kind}" for name, kind in found.outputs]))] if found.outputs else []
    yield Finding(
        f"is {found.name} by its weights where {asked} is promised.",
        tuple(rows),
        notes=(f"Its numbers are judged as {context.contract.precision}, as promised.",),
        evidence={"promised": asked, "precision": found.name},
    )


def casts(context: Any) -> Iterator[Finding]:
    """Casts to a type that holds less than the file's own, on the path of the numbers."""
    own = context.contract.precision
    if own not in HALVES:
        return
    narrow = [(node, CASTS[node.get("to")]) for node in context.onnx.graph.walk() if _narrows(node, own)]
    if narrow:
        yield Finding(
            f"rounds to {narrow[0][1]} in a file of {own}, in {len(narrow)} nodes: {listed([n.title for n, _ in narrow], 3)}.",
            tuple((node.title, f"to {kind}") for node, kind in narrow[:8]),
            notes=("Each number is rounded twice, the second time to fewer digits.",),
            evidence={"nodes": [node.title for node, _ in narrow]},
        )


def _narrows(node: Any, own: str) -> bool:
    kind = CASTS.get(node.get("to")) if node.op == "Cast" else None
    return kind is not None and EPSILON[kind] > EPSILON[own]


def scores(context: Any) -> Iterator[Finding]:
    """No score under 0 or over 1, and no number that is none: rounding alone leads to neither."""
    for kind in ("scene", "noise", "white"):
        case = _case(context, kind)
        for name, values in _scores_of(context, case):
            wrong = ~((values >= 0) & (values <= 1))
            if wrong.any():
                worst = float(values[wrong].ravel()[np.argmax(np.abs(np.nan_to_num(values[wrong], nan=np.inf)))])
                yield Finding(
                    f"gives scores outside 0 to 1 in {name!r} at {case}: {int(wrong.sum())} of {values.size}, such as "
                    f"{number(worst)}.",
                    evidence={"case": case, "scores": int(wrong.sum())},
                )
                return


def _case(context: Any, kind: str) -> Any:
    from detparity.core.case import Case

    return Case(context.contract.size, tuple((kind, slot) for slot in range(context.contract.batch)))


def _scores_of(context: Any, case: Any) -> List[Tuple[str, np.ndarray]]:
    """The columns of scores of what a file gives, by output."""
    outputs = context.predict(case)
    if hasattr(context.contract, "variant"):
        head, arrays = context.contract.variant.head, list(outputs.items())
        if head == "grid":
            return [(name, array[..., 4:].astype(np.float64)) for name, array in arrays]
        column = [(arrays[0][0], arrays[0][1][:, 6])] if head == "end2end-ort" else [(n, a) for n, a in arrays[2:3]]
        return [(name, array.astype(np.float64)) for name, array in column]
    return _of_layout(context, outputs)


def _of_layout(context: Any, outputs: Any) -> List[Tuple[str, np.ndarray]]:
    from detparity.core.layout import PROBABILITY, SCORE, fields_of
    from detparity.oracle.output_floor import tables_of

    found = []
    try:
        layout = context.layout
    except OutputsDiffer as other:
        raise CannotRun(f"it {other}", hides=False) from None
    tables = tables_of(layout, outputs, 0)
    for one, (name, values) in zip(layout.outputs, tables.items()):
        for part in fields_of(one, values.shape[1]):
            if part.role == SCORE and part.unit == PROBABILITY:
                found.append((name, values[:, part.start : part.stop]))
    return found


def ranges(context: Any) -> Iterator[Finding]:
    """Which tensors reach the largest number of the file's type, and which weights it holds as zero."""
    own, graph = context.contract.precision, context.onnx.graph
    if own not in HALVES:
        return
    shown = _largest(context, _names(graph, own))
    over = {name: value for name, value in shown.items() if not value < LARGEST[own]}
    near = {name: value for name, value in shown.items() if NEAR * LARGEST[own] <= value < LARGEST[own]}
    if over or near:
        which, what = (over, "leave") if over else (near, "are near the end of")
        yield Finding(
            f"has {len(which)} tensors that {what} the range of {own} ({LARGEST[own]:g}): {listed(list(which), 3)}.",
            tuple((name, f"largest {number(value)}") for name, value in list({**over, **near}.items())[:8]),
            notes=("Leave the nodes that make them in float32 (a block list of the converter).",),
            evidence={"over": list(over), "near": list(near)},
            level=INFO,
        )
    lost = _lost(graph, own)
    if lost:
        yield Finding(
            f"holds weights as zero that {own} is too coarse for: {lost[0][1]} of {lost[0][0]} are smaller than its smallest number.",
            tuple((name, f"{count} of {total} are subnormal or zero") for name, count, total in lost[:8]),
            evidence={"tensors": [name for name, _, _ in lost]},
            level=INFO,
        )


def _names(graph: Graph, own: str) -> List[str]:
    made = [name for node in graph.nodes if node.op in COMPUTING for name in node.outputs[:1]]
    types = {**graph.declared, **graph.inferred}
    return [name for name in made if name in types and types[name].dtype == own]


def feed_of(context: Any, case: Case) -> Arrays:
    """What a file is given of a case, by name."""
    if isinstance(context, ForeignContext):
        return context.feed(case)
    fed: Arrays = context.form.feed(context.form.image, context.batch(case), "ones")
    return fed


def _largest(context: Any, names: List[str]) -> Dict[str, float]:
    """The largest value of these tensors on a scene, by the file's own run."""
    found: Dict[str, float] = {}
    feed = feed_of(context, _case(context, "scene"))
    for start in range(0, len(names), AT_ONCE):
        some = names[start : start + AT_ONCE]
        try:
            runner = client().prepare("onnxruntime", expose(context.artifact.path, some), Load("disabled"))
            shown = runner.call(feed)
        except EngineError as error:
            raise CannotRun(f"its inner tensors cannot be shown ({str(error)[:120]})", hides=False) from None
        found.update({name: float(np.abs(value.astype(np.float64)).max(initial=0.0)) for name, value in shown.items()})
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _lost(graph: Graph, own: str) -> List[Tuple[str, int, int]]:
    least = 2.0**-14 if own == FLOAT16 else 0.0
    rows = []
    for name, value in graph.constants.items():
        if str(value.dtype) == own and value.ndim > 1 and value.size > 16:
            small = int((np.abs(value.astype(np.float32)) < least).sum())
            if small > value.size // 2:
                rows.append((name, small, int(value.size)))
    return rows


def _promised(contract: Any) -> bool:
    return contract.promised_precision is not None


def _lower(contract: Any) -> bool:
    return bool(contract.precision != FLOAT32) and _has_scores(contract)


def _half_onnx(contract: Any) -> bool:
    return bool(contract.precision in HALVES and _is_onnx(contract))


def _is_onnx(contract: Any) -> bool:
    return bool(contract.variant.onnx if hasattr(contract, "variant") else contract.onnx)


def _has_scores(contract: Any) -> bool:
    return not hasattr(contract, "variant") or contract.variant.head != "raw"


def quantised(contract: Any) -> bool:
    return bool(contract.precision == INT8)


LOADED = ("structure.load", "script.load")
CHECKS: Tuple[Check, ...] = (
    Check("precision.promised", MUST, "The file is of the precision that --precision promises.", promised, _promised),
    Check("precision.casts", MUST, "Nothing is rounded to less than the file's own precision.", casts, _half_onnx),
    Check("precision.scores", MUST, "Scores of a file of lower precision lie in 0 to 1.", scores, _lower, LOADED),
    Check("precision.range", INFO, "No tensor leaves the range of half precision.", ranges, _half_onnx, LOADED),
)

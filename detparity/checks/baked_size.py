"""Constants that tie a file to one image size although its contract says the size varies."""

from __future__ import annotations

from typing import Iterator, List, Optional, Sequence, Tuple

from detparity.artifacts.grid_constants import _range_length, grid_constants, script_grids, stuck_size
from detparity.checks.context import Context
from detparity.core.contract import MUST, Contract
from detparity.core.findings import Check, Finding, Row
from detparity.core.vocabulary import ModelFacts, Size

LEAST = 5  # smaller numbers split the fields of a prediction
MOST_ROWS = 24


def _text(size: Optional[Size]) -> str:
    return f"{size[0]}x{size[1]}" if size else "one size"


def onnx_size(context: Context) -> Iterator[Finding]:
    """Grids among the constants, reshapes whose target names cells or rows, enlargements to a stated size."""
    graph, facts = context.onnx.graph, context.facts
    readers = graph.consumers()
    grids = grid_constants(graph.constants, facts)
    if grids:
        rows: List[Row] = [("constant", "shape", "cells", "read by")]
        for name, (ny, nx) in grids:
            reader = readers[name][0].title if name in readers else "nothing"
            rows.append((name, "x".join(map(str, graph.constants[name].shape)), f"{ny}x{nx}", reader))
        size = stuck_size([cells for _, cells in grids], facts)
        yield Finding(
            f"has the grid of {_text(size)} baked in as {len(grids)} constants, so it decodes at no other size.",
            tuple(rows),
            headed=True,
            evidence={"constants": [name for name, _ in grids], "size": list(size) if size else None},
        )
    reshapes: List[Row] = [("reshape", "target")]
    for node in graph.nodes:
        if node.op == "Reshape" and len(node.inputs) > 1 and node.inputs[1] in graph.constants:
            target = [int(v) for v in graph.constants[node.inputs[1]].ravel()]
            if _names_cells(target, facts):
                reshapes.append((node.title, str(target)))
        if node.op == "Resize" and len(node.inputs) > 3 and node.inputs[3] in graph.constants:
            reshapes.append((node.title, f"sizes {[int(v) for v in graph.constants[node.inputs[3]].ravel()]}"))
    if len(reshapes) > 1:
        yield Finding(
            f"reshapes or resizes to a fixed number of cells in {len(reshapes) - 1} nodes, so it runs at no other size.",
            tuple(reshapes),
            headed=True,
            evidence={"nodes": [row[0] for row in reshapes[1:]]},
        )


def _names_cells(target: Sequence[int], facts: ModelFacts) -> bool:
    """Whether a reshape target fixes what depends on the image size: both cell counts of a level, or its rows."""
    if len(target) == 5:
        left = [v for v in target[1:] if v not in (facts.anchors_per_level, facts.fields)]
        return len(left) == 2 and min(left) > 0 and max(left) > 1
    return len(target) == 3 and target[2] == facts.fields and target[1] > facts.anchors_per_level


def script_size(context: Context) -> Iterator[Finding]:
    """Grids among the tensors a module froze; then, where it fails at other sizes, the numbers that name one."""
    facts = context.facts
    grids = script_grids(context.script.constants, facts)
    pairs = [_cells_named(w.numbers, facts) for w in context.script.written]
    size = stuck_size([cells for _, cells in grids], facts) or stuck_size([cells for cells in pairs if cells], facts)
    if grids:
        kind = "trace" if context.contract.variant.form == "traced" else "module"
        rows: List[Row] = [("constant", "shape", "cells", "image size", "recorded at")]
        for constant, (ny, nx) in grids:
            shape = "x".join(map(str, constant.value.shape))
            at = size if size in _sizes_of((ny, nx), facts) else None
            rows.append((constant.path or "in the graph", shape, f"{ny}x{nx}", _text(at), constant.source))
        yield Finding(
            f"has the grid of {_text(size)} frozen into the {kind} as {len(grids)} constants, so it decodes at no other size.",
            tuple(rows),
            headed=True,
            evidence={"size": list(size) if size else None, "sources": [c.source for c, _ in grids]},
        )
    named = list(_named(context, size or context.contract.size))
    if named and context.outcome("parity.sizes").outcome != "passed":  # a number may also be there by chance
        count = "1 operator" if len(named) == 1 else f"{len(named)} operators"
        yield Finding(
            f"has {_text(size or context.contract.size)} written into its graph in {count}, so it is right at no other size.",
            (("operator", "number", "which is", "recorded at"), *named[:MOST_ROWS]),
            headed=True,
            evidence={"size": list(size or context.contract.size), "numbers": [list(row) for row in named]},
        )


def is_baked(context: Context) -> bool:
    """Whether the file that promises every size holds what ties it to one; of a module that is a finding only where sizes fail."""
    if context.contract.variant.onnx:
        return next(iter(onnx_size(context)), None) is not None
    grids = script_grids(context.script.constants, context.facts)
    return bool(grids) or next(_named(context, context.contract.size), None) is not None


def _sizes_of(cells: Size, facts: ModelFacts) -> List[Size]:
    return [(cells[0] * stride, cells[1] * stride) for stride in facts.strides]


def _cells_named(numbers: Sequence[Optional[int]], facts: ModelFacts) -> Optional[Size]:
    """The cells in a target such as (batch, anchors, fields, rows, columns), where both are numbers."""
    known = [-1 if number is None else number for number in numbers]
    if len(known) != 5 or not _names_cells(known, facts):
        return None
    ny, nx = (v for v in known[1:] if v not in (facts.anchors_per_level, facts.fields))
    return ny, nx


def _named(context: Context, size: Size) -> Iterator[Row]:
    """Every number of the graph, and every frozen range, that depends on an image being of `size`, with what it is."""
    seen = set()
    for written in context.script.written:
        what = _what(written.numbers, size, context.facts)
        if what:
            shown = ", ".join("?" if number is None else str(number) for number in written.numbers)
            row = (written.operator, shown, what, written.source)
            if row not in seen:
                seen.add(row)
                yield row
    for constant in context.script.constants:
        value = constant.value
        if value.ndim == 1 and value.size > 2 and value.dtype.kind in "fiu" and _range_length(value) == value.size:
            what = _what((value.size,), size, context.facts)
            if what:
                yield (constant.path or "constant", f"{value[0]:g} to {value[-1]:g}", what, constant.source)


def _what(numbers: Sequence[Optional[int]], size: Size, facts: ModelFacts) -> str:
    """What these numbers are at an image of `size`: cells of a level, its rows, the image's own sides; empty where none."""
    found = [pair for pair in zip(numbers, numbers[1:]) if pair != (facts.anchors_per_level, facts.fields)]
    for stride, (ny, nx) in zip(facts.strides, facts.cells(size)):
        if ny * nx > 1 and ((ny, nx) in found or (nx, ny) in found):
            return f"the {ny}x{nx} cells of stride {stride} at {_text(size)}"
    if size in found or size[::-1] in found:
        return f"height and width of {_text(size)}"
    alone = [number for number in numbers if number not in (None, 1, -1)]
    if len(alone) == 1 and int(alone[0] or 0) > LEAST and alone[0] != facts.fields:  # which may equal a count of cells
        for stride, (ny, nx) in zip((1, *facts.strides), (size, *facts.cells(size))):
            if alone[0] in (ny, nx):
                side = "height" if alone[0] == ny else "width"
                return f"the {side} of {_text(size)}" + (f" in cells of stride {stride}" if stride > 1 else "")
    total = 0
    for stride, rows, (ny, nx) in zip(facts.strides, facts.level_rows(size), facts.cells(size)):
        total += rows
        for number, text in ((rows, "rows"), (ny * nx, "cells"), (total, "rows up to those")):
            if number in numbers and number > LEAST:
                return f"the {number} {text} of stride {stride} at {_text(size)}"
    return ""


def _onnx_dynamic(contract: Contract) -> bool:
    return contract.variant.onnx and contract.variant.dynamic_size


def _script_dynamic(contract: Contract) -> bool:
    return contract.variant.graph and not contract.variant.onnx and contract.variant.dynamic_size


CHECKS: Tuple[Check, ...] = (
    Check("structure.baked-size", MUST, "No constant ties a dynamic file to one image size.", onnx_size, _onnx_dynamic),
    Check(
        "script.baked-size",
        MUST,
        "No frozen tensor and no number ties a dynamic module to one image size.",
        script_size,
        _script_dynamic,
    ),
)

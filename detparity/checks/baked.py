"""Constants that tie a file to one image size although its contract says the size varies."""

from __future__ import annotations

from typing import Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from detparity.contract import MUST, Contract
from detparity.findings import Check, Finding, Row
from detparity.subject import ModelFacts, Size
from detparity.trial import Trial


def grid_cells(value: np.ndarray) -> Optional[Size]:
    """Rows and columns where `value` is a grid of cell positions, else None.

    A grid holds every pair (x, y) of two evenly spaced ranges once, along a last axis of two, whatever its other axes, order,
    offset and scale; or one coordinate alone that steps along one axis and repeats along another.
    """
    if value.dtype.kind not in "fiu" or value.size < 4 or value.size > 10_000_000 or not np.isfinite(value).all():
        return None
    if value.shape[-1] == 2:
        x, y = value[..., 0].ravel(), value[..., 1].ravel()
        nx, ny = _range_length(x), _range_length(y)
        if nx and ny and nx * ny > 1 and x.size == nx * ny and len(np.unique(np.stack([x, y]), axis=1).T) == x.size:
            return ny, nx
    plane = value.squeeze()
    if plane.ndim == 2 and min(plane.shape) > 1:
        if _range_length(plane[0]) == plane.shape[1] and (plane == plane[:1]).all():
            return plane.shape[0], plane.shape[1]
        if _range_length(plane[:, 0]) == plane.shape[0] and (plane == plane[:, :1]).all():
            return plane.shape[0], plane.shape[1]
    return None


def _range_length(values: np.ndarray) -> int:
    """How many distinct values there are, if they are evenly spaced; else 0."""
    distinct = np.unique(values)
    if len(distinct) < 3:
        return len(distinct)
    steps = np.diff(distinct.astype(np.float64))
    return len(distinct) if np.allclose(steps, steps[0], rtol=1e-4) else 0


def stuck_size(cells: Sequence[Size], facts: ModelFacts) -> Optional[Size]:
    """The image size these grids belong to, if they match the levels one to one."""
    ordered = sorted(set(cells), reverse=True)
    sizes = {(ny * stride, nx * stride) for (ny, nx), stride in zip(ordered, sorted(facts.strides))}
    return sizes.pop() if len(ordered) == len(facts.strides) and len(sizes) == 1 else None


def grid_constants(constants: Mapping[str, np.ndarray]) -> List[Tuple[str, Size]]:
    """Names and cells of the constants that are grids."""
    found = [(name, grid_cells(value)) for name, value in constants.items() if value.ndim >= 2]
    return [(name, cells) for name, cells in found if cells]


def _text(size: Optional[Size]) -> str:
    return f"{size[0]}x{size[1]}" if size else "one size"


def onnx_size(trial: Trial) -> Iterator[Finding]:
    """Grids among the constants, reshapes whose target names cells or rows, enlargements to a stated size."""
    graph, facts = trial.onnx.graph, trial.facts
    readers = graph.consumers()
    grids = grid_constants(graph.constants)
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
            f"reshapes or resizes to a fixed number of cells in {len(reshapes) - 1} places, so it runs at no other size.",
            tuple(reshapes),
            headed=True,
            evidence={"nodes": [row[0] for row in reshapes[1:]]},
        )


def _names_cells(target: Sequence[int], facts: ModelFacts) -> bool:
    """Whether a reshape target fixes what depends on the image size: both cell counts of a level, or its rows."""
    if len(target) == 5:
        kept = [v for v in target[1:] if v not in (facts.anchors_per_level, facts.fields)]
        return len(kept) == 2 and min(kept) > 0 and max(kept) > 1
    return len(target) == 3 and target[2] == facts.fields and target[1] > facts.anchors_per_level


def script_size(trial: Trial) -> Iterator[Finding]:
    """Grids among the tensors a trace froze."""
    constants = [c for c in trial.script.constants if c.value.ndim >= 2]
    found = [(constant, grid_cells(constant.value)) for constant in constants]
    grids = [(constant, cells) for constant, cells in found if cells]
    if not grids:
        return
    rows: List[Row] = [("shape", "cells", "recorded at")]
    rows += [("x".join(map(str, c.value.shape)), f"{ny}x{nx}", c.source) for c, (ny, nx) in grids]
    size = stuck_size([cells for _, cells in grids], trial.facts)
    yield Finding(
        f"has the grid of {_text(size)} frozen into the trace as {len(grids)} constants, so it decodes at no other size.",
        tuple(rows),
        headed=True,
        evidence={"size": list(size) if size else None, "sources": [c.source for c, _ in grids]},
    )


def _onnx_dynamic(contract: Contract) -> bool:
    return contract.variant.onnx and contract.variant.dynamic_size


def _script_dynamic(contract: Contract) -> bool:
    return not contract.variant.onnx and contract.variant.dynamic_size


CHECKS: Tuple[Check, ...] = (
    Check("structure.baked-size", MUST, "No constant ties a dynamic file to one image size.", onnx_size, _onnx_dynamic),
    Check(
        "script.baked-size",
        MUST,
        "No frozen tensor ties a dynamic module to one image size.",
        script_size,
        _script_dynamic,
    ),
)

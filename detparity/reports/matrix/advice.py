"""What the reports of many lanes advise: versions that go together, and what each exports by default."""

from __future__ import annotations

from typing import Dict, Iterable, List, Sequence, Tuple

from packaging.version import InvalidVersion, Version

from detparity.reports.matrix.model import (
    Lane,
    Matrix,
)

# Words first: they must read without colour. `part` is a yes over fewer checks than other lanes ran.
YES, PART, NO, UNDECIDED, KNOWN, NOTHING = "yes", "part", "NO", "open", "known", "\u2013"


UNKNOWN = NOTHING


def versions_text(opset: int, ir_version: int) -> str:
    return " / ".join(UNKNOWN if value == -1 else str(value) for value in (opset, ir_version))


def written_by(matrix: Matrix, lane: Lane) -> List[Tuple[int, int]]:
    """Opset and IR version of what the lane exported; -1 where a report does not state it."""
    pairs = {
        (item.opset, item.ir_version)
        for (_, name), found in matrix.files.items()
        if name == lane.name
        for item in found
    }
    return sorted(pairs - {(-1, -1)})


def limit(lane: Lane, package: str) -> str:
    found = (lane.limits.get(f"{package}_opset", -1), lane.limits.get(f"{package}_ir", -1))
    return UNKNOWN if found == (-1, -1) else versions_text(*found)


def advice(matrix: Matrix) -> List[str]:
    """Sentences that follow from the numbers of the lanes alone."""
    lanes = [lane for lane in matrix.lanes if lane.reported]
    return [*_defaults(lanes), *_exports(matrix, lanes), *_common(matrix, lanes), *_numpy(lanes)]


def lanes_text(some: Sequence[str], lanes: Sequence[Lane]) -> str:
    """Lanes as text, of those that reported: all, all but a few, or by name."""
    reported = [lane.name for lane in lanes if lane.reported]
    others = [name for name in reported if name not in some]
    if not others and len(reported) > 1:
        return f"all {len(reported)} lanes"
    if len(others) <= 3 < len(some):
        return f"all lanes but {', '.join(others)}"
    return ", ".join(some)


def _names(some: Sequence[Lane], lanes: Sequence[Lane]) -> str:
    return lanes_text([lane.name for lane in some], lanes)


def _defaults(lanes: Sequence[Lane]) -> Iterable[str]:
    """What onnx writes by default, against what the onnxruntime of the same lane reads."""
    groups: Dict[Tuple[str, str, int, int, int, int], List[Lane]] = {}
    keys = ("onnx_ir", "ort_ir", "onnx_opset", "ort_opset")
    for lane in lanes:
        limits = [lane.limits.get(key, -1) for key in keys]
        if -1 not in limits[:2] or -1 not in limits[2:]:
            versions = [lane.environment.get(package, "of unknown version") for package in ("onnx", "onnxruntime")]
            groups.setdefault((versions[0], versions[1], limits[0], limits[1], limits[2], limits[3]), []).append(lane)
    fit: List[Lane] = []
    for (onnx, ort, onnx_ir, ort_ir, onnx_opset, ort_opset), some in groups.items():
        where = _names(some, lanes)
        if -1 < ort_ir < onnx_ir:
            yield (
                f"onnx {onnx} writes IR {onnx_ir} by default, onnxruntime {ort} reads up to {ort_ir}: pass "
                f"ir_version={ort_ir} or less to onnx.helper.make_model, or pin an older onnx ({where})."
            )
        if -1 < ort_opset < onnx_opset:
            yield (
                f"onnx {onnx} writes opset {onnx_opset} by default, onnxruntime {ort} reads up to {ort_opset}: pass "
                f"opset_imports of {ort_opset} or less to onnx.helper.make_model, or pin an older onnx ({where})."
            )
        if onnx_ir <= ort_ir and onnx_opset <= ort_opset:
            fit += some
    if fit:
        pairs = dict.fromkeys((lane.environment.get("onnx"), lane.environment.get("onnxruntime")) for lane in fit)
        text = ", ".join(f"onnx {onnx} with onnxruntime {ort}" for onnx, ort in pairs if onnx and ort)
        yield f"What onnx writes by default is within what the onnxruntime beside it reads: {text or _names(fit, lanes)}."


def _exports(matrix: Matrix, lanes: Sequence[Lane]) -> Iterable[str]:
    """Which lanes write which IR, and where that is newer than their own onnxruntime reads."""
    groups: Dict[int, Dict[int, List[Lane]]] = {}
    for lane in lanes:
        for opset, ir_version in written_by(matrix, lane):
            if -1 not in (opset, ir_version):
                groups.setdefault(opset, {}).setdefault(ir_version, []).append(lane)
    for opset, found in sorted(groups.items()):
        text = "; ".join(f"IR {ir_version} in {_names(some, lanes)}" for ir_version, some in sorted(found.items()))
        yield f"Exports at opset {opset} carry {text}."
        for ir_version, some in sorted(found.items()):
            new = [lane for lane in some if -1 < lane.limits.get("ort_ir", -1) < ir_version]
            if new:
                yield f"IR {ir_version} is newer than the onnxruntime reads that is installed in {_names(new, lanes)}."


def _common(matrix: Matrix, lanes: Sequence[Lane]) -> Iterable[str]:
    """What every onnxruntime here reads, and which exports are within it."""
    known = [lane for lane in lanes if {"ort_ir", "ort_opset"} <= set(lane.limits)]
    if len(known) < 2:
        return
    opset, ir_version = (min(lane.limits[key] for lane in known) for key in ("ort_opset", "ort_ir"))
    yield f"The newest that every onnxruntime reads is opset {opset} and IR {ir_version} ({_names(known, lanes)})."
    written = sorted({pair for lane in lanes for pair in written_by(matrix, lane) if -1 not in pair})
    within = [pair for pair in written if pair[0] <= opset and pair[1] <= ir_version]
    beyond = [pair for pair in written if pair not in within]
    for pairs, where in ((within, "within"), (beyond, "beyond")):
        if pairs:
            text = ", ".join(f"opset {a} with IR {b}" for a, b in pairs)
            yield f"{'All' if len(pairs) == len(written) else 'Some'} exports are {where} that: {text}."


def _numpy(lanes: Sequence[Lane]) -> Iterable[str]:
    """The numpy versions each torch ran with: measured, no claim about others."""
    majors: Dict[int, List[Lane]] = {}
    for lane in lanes:
        try:
            majors.setdefault(Version(lane.environment["numpy"]).major, []).append(lane)
        except (KeyError, InvalidVersion):
            continue
    for major, some in sorted(majors.items()):
        versions = sorted({lane.environment["numpy"] for lane in some}, key=Version)
        torch = [lane.environment.get("torch", lane.torch) for lane in some]
        span = torch[0] if len(set(torch)) == 1 else f"{torch[0]} to {torch[-1]}"
        yield f"Ran with numpy {major} ({', '.join(versions)}): torch {span} ({_names(some, lanes)})."

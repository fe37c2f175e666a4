"""A measured run as text and as data. One engine is called faster than another only by an interval, never by a single time."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from detparity.core.statistics import CONFIDENCE, RESOLUTION
from detparity.core.text import columns, number
from detparity.tools.bench.candidates import EAGER, FEEDS, FROZEN, Contender, plugin_inputs
from detparity.tools.bench.profile import Profile
from detparity.tools.bench.profile import rows as profile_rows
from detparity.tools.bench.run import Measured, Row

SCHEMA = 1
MEGA = 1e6
TOP = 8  # modules shown of a profile


def milliseconds(seconds: float) -> str:
    """Seconds as milliseconds, four significant digits, trailing zeros included so that columns read."""
    value = 1e3 * seconds
    return f"{value:.{max(0, 4 - len(str(int(value))))}f}"


def text(measured: Measured) -> str:
    """The tables of a run, plain."""
    lines = [heading(measured), *(f"  {line}" for line in conditions(measured)), ""]
    lines += columns(
        [
            ("ms a call", "engine", "", "min", "median", "p90", "p99", "images/s"),
            *(_times(row, measured.batch) for row in measured.rows),
        ]
    )
    lines += ["", *columns([("once", "load s", "first call s", "peak MB", "file MB"), *map(_once, measured.rows)])]
    lines += [
        "",
        f"Against {measured.baseline}, round by round: median and {CONFIDENCE:.0%} interval of the ratio of times.",
        f"A difference is seen where all of the interval is more than {RESOLUTION:.0%} from 1, as far as copies of one file may be.",
        "",
    ]
    lines += columns([_against(row) for row in measured.rows if row.ratio is not None])
    for title, profile in measured.profiles.items():
        note = f" ({profile.note})" if profile.note else ""
        lines += ["", f"Where the time goes in {title}{note}:", "", *columns(profile_rows(profile, TOP))]
    return "\n".join(lines)


def heading(measured: Measured) -> str:
    height, width = measured.size
    shape = f"{measured.batch}x3x{height}x{width}"
    return f"{measured.model} at {shape}, {measured.threads} threads, {measured.rounds} interleaved rounds."


def conditions(measured: Measured) -> List[str]:
    """What the times depend on, a line each."""
    machine, versions = measured.machine, measured.environment
    where = [
        machine.get("processor", measured.environment["machine"]),
        f"{machine['cores']} cores",
        machine.get("memory", ""),
    ]
    found = [", ".join(filter(None, where))]
    found.append(
        ", ".join(
            f"{name} {versions[name]}" for name in ("python", "torch", "onnxruntime", "numpy") if name in versions
        )
    )
    found.append(f"{FEEDS} pictures in rotation, the first verified; ONNX Runtime's waiting threads sleep")
    if measured.busy:
        found.append(
            f"the machine was busy before the run (load {measured.load[0]:.2f} a core): intervals are wide, times long"
        )
    return found


def _times(row: Row, batch: int) -> Any:
    found = row.summary
    values = (found.min, found.median, found.p90, found.p99)
    rate = f"{batch / found.median:.1f}"
    return (row.contender.title, engine(row), row.contender.nms, *map(milliseconds, values), rate)


def engine(row: Row) -> str:
    """The engine that ran."""
    names = {EAGER: "torch", FROZEN: "torchscript, frozen"}
    return names.get(row.contender.recipe.engine, row.contender.recipe.engine)


def _once(row: Row) -> Any:
    peak, size = row.cold.peak, row.size
    return (
        row.contender.title,
        f"{row.cold.load:.3f}",
        f"{row.cold.first:.3f}",
        "unknown" if peak is None else f"{peak / MEGA:.0f}",
        "" if size is None else f"{size / MEGA:.1f}",
    )


def _against(row: Row) -> Any:
    assert row.ratio is not None
    found = row.ratio
    if not found.differs:
        words = "no difference seen"
    elif found.middle < 1:
        words = f"faster, {number(1 / found.middle)} times"
    else:
        words = f"slower, {number(found.middle)} times"
    return (
        row.contender.title,
        row.contender.nms,
        f"{found.middle:.3f}",
        f"{found.low:.3f} to {found.high:.3f}",
        words,
    )


def record(measured: Measured, repeat: str) -> Dict[str, Any]:
    """A run as data (`schema` 1): the same facts, and every single time in seconds."""
    return {
        "schema": SCHEMA,
        "model": measured.model,
        "batch": measured.batch,
        "size": list(measured.size),
        "threads": measured.threads,
        "rounds": measured.rounds,
        "baseline": measured.baseline,
        "confidence": CONFIDENCE,
        "resolution": RESOLUTION,
        "environment": dict(measured.environment),
        "machine": dict(measured.machine),
        "busy": measured.busy,
        "load_per_core": {"before": measured.load[0], "after": measured.load[1]},
        "repeat": repeat,
        "profiles": [_profile_record(title, found) for title, found in measured.profiles.items()],
        "contenders": [_row_record(row, measured.batch) for row in measured.rows],
    }


def _profile_record(title: str, found: Profile) -> Dict[str, Any]:
    return {
        "title": title,
        "note": found.note,
        "total_seconds": found.total,
        "overhead_seconds": found.overhead,
        "stages": [{"stage": part.title, "seconds": part.seconds, "kernels": part.kernels} for part in found.stages],
        "modules": [
            {"module": part.title, "stage": part.stage, "seconds": part.seconds, "kernels": part.kernels}
            for part in found.modules
        ],
    }


def _verified(one: Contender) -> str:
    if one.context is None:
        return "is the model"
    if plugin_inputs(one.context):
        return "the complete file, its plugin by its semantics, on one picture against the float64 model"
    return "on one picture against the float64 model"


def _row_record(row: Row, batch: int) -> Dict[str, Any]:
    one, found = row.contender, row.summary
    context = one.context
    ratio: Optional[Mapping[str, Any]] = None
    if row.ratio is not None:
        ratio = {"median": row.ratio.middle, "low": row.ratio.low, "high": row.ratio.high, "differs": row.ratio.differs}
    return {
        "title": one.title,
        "path": str(context.artifact.path) if context else None,
        "sha256": context.artifact.sha256 if context else None,
        "variant": context.contract.variant.name if context else None,
        "engine": engine(row),
        "engine_facts": dict(row.engine),
        "nms": one.nms,
        "note": one.note,
        "verified": _verified(one),
        "latency_seconds": {"min": found.min, "median": found.median, "p90": found.p90, "p99": found.p99},
        "images_per_second": batch / found.median,
        "load_seconds": row.cold.load,
        "first_call_seconds": row.cold.first,
        "peak_bytes": row.cold.peak,
        "file_bytes": row.size,
        "ratio": ratio,
        "seconds": [float(f"{value:.6g}") for value in row.seconds],
    }

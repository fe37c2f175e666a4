"""One golden of one artifact: compared with the present content, and made pending where it is missing or has changed."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

from detparity.checks.context import Context, applicable
from detparity.core import environment
from detparity.core.contract import MUST
from detparity.core.errors import EngineError, InputError, clipped
from detparity.core.text import columns
from detparity.tools.golden import ratio as ratio_pairs
from detparity.tools.golden.compare import Changed, compare
from detparity.tools.golden.content import changed, content, detections, of_the_model
from detparity.tools.golden.index import Entry, content_of, find, read_index
from detparity.tools.golden.pending import Pending, drop, write

# What decides whether the file still does what the model does: every MUST check of these groups, and these single checks.
PARITY_GROUPS = ("parity", "nms")
PARITY = (
    *("structure.weights", "structure.attributes", "structure.baked-size"),
    *("script.weights", "script.attributes", "script.baked-size"),
)
BROKEN = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)  # by a value of another form
RECORDS = ("python", "torch", "onnx", "onnxruntime", "onnxscript", "numpy")


@dataclass(frozen=True)
class Folders:
    """The folder of goldens, and the folder of pending ones."""

    golden: Path
    pending: Path


def versions() -> Dict[str, str]:
    """What a golden records of its environment; builds of one version are the same."""
    found = environment.environment()
    return {name: found[name].split("+")[0] for name in RECORDS if name in found}


def same_packages(entry: Entry, name: str) -> bool:
    """Whether the packages that shape a graph are those that recorded the golden."""
    packages = ("torch", "onnx", "onnxscript") if "dynamo" in name else ("torch", "onnx")
    now = versions()
    return all(entry.versions.get(package) == now.get(package) for package in packages)


def judge(context: Context, subject: str, kind: str, folders: Folders, test: str, repeat: str) -> Optional[Pending]:
    """Compare one golden of `subject` with its artifact. Returns None where it is the same; otherwise what was made pending.

    Raises InputError for a golden folder that cannot be used, EngineError where the artifact does not run.
    """
    name = f"{kind}/{subject}"
    entry = _entry(folders, name)
    now = content(context, kind)
    found = FIRST
    if entry is not None:
        found = _changed(context, folders, entry, now)
    if not found.words:
        drop(folders.pending, entry.name if entry else name)
        return None
    seen = _seen(context, kind, folders, entry, now)
    return _made_pending(context, name, entry, now, found, folders, test, repeat, seen)


def _changed(context: Context, folders: Folders, entry: Entry, now: Mapping[str, Any]) -> Changed:
    """What changed since the golden. Raises InputError where its file does not hold what a golden of its kind holds."""
    old, exact = content_of(folders.golden, entry), same_packages(entry, entry.asked.split("/")[1])
    try:
        return changed(context, entry.kind, old, now, exact)
    except BROKEN as error:
        changed(context, entry.kind, now, now, exact)  # an error of ours shows here as well, and stays one
        what = f"{folders.golden / entry.file} does not hold what a golden of kind {entry.kind} holds"
        raise InputError(f"{what} ({type(error).__name__}: {clipped(error, 80)})") from None


def judge_ratio(
    context: Context, subject: str, now: Mapping[str, Any], folders: Folders, test: str, repeat: str
) -> Tuple[Optional[Pending], str]:
    """Compare a measured ratio with its golden. context: of the file it is about. Returns what was made pending, None where it is the
    same, and why the two cannot be compared, empty where they can.

    Raises InputError for a golden folder that cannot be used.
    """
    name = f"{ratio_pairs.KIND}/{subject}"
    entry = _entry(folders, name)
    found = FIRST
    if entry is not None:
        old = content_of(folders.golden, entry)
        elsewhere = ratio_pairs.comparable(old, now)
        if elsewhere:
            return None, elsewhere
        found = compare(ratio_pairs.KIND, old, now, True)
    if not found.words:
        drop(folders.pending, entry.name if entry else name)
        return None, ""
    return _made_pending(context, name, entry, now, found, folders, test, repeat, ({}, "")), ""


FIRST = Changed(("there is no golden yet",), "no golden yet")


def _entry(folders: Folders, name: str) -> Optional[Entry]:
    return find(read_index(folders.golden), name, environment.lane(environment.environment()))


def _made_pending(
    context: Context,
    name: str,
    entry: Optional[Entry],
    now: Mapping[str, Any],
    found: Changed,
    folders: Folders,
    test: str,
    repeat: str,
    seen: Tuple[Mapping[str, Any], str],
) -> Pending:
    """What changed, as a reviewer needs it, written to the pending folder. seen: detections to draw, and what the first are."""
    kind, subject = name.split("/")
    parity, lost = parity_of(context)
    waiting = Pending(
        name=entry.name if entry else name,
        kind=kind,
        subject=subject,
        test=test,
        repeat=repeat,
        lane=environment.lane(environment.environment()),
        versions=versions(),
        was=entry.sha256 if entry else None,
        content=now,
        words=found.words,
        same=found.same,
        parity=parity,
        lost=lost,
        seen=seen[0],
        drawn=seen[1],
    )
    write(folders.pending, waiting)
    return waiting


def parity_of(context: Context) -> Tuple[Dict[str, str], str]:
    """Outcome by check of those that decide on parity, and the message of the first that did not pass: one that was skipped, since
    the file does not load or for another reason, has not shown that parity holds."""
    found: Dict[str, str] = {}
    lost = ""
    for name in applicable(context):
        if context.checks[name].level == MUST and (name in PARITY or name.split(".")[0] in PARITY_GROUPS):
            outcome = context.outcome(name)
            found[name] = outcome.outcome
            if outcome.outcome != "passed" and not lost:
                lost = (
                    f"{name}: the file {outcome.findings[0].message}"
                    if outcome.findings
                    else f"{name}: {outcome.reason}"
                )
    return found, lost


def _seen(
    context: Context, kind: str, folders: Folders, entry: Optional[Entry], now: Mapping[str, Any]
) -> Tuple[Dict[str, Any], str]:
    """The two sets of detections to draw side by side, and what the first is."""
    try:
        after = now if kind == "detections" else detections(context)
    except EngineError:
        return {}, ""
    if kind == "detections" and entry is not None:
        return {"before": content_of(folders.golden, entry), "now": after}, "golden"
    return {"before": of_the_model(context), "now": after}, "model"


def record(
    context: Context, subject: str, kind: str, folders: Folders, test: str, why: str
) -> Tuple[Entry, Dict[str, Any]]:
    """The entry and the content of a golden recorded for the first time."""
    now = content(context, kind)
    date = datetime.date.today().isoformat()
    lane = environment.lane(environment.environment())
    return Entry(f"{kind}/{subject}.json", kind, test, lane, why, date, versions()), now


def pending_text(waiting: Pending, pending: Path) -> str:
    """The text for a golden that differs: what changed, whether parity holds, and the commands to review and repeat."""
    what = "has no golden" if waiting.was is None else "is not what its golden says"
    most = 8
    rows = [("changed", word) for word in (() if waiting.was is None else waiting.words[:most])]
    if len(waiting.words) > most:
        rows.append(("", f"and {len(waiting.words) - most} more"))
    rows.append(("parity", "holds" if waiting.holds else f"LOST: {waiting.lost}"))
    rows.append(("pending", str(pending / f"{waiting.name}.json")))
    lines = [f"golden: {waiting.subject} {what} ({waiting.name}).", "", *columns(rows), ""]
    lines.append(f"  Review:  detparity review show {waiting.name}")
    return "\n".join([*lines, f"  Repeat:  {waiting.repeat}"])

"""What the calls of a capture show before any file is judged: exports that failed and were passed over, and what cannot be judged."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Tuple

from detparity.core.contract import INFO, MUST
from detparity.core.findings import Finding
from detparity.core.text import listed
from detparity.models.capture import CapturedCall, Captures
from detparity.models.capture_files import exported_kind

NOTHING = "the command exported nothing that was seen"


def findings(captures: Sequence[CapturedCall], code: int = 0) -> Iterator[Finding]:
    """Exports that raised. code: how the command ended: 0 where it went on as if nothing had happened."""
    for index, call in enumerate(captures):
        if not call.failed:
            continue
        later = _made_instead(call, captures[index + 1 :])
        if later is None:
            went_on = "the script went on and no file was written" if code == 0 else f"the command ended with {code}"
            text = f"{call.exporter} raised {call.problem}; {went_on}"
            yield Finding(text, evidence={"exporter": call.exporter, "problem": call.problem}, level=MUST)
        else:
            text = f"{call.exporter} raised {call.problem}; {later.exporter} then wrote {later.files[0].name}"
            yield Finding(text, evidence={"exporter": call.exporter, "problem": call.problem}, level=INFO)


def _made_instead(call: CapturedCall, later: Sequence[CapturedCall]) -> Optional[CapturedCall]:
    """The later call of the same sort of exporter that did write a file for a module of the same class."""
    same = (one for one in later if one.files and _sort(one) == _sort(call) and _class(one) == _class(call))
    return next(same, None)


def _sort(call: CapturedCall) -> str:
    return call.exporter.split(" ")[0].rsplit(".", 1)[0]


def _class(call: CapturedCall) -> str:
    return type(call.module).__name__


def missing(captures: Captures) -> List[str]:
    """Why a verdict on these captures would be incomplete, a sentence each; empty where nothing is missing."""
    found = list(captures.lost)
    if not any(call.files or call.failed for call in captures):
        found.append(NOTHING)
    for call in captures:
        if call.files and call.module is None:
            found.append(f"{call.files[0]} has no reference: {call.problem}")
        for path in call.files:
            if not judged_here(path):
                found.append(f"{path} is not judged: it is a program of torch.export, which no engine here runs")
    for path in captures.unclaimed:
        found.append(f"{path} was written, and it comes from none of the calls that were seen: it is not judged")
    if captures.pythons:
        commands = [f"`{command}`" for command in captures.pythons]
        found.append(f"the command started Python itself, and what that exports is not seen: {listed(commands, 2)}")
    return found


def judged_here(path: Path) -> bool:
    """Whether a file is of a kind that can be judged against a captured module."""
    return exported_kind(path) in ("onnx", "torchscript", "lite")


def table(captures: Sequence[CapturedCall]) -> List[Tuple[str, ...]]:
    """Rows of what was captured, headings first."""
    rows: List[Tuple[str, ...]] = [("call", "module", "files")]
    for call in captures:
        if call.files or call.failed:
            module = "none" if call.module is None else type(call.module).__name__
            rows.append((call.exporter, module, listed([path.name for path in call.files]) or "none"))
    return rows

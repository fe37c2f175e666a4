"""`detparity.verify`: the checks inside somebody's own test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from detparity.checks.run import Judged, heads_of, judge_all
from detparity.checks.session import Options, Session
from detparity.core.findings import Finding
from detparity.core.text import printable
from detparity.models.choice import ModelChoice
from detparity.reports.recorder import Recorder


@dataclass(frozen=True)
class Result:
    """What `verify` returns.

    verdict: "conforms", "violates" or "incomplete"; findings: (check, finding) of every check, those that do not decide included;
    floors: by unit group (`xy`, `wh`, `objectness`, `class`), the worst level's `floor` and `error` in its unit and the error in
    `floors`, empty where the file was not compared with the model number by number; text: the decisive findings in full, each with
    its Repeat line; entry: the artifact's entry of the JSON report (docs/report.schema.json).
    """

    verdict: str
    findings: Tuple[Tuple[str, Finding], ...]
    floors: Mapping[str, Mapping[str, float]]
    text: str
    entry: Mapping[str, Any]

    @property
    def conforms(self) -> bool:
        return self.verdict == "conforms"


def verify_artifact(
    path: Path, model: Any, contract: Optional[str], strict: bool, known_failures: Optional[Path] = None
) -> Result:
    """See `detparity.verify`."""
    weights = (Path(model),) if isinstance(model, (str, Path)) else ()
    options = Options(ModelChoice(weights), (path,), variant=contract, strict=strict, known_failures=known_failures)
    session = Session(options)
    if model is not None and not weights:
        session.detector = model
    subjects = session.subjects()
    session.heads = heads_of(session, subjects)
    session.require_known_failures_met(subjects)
    recorder = Recorder(strict)
    entry: Dict[str, Any] = {}
    red: List[str] = []
    findings: List[Tuple[str, Finding]] = []
    for judged in judge_all(session, subjects):
        entry = recorder.add(judged.record)
        findings += [(judged.outcome.check, finding) for finding in judged.outcome.findings]
        red += _decisive(judged, path.name, strict)
    return Result(entry["verdict"], tuple(findings), entry.get("noise", {}), "\n\n".join(red), entry)


def _decisive(judged: Judged, title: str, strict: bool) -> List[str]:
    """The texts of what keeps the verdict from being `conforms`."""
    outcome = judged.outcome
    if outcome.outcome == "known failure":
        return []
    levels = {"MUST", "SHOULD"} if strict else {"MUST"}
    red = [text for text, finding in zip(judged.texts, outcome.findings) if finding.level in levels]
    if outcome.outcome == "error" or (outcome.outcome == "skipped" and outcome.incomplete):
        red.append(f"{outcome.check}: {title} could not be judged: {printable(outcome.reason or '')}")
    return red

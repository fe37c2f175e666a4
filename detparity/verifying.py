"""The checks without pytest around them, for use inside someone else's test."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional

from detparity.failures import render
from detparity.findings import Finding
from detparity.report.build import artifact_verdict, outcome_record
from detparity.session import ModelChoice, Session
from detparity.strategies.cases import explore
from detparity.trial import applicable, truth_head


def verify_artifact(path: Path, model: Any, contract: Optional[str], strict: bool) -> Dict[str, Any]:
    """See `detparity.verify`."""
    weights = (Path(model),) if isinstance(model, (str, Path)) else ()
    session = Session(ModelChoice(weights), (path,), explore, contract)
    if model is not None and not weights:
        session.detector = model
    session.heads = (truth_head(session.open(path).contract.variant),)
    trial = session.trial(path)
    records: List[Dict[str, Any]] = []
    red: List[str] = []
    for check_id in applicable(trial):
        outcome = trial.outcome(check_id)
        texts = [render(trial.artifact.title, check_id, finding) for finding in outcome.findings]
        records.append(outcome_record(outcome, texts))
        red += [text for text, finding in zip(texts, outcome.findings) if _decides(finding, strict)]
        if outcome.outcome == "error" or (outcome.outcome == "skipped" and outcome.incomplete):
            red.append(f"{check_id}: {trial.artifact.title} could not be judged: {outcome.reason}")
    entry = {
        "path": str(path),
        "sha256": trial.artifact.sha256,
        "variant": trial.contract.variant.name,
        "how": trial.how,
        "verdict": artifact_verdict(records, strict),
        "checks": records,
    }
    if red:
        raise AssertionError("\n\n".join(red))
    return entry


def _decides(finding: Finding, strict: bool) -> bool:
    return finding.level == "MUST" or (strict and finding.level == "SHOULD")

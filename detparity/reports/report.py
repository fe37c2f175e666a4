"""The report as plain data, from the records that checks leave behind. Its schema is docs/report.schema.json."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Dict, List, Mapping

from detparity.core.verdict import overall

SCHEMA = "detparity-report-2"


def unusable(path: str, reason: str) -> Dict[str, Any]:
    """The entry of an artifact that could not be read."""
    return {"path": path, "verdict": "unusable", "reason": reason, "checks": []}


def report(
    environment: Mapping[str, str],
    subject: Mapping[str, Any],
    artifacts: List[Dict[str, Any]],
    timings: Mapping[str, float],
    strict: bool,
    limits: Mapping[str, int],
    quick: bool = False,
) -> Dict[str, Any]:
    """The whole report; its verdict is the worst of its artifacts. limits: see `detparity.session.limits`; quick: whether less than
    everything was tried."""
    return {
        "schema": SCHEMA,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "verdict": overall([artifact["verdict"] for artifact in artifacts]),
        "strict": strict,
        "quick": quick,
        "environment": dict(environment),
        "limits": dict(limits),
        "subject": dict(subject),
        "artifacts": artifacts,
        "timings": {key: round(value, 3) for key, value in timings.items()},
    }

"""The report as plain data, from the records of checks. Its schema is docs/report.schema.json."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Dict, List, Mapping

from detparity.core.verdict import overall

SCHEMA = "detparity-report-3"


def unusable_entry(path: str, reason: str) -> Dict[str, Any]:
    """The entry of an artifact that could not be read."""
    return {"path": path, "verdict": "unusable", "reason": reason, "checks": []}


def report(about: Mapping[str, Any], artifacts: List[Dict[str, Any]], timings: Mapping[str, float]) -> Dict[str, Any]:
    """The complete report; its verdict is the worst of its artifacts. about: what `detparity.checks.run.about` says of the run."""
    return {
        "schema": SCHEMA,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "verdict": overall([artifact["verdict"] for artifact in artifacts]),
        **about,
        "artifacts": artifacts,
        "timings": {key: round(value, 3) for key, value in timings.items()},
    }

"""The report as plain data, from the records of checks. Its schema is docs/report.schema.json."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import Any, Dict, List, Mapping, Tuple

from detparity.core.verdict import overall
from detparity.reports.engines import rows_of

SCHEMA = "detparity-report-3"


def unusable_entry(path: str, reason: str) -> Dict[str, Any]:
    """The entry of an artifact that could not be read."""
    return {"path": path, "verdict": "unusable", "reason": reason, "checks": []}


def report(about: Mapping[str, Any], artifacts: List[Dict[str, Any]], timings: Mapping[str, float]) -> Dict[str, Any]:
    """The complete report; its verdict is the worst of its artifacts. about: what `detparity.checks.run.about` says of the run."""
    artifacts, images = _shared_images(artifacts)
    table = rows_of(artifacts)
    return {
        "schema": SCHEMA,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "verdict": overall([artifact["verdict"] for artifact in artifacts]),
        **about,
        "artifacts": artifacts,
        **({"engines": table} if table else {}),
        "timings": {key: round(value, 3) for key, value in timings.items()},
        **({"images": images} if images else {}),
    }


def _shared_images(artifacts: List[Dict[str, Any]]) -> Tuple[List[Dict[str, Any]], Dict[str, str]]:
    """The entries with keys for the images of their pictures, and the images by key: files are shown on the same ones."""
    images: Dict[str, str] = {}
    found = []
    for artifact in artifacts:
        pictures = []
        for picture in artifact.get("pictures", ()):
            key = hashlib.sha256(picture["image"].encode()).hexdigest()[:16]
            images[key] = picture["image"]
            pictures.append({**picture, "image": key})
        found.append({**artifact, "pictures": pictures} if pictures else artifact)
    return found, images

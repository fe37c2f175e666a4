"""Gathers the records of single checks, from this process or from workers, into the entries of a report."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from detparity.core.verdict import worded


class Recorder:
    """entries: one an artifact and engine that was asked for, by path and engine, in the order they began; broken: what ended without
    a record."""

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.entries: Dict[str, Dict[str, Any]] = {}
        self.broken: List[str] = []

    def add(self, record: Mapping[str, Any]) -> Dict[str, Any]:
        """Add one record and return its artifact's entry as it now is."""
        key = " on ".join(filter(None, (record["artifact"]["path"], record["artifact"].get("on", ""))))
        entry = self.entries.setdefault(key, {"verdict": "incomplete", "checks": []})
        entry.update(record["artifact"])
        entry["checks"].append(record["check"])
        entry.update(record.get("measured", {}))
        entry["verdict"] = worded(entry, self.strict)
        engine = sum(check["engine_seconds"] for check in entry["checks"])
        total = sum(check["seconds"] for check in entry["checks"])
        entry["timings"] = {"engine_seconds": round(engine, 3), "total_seconds": round(total, 3)}
        return entry

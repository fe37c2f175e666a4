"""Gathers what the suites' tests leave behind, in this process or from workers, into a report."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional

from detparity.report.build import artifact_verdict, report

PROPERTY = "detparity"


class Recorder:
    """A pytest plugin object. `watch` is called with each artifact's finished entry when the next one starts."""

    def __init__(self, strict: bool, watch: Optional[Callable[[Dict[str, Any]], None]] = None) -> None:
        self.strict = strict
        self.entries: Dict[str, Dict[str, Any]] = {}
        self.broken: List[str] = []
        self._watch = watch
        self._shown: List[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        for name, value in report.user_properties:
            if name == PROPERTY and report.when == "call":
                self._add(value)
        if report.failed and not any(name == PROPERTY for name, _ in report.user_properties):
            self.broken.append(
                f"{report.nodeid}: {report.longreprtext.strip().splitlines()[-1] if report.longreprtext else 'failed'}"
            )

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.broken.append(f"{report.nodeid}: {str(report.longrepr).strip().splitlines()[-1]}")

    def pytest_internalerror(self, excrepr: Any) -> None:
        self.broken.append(f"the test run broke: {str(excrepr).strip().splitlines()[-1]}")

    def _add(self, record: Mapping[str, Any]) -> None:
        key = record["artifact"]["path"]
        if key not in self.entries:
            self.show_finished()
            self.entries[key] = {"verdict": "incomplete", "checks": []}
        entry = self.entries[key]
        entry.update(record["artifact"])
        entry["checks"].append(record["check"])
        entry.update(record.get("measured", {}))
        entry["verdict"] = artifact_verdict(entry["checks"], self.strict)
        engine = sum(check["engine_seconds"] for check in entry["checks"])
        total = sum(check["seconds"] for check in entry["checks"])
        entry["timings"] = {"engine_seconds": round(engine, 3), "total_seconds": round(total, 3)}

    def show_finished(self) -> None:
        """Hand every entry not yet shown to `watch`."""
        for key, entry in self.entries.items():
            if key not in self._shown and self._watch:
                self._shown.append(key)
                self._watch(entry)

    def report(
        self,
        environment: Mapping[str, str],
        subject: Mapping[str, Any],
        unusable: List[Dict[str, Any]],
        timings: Mapping[str, float],
        limits: Mapping[str, int],
        quick: bool = False,
    ) -> Dict[str, Any]:
        return report(environment, subject, [*self.entries.values(), *unusable], timings, self.strict, limits, quick)

"""The report as JUnit XML: a suite an artifact, a case a check. The dialect is that of pytest's own files, which CI services read."""

from __future__ import annotations

from typing import Any, Mapping
from xml.etree import ElementTree

from detparity.core.contract import LEVELS
from detparity.reports.findings import decisive, roots
from detparity.reports.paths import portable


def page(report: Mapping[str, Any]) -> str:
    """The complete file."""
    root = ElementTree.Element("testsuites", name="detparity")
    report = portable(report)
    for artifact in report["artifacts"]:
        suite = _suite(artifact, report["strict"])
        if report.get("isolation"):
            properties = ElementTree.Element("properties")
            ElementTree.SubElement(properties, "property", name="isolation", value=_text(report["isolation"]))
            suite.insert(0, properties)
        root.append(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(artifact: Mapping[str, Any], strict: bool) -> ElementTree.Element:
    folded = roots(artifact["checks"])
    cases = [_case(artifact["path"], check, strict, folded.get(check["id"], "")) for check in artifact["checks"]]
    if artifact["verdict"] == "unusable":
        case = ElementTree.Element("testcase", classname=_text(artifact["path"]), name="can be read")
        ElementTree.SubElement(case, "error", message=_text(artifact.get("reason") or "it cannot be read"))
        cases = [case]
    counts = {kind: sum(case.find(kind) is not None for case in cases) for kind in ("failure", "error", "skipped")}
    suite = ElementTree.Element(
        "testsuite",
        name=_text(artifact["path"]),
        tests=str(len(cases)),
        failures=str(counts["failure"]),
        errors=str(counts["error"]),
        skipped=str(counts["skipped"]),
        time=f"{artifact.get('timings', {}).get('total_seconds', 0.0):.3f}",
    )
    suite.extend(cases)
    return suite


def _case(path: str, check: Mapping[str, Any], strict: bool, root: str) -> ElementTree.Element:
    """The case of one check; root: the check from whose finding it follows, or empty."""
    case = ElementTree.Element("testcase", classname=_text(path), name=check["id"], time=f"{check['seconds']:.3f}")
    red = [finding for finding in check["findings"] if finding["level"] in decisive(strict)]
    soft = [finding for finding in check["findings"] if finding["level"] not in decisive(strict)]
    if check["outcome"] == "error":
        ElementTree.SubElement(case, "error", message=_text(check["reason"]))
    elif check["outcome"] == "known failure":
        ElementTree.SubElement(case, "skipped", type="known failure", message=_text(check["reason"]))
    elif red:
        worst = min(red, key=lambda finding: LEVELS.index(finding["level"]))
        message = f"follows from {root}: {worst['message']}" if root else worst["message"]
        failure = ElementTree.SubElement(case, "failure", message=_text(message), type=check["level"])
        failure.text = _text(message if root else "\n\n".join(finding["text"] for finding in red))
    elif check["outcome"] == "skipped":
        ElementTree.SubElement(case, "skipped", message=_text(check["reason"]))
    if soft and check["outcome"] != "known failure":
        ElementTree.SubElement(case, "system-out").text = _text("\n\n".join(finding["text"] for finding in soft))
    return case


def _text(value: object) -> str:
    """What XML can hold: control characters are spelled out, since a file may name things by them."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in str(value))

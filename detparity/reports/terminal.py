"""The report for a terminal: per artifact a short table and what failed, then one verdict line. Plain text."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Tuple

from detparity.core.text import columns, listed, number

MARK = {
    "passed": "passed",
    "failed": "FAILED",
    "known failure": "known failure",
    "skipped": "skipped",
    "error": "ERROR",
}


def artifact_text(artifact: Mapping[str, Any], strict: bool = False) -> str:
    """One artifact: heading, table of checks by group, noise, and what decides the verdict in full; the rest is in the table."""
    heading = f"{artifact['path']}: {artifact['verdict']}"
    if artifact["verdict"] in ("unusable", "not made"):
        return f"{heading}\n  {artifact.get('reason') or artifact['checks'][0]['reason']}\n"
    lines = [heading, f"  {artifact['how']}", ""]
    lines += columns([("check", "outcome", ""), *_rows(artifact)])
    lines += _noise(artifact)
    for check in artifact["checks"]:
        for finding in check["findings"] if check["outcome"] != "known failure" else []:
            if finding["level"] == "MUST" or (strict and finding["level"] == "SHOULD"):
                lines += ["", finding["text"]]
        if check["outcome"] == "error":
            lines += ["", f"{check['id']} could not be judged: {check['reason']}"]
    return "\n".join(lines) + "\n"


def _rows(artifact: Mapping[str, Any]) -> List[Any]:
    """Passed checks share a line per group, as do those that another one blocks; every other one has its own."""
    passed: Dict[str, List[str]] = {}
    blocked: Dict[Tuple[str, str], List[str]] = {}
    rows: List[Any] = []
    for check in artifact["checks"]:
        group, name = check["id"].split(".", 1)
        if check["outcome"] == "passed":
            passed.setdefault(group, []).append(name)
        elif check["outcome"] == "skipped" and str(check["reason"]).startswith("blocked by "):
            blocked.setdefault((group, check["reason"]), []).append(name)
        else:
            what = check["reason"] or (check["findings"][0]["message"] if check["findings"] else "")
            soft = check["outcome"] == "failed" and all(finding["level"] != "MUST" for finding in check["findings"])
            mark = check["findings"][0]["level"] if soft else MARK[check["outcome"]]
            rows.append((check["id"], mark, what if len(what) <= 110 else what[:107] + "..."))
    for (group, reason), names in blocked.items():
        alone = len(names) == 1
        rows.append(
            (f"{group}.{names[0] if alone else '*'}", "skipped", reason if alone else f"{reason}: {', '.join(names)}")
        )
    return [(f"{group}.*", "passed", f"{len(names)}: {', '.join(names)}") for group, names in passed.items()] + rows


def _noise(artifact: Mapping[str, Any]) -> List[str]:
    noise = artifact.get("noise")
    if not noise:
        return []
    table = [("group", "floor", "error", "floors", "worst at")]
    for group, row in noise.items():
        table.append(
            (group, number(row["floor"]), number(row["error"]), f"{row['floors']:.2f}", f"stride {row['stride']:.0f}")
        )
    lines = ["", *columns(table)]
    weights = artifact.get("weights", {})
    if weights.get("not_comparable"):
        left = weights["not_comparable"]
        lines += [
            "",
            f"  weights  {weights['compared']} convolutions compared, {len(left)} not comparable: {listed(left)}",
        ]
    power = artifact.get("power")
    if power:
        weakest = max(power, key=lambda key: power[key])
        lines += ["", f"  power  a relative error of {number(power[weakest])} in {weakest} would have been seen"]
    return lines


def verdict_line(report: Mapping[str, Any]) -> str:
    counts: Dict[str, int] = {}
    for artifact in report["artifacts"]:
        counts[artifact["verdict"]] = counts.get(artifact["verdict"], 0) + 1
    parts = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    timings = report["timings"]
    strict = ", strict" if report["strict"] else ""
    strict += ", quick: fewer pictures, sizes and draws" if report.get("quick") else ""
    known = sum(check["outcome"] == "known failure" for artifact in report["artifacts"] for check in artifact["checks"])
    strict += f", {known} known failure{'s' * (known > 1)}" if known else ""
    return (
        f"Verdict: {report['verdict']} ({parts} of {len(report['artifacts'])} files{strict}; "
        f"{timings['total_seconds']:.1f} s, {timings['engine_seconds']:.1f} s of them in engines)"
    )

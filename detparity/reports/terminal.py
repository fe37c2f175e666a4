"""The report for a terminal: per artifact a short table and what failed, then one verdict line. Plain text."""

from __future__ import annotations

import textwrap
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from detparity.core.contract import LEVELS
from detparity.core.findings import BLOCKED
from detparity.core.text import columns, listed, number
from detparity.reports.engines import HEADINGS, NOTE, cells
from detparity.reports.findings import NEAR_TIES, fails, followers, in_order, mark, roots, unconfined

MOST = 110  # letters of a line
SEEN = 4  # groups of numbers, whose smallest error that would have been seen is shown
LEFT_OUT = 10  # pictures that could not be used, that are named
MARK = {
    "passed": "passed",
    "failed": "FAILED",
    "known failure": "known failure",
    "skipped": "skipped",
    "error": "ERROR",
}


def artifact_text(artifact: Mapping[str, Any], strict: bool = False) -> str:
    """One artifact: heading, table of checks by group, noise, and each cause in full, those that decide the verdict first."""
    heading = f"{titled(artifact)}: {artifact['verdict']}"
    if artifact["verdict"] in ("unusable", "not made"):
        return f"{heading}\n  {artifact.get('reason') or artifact['checks'][0]['reason']}\n"
    lines = [f"{heading}{_against(artifact)}, {_extent([artifact])}", f"  {artifact['how']}", *_low(artifact), ""]
    lines += columns([("check", "outcome", ""), *_rows(artifact, strict)])
    lines += _noise(artifact)
    lines += _power(artifact)
    lines += _budget(artifact)
    lines += on_pictures(artifact)
    lines += _texts(artifact["checks"])
    return "\n".join(lines) + "\n"


def titled(artifact: Mapping[str, Any]) -> str:
    """A file, on the engine that was asked for."""
    return f"{artifact['path']} on {artifact['on']}" if artifact.get("on") else str(artifact["path"])


def headline(artifact: Mapping[str, Any], strict: bool = False) -> str:
    """One line for one artifact: its verdict, how much was checked, and what decides."""
    if artifact["verdict"] in ("unusable", "not made"):
        return artifact_text(artifact).strip().replace("\n  ", ", ")
    why = decides(artifact, strict)
    extent = f"{_against(artifact)}, {_extent([artifact])}"
    return f"{titled(artifact)}: {artifact['verdict']}{extent}{': ' + why if why else ''}"


def decides(artifact: Mapping[str, Any], strict: bool) -> str:
    """What keeps an artifact from conforming: the ids of its checks, or why it cannot be used."""
    folded = roots(artifact["checks"])
    failed = [one["id"] for one in artifact["checks"] if fails(one, strict) and one["id"] not in folded]
    hidden = [
        f"{one['id']} skipped" for one in artifact["checks"] if one.get("incomplete") and one["outcome"] == "skipped"
    ]
    return listed(failed or hidden, 3) or str(artifact.get("reason") or "")


def files_table(report: Mapping[str, Any]) -> List[str]:
    """A table over the files of a report, a line each."""
    rows: List[Tuple[str, ...]] = [("verdict", "checks", "seconds", "file")]
    for one in report["artifacts"]:
        ran = sum(check["outcome"] != "skipped" for check in one["checks"])
        count = f"{ran} of {max(one.get('applying', 0), len(one['checks']))}" if one["checks"] else ""
        seconds = f"{one['timings']['total_seconds']:.1f}" if "timings" in one else ""
        why = clip(decides(one, report["strict"]))
        rows.append((one["verdict"], count, seconds, f"{one['path']}: {why}" if why else one["path"]))
    return columns(rows)


def engines_table(report: Mapping[str, Any]) -> List[str]:
    """The table over files and engines, with what its columns are; empty where there is none."""
    rows = report.get("engines", ())
    table: List[Tuple[str, ...]] = [HEADINGS, *(tuple(cells(row)) for row in rows)]
    return [*columns(table), "", f"  {NOTE}"] if rows else []


def _against(artifact: Mapping[str, Any]) -> str:
    """What an artifact was compared with, as the end of a clause."""
    if not artifact.get("against"):
        return ""
    return f" against {artifact['against']}" + ("" if artifact.get("model", True) else " (no model was compared)")


def _low(artifact: Mapping[str, Any]) -> List[str]:
    return [f"  low power: {'; '.join(artifact['low_power'])}"] if artifact.get("low_power") else []


def _extent(artifacts: Sequence[Mapping[str, Any]]) -> str:
    """How many of the checks that apply ran."""
    ran = sum(check["outcome"] != "skipped" for artifact in artifacts for check in artifact["checks"])
    apply = sum(max(artifact.get("applying", 0), len(artifact["checks"])) for artifact in artifacts)
    return f"{ran} of {apply} checks"


def _texts(checks: Sequence[Mapping[str, Any]]) -> List[str]:
    """The findings in full, MUST before SHOULD, without those that follow from another check's."""
    lines: List[str] = []
    folded = roots(checks)
    for level in ("MUST", "SHOULD"):
        for check in in_order(checks):
            shown = check["findings"] if check["outcome"] != "known failure" and check["id"] not in folded else []
            lines += [line for finding in shown if finding["level"] == level for line in ("", finding["text"])]
    for check in checks:
        if check["outcome"] == "error":
            lines += ["", f"{check['id']} could not be judged: {check['reason']}"]
    return lines


def _rows(artifact: Mapping[str, Any], strict: bool) -> List[Any]:
    """Passed checks share a line per group, as do those that another one blocks, or that follow from another one; every other one has
    its own."""
    passed: Dict[str, List[str]] = {}
    blocked: Dict[Tuple[str, str], List[str]] = {}
    rows: List[Any] = []
    folded = roots(artifact["checks"])
    for check in in_order(artifact["checks"]):
        group, name = check["id"].split(".", 1)
        if check["outcome"] == "passed":
            passed.setdefault(group, []).append(name)
        elif check["outcome"] == "skipped" and str(check["reason"]).startswith(BLOCKED):
            blocked.setdefault((group, check["reason"]), []).append(name)
        elif check["id"] not in folded:
            worst = min(check["findings"], key=lambda finding: LEVELS.index(finding["level"]), default=None)
            what = check["reason"] or (worst["message"] if worst else "")
            found = mark(check, strict)
            rows.append((check["id"], MARK.get(found, found), clip(what)))
    return [(f"{group}.*", "passed", f"{len(names)}: {', '.join(names)}") for group, names in passed.items()] + [
        *rows,
        *_following(artifact["checks"]),
        *_blocked(blocked),
    ]


def _following(checks: Sequence[Mapping[str, Any]]) -> List[Tuple[str, str, str]]:
    """A line for each check that follows from another one, with what it found."""
    messages = {check["id"]: check["findings"][0]["message"] for check in checks if check["findings"]}
    return [
        (name, "follows", clip(f"from {root}: {messages[name]}")) for root, names in followers(checks) for name in names
    ]


def clip(text: str) -> str:
    return text if len(text) <= MOST else text[: MOST - 3] + "..."


def _blocked(blocked: Mapping[Tuple[str, str], Sequence[str]]) -> List[Tuple[str, str, str]]:
    """A line for the checks of a group that one blocks."""
    rows = []
    for (group, reason), names in blocked.items():
        alone = len(names) == 1
        rows.append(
            (f"{group}.{names[0] if alone else '*'}", "skipped", reason if alone else f"{reason}: {', '.join(names)}")
        )
    return rows


def _noise(artifact: Mapping[str, Any]) -> List[str]:
    noise = artifact.get("noise")
    if not noise:
        return []
    table = [("group", "floor", "error", "floors", "worst at")]
    for group, row in noise.items():
        worst = f"stride {row['stride']:.0f}" if row["stride"] else ""
        table.append((group, number(row["floor"]), number(row["error"]), f"{row['floors']:.2f}", worst))
    lines = ["", *columns(table)]
    weights = artifact.get("weights", {})
    if weights.get("not_comparable"):
        left = weights["not_comparable"]
        lines += [
            "",
            f"  weights  {weights['compared']} convolutions compared, {len(left)} not comparable: {listed(left)}",
        ]
    lines += _islands(artifact)
    return lines


def _power(artifact: Mapping[str, Any]) -> List[str]:
    """The smallest errors that would have been seen, and the first of what would not."""
    power, seen, blind = (artifact.get(key) for key in ("power", "sees", "blind_spots"))
    rows: List[Tuple[str, str]] = []
    if power:
        weakest = max(power, key=lambda key: power[key])
        rows.append(("power", f"a relative error of {number(power[weakest])} in {weakest} would have been seen"))
    if seen:
        worst = sorted(seen, key=lambda key: -seen[key].get("of its spread", 0.0))[:SEEN]
        units = {key: "" if seen[key]["unit"] == "number" else f" {seen[key]['unit']}".rstrip() for key in worst}
        parts = [f"{number(seen[key]['smallest'])}{units[key]} in {key}" for key in worst]
        rows.append(("power", f"an error of {', '.join(parts)} would have been seen"))
    if blind:
        more = f" (and {len(blind) - 1} more: --json, --html)" if len(blind) > 1 else ""
        rows.append(("blind spots", f"{blind[0]}{more}"))
    return ["", *columns(rows)] if rows else []


def _islands(artifact: Mapping[str, Any]) -> List[str]:
    """What parts of a half-precision network would gain by staying in float32."""
    found = artifact.get("islands")
    if not found:
        return []
    groups = list(found[0]["errors"])
    rows: List[Tuple[str, ...]] = [("left in float32", *groups)]
    rows += [(one["left"], *(number(one["errors"][group]) for group in groups)) for one in found]
    return ["", *columns(rows)]


def _budget(artifact: Mapping[str, Any]) -> List[str]:
    """What a file of 8 bits loses, and what it may."""
    found = artifact.get("budget")
    if not found:
        return []
    rows: List[Tuple[str, ...]] = [("budget", "loss", "95 in 100", "allowed")]
    for name, row in found["losses"].items():
        span = f"{row['low']:.4f} to {row['high']:.4f}" if "low" in row else "too few pictures"
        rows.append((name, f"{row['loss']:.4f}", span, f"{row['budget']:g}"))
    counts = f"{found['model']} detections of the model, {found['file']} of the file"
    return ["", f"  measured on {found['pictures']} pictures: {counts}", *columns(rows)]


def on_pictures(artifact: Mapping[str, Any]) -> List[str]:
    """What model and file detect on the user's own pictures, and how well where these have labels."""
    found = artifact.get("images")
    if not found:
        return []
    total = found["total"]
    parts = ", ".join(
        f"{total[key]} {'the same' if key == 'same' else key}" for key in ("same", "moved", "lost", "added")
    )
    lines = [
        "",
        f"  pictures  {len(found['each'])}: {total['model']} detections of the model, {total['file']} of the file; {parts}",
    ]
    if artifact.get("near_ties"):
        lines += ["", *textwrap.wrap(NEAR_TIES, MOST, initial_indent="  ", subsequent_indent="  ")]
    precision = found.get("precision")
    if precision:
        lines += [
            "",
            *columns([("mAP", "model", "file", "file - model", "95 in 100"), *_precision_rows(precision["numbers"])]),
        ]
        lines += [f"  {note}" for note in precision["notes"]]
    return lines


def _precision_rows(numbers: Mapping[str, Mapping[str, float]]) -> List[Tuple[str, ...]]:
    rows: List[Tuple[str, ...]] = []
    for name, row in numbers.items():
        span = f"{row['low']:+.4f} to {row['high']:+.4f}" if "low" in row else "too few pictures"
        rows.append((name, f"{row['model']:.4f}", f"{row['file']:.4f}", f"{row['file'] - row['model']:+.4f}", span))
    return rows


def verdict_line(report: Mapping[str, Any]) -> str:
    counts: Dict[str, int] = {}
    for artifact in report["artifacts"]:
        counts[artifact["verdict"]] = counts.get(artifact["verdict"], 0) + 1
    parts = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    timings = report["timings"]
    strict = ", strict" if report["strict"] else ""
    strict += ", quick: fewer pictures, sizes and draws" if report.get("quick") else ""
    strict += ", unconfined: docs/security.md says what holds" if unconfined(report) else ""
    known = sum(check["outcome"] == "known failure" for artifact in report["artifacts"] for check in artifact["checks"])
    strict += f", {known} known failure{'s' * (known > 1)}" if known else ""
    judged = [one for one in report["artifacts"] if one["verdict"] not in ("unusable", "not made")]
    titles = (
        []
        if report["verdict"] == "unusable"
        else dict.fromkeys(filter(None, (_against(one).strip() for one in judged)))
    )
    against = ", ".join(titles)
    low = list(dict.fromkeys(text for one in judged for text in one.get("low_power", ())))
    clauses = [clause for clause in (against, _extent(judged) if judged else "") if clause]
    if low:
        clauses.append(f"low power: {'; '.join(low[:3])}")
    stated = (" " if against else ", " if clauses else "") + ", ".join(clauses)
    note = report["subject"].get("note")
    model = f"Model: {report['subject']['name']} {note}\n" if note else ""
    model += "".join(f"Left out: {problem}\n" for problem in report.get("photos", {}).get("left_out", ())[:LEFT_OUT])
    return (
        f"{model}Verdict: {report['verdict']}{stated} ({parts} of {len(report['artifacts'])} files{strict}; "
        f"{timings['total_seconds']:.1f} s, {timings['engine_seconds']:.1f} s of them in engines)"
    )

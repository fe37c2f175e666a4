"""What the HTML page of a report shows, as plain data for its templates: nothing here knows HTML."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from detparity.core.contract import LEVELS
from detparity.core.guides import EXPORTERS, guides
from detparity.core.text import number
from detparity.core.verdict import ARTIFACT_VERDICTS
from detparity.reports.engines import HEADINGS, NOTE, cells
from detparity.reports.findings import NEAR_TIES, Entry, fails, followers, in_order, mark, roots, unconfined
from detparity.reports.page_pictures import glance, pictures, sentence, stored, within_budget

Pairs = List[Tuple[str, str]]
LEAST_FLOORS = 0.01  # the left end of a bar, which is logarithmic
OPEN = 4  # files of a page that are shown in full; of more, those that conform with nothing found are folded
GOOD = ("conforms", "consistent")
NOTHING = ("unusable", "not made")  # verdicts of a file that was not judged
WORDS = {"passed": "passed", "failed": "failed", "skipped": "not run", "error": "not judged"}


def view(report: Entry) -> Dict[str, Any]:
    """The page: one sentence on the run, its files in the order worst first, and the groups of checks."""
    strict = bool(report["strict"])
    images = within_budget(report.get("images", {}))
    files = [_file(entry, index + 1, strict) for index, entry in enumerate(report["artifacts"])]
    for file in files:
        file["pictures"], file["left_out"] = pictures(file.pop("shots"), images)
        file["under"] = next((one for one in file["pictures"] if one["name"] == file["heat"].get("name")), None)
        file["folded"] = len(files) > OPEN and not file["shown"] and file["verdict"] in GOOD
    files.sort(key=lambda file: _rank(file["verdict"]))
    counts = {verdict: sum(file["verdict"] == verdict for file in files) for verdict in _order(files)}
    return {
        "sentence": _sentence(report["verdict"], counts, len(files)),
        "counts": counts,
        "images": stored(files, images),
        "files": files,
        "groups": list(dict.fromkeys(_group(check) for entry in report["artifacts"] for check in entry["checks"])),
        "unconfined": unconfined(report),
        "engines": {"headings": HEADINGS, "rows": [cells(row) for row in report.get("engines", ())], "note": NOTE},
        "left_out": report.get("photos", {}).get("left_out", []),
        "environment": [*report["environment"].items(), ("isolation", report.get("isolation", "not stated"))],
    }


def scale(floors: float, limit: float) -> Dict[str, Any]:
    """Where an error and its limit lie on a bar, in percent, both in floors; over: whether the limit is exceeded."""
    highest = max(10 * limit, min(floors, 1e9), 100.0)

    def at(value: float) -> float:
        share = math.log(max(value, LEAST_FLOORS) / LEAST_FLOORS) / math.log(highest / LEAST_FLOORS)
        return round(100 * min(share, 1.0), 1)

    return {"value": at(floors) if math.isfinite(floors) else 100.0, "limit": at(limit), "over": not floors <= limit}


def _rank(verdict: str) -> int:
    order = ("violates", "unusable", "incomplete")
    return order.index(verdict) if verdict in order else len(order)


def _order(files: Sequence[Entry]) -> List[str]:
    there = {file["verdict"] for file in files}
    return sorted((verdict for verdict in ARTIFACT_VERDICTS if verdict in there), key=_rank)


def _sentence(verdict: str, counts: Mapping[str, int], total: int) -> str:
    if total == 1:
        return {
            "conforms": "The file does what its model does, within the noise of float32.",
            "consistent": "The file agrees with what it was compared with. No model was compared.",
            "violates": "The file does not do what was promised of it.",
            "incomplete": "The file could not be judged completely.",
        }.get(verdict, "The file could not be read.")
    return f"{total} files: " + ", ".join(f"{count} {_verb(name, count)}" for name, count in counts.items()) + "."


def _verb(verdict: str, count: int) -> str:
    """What so many files do, by their verdict."""
    if verdict in ("conforms", "violates"):
        return verdict if count == 1 else verdict[:-1]
    return f"{'is' if count == 1 else 'are'} {verdict}"


def _file(entry: Entry, number: int, strict: bool) -> Dict[str, Any]:
    checks = [_check(check, strict) for check in in_order(entry["checks"])]
    folded, following = roots(entry["checks"]), dict(followers(entry["checks"]))
    for check in checks:
        check["following"] = following.get(check["id"], [])
        if check["id"] in folded:
            check["note"] = f"follows from {folded[check['id']]}"
    shown = [one for one in checks if one["outcome"] in ("failed", "error") and one["id"] not in folded]
    shown.sort(key=lambda one: (not one["red"], LEVELS.index(one["level"]), not one["following"]))
    known = [one for one in checks if one.get("known_failure")]
    reason = entry.get("reason", "")
    if entry["verdict"] == "not made":
        reason = str(entry["checks"][0]["reason"])
    return {
        "id": f"file{number}",
        "name": (PurePath(entry["path"]).name or entry["path"]) + (f" on {entry['on']}" if entry.get("on") else ""),
        "verdict": entry["verdict"],
        "reason": reason,
        "facts": _facts(entry),
        "groups": {} if entry["verdict"] in NOTHING else _groups(checks, folded),
        "low_power": entry.get("low_power", []),
        "shown": shown,
        "known": known,
        "anchored": [one["id"] for one in (*shown, *known)],
        "ran": sum(one["outcome"] != "skipped" for one in checks),
        "apply": max(entry.get("applying", 0), len(checks)),
        "glance": glance(entry),
        "shots": entry.get("pictures", []),
        "near_ties": NEAR_TIES if entry.get("near_ties") else "",
        "no_pictures": entry.get("no_pictures", ""),
        "images": {**entry["images"], "sentence": sentence(entry["images"]["total"])} if "images" in entry else {},
        "heat": entry.get("heat", {}),
        "noise": entry.get("noise", {}),
        "graph": entry.get("graph", {}),
        "power": entry.get("power", {}),
        "sees": entry.get("sees", {}),
        "blind_spots": entry.get("blind_spots", []),
        "checks": checks,
        "details": _details(entry),
    }


def _facts(entry: Entry) -> Pairs:
    """Where the file is, what it was found to be and against what it was judged."""
    against = entry.get("against", "")
    if against and not entry.get("model", True):
        against = f"{against} (no model was compared)"
    facts = [("Path", entry["path"]), ("Variant", entry.get("variant", "")), ("Read as", entry.get("how", ""))]
    facts += [
        ("Against", against),
        ("Seconds", f"{entry['timings']['total_seconds']:.1f}" if "timings" in entry else ""),
    ]
    return [(name, value) for name, value in facts if value]


def _groups(checks: Sequence[Entry], folded: Mapping[str, str]) -> Dict[str, Dict[str, Any]]:
    """By group of checks: those that failed, those that failed without deciding, and counts of the rest."""
    found: Dict[str, Dict[str, Any]] = {}
    for check in checks:
        cell = found.setdefault(_group(check), {"red": [], "soft": [], "follow": 0, "passed": 0, "skipped": 0})
        if check["id"] in folded:
            cell["follow"] += 1
        elif check["outcome"] in ("failed", "error"):
            cell["red" if check["red"] else "soft"].append(check)
        elif check["outcome"] == "known failure":
            cell["soft"].append(check)
        else:
            cell[check["outcome"]] += 1
    return found


def _group(check: Entry) -> str:
    return str(check["id"]).partition(".")[0]


def _check(check: Entry, strict: bool) -> Dict[str, Any]:
    red, shown = fails(check, strict), mark(check, strict)
    repeat = next((finding["repeat"] for finding in check["findings"] if finding.get("repeat")), "")
    return {
        **check,
        "name": check["id"].partition(".")[2],
        "red": red,
        "mark": shown,
        "word": WORDS.get(shown, shown) + (f", {check['level']}" if shown == "failed" else ""),
        "note": check["reason"] or "",
        "repeat": repeat,
        "guide": _guide(check["id"]),
        "findings": [
            _finding(one, check["id"]) for one in sorted(check["findings"], key=lambda one: LEVELS.index(one["level"]))
        ],
    }


def _guide(check: str) -> Dict[str, Any]:
    """Why a check matters, what usually causes its finding and how to fix it, by exporter; empty where nothing is known."""
    guide = guides().get(check)
    if guide is None:
        return {}
    fixes = [(EXPORTERS[key], text) for key, text in guide.fixes.items()]
    return {"why": guide.why, "causes": guide.causes, "fixes": fixes}


def _finding(finding: Entry, check: str) -> Dict[str, Any]:
    message, guide = finding["message"], guides().get(check)
    rows = finding.get("rows")
    return {
        "sentence": message[:1].upper() + message[1:],
        "rows": rows or [],
        "headed": finding.get("headed", False) and bool(rows),
        "notes": finding.get("notes", []),
        "plain": "" if rows is not None else finding["text"],
        "fix": finding.get("fix", guide.fix if guide else "") if not finding.get("follows") else "",
        "bar": _bar(finding["evidence"]),
    }


def _bar(evidence: Entry) -> Dict[str, Any]:
    """An error in floors and its limit, where a finding has both as numbers; else empty."""
    floors, limit = evidence.get("floors"), evidence.get("limit")
    if not isinstance(floors, (int, float)) or not isinstance(limit, (int, float)) or limit <= 0:
        return {}
    text = f"Error {number(floors)} floors, limit {number(limit)}, on a logarithmic scale."
    return {"floors": float(floors), "limit": float(limit), "text": text}


def _details(entry: Entry) -> Pairs:
    """What is known of the file and its engine beside the checks."""
    found: Pairs = [("sha256", entry.get("sha256", ""))]
    found += [(name, str(value)) for name, value in entry.get("file", {}).items()]
    found += [(f"engine {name}", str(value)) for name, value in entry.get("engine", {}).items()]
    found += [(f"layout {name}", str(value)) for name, value in entry.get("layout", {}).items()]
    if "weights" in entry:
        weights = entry["weights"]
        left = ", ".join(weights["not_comparable"]) or "none"
        found += [("convolutions compared", str(weights["compared"])), ("not comparable", left)]
    if "timings" in entry:
        found.append(("seconds in engines", f"{entry['timings']['engine_seconds']:.2f}"))
    return [(name, value) for name, value in found if value]

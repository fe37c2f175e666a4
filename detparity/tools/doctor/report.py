"""The script doctor's diagnosis, as text and as data."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from detparity.core.text import WIDTH, columns, listed
from detparity.tools.doctor.call_sites import CallSite
from detparity.tools.doctor.causes import KINDS, Cause, Location, Mistake

SCHEMA = "detparity-script-doctor-1"
SCRIPTS, UNSAVEABLE, BLOCKED, NO_MODULE, READ = (
    "scripts",
    "cannot be saved",
    "does not script",
    "no module",
    "read only",
)
IN_FULL = 5  # causes reported in full; the others have a line each, and all are in the JSON
LINES = 6


@dataclass(frozen=True)
class Diagnosis:
    """subject: what was examined, as text; verdict: one of the above; modules: how many there are; causes: in the order the
    compiler meets them; unused: calls of methods marked unused; sites: calls of torch.jit.script; results: what this torch does
    when given a result; facts: rows (name, words) to show; torch: its version; repeat: the command."""

    subject: str
    verdict: str
    modules: int
    causes: Tuple[Cause, ...]
    unused: Tuple[Mistake, ...]
    sites: Tuple[CallSite, ...]
    results: Tuple[Tuple[str, str], ...]
    facts: Tuple[Tuple[str, str], ...]
    torch: str
    repeat: str

    @property
    def wrong_sites(self) -> Tuple[CallSite, ...]:
        return tuple(site for site in self.sites if site.result)

    @property
    def healthy(self) -> bool:
        return self.verdict in (SCRIPTS, READ) and not self.wrong_sites


def text(found: Diagnosis) -> str:
    """The complete diagnosis on one screen."""
    lines = textwrap.wrap(f"script-doctor: {_sentence(found)}", WIDTH)
    if found.facts:
        lines += ["", *_table(found.facts)]
    for site in found.wrong_sites[:LINES]:
        lines += ["", *_site(site, found)]
    for number, cause in enumerate(found.causes[:IN_FULL], 1):
        lines += ["", *_cause(number, cause)]
    rest = found.causes[IN_FULL:]
    if rest:
        rows = [(_named(cause), _shown(cause.location), _counted(cause)) for cause in rest[:LINES]]
        more = f"  and {len(rest) - LINES} more: --json writes them all" if len(rest) > LINES else ""
        lines += ["", *columns(rows), *([more] if more else [])]
    if found.unused:
        lines += ["", *_table((("note", _unused(found.unused)),))]
    lines += ["", f"  Repeat:  {found.repeat}", f"  Lane:    torch {found.torch}"]
    return "\n".join(lines)


def _sentence(found: Diagnosis) -> str:
    wrong = found.wrong_sites
    handed = f"{_amount(len(wrong), 'call')} of torch.jit.script is handed" if len(wrong) == 1 else ""
    handed = handed or f"{len(wrong)} calls of torch.jit.script are handed"
    tail = f"; {handed} a result instead of the module" if wrong else ""
    if found.verdict == READ:
        looked = f"{found.subject}: {_amount(len(found.sites), 'call')} of torch.jit.script read"
        return f"{looked}{tail or ', none is handed a result'}."
    if found.verdict == NO_MODULE:
        return f"{found.subject} is no module, but what calling one returned{tail}."
    if found.verdict == SCRIPTS:
        extent = f", with all of its {_amount(found.modules, 'module')}" if found.modules > 1 else " completely"
        return f"{found.subject} scripts{extent}, and the result can be saved{tail}."
    blocked = {path for cause in found.causes for path, _ in cause.modules}
    share = f"{_amount(len(found.causes), 'cause')} in {len(blocked)} of its {_amount(found.modules, 'module')}"
    if found.verdict == UNSAVEABLE:
        return f"{found.subject} scripts, but the result is of no use in a file: {share}{tail}."
    return f"{found.subject} does not script: {share}{tail}."


def _amount(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _cause(number: int, cause: Cause) -> List[str]:
    verb = "cannot save " if cause.at == "save" else "stops "
    rows = [("where", f"{_shown(cause.location)} in {cause.method}" if cause.location else f"in {cause.method}")]
    if cause.location and cause.location.text:
        rows.append(("", cause.location.text))
    rows.append(("compiler", _short(cause.reason, 170)))
    rows.append((verb.strip(), _counted(cause)))
    rows.append(("instead", KINDS[cause.kind].instead))
    if cause.also:
        seen = [f"{mistake.kind} :{mistake.location.line}{_about(mistake)}" for mistake in cause.also]
        rows.append(("also", _short(listed(seen, 4), 180)))
    if cause.guessed:
        rows.append(("unsure", "seen beside stand-ins for failing submodules: may go when those are mended"))
    return [f"  {number}. {_named(cause)}: {KINDS[cause.kind].title}", *_table(rows, "     ")]


def _about(mistake: Mistake) -> str:
    return f" ({mistake.detail})" if mistake.detail else ""


def _named(cause: Cause) -> str:
    return cause.kind


def _counted(cause: Cause) -> str:
    """`57 x Conv: model.0, model.1 and 55 more`; the model itself has no path."""
    classes: Dict[str, List[str]] = {}
    for path, kind in cause.modules:
        classes.setdefault(kind, []).append(path or "the model itself")
    return "; ".join(f"{len(paths)} x {kind}: {listed(paths, 4)}" for kind, paths in classes.items())


def _shown(location: Optional[Location]) -> str:
    return f"{location.file}:{location.line}" if location else "no line"


def _site(site: CallSite, found: Diagnosis) -> List[str]:
    rows = [
        ("where", _shown(site.location)),
        ("", site.location.text),
        ("scripts", f"{_short(site.argument, 80)}: what the call returned{_sure(site)}"),
        *((("this torch", f"{what} {outcome}") for what, outcome in found.results)),
        ("why", "torch.jit.script compiles a module's forward; a result carries no forward to compile"),
        ("instead", f"{site.instead}, and then call what it returns"),
    ]
    return [f"  output-of-call: {KINDS['output-of-call'].title}", *_table(rows, "     ")]


def _sure(site: CallSite) -> str:
    return "" if site.certain else " (read in the source)"


def _unused(calls: Sequence[Mistake]) -> str:
    calls_at = [f"{call.detail} at {_shown(call.location)}" for call in calls]
    return f"marked unused, so the scripted module raises when it reaches {listed(calls_at, 4)}"


def _table(rows: Sequence[Tuple[str, str]], indent: str = "  ") -> List[str]:
    """Two columns, the second wrapped under itself; a name that repeats is shown once."""
    width = max(len(name) for name, _ in rows)
    lines: List[str] = []
    last = ""
    for name, words in rows:
        head = indent + ("" if name == last else name).ljust(width) + "  "
        lines += textwrap.wrap(words, WIDTH, initial_indent=head, subsequent_indent=" " * len(head)) or [head.rstrip()]
        last = name
    return lines


def _short(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 3] + "..."


def record(found: Diagnosis, environment: Mapping[str, str]) -> Dict[str, Any]:
    """The diagnosis as JSON holds it."""
    return {
        "schema": SCHEMA,
        "subject": found.subject,
        "verdict": found.verdict,
        "healthy": found.healthy,
        "environment": dict(environment),
        "modules": found.modules,
        "causes": [
            {
                "kind": cause.kind,
                "title": KINDS[cause.kind].title,
                "at": cause.at,
                "reason": cause.reason,
                "place": _location_record(cause.location),
                "method": cause.method,
                "modules": [{"path": path, "class": kind} for path, kind in cause.modules],
                "instead": KINDS[cause.kind].instead,
                "guessed": cause.guessed,
                "also": [_mistake(mistake) for mistake in cause.also],
            }
            for cause in found.causes
        ],
        "unused": [_mistake(mistake) for mistake in found.unused],
        "call_sites": [
            {
                "place": _location_record(site.location),
                "scripts": "result" if site.result else "module",
                "argument": site.argument,
                "instead": site.instead,
                "certain": site.certain,
            }
            for site in found.sites
        ],
        "results": [{"what": what, "outcome": outcome} for what, outcome in found.results],
        "facts": [{"name": name, "words": words} for name, words in found.facts],
        "repeat": found.repeat,
    }


def kinds_table() -> str:
    """Every mistake that has a name, as a Markdown table for docs/script_doctor.md."""
    rows = [(f"`{name}`", kind.title, kind.instead) for name, kind in KINDS.items()]
    lines = ["| name | mistake | instead |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    return re.sub(r"(__\w+__)", r"`\1`", "\n".join(lines)) + "\n"


def _mistake(mistake: Mistake) -> Dict[str, Any]:
    return {
        "kind": mistake.kind,
        "method": mistake.method,
        "place": _location_record(mistake.location),
        "detail": mistake.detail,
    }


def _location_record(location: Optional[Location]) -> Optional[Dict[str, Any]]:
    return None if location is None else {"file": location.file, "line": location.line, "text": location.text}

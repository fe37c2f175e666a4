"""The review of pending goldens: listed in groups with the same change, shown, accepted with a reason, or rejected."""

from __future__ import annotations

import datetime
import difflib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from detparity.core.errors import InputError, clipped
from detparity.core.text import columns, listed
from detparity.tools.golden import pending
from detparity.tools.golden.evaluate import Folders
from detparity.tools.golden.index import Entry, canonical, content_of, read_index, store
from detparity.tools.golden.pending import Pending

DIFF_LINES = 16
WORDS = 12
# Lines of a golden that a person cannot read; their changes are reported as sentences.
DIGEST = re.compile(r'[+-] *"(content|from|named|topology|wiring|neighbourhoods)": ')
REASON = '".."'
Draw = Callable[[Pending, Path], Optional[str]]  # draws the picture of a pending golden; returns why it cannot, or None


@dataclass(frozen=True)
class Review:
    """The pending goldens, and their folders. arguments: the options that name these folders, for the commands shown."""

    folders: Folders
    waiting: Tuple[Pending, ...]
    arguments: str = ""

    def command(self, verb: str, *more: str) -> str:
        return " ".join(filter(None, ["detparity review", verb, *more])) + self.arguments


def open_review(folders: Folders, arguments: Sequence[str] = ()) -> Review:
    """Read the pending goldens. Raises InputError for a folder that cannot be used."""
    shown = "".join(" " + shlex.quote(one) for one in arguments)
    return Review(folders, tuple(pending.read(folders.pending)), shown)


def groups(review: Review) -> List[List[Pending]]:
    """Goldens with the same change, the largest group first."""
    found: Dict[Tuple[str, str], List[Pending]] = {}
    for one in review.waiting:
        found.setdefault((one.same, "" if one.holds else one.lost), []).append(one)
    return sorted(found.values(), key=lambda group: (-len(group), group[0].name))


def group_of(review: Review, one: Pending) -> List[Pending]:
    """The group of one golden, itself first."""
    group = next(group for group in groups(review) if one in group)
    return [one, *(other for other in group if other is not one)]


def named(review: Review, name: str) -> Pending:
    """Raises InputError where no golden of this name waits."""
    for one in review.waiting:
        if one.name == name:
            return one
    waiting = f"waiting are {listed([one.name for one in review.waiting])}" if review.waiting else "nothing waits"
    raise InputError(f"no golden called {clipped(name)} waits for review: {waiting}")


# --- text -----------------------------------------------------------------------------------------------------------


def listing(review: Review) -> str:
    """The pending goldens, one a line, in groups."""
    if not review.waiting:
        return f"No golden waits for review in {review.folders.pending}."
    found = groups(review)
    count = "1 golden waits" if len(review.waiting) == 1 else f"{len(review.waiting)} goldens wait"
    changes = "1 change" if len(found) == 1 else f"{len(found)} different changes"
    lines = [f"{count} for review, {changes} (pending in {review.folders.pending}):"]
    for group in found:
        lines += ["", *(f"  {word}" for word in clipped_words(group[0], 2)), ""]
        lines += columns([(one.name, "parity holds" if one.holds else "PARITY LOST") for one in group], "    ")
    return "\n".join(lines)


def clipped_words(one: Pending, most: int) -> List[str]:
    words = list(one.words[:most])
    return words if len(one.words) <= most else [*words, f"and {len(one.words) - most} more"]


def showing(review: Review, one: Pending, draw: Draw) -> str:
    """Everything about one golden: what changed, a short text diff, what else has the same change, the picture, parity."""
    heading = "has no golden yet" if one.was is None else "changed"
    lines = [f"{one.name} {heading}: {one.subject}, {one.lane}.", ""]
    lines += [f"  {word}" for word in clipped_words(one, WORDS)]
    difference = text_diff(review, one)
    if difference:
        lines += ["", "As text:", "", *(f"  {line}" for line in difference)]
    others = group_of(review, one)[1:]
    rows = [("same change", listed([other.name for other in others], 4) if others else "nothing else")]
    if one.seen:
        target = pending.path_of(review.folders.pending, one.name).with_suffix(".png")
        problem = draw(one, target)
        rows.append(("picture", problem or f"{target}: {one.drawn} left, the file now right"))
    passed = sum(outcome == "passed" for outcome in one.parity.values())
    rows.append(
        ("parity", f"{'holds' if one.holds else 'LOST'}: {passed} of {len(one.parity)} checks that decide passed")
    )
    if one.lost:
        rows.append(("", one.lost))
    accepting, rejecting = decisions(review, one)
    return "\n".join([*lines, "", *columns(rows), "", f"  Accept:  {accepting}", f"  Reject:  {rejecting}"])


def decisions(review: Review, one: Pending) -> Tuple[str, str]:
    """The commands that accept and reject a golden and all with the same change."""
    same = ["--same"] if len(group_of(review, one)) > 1 else []
    lost = [] if one.holds else ["--parity-lost"]
    return review.command("accept", one.name, *same, *lost, "--why", REASON), review.command("reject", one.name, *same)


def text_diff(review: Review, one: Pending) -> List[str]:
    """The first lines of the difference of the two texts; none where there is no golden yet."""
    entry = _entry(review, one)
    if entry is None:
        return []
    old, new = (canonical(content).splitlines() for content in (content_of(review.folders.golden, entry), one.content))
    changes = list(difflib.unified_diff(old, new, n=0, lineterm=""))[2:]
    lines = [line for line in changes if not line.startswith("@@") and not DIGEST.match(line)]
    shown = [line if len(line) <= 100 else line[:97] + "..." for line in lines[:DIFF_LINES]]
    return shown if len(lines) <= DIFF_LINES else [*shown, f"and {len(lines) - DIFF_LINES} more lines"]


# --- deciding -------------------------------------------------------------------------------------------------------


def _entry(review: Review, one: Pending) -> Optional[Entry]:
    return next((entry for entry in read_index(review.folders.golden) if entry.name == one.name), None)


def accept(review: Review, chosen: Sequence[Pending], why: str, parity_lost: bool) -> List[str]:
    """Make goldens of the chosen pending ones and return a line each.

    Raises InputError, before anything is written, without a reason, where parity with the model is lost and `parity_lost` is not
    given, or where the golden is not the one that was compared.
    """
    if not why.strip():
        raise InputError('accepting a golden wants a reason: --why ".."')
    lost = [one for one in chosen if not one.holds]
    if lost and not parity_lost:
        raise InputError(
            f"{lost[0].name} moved and parity with the model is lost ({lost[0].lost or 'a check that decides broke'}); "
            "if that is intended, give --parity-lost"
        )
    for one in chosen:
        entry = _entry(review, one)
        if (entry.sha256 if entry else None) != one.was:
            raise InputError(f"{one.name} has another golden by now than it was compared with: run {one.repeat} again")
    lines = []
    date = datetime.date.today().isoformat()
    for one in chosen:
        reason = why.strip() + ("" if one.holds else " (parity with the model lost)")
        entry = Entry(f"{one.name}.json", one.kind, one.test, one.lane, reason, date, one.versions)
        store(review.folders.golden, entry, one.content)
        pending.drop(review.folders.pending, one.name)
        lines.append(f"accepted {one.name}")
    return lines


def reject(review: Review, chosen: Sequence[Pending]) -> List[str]:
    """Remove the chosen pending ones; the goldens stay, and their tests fail until the artifact is as it was."""
    for one in chosen:
        pending.drop(review.folders.pending, one.name)
    return [f"rejected {one.name}: the golden stays" for one in chosen]


def walk(review: Review, draw: Draw, ask: Callable[[str], str], say: Callable[[str], None]) -> int:
    """Show each group to a person and ask what to do with it. Returns how many goldens still wait."""
    left = 0
    found = groups(review)
    for number, group in enumerate(found):
        say(f"\n--- {number + 1} of {len(found)} ---\n\n{showing(review, group[0], draw)}\n")
        answer = _choice(group, ask)
        if answer == "quit":
            return left + sum(len(other) for other in found[number:])
        if answer == "skip":
            left += len(group)
            continue
        lines = _accepted(review, group, ask) if answer == "accept" else reject(review, group)
        say("\n".join(lines))
        left += len(group) if not lines else 0
    return left


def _choice(group: Sequence[Pending], ask: Callable[[str], str]) -> str:
    which = "it" if len(group) == 1 else f"all {len(group)}"
    verbs = {"a": "accept", "r": "reject", "s": "skip", "q": "quit"}
    while True:
        answer = ask(f"[a]ccept {which}, [r]eject {which}, [s]kip, [q]uit? ").strip().lower()
        if answer[:1] in verbs:
            return verbs[answer[:1]]


def _accepted(review: Review, group: Sequence[Pending], ask: Callable[[str], str]) -> List[str]:
    if not group[0].holds and ask("Parity with the model is lost. Type `parity lost` to accept anyway: ").strip() != (
        "parity lost"
    ):
        return []
    why = ask("Why? ").strip()
    return accept(review, group, why, True) if why else []


def commands(review: Review) -> Iterator[str]:
    """The exact commands that show and decide all pending goldens."""
    for group in groups(review):
        yield from (review.command("show", group[0].name), *decisions(review, group[0]))

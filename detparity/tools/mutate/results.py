"""The records of mutants: a file of one JSON line each, and the table at the end."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from detparity.core.errors import InputError
from detparity.core.files import write_text
from detparity.core.text import columns
from detparity.tools.mutate.judging import BROKEN, EQUIVALENT, KILLED, SURVIVED, UNDECIDED

Record = Mapping[str, Any]
OUTCOMES = (KILLED, SURVIVED, UNDECIDED, EQUIVALENT, BROKEN)
SHOWN = 20  # of the mutants that survived


class Results:
    """The records of a run, in a file that another run goes on with. about: what the run is of; the first line of the file. Raises
    InputError where the file is there and is of something else. Nothing is written before `begin`."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self.records: Dict[int, Record] = {}
        self._about = about
        if not path.exists() or not path.stat().st_size:
            return
        first, self.records = read(path)
        other = [key for key in about if first.get(key) != about[key]]
        if other:
            raise InputError(
                f"{path} has results of another {other[0]} ({first.get(other[0])}): --results names another file"
            )

    def begin(self) -> None:
        """Write what is known, and leave out the line that a run did not finish."""
        lines = [self._about, *self.records.values()]
        write_text(self.path, "".join(json.dumps(one) + "\n" for one in lines))

    def add(self, record: Record) -> None:
        self.records[int(record["mutant"])] = record
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")


def read(path: Path) -> Tuple[Record, Dict[int, Record]]:
    """What a file of results is of, and its records; a last line that is not finished is left out. Raises InputError."""
    try:
        first, *records = map(json.loads, path.read_text(encoding="utf-8").split("\n")[:-1])
        return dict(first), {int(one["mutant"]): one for one in records}
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} holds no results of `detparity mutate`: name another file with --results") from None


def survivors(records: Sequence[Record]) -> List[Record]:
    return [one for one in records if one["outcome"] in (SURVIVED, UNDECIDED, BROKEN)]


def table(records: Sequence[Record]) -> Iterator[str]:
    """What became of the mutants of each group, which checks killed them, and those that survived."""
    rows: List[Tuple[str, ...]] = [("group", "mutants", *OUTCOMES)]
    groups = list(dict.fromkeys(str(one["group"]) for one in records))
    for group in [*groups, "all"]:
        some = [one for one in records if group in (one["group"], "all")]
        count = Counter(one["outcome"] for one in some)
        rows.append((group, str(len(some)), *(str(count[outcome]) for outcome in OUTCOMES)))
    yield from columns(rows)
    yield ""
    by = Counter(str(one["by"]) for one in records if one["outcome"] == KILLED)
    yield from columns([("killed by", "mutants"), *((check, str(count)) for check, count in by.most_common())])
    left = survivors(records)
    if left:
        yield ""
        yield from map(_line, left[:SHOWN])
    if len(left) > SHOWN:
        yield f"  and {len(left) - SHOWN} more that survived"


def _line(record: Record) -> str:
    why = f" ({record['by']}: {record['message']})" if record["outcome"] == BROKEN else ""
    moved = f", which moves its numbers by {record['moved']:.1e}" if "moved" in record else ""
    return f"  {record['outcome']}: mutant {record['mutant']}, {record['kind']}: at {record['where']} {record['about']}{moved}{why}"


def score(records: Sequence[Record]) -> str:
    """The last line."""
    count = Counter(one["outcome"] for one in records)
    judged = len(records) - count[EQUIVALENT]
    share = f"{100 * count[KILLED] / judged:.1f} %" if judged else "none"
    equivalent = f", {count[EQUIVALENT]} more are equivalent" if count[EQUIVALENT] else ""
    return f"killed {count[KILLED]} of {judged} mutants ({share}){equivalent}"

"""`detparity diff`: two ONNX files read, compared as graphs, tensor by tensor, and by what they return."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from detparity.artifacts import onnx_graph as graph
from detparity.artifacts.onnx_graph import Graph, OnnxFile
from detparity.core import pickle_reader
from detparity.core.errors import InputError, clipped
from detparity.core.files import require_file, sha256
from detparity.core.findings import Row
from detparity.core.text import WIDTH, columns, number, printable
from detparity.core.version import __version__
from detparity.engines.remote import client
from detparity.tools.diff import graph_diff, weight_diff
from detparity.tools.diff.graph_summary import Read, Step, read_graph
from detparity.tools.diff.output_diff import NotCompared, Numbers, Output, compare
from detparity.tools.diff.tensor_diff import Apart, apart, happened
from detparity.tools.diff.weight_diff import Difference

SCHEMA = "detparity/diff/1"
LONGEST = 400  # characters of a line, whatever a file says
SHOWN = 12  # rows of a table on a terminal; the JSON has them all
OTHER = {
    "torchscript": "a TorchScript archive",
    "lite": "a TorchScript archive for the lite interpreter",
    "checkpoint": "a checkpoint",
    "legacy": "a checkpoint",
}


@dataclass(frozen=True)
class Side:
    """One of the two files."""

    path: Path
    sha256: str
    file: OnnxFile
    read: Read


@dataclass(frozen=True)
class Tensor:
    """A weight whose numbers differ: its title, how far, and what happened to it."""

    title: str
    apart: Apart
    what: str


@dataclass(frozen=True)
class Diff:
    """Two files compared. differences: from the facts; tensors: weights of the same shape whose numbers differ, the ones
    that moved furthest first; lead: the first operator of either that the other has not; spelled: what differs where the graphs
    are the same; numbers: None where they were not compared, for the reason `reason`."""

    sides: Tuple[Side, Side]
    differences: Tuple[Difference, ...]
    tensors: Tuple[Tensor, ...]
    lead: Tuple[str, str]
    spelled: Tuple[str, ...]
    numbers: Optional[Numbers]
    reason: str

    @property
    def same(self) -> bool:
        return not self.differences


def diff(a: Path, b: Path, run: bool = True) -> Diff:
    """Compare two ONNX files; run: what they return as well. Raises InputError, in one line, for a file that is none or makes no
    sense."""
    sides = _side(a), _side(b)
    old, new = (side.read.facts for side in sides)
    found = _differences(sides)
    if not found:
        return Diff(sides, (), (), ("", ""), _spelled(sides), None, "the graphs are the same")
    pairs, _, _ = graph_diff.paired(old["outputs"], new["outputs"])
    numbers, reason = None, ""
    try:
        if not run:
            raise NotCompared("not asked for")
        numbers = compare((a, b), (sides[0].file, sides[1].file), pairs)
    except NotCompared as problem:
        reason = str(problem)
    return Diff(sides, found, _tensors(sides), _lead(sides), (), numbers, reason)


def _side(path: Path) -> Side:
    require_file(path, "an ONNX file")
    kind = pickle_reader.kind(path)
    if kind in OTHER:
        raise InputError(f"{path} is {OTHER[kind]}; diff compares ONNX files")
    file = graph.read(path, client())
    try:
        return Side(path, sha256(path), file, read_graph(file))
    except InputError as error:
        raise InputError(f"{path}: {printable(clipped(error), LONGEST)}") from None


def _differences(sides: Tuple[Side, Side]) -> Tuple[Difference, ...]:
    """Those of the facts, and whether one file alone passes the checker, or ends onnx's process."""
    found = list(graph_diff.differences(sides[0].read.facts, sides[1].read.facts))
    rank = weight_diff.KINDS.index("versions")
    problems = [side.file.problem for side in sides]
    for name, mine, others in zip("AB", problems, reversed(problems)):
        if mine and not others:
            words = f"{name} fails the ONNX checker: {mine if len(mine) <= 200 else mine[:197] + '...'}"
            found.append(Difference("versions", words, rank, f"versions: checker {name}"))
    ends = [side.file.died for side in sides]
    for name, died, other in zip("AB", ends, reversed(ends)):
        if died and not other:
            found.append(Difference("versions", f"{name} {died}", rank, f"versions: process {name}"))
    return tuple(sorted(found, key=lambda item: item.rank))


def _tensors(sides: Tuple[Side, Side]) -> Tuple[Tensor, ...]:
    """Every pair of weights of one shape whose numbers differ, compared in full."""
    found: List[Tensor] = []
    weights = [side.read.weights for side in sides]
    owners = {weight.sha256: weight.name or weight.title for weight in reversed(weights[0])}
    for before, after in weight_diff.match(sides[0].read.facts, sides[1].read.facts).pairs:
        old, new = weights[0][before.position], weights[1][after.position]
        if old.sha256 != new.sha256 and old.value.shape == new.value.shape:
            gap = apart(old.value, new.value)
            if gap:
                other = owners.get(new.sha256)
                what = f"it is {other} of A" if other else happened(old.value, new.value, gap)
                found.append(Tensor(old.name or old.title or before.title, gap, what))
    return tuple(
        sorted(found, key=lambda item: -(float("inf") if item.apart.relative is None else item.apart.relative))
    )


def _lead(sides: Tuple[Side, Side]) -> Tuple[str, str]:
    """The first operator of either file for whose path up to the inputs the other file has no equal."""
    steps = [side.read.steps for side in sides]
    for view in (0, 1):
        had = [Counter(step.leads[view] for step in side) for side in steps]
        firsts = [_first(side, view, others) for side, others in zip(steps, reversed(had))]
        if all(firsts):
            return firsts[0], firsts[1]
    return "", ""


def _first(steps: Tuple[Step, ...], view: int, others: Counter[str]) -> str:
    left = Counter(others)
    for step in steps:
        left[step.leads[view]] -= 1
        if left[step.leads[view]] < 0:
            return step.title
    return ""


def _spelled(sides: Tuple[Side, Side]) -> Tuple[str, ...]:
    """In what two files of one graph differ; nothing where they are byte for byte the same."""
    if sides[0].sha256 == sides[1].sha256:
        return ()
    first, second = (side.file.graph for side in sides)
    ask = {
        "names of inner values": _values,
        "names of nodes": lambda graph: Counter(node.name for node in graph.walk()),
        "order of nodes": lambda graph: [
            node.full_op for node in graph.walk() if node.op not in ("Constant", "Identity")
        ],
        "storage of constants": lambda graph: sum(node.op == "Constant" for node in graph.walk()),
        "Identity nodes": lambda graph: sum(node.op == "Identity" for node in graph.walk()),
    }
    found = [name for name, what in ask.items() if what(first) != what(second)]
    if "names of inner values" in found:
        found = [name for name in found if name != "names of nodes"]
    elif _order(first) != _order(second):
        found.append("order of nodes")
    return tuple(dict.fromkeys(found)) or (
        "how it is written down (such as the producer, comments or inferred shapes)",
    )


def _values(found: Graph) -> Any:
    """The names of all values, the initializers among them."""
    return {name for node in found.walk() for name in (*node.inputs, *node.outputs)}


def _order(found: Graph) -> List[Tuple[str, ...]]:
    return [node.outputs for node in found.nodes if node.op not in ("Constant", "Identity")]


# --- telling ---------------------------------------------------------------------------------------------------------


def text(found: Diff) -> str:
    """For a terminal: one sentence, then facts in columns."""
    return "\n".join(printable(line, LONGEST) for line in _lines(found))


def _lines(found: Diff) -> List[str]:
    if found.same:
        names = [str(side.path) for side in found.sides]
        return [f"{names[0]} and {names[1]} {_sameness(found)}"]
    lines = [
        f"{heading(found)}.",
        "",
        *columns([head_of(name, side) for name, side in zip("AB", found.sides)]),
        "",
    ]
    lines += _rows([(item.kind, item.words) for item in beside_tensors(found)])
    if found.lead[0]:
        same = found.lead[0] == found.lead[1]
        lines += _rows([("first apart", found.lead[0] if same else f"A: {found.lead[0]}; B: {found.lead[1]}")])
    if found.tensors:
        lines += ["", *_tensor_table(found.tensors)]
    return [*lines, "", *_numbers(found)]


def beside_tensors(found: Diff) -> List[Difference]:
    """The differences without those that the table of tensors has."""
    values = set(weight_diff.value_changes(*(side.read.facts for side in found.sides))) if found.tensors else set()
    return [item for item in found.differences if item not in values]


def heading(found: Diff) -> str:
    """One sentence on both."""
    if found.same:
        return f"A and B {_sameness(found)}"
    kinds = [kind for kind in weight_diff.KINDS if any(item.kind == kind for item in found.differences)]
    return f"B differs from A in {_and(kinds)}"


def _sameness(found: Diff) -> str:
    return f"are the same graph; {_and(found.spelled)} differ" if found.spelled else "are the same file"


def _and(items: Any) -> str:
    items = list(items)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def head_of(name: str, side: Side) -> Row:
    size = f"{side.path.stat().st_size:,} bytes"
    opset = side.file.opsets.get("")
    return (name, str(side.path), size, f"opset {opset}", side.file.producer or "unknown producer", side.sha256[:12])


def _rows(rows: List[Tuple[str, str]]) -> List[str]:
    """A column of kinds and one of words, these wrapped under themselves; a kind is written once."""
    found: List[str] = []
    before = ""
    for kind, words in rows:
        lead = f"  {'' if kind == before else kind:<11}  "
        before = kind
        found += textwrap.wrap(
            printable(words, LONGEST),
            WIDTH,
            initial_indent=lead,
            subsequent_indent=" " * (len(lead) + 2),
            break_on_hyphens=False,
        )
    return found


def _tensor_table(tensors: Tuple[Tensor, ...]) -> List[str]:
    rows: List[Row] = [("tensor", "of its rms", "what happened")]
    for item in tensors[:SHOWN]:
        size = "-" if item.apart.relative is None else number(item.apart.relative)
        rows.append((printable(item.title, 60), size, item.what))
    lines = columns(rows)
    if len(tensors) > SHOWN:
        lines.append(f"  and {len(tensors) - SHOWN} more that changed less")
    return lines


def _numbers(found: Diff) -> List[str]:
    if found.numbers is None:
        return textwrap.wrap(f"Numbers were not compared: {found.reason}", WIDTH)
    outputs = found.numbers.outputs
    engines = " and ".join(dict.fromkeys(found.numbers.engines))
    lead = f"Run at {found.numbers.at} with {engines}"
    if outputs and all(item.same for item in outputs):
        kinds = list(dict.fromkeys(item.picture for item in outputs))
        return [f"{lead}: every output both have is the same, byte for byte, on {_and(kinds)}."]
    if not outputs:
        return [f"{lead}: no output is in both."]
    rows: List[Row] = [("output", "picture", "largest difference", "rms", "what")]
    return [f"{lead}:", "", *columns([*rows, *map(_output_row, outputs)])]


def _output_row(item: Output) -> Row:
    name = item.name[1] if item.name[0] == item.name[1] else " -> ".join(item.name)
    if item.apart is None:
        return (name, item.picture, "-", "-", item.what)
    gap = item.apart
    where = f"{item.what}, most at {list(gap.position)}: {gap.old:.7g} -> {gap.new:.7g}"
    return (name, item.picture, number(gap.largest), number(gap.rms), where)


def record(found: Diff) -> Dict[str, Any]:
    """The same as data. What is not finite is text."""
    numbers = found.numbers
    return {
        "schema": SCHEMA,
        "detparity": __version__,
        "same": found.same,
        "files": [
            {"path": str(side.path), "sha256": side.sha256, "producer": side.file.producer} for side in found.sides
        ],
        "differences": [{"kind": item.kind, "words": item.words} for item in found.differences],
        "signature": graph_diff.signature(found.differences),
        "spelled": list(found.spelled),
        "first_apart": list(found.lead) if found.lead[0] else None,
        "tensors": [{"tensor": item.title, "what": item.what, **_apart_record(item.apart)} for item in found.tensors],
        "numbers": None
        if numbers is None
        else {
            "at": numbers.at,
            "engines": list(numbers.engines),
            "outputs": [
                {
                    "names": list(item.name),
                    "picture": item.picture,
                    "what": item.what,
                    **(_apart_record(item.apart) if item.apart else {}),
                }
                for item in numbers.outputs
            ],
        },
        "not_compared": found.reason or None,
    }


def graph_record(a: Path, b: Path) -> Dict[str, Any]:
    """The differences of two graphs for the report of B, without running either. Raises InputError as `diff` does."""
    compared = diff(a, b, run=False)
    found = record(compared)
    tensors = [{key: one[key] for key in ("tensor", "what", "relative")} for one in found["tensors"]]
    rows = [{"kind": item.kind, "words": item.words} for item in beside_tensors(compared)]
    shown = {key: found[key] for key in ("same", "first_apart")}
    return {"other": str(a), **shown, "differences": rows, "tensors": tensors[:SHOWN]}


def _apart_record(gap: Apart) -> Dict[str, Any]:
    return {
        "count": gap.count,
        "largest": _finite(gap.largest),
        "rms": _finite(gap.rms),
        "relative": _finite(gap.relative),
        "place": list(gap.position),
        "values": [_finite(gap.old), _finite(gap.new)],
    }


def _finite(value: Optional[float]) -> Any:
    """JSON has no word for infinity."""
    return value if value is None or abs(value) < float("inf") else str(value)

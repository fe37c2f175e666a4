"""Layer tables in the official format, a `.yaml` file or what it holds: the other source of a `Plan`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from detparity.core.errors import InputError, clipped
from detparity.core.files import require_file
from detparity.models.yolov7.architectures import full_name, plan, require_factor
from detparity.models.yolov7.block_builders import HEADS
from detparity.models.yolov7.plan import Anchors, Plan

MAX_BYTES = 1 << 17  # the largest official one takes 12 kB
MAX_TEXT, MAX_PARTS, MAX_NESTING = 1000, 50_000, 20  # of one value; of all of them; of lists in lists
MAX_INTEGER_BITS = 63
MAX_CLASSES = 10000


def read(path: Path) -> Mapping[str, Any]:
    """Return what a `.yaml` file of a model holds. Raises InputError where it holds no mapping, and where PyYAML is missing."""
    require_file(path, "a layer table (.yaml)")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES} bytes, which no layer table is")
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        raise InputError(
            "--cfg with a file needs PyYAML, which is not installed: pip install 'detparity[cfg]'"
        ) from None
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=_loader(yaml))
    except Exception as error:  # PyYAML raises what its readers of numbers, dates and tags raise: almost anything
        raise InputError(f"{path} is not a YAML file: {type(error).__name__}: {clipped(error)}") from None
    if not isinstance(found, dict):
        raise InputError(
            f"{path} holds a {type(found).__name__} where a model (nc, anchors, backbone, head) is expected"
        )
    return found


def _loader(yaml: Any) -> Any:
    """The safe loader, without aliases, a few lines of which can unfold to more than memory holds, and without long values."""

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases are not taken")
            event = self.peek_event()
            if isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_TEXT:
                raise yaml.YAMLError(f"a value of {len(event.value)} letters is not taken")
            return super().compose_node(parent, index)

    return Loader


def named(cfg: str, width: Optional[float] = None) -> Tuple[Plan, int, str]:
    """Return plan, number of classes and title of what `--cfg` names: a `.yaml` file, or the name of an architecture.

    width: instead of its own factor. Raises InputError for what cannot be used.
    """
    if not cfg.endswith((".yaml", ".yml", ".json")):
        return plan(cfg, width), 80, full_name(cfg)
    path = Path(cfg)
    try:
        drawn, classes = plan_of(read(path), width)
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(str(path)) else f"{path}: {text}") from None
    drawn.title = path.name
    return drawn, classes, path.stem


def plan_of(table: Mapping[str, Any], width: Optional[float] = None) -> Tuple[Plan, int]:
    """Return the plan a table draws, at its own width unless another is given, and its number of classes.

    table: `nc`, `depth_multiple`, `width_multiple`, `anchors` (pixels, a flat list a level), and `backbone` and `head`, whose rows
    are [from, repeats, block, arguments]. Raises InputError, naming the layer, for what no network can hold.
    """
    try:
        _require_plain(table)
        return _drawn(table, width)
    except InputError as error:
        raise InputError(clipped(error, 400)) from None


def _require_plain(table: Any) -> None:
    """Raise InputError for a table of more parts than any, of deeper lists, and for what is neither text, number, list nor dictionary:
    so numbers are bounded before anything is computed from them."""
    pending, count = [(table, 0)], 0
    while pending:
        value, depth = pending.pop()
        count += 1
        if count > MAX_PARTS or depth > MAX_NESTING:
            raise InputError(f"the table has more than {MAX_PARTS} parts, or lists nested more than {MAX_NESTING} deep")
        if isinstance(value, Mapping):
            pending.extend((part, depth + 1) for pair in value.items() for part in pair)
        elif isinstance(value, (list, tuple)):
            pending.extend((part, depth + 1) for part in value)
        elif isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
            raise InputError(f"the table holds an integer of {value.bit_length()} bits, more than {MAX_INTEGER_BITS}")
        elif isinstance(value, str) and len(value) > MAX_TEXT:
            raise InputError(f"the table holds a text of {len(value)} letters, more than {MAX_TEXT}")
        elif value is not None and not isinstance(value, (int, float, str)):
            raise InputError(f"the table holds a {type(value).__name__}, which no layer table does")


def _drawn(table: Mapping[str, Any], width: Optional[float]) -> Tuple[Plan, int]:
    rows = [*_rows(table, "backbone"), *_rows(table, "head")]
    if not rows:
        raise InputError("the table has no layers: `backbone` and `head` are missing")
    if width is not None:
        require_factor("width", width)
    factor = _factor(table, "width_multiple") if width is None else width
    drawn = Plan(factor, _anchors(table), None, _factor(table, "depth_multiple"))
    for index, row in enumerate(rows):
        source, repeat, kind, args = _row(index, row)
        reads = _reads(index, kind, source)
        if index == len(rows) - 1:
            if kind not in HEADS:
                raise InputError(f"layer {index} ({kind}): the last layer is no head; known are {', '.join(HEADS)}")
            levels = len(drawn.anchors)
            if kind == "IAuxDetect" and len(reads) != 2 * levels:
                raise InputError(
                    f"layer {index} ({kind}): reads {len(reads)} layers, not two for each of {levels} levels"
                )
            cut = levels if kind == "IAuxDetect" else len(reads)
            drawn.detect(kind, reads[:cut], reads[cut:])
        else:
            drawn.add(kind, reads, *args, repeat=repeat)
    return drawn, _classes(table)


def _rows(table: Mapping[str, Any], part: str) -> Sequence[Any]:
    rows = table.get(part) or []
    if not isinstance(rows, list):
        raise InputError(f"`{part}` is a {type(rows).__name__} where a list of layers is expected")
    return rows


def _row(index: int, row: Any) -> Tuple[Any, Any, str, List[Any]]:
    if not isinstance(row, list) or len(row) != 4 or not isinstance(row[2], str) or not isinstance(row[3], list):
        raise InputError(f"layer {index} is {str(row)[:80]!r} where [from, repeats, block, [arguments]] is expected")
    return row[0], row[1], row[2], [_argument(value) for value in row[3]]


def _argument(value: Any) -> Any:
    """Tables write None and booleans as text, which YAML leaves as they are."""
    if isinstance(value, list):
        return tuple(_argument(item) for item in value)
    return {"None": None, "True": True, "False": False}.get(value, value) if isinstance(value, str) else value


def _reads(index: int, kind: str, source: Any) -> List[int]:
    found = []
    for j in source if isinstance(source, list) else [source]:
        if not isinstance(j, int) or isinstance(j, bool) or not -index - 1 <= j < index:
            raise InputError(f"layer {index} ({kind}): reads from {j!r}, which is no earlier layer")
        found.append(index + j + 1 if j < 0 else j + 1)
    return found


def _factor(table: Mapping[str, Any], name: str) -> float:
    value = table.get(name, 1.0)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise InputError(f"`{name}` is {value!r} where a number is expected")
    require_factor(name, value)
    return float(value)


def _anchors(table: Mapping[str, Any]) -> Anchors:
    levels = table.get("anchors")
    good = isinstance(levels, list) and all(
        isinstance(level, list)
        and len(level) % 2 == 0
        and level
        and all(isinstance(side, (int, float)) and 0 < side < 1e5 for side in level)
        for level in levels
    )
    if not good or not levels or len({len(level) for level in levels}) != 1:
        raise InputError(
            f"`anchors` is {str(levels)[:80]} where a list of widths and heights for each level is expected"
        )
    return tuple(tuple(zip(level[::2], level[1::2])) for level in levels)


def _classes(table: Mapping[str, Any]) -> int:
    count = table.get("nc", 80)
    if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= MAX_CLASSES:
        raise InputError(f"`nc` is {count!r} where a number of classes from 1 to {MAX_CLASSES} is expected")
    return count

"""`--layout`: a preset by name, or a TOML file that says what the outputs mean."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import Any, Mapping, Sequence, Tuple

from detparity.core.errors import InputError, clipped
from detparity.core.files import require_file
from detparity.core.layout import PRESETS, Field, Layout, OutputLayout, Preprocessing

MOST_BYTES = 1 << 20
UNITS = ("px", "probability", "logit", "fraction of the side", "rad", "number")
ROLES = ("box", "score", "class", "other")
BOXES = ("", "cxcywh", "xyxy", "xywh")


def layout_of(text: str) -> Layout:
    """The layout of this name or file. Raises InputError, in one line with the file and the key, for what is neither."""
    if text in PRESETS:
        return PRESETS[text]
    if not text.endswith(".toml"):
        raise InputError(f"--layout {text} is neither a file (.toml) nor one of {', '.join(PRESETS)}")
    path = Path(text)
    require_file(path, "a layout")
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path} is larger than {MOST_BYTES >> 20} MiB, so it is no layout")
    toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        content = toml.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no TOML: {clipped(error)}") from None
    try:
        return _layout(path.stem, content)
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: {clipped(error)}") from None


def _layout(name: str, content: Mapping[str, Any]) -> Layout:
    _only(content, ("output", "box", "selected", "after", "preprocessing"), "the file")
    outputs = content.get("output")
    if not isinstance(outputs, list) or not outputs:
        raise ValueError("it needs a table [[output]] for each output")
    box = _choice(content.get("box", ""), BOXES, "box")
    given = content.get("preprocessing", {})
    _only(given, ("scale", "mean", "std", "resize"), "[preprocessing]")
    preprocessing = Preprocessing(
        _scale(given.get("scale", 1.0)),
        _three(given.get("mean", ()), "mean"),
        _three(given.get("std", ()), "std"),
        _choice(given.get("resize", "letterbox"), ("letterbox", "stretch"), "resize"),
    )
    if bool(preprocessing.mean) != bool(preprocessing.std):
        raise ValueError("[preprocessing] needs mean and std, or neither")
    if 0.0 in preprocessing.std:
        raise ValueError("std divides, so none of its numbers is 0")
    selected = content.get("selected", False)
    if not isinstance(selected, bool):
        raise ValueError("selected is true or false")
    after = content.get("after", "")
    if not isinstance(after, str):
        raise ValueError("after is text: what follows outside the file")
    return Layout(
        name,
        tuple(_output(one, number) for number, one in enumerate(outputs, 1)),
        box,
        selected,
        after,
        preprocessing,
        "given",
    )


def _output(content: Mapping[str, Any], number: int) -> OutputLayout:
    label = f"[[output]] {number}"
    _only(content, ("axis", "batched", "field"), label)
    axis, fields, batched = content.get("axis", -1), content.get("field", []), content.get("batched", True)
    if not isinstance(batched, bool):
        raise ValueError(f"batched of {label} is true or false")
    if not _whole(axis) or not -1 <= axis <= 4 or (batched and axis == 0):
        raise ValueError(
            f"axis of {label} is a number from 1 to 4 (from 0 where there is no batch), or -1 for the last"
        )
    if not isinstance(fields, list):
        raise ValueError(f"{label} needs tables [[output.field]]")
    found = tuple(_field(one, label) for one in fields)
    names = [one.name for one in found]
    if len(set(names)) < len(names):
        raise ValueError(f"two fields of {label} have one name")
    return OutputLayout(found, axis, batched)


def _field(content: Mapping[str, Any], label: str) -> Field:
    _only(content, ("name", "start", "stop", "unit", "role", "each"), f"a field of {label}")
    start: Any = content.get("start")
    name, stop, each = (content.get(key) for key in ("name", "stop", "each"))
    if not isinstance(name, str):
        raise ValueError(f"a field of {label} needs a name")
    if not _whole(start) or not (stop is None or _whole(stop)):
        raise ValueError(f"start and stop of a field of {label} are column numbers")
    if stop is not None and (start < 0) == (stop < 0) and stop <= start:
        raise ValueError(f"a field of {label} stops at column {stop}, before it starts")
    if each not in (None, True, False) or _whole(each):
        raise ValueError(f"each of a field of {label} is true or false")
    unit = _choice(content.get("unit", "number"), UNITS, "unit")
    return Field(name, start, stop, unit, _choice(content.get("role", "other"), ROLES, "role"), bool(each))


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _scale(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError("scale is a number over 0")
    return float(value)


def _only(content: Any, known: Sequence[str], label: str) -> None:
    if not isinstance(content, Mapping):
        raise ValueError(f"{label} is a table")
    unknown = [key for key in content if key not in known]
    if unknown:
        raise ValueError(f"{label} has {unknown[0]!r}; known are {', '.join(known)}")


def _choice(value: Any, known: Sequence[str], key: str) -> str:
    if value not in known:
        raise ValueError(f"{key} is one of {', '.join(repr(one) for one in known)}")
    return str(value)


def _three(values: Any, key: str) -> Tuple[float, ...]:
    numbers = isinstance(values, (list, tuple)) and all(isinstance(one, (int, float)) for one in values)
    if not numbers or len(values) not in (0, 3) or not all(map(math.isfinite, values)):
        raise ValueError(f"{key} is three numbers")
    return tuple(map(float, values))

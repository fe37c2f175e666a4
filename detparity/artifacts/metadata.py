"""Metadata values as exporters write them."""

from __future__ import annotations

import ast
import json
from typing import Any, Dict, Mapping, Optional, Tuple

from detparity.core.vocabulary import Size

LARGEST_SIDE = 8192  # pixels: what a file may say its images measure, and still be run


def parse(text: str) -> Any:
    """A metadata value: JSON, or a Python literal as other exporters write; else the text itself."""
    for reader in (json.loads, ast.literal_eval):
        try:
            return reader(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    return text


def class_names(value: Any) -> Tuple[str, ...]:
    """The names of classes 0, 1, ... from a list, or from a dictionary by class number: 0 to 79, or "0" to "79".

    Raises ValueError, with a clause about what holds the names, where they are neither, or where a number is missing or occurs twice.
    """
    if isinstance(value, (list, tuple)):
        return tuple(str(name) for name in value)
    if not isinstance(value, Mapping):
        raise ValueError(
            "names no classes" if value is None else "holds class names that are neither a list nor a dictionary"
        )
    found: Dict[int, str] = {}
    for key, name in value.items():
        number = _class_number(key)
        if number in found:
            raise ValueError(f"has two names for class {number}")
        found[number] = str(name)
    missing = next((number for number in range(len(found)) if number not in found), None)
    if missing is not None:
        raise ValueError(
            f"numbers its {len(found)} class names {min(found)} to {max(found)}, without {missing}, "
            f"where 0 to {len(found) - 1} are expected"
        )
    return tuple(found[number] for number in range(len(found)))


def _class_number(key: Any) -> int:
    if isinstance(key, int) and not isinstance(key, bool):
        return int(key)
    if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 7:
        return int(key)
    raise ValueError(f"has a class name under {str(key)[:40]!r}, which is no class number")


def image_size(metadata: Mapping[str, str]) -> Optional[Size]:
    """The image size a file's metadata names (`imgsz`: one number, or height and width in pixels), None where it names none."""
    value: Any = parse(metadata["imgsz"]) if "imgsz" in metadata else None
    if isinstance(value, int):
        value = [value, value]
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(v, int) and v > 0 for v in value):
        return int(value[0]), int(value[1])
    return None


def script_metadata(text: str) -> Mapping[str, str]:
    """The extra file of a TorchScript archive as a mapping; empty where there is none or it is no JSON object."""
    value = parse(text) if text else {}
    return {str(key): str(item) for key, item in value.items()} if isinstance(value, dict) else {}

"""Metadata values as exporters write them."""

from __future__ import annotations

import ast
import json
from typing import Any, Mapping, Optional

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

"""Names, stride and image size that travel with the file: missing is imprecise, wrong is a defect."""

from __future__ import annotations

import ast
import json
from typing import Any, Iterator, List, Mapping, Optional, Tuple

from detparity.contract import MUST, SHOULD, Contract
from detparity.failures import listed
from detparity.findings import Check, Finding, Row
from detparity.subject import Size
from detparity.trial import Trial

KEYS = ("names", "stride", "imgsz")
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


def _names(value: Any) -> List[str]:
    if isinstance(value, dict):
        return [str(value[key]) for key in sorted(value, key=lambda key: int(key))]
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else []


def judge(metadata: Mapping[str, str], contract: Contract) -> Iterator[Finding]:
    facts = contract.facts
    missing = [key for key in KEYS if key not in metadata]
    if missing:
        yield Finding(
            f"carries no metadata {listed(missing)}.",
            notes=("A consumer then has to guess class names, stride or image size.",),
            evidence={"missing": missing},
            level=SHOULD,
        )
    rows: List[Row] = [("key", "model", "file")]
    if "names" in metadata:
        rows += _names_rows(_try_names(metadata["names"]), facts.names)
    if "stride" in metadata and parse(metadata["stride"]) not in (facts.max_stride, list(facts.strides)):
        rows.append(("stride", str(facts.max_stride), metadata["stride"][:40]))
    if "imgsz" in metadata and not contract.variant.dynamic_size:
        size = parse(metadata["imgsz"])
        pair = [size, size] if isinstance(size, int) else list(size) if isinstance(size, (list, tuple)) else size
        if pair != list(contract.size):
            rows.append(("imgsz", str(list(contract.size)), metadata["imgsz"][:40]))
    if len(rows) > 1:
        yield Finding(
            "carries metadata that is not true of the model.",
            tuple(rows),
            headed=True,
            evidence={"keys": [r[0] for r in rows[1:]]},
        )


def _try_names(text: str) -> List[str]:
    try:
        return _names(parse(text))
    except (ValueError, TypeError):
        return []


def _names_rows(found: List[str], names: Tuple[str, ...]) -> List[Row]:
    if len(found) != len(names):
        return [("names", f"{len(names)} classes", f"{len(found)} classes")]
    wrong = [(f"names[{k}]", names[k], found[k]) for k in range(len(names)) if names[k] != found[k]]
    return list(wrong[:6])


def onnx_metadata(trial: Trial) -> Iterator[Finding]:
    yield from judge(trial.onnx.metadata, trial.contract)


def ts_metadata(trial: Trial) -> Iterator[Finding]:
    yield from judge(script_metadata(trial.script.metadata), trial.contract)


CHECKS: Tuple[Check, ...] = (
    Check(
        "structure.metadata",
        MUST,
        "Names, stride and image size, where present, are the model's.",
        onnx_metadata,
        lambda contract: contract.variant.onnx,
    ),
    Check(
        "script.metadata",
        MUST,
        "Names, stride and image size, where present, are the model's.",
        ts_metadata,
        lambda contract: not contract.variant.onnx,
    ),
)

"""Names, stride, image size and the numbers of a suppression that travel with the file: missing is imprecise, wrong is a defect."""

from __future__ import annotations

from typing import Iterator, List, Mapping, Tuple

from detparity.artifacts.metadata import class_names, parse, script_metadata
from detparity.checks.context import Context
from detparity.core.contract import MUST, SHOULD, Contract
from detparity.core.findings import Check, Finding, Row
from detparity.core.text import listed

KEYS = ("names", "stride", "imgsz")


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
        rows += _names_rows(metadata["names"], facts.names)
    if "stride" in metadata and parse(metadata["stride"]) not in (facts.max_stride, list(facts.strides)):
        rows.append(("stride", str(facts.max_stride), metadata["stride"][:40]))
    if "imgsz" in metadata and not contract.variant.dynamic_size:
        size = parse(metadata["imgsz"])
        pair = [size, size] if isinstance(size, int) else list(size) if isinstance(size, (list, tuple)) else size
        if pair != list(contract.size):
            rows.append(("imgsz", str(list(contract.size)), metadata["imgsz"][:40]))
    rows += _suppression_rows(metadata.get("detparity.nms", "{}"), contract)
    if len(rows) > 1:
        yield Finding(
            "carries metadata that is not true of the model.",
            tuple(rows),
            headed=True,
            evidence={"keys": [r[0] for r in rows[1:]]},
        )


def _names_rows(text: str, names: Tuple[str, ...]) -> List[Row]:
    try:
        found = class_names(parse(text))
    except ValueError as error:
        return [("names", f"{len(names)} classes", f"it {error}")]
    if len(found) != len(names):
        return [("names", f"{len(names)} classes", f"{len(found)} classes")]
    wrong = [(f"names[{k}]", names[k], found[k]) for k in range(len(names)) if names[k] != found[k]]
    return list(wrong[:6])


def _suppression_rows(text: str, contract: Contract) -> List[Row]:
    """Numbers of a suppression that are not those promised otherwise than by this entry."""
    stored, promise = parse(text), contract.nms
    if promise is None or not isinstance(stored, dict):
        return []
    promised = {
        "iou-thres": promise.iou_threshold,
        "conf-thres": promise.score_threshold,
        "topk-all": promise.cap,
        "max-wh": promise.max_wh,
    }
    pairs = [(key, value, stored[key]) for key, value in promised.items() if key in stored and value is not None]
    return [(key, f"{value:g}", str(found)[:40]) for key, value, found in pairs if found != value]


def onnx_metadata(context: Context) -> Iterator[Finding]:
    yield from judge(context.onnx.metadata, context.contract)


def ts_metadata(context: Context) -> Iterator[Finding]:
    yield from judge(script_metadata(context.script.metadata), context.contract)


CHECKS: Tuple[Check, ...] = (
    Check(
        "structure.metadata",
        MUST,
        "Names, stride, image size and suppression, where present, are the model's.",
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

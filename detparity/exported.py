"""Exports made once per model, variant and options, and shared by every test and worker that sees the folder."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from detparity import facts, kit
from detparity.contract import NmsPromise, contract_for, largest_size
from detparity.errors import InputError
from detparity.files import write_bytes
from detparity.oracle import offset
from detparity.subject import ModelFacts, Size, Variant, parse_variant

BUNDLED_SIZE = (256, 320)  # not square, so that swapped axes show
SUFFIX = {
    "onnx": ".onnx",
    "onnx-dynamo": ".onnx",
    "traced": ".torchscript.pt",
    "scripted": ".torchscript.pt",
    "lite": ".ptl",
}


class NotMade(Exception):
    """An exporter made no file. missing: the version has no such exporter, which is no failure of the one it has."""

    def __init__(self, reason: str, missing: bool) -> None:
        super().__init__(reason)
        self.missing = missing


def promised(name: str) -> str:
    """The name of the variant that the exporter called `name` makes: `name` itself, save where there are two ways to one."""
    return str(getattr(kit.exporters().registry()[name], "PROMISE", name))


def missing(name: str) -> Optional[str]:
    """Why the exporter called `name` does not exist in this environment, or None where it does."""
    ask = getattr(kit.exporters().registry()[name], "unavailable", None)
    return ask() if ask else None


def safe_nms(facts: ModelFacts, variant: Variant, size: Size, asked: Optional[NmsPromise] = None) -> NmsPromise:
    """What `variant` may promise of its suppression: `asked` (default: the official script's numbers), its class offset raised
    to the smallest at which no two classes of this head can meet. 0 stays: class-agnostic on purpose.

    Raises InputError where float32 holds no such offset.
    """
    promise = asked or NmsPromise(max_wh=1.0)
    if variant.head != "end2end-ort" or not promise.max_wh:
        return promise
    size = largest_size(contract_for(variant, facts, size))
    head = offset.HeadRange(facts.anchors, facts.strides, size, facts.classes)
    if offset.judge(head, promise.max_wh, promise.iou_threshold) is None:
        return promise
    safe = offset.smallest_safe(head, promise.iou_threshold)
    if safe is None or promise.max_wh > safe:
        raise InputError(f"no class offset keeps {facts.classes} classes apart at {size[0]}x{size[1]} in float32")
    return replace(promise, max_wh=float(safe))


def export_bytes(
    detector: Any,
    variant: Variant,
    size: Size,
    batch: int = 1,
    simplify: Optional[str] = None,
    nms: Optional[NmsPromise] = None,
    opset: Optional[int] = None,
    exporter: Optional[str] = None,
) -> bytes:
    """Run the exporter that makes `variant`, or the one called `exporter`. Whatever it raises passes through."""
    exporters = kit.exporters()
    options = exporters.ExportOptions(size, batch, simplify, safe_nms(detector.facts, variant, size, nms), opset)
    return bytes(exporters.registry()[exporter or variant.name].export(detector, variant, options))


def exported(
    detector: Any,
    name: str,
    size: Size,
    folder: Path,
    head: str = "grid",
    batch: int = 1,
    simplify: Optional[str] = None,
    nms: Optional[NmsPromise] = None,
    opset: Optional[int] = None,
) -> Path:
    """Return the path in `folder` of what the exporter called `name` makes, making it if it is not there. Two workers may make it
    at once: the file is renamed into place whole, so either one's is the same file."""
    variant = parse_variant(promised(name), head)
    versions = sorted(facts.environment().items())
    key = hashlib.sha256(
        repr((detector.facts.digest, variant, size, batch, simplify, nms, opset, versions)).encode()
    ).hexdigest()
    path = folder / f"{name}-{key[:16]}{SUFFIX[variant.form]}"
    if not path.exists():
        write_bytes(path, export_bytes(detector, variant, size, batch, simplify, nms, opset, name))
    return path


def attempt(detector: Any, name: str, size: Size, folder: Path, **options: Any) -> Path:
    """`exported`, with whatever keeps the exporter from making the file raised as NotMade."""
    reason = missing(name)
    if reason:
        raise NotMade(reason, missing=True)
    try:
        return exported(detector, name, size, folder, **options)
    except Exception as error:  # an exporter may raise anything
        raise NotMade(f"{type(error).__name__}: {' '.join(str(error).split())[:600]}", missing=False) from error

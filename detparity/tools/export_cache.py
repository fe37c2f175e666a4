"""Exports made once per model, variant and options, and shared by every test and worker that sees the folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

import detparity.kit.exporters as exporters
from detparity.core import environment as facts
from detparity.core import resources
from detparity.core.contract import NmsPromise, contract_for, largest_size
from detparity.core.errors import InputError, NotMade
from detparity.core.files import write_bytes
from detparity.core.vocabulary import ModelFacts, Size, Variant, parse_variant
from detparity.models.choice import BUNDLED_SIZE
from detparity.oracle import class_offset

SUFFIX = {
    "onnx": ".onnx",
    "onnx-dynamo": ".onnx",
    "traced": ".torchscript.pt",
    "scripted": ".torchscript.pt",
    "lite": ".ptl",
}


def promised(name: str) -> str:
    """The name of the variant that the exporter called `name` makes: `name` itself, except where two exporters make one variant."""
    return str(_by_name(name, "PROMISE") or name)


def precision(name: str) -> Optional[str]:
    """The precision that the exporter called `name` promises, None for float32, of which nothing is promised."""
    return _by_name(name, "PRECISION")


def _by_name(name: str, mapping: str) -> Optional[str]:
    stated: Mapping[str, str] = getattr(exporters.registry()[name], mapping, {})
    return stated.get(name)


def missing(name: str) -> Optional[str]:
    """Why the exporter called `name` does not exist in this environment, or None where it does."""
    ask = getattr(exporters.registry()[name], "unavailable", None)
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
    head = class_offset.HeadRange(facts.anchors, facts.strides, size, facts.classes)
    if class_offset.judge(head, promise.max_wh, promise.iou_threshold) is None:
        return promise
    safe = class_offset.smallest_safe(head, promise.iou_threshold)
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
    half: bool = False,
) -> bytes:
    """Run the exporter that makes `variant`, or the one called `exporter`. Its exceptions pass through."""
    options = exporters.ExportOptions(size, batch, simplify, safe_nms(detector.facts, variant, size, nms), opset, half)
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
    at once: a complete file is renamed to its path, so either one's is the same file."""
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
    """`exported`, with any exception of the exporter raised as NotMade."""
    reason = missing(name)
    if reason:
        raise NotMade(reason, missing=True)
    try:
        return exported(detector, name, size, folder, **options)
    except Exception as error:  # an exporter may raise anything
        raise NotMade(f"{type(error).__name__}: {' '.join(str(error).split())[:600]}", missing=False) from error


@dataclass(frozen=True)
class KitExports:
    """The own exporters, for a run that judges what they make of the model at the bundled detector's size. folder: where files go."""

    folder: Optional[Path] = None

    @property
    def known_failures(self) -> Path:
        return resources.root() / "exporters" / "expectations.toml"

    def names(self) -> Sequence[str]:
        return list(exporters.registry())

    def promised(self, name: str) -> str:
        return promised(name)

    def precision(self, name: str) -> Optional[str]:
        return precision(name)

    def missing(self, name: str) -> Optional[str]:
        return missing(name)

    def make(self, detector: Any, name: str) -> Path:
        assert self.folder is not None
        return attempt(detector, name, BUNDLED_SIZE, self.folder)

"""Exports made once per model, variant and options, and shared by every test and worker that sees the folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Optional

from detparity import facts, kit
from detparity.files import write_bytes
from detparity.subject import Size, Variant, parse_variant

SUFFIX = {"onnx": ".onnx", "traced": ".torchscript.pt", "scripted": ".torchscript.pt", "lite": ".ptl"}


def export_bytes(detector: Any, variant: Variant, size: Size, batch: int = 1, simplify: Optional[str] = None) -> bytes:
    """Run the exporter that makes `variant`. Whatever it raises passes through."""
    exporters = kit.exporters()
    options = exporters.ExportOptions(size, batch, simplify)
    return bytes(exporters.registry()[variant.name].export(detector, variant, options))


def exported(
    detector: Any,
    name: str,
    size: Size,
    folder: Path,
    head: str = "grid",
    batch: int = 1,
    simplify: Optional[str] = None,
) -> Path:
    """Return the path of this export in `folder`, making it if it is not there. Two workers may make it at once: the
    file is renamed into place whole, so either one's is the same file."""
    variant = parse_variant(name, head)
    versions = sorted(facts.environment().items())
    key = hashlib.sha256(repr((detector.facts.digest, variant, size, batch, simplify, versions)).encode()).hexdigest()
    path = folder / f"{name}-{key[:16]}{SUFFIX[variant.form]}"
    if not path.exists():
        content = export_bytes(detector, variant, size, batch, simplify)
        write_bytes(path, content)
    return path

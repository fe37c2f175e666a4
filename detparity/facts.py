"""Versions, platform and providers: the facts every report and every known debt is keyed by."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Dict

PACKAGES = ("torch", "onnx", "onnxruntime", "numpy", "pytest", "hypothesis", "onnxsim", "onnxslim")


def environment() -> Dict[str, str]:
    """Versions by name; a package that is not installed is left out."""
    found = {
        "python": ".".join(map(str, sys.version_info[:3])),
        "platform": platform.platform(terse=True),
        "machine": platform.machine(),
    }
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found

"""The allocator of the C library, set so that it reuses what is freed.

glibc returns every large block to the system as it is freed, and takes it back zeroed, page by page, for the next layer's output: a
sixth of the time of a verdict on yolov7 at 640x640 (docs/performance.md). A process that runs a model many times reuses them.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any, Optional

# Parameters of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
NEVER = -1
LARGEST = 1 << 26  # bytes


def reuse_freed_memory() -> bool:
    """Have this process reuse blocks of up to `LARGEST` bytes that it has freed; whether its C library can. Larger ones are few, and
    would leave gaps that nothing fits into. What is freed is the system's again when the process ends, or by `return_freed_memory`."""
    mallopt = _of_glibc("mallopt")
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, LARGEST)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))


def return_freed_memory() -> bool:
    """Return to the system what is freed until now: once a model is loaded its copies leave gaps that no layer's output fits into,
    and each run of a large image leaves others than the one before."""
    trim = _of_glibc("malloc_trim")
    return trim is not None and bool(trim(0))


def _of_glibc(name: str) -> Optional[Any]:
    """A function that glibc alone has."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None

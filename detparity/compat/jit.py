"""Tracing without the deprecation notices.

Needed by: torch 2.13 and later, where torch.jit.trace and torch.jit.load warn that they are deprecated.
Breaks without it: runs with warnings as errors (DeprecationWarning in 2.13, FutureWarning in 2.15).
May go when: TorchScript is no longer exported to.
"""

from __future__ import annotations

import warnings
from typing import Dict

import torch


def trace(module: torch.nn.Module, example: torch.Tensor) -> torch.jit.ScriptModule:
    """Trace `module` on one example; the trace is checked by the suite, not by torch."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.jit.trace(module, example, check_trace=False)


def load(path: str, extra_files: Dict[str, str]) -> torch.jit.ScriptModule:
    """Load an archive on the CPU, filling the values of `extra_files` in place."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(path, map_location="cpu", _extra_files=extra_files)

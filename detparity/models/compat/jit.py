"""Tracing, scripting, freezing, saving and loading TorchScript, in full or for the lite interpreter, without the notices that it is
deprecated."""

from __future__ import annotations

import importlib
import io
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Callable, Dict, Iterator, Union

import torch

from detparity.models.compat.shims import Need, Shim, bare

SHIM = Shim(
    needs=(
        Need({"torch": "<1.8"}, r"RuntimeError: Freezing is currently only implemented for modules in eval mode"),
        Need({"torch": ">=2.10,<2.15"}, r"DeprecationWarning: `torch\.jit\.script` is (deprecated|not supported)"),
        Need({"torch": ">=2.15"}, r"FutureWarning: `torch\.jit\.script` is (deprecated|not supported)"),
    ),
    without="a run with warnings as errors ends at the first trace, script, save or load from torch 2.10 on; up to 1.7 a trace says "
    "it is in training, whatever its module is, and cannot be frozen",
    until="TorchScript is no longer exported to",
)


@contextmanager
def _quiet() -> Iterator[None]:
    if bare("jit"):
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def trace(module: torch.nn.Module, example: torch.Tensor) -> torch.jit.ScriptModule:
    """Trace `module` on one example; the trace is checked by the suite, not by torch."""
    with _quiet(), torch.no_grad():
        return torch.jit.trace(module, example, check_trace=False)


def script(module: torch.nn.Module) -> torch.jit.ScriptModule:
    """Compile `module`."""
    with _quiet():
        return torch.jit.script(module)


def freeze(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """Fold attributes and submodules of a module in evaluation into its graph."""
    if not bare("jit"):
        module = reloaded(module).eval()  # the archive keeps the mode that a trace in memory misstates
    with _quiet():
        return torch.jit.freeze(module)


def for_inference(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """Freeze a module and rewrite it for speed. Up to torch 1.9 there is nothing beyond freezing."""
    frozen = freeze(module.eval())
    if not hasattr(torch.jit, "optimize_for_inference"):
        return frozen
    with _quiet():
        return torch.jit.optimize_for_inference(frozen)


def save(module: torch.jit.ScriptModule, target: Union[str, IO[bytes]], extra_files: Dict[str, str]) -> None:
    """Write an archive with these extra files."""
    with _quiet():
        torch.jit.save(module, target, _extra_files=extra_files)


def load(source: Union[str, IO[bytes]], extra_files: Dict[str, str]) -> torch.jit.ScriptModule:
    """Load an archive on the CPU, filling the values of `extra_files` in place. torchvision is imported where its operators are asked
    for: it registers them."""
    with _quiet():
        try:
            return torch.jit.load(source, map_location="cpu", _extra_files=extra_files)
        except RuntimeError as error:
            if "torchvision::" not in str(error) or "torchvision" in sys.modules:
                raise
        try:
            importlib.import_module("torchvision")
        except ImportError:
            raise RuntimeError("it has operators of torchvision, which is not installed") from None
        if not isinstance(source, str):
            source.seek(0)
        return torch.jit.load(source, map_location="cpu", _extra_files=extra_files)


@contextmanager
def compiling(allowed: bool) -> Iterator[None]:
    """Whether what is run inside may be compiled for the shapes that it is given. Where torch fuses on the CPU (1.12, 1.13), it does
    so at the second run of each new shape, which takes seconds; elsewhere nothing is changed."""
    if allowed or not getattr(torch._C, "_jit_can_fuse_on_cpu", bool)():
        yield
        return
    with torch.jit.optimized_execution(False):
        yield


def reloaded(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """Return what another process would have: `module` from nothing but the bytes of its archive."""
    archive = io.BytesIO()
    save(module, archive, {})
    archive.seek(0)
    return load(archive, {})


def lite(module: torch.jit.ScriptModule, extra_files: Dict[str, str]) -> bytes:
    """The bytes of the archive the lite interpreter runs, with these extra files."""
    with _quiet(), TemporaryDirectory() as folder:
        path = Path(folder) / "module.ptl"
        module._save_for_lite_interpreter(str(path), _extra_files=extra_files)
        return path.read_bytes()


def load_lite(path: str) -> Callable[[torch.Tensor], Any]:
    """Load a lite archive on the CPU."""
    with _quiet():
        from torch.jit.mobile import _load_for_lite_interpreter

        return _load_for_lite_interpreter(path, map_location="cpu")


def for_mobile(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """Fold the module and pack its convolutions for XNNPACK. Raises RuntimeError in builds without it, torch's from 2.13 on."""
    with _quiet():
        from torch.utils.mobile_optimizer import optimize_for_mobile

        return optimize_for_mobile(module)


def probe() -> None:
    example = torch.zeros(1, 3)
    for make in (script, lambda module: trace(module, example)):
        reloaded(make(torch.nn.ReLU()))(example)
    freeze(trace(torch.nn.ReLU().eval(), example))

"""Engines: what runs a file. One module each, one protocol, found by name in this registry.

An engine is a module with

    prepare(source, how=Load()) -> Runner     load a path or, for ONNX, the bytes of a model; `how` is a `Load`

that raises `EngineError`, with the engine's own reason in one line, where the file does not load or a call does not run. One that
reads TorchScript has `read(path) -> ScriptFile` as well, one with files of its own `read(path) -> RuntimeFile`. To add one, write the
module and name it in `ENGINES`. `kserve` prepares a model that a server runs, by its address in place of a file.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Mapping, Tuple

from detparity.core.errors import InputError
from detparity.core.runtimes import CALLED, runtime_files

PLUGIN = "onnx with EfficientNMS_TRT"
KSERVE = "kserve"


@dataclass(frozen=True)
class Engine:
    """runs: the kinds of file it can judge: the kind of an artifact, or `PLUGIN`; the first engine of `ENGINES` that runs a kind
    judges it, the others are asked for by name: one with no kinds gives a truth, never a verdict on itself. package: what it
    imports, where that is an extra, which has the engine's name."""

    name: str
    runs: Tuple[str, ...]
    package: str = ""

    @property
    def missing(self) -> str:
        """What to install, as a sentence, where its package is not there; else empty."""
        if not self.package or importlib.util.find_spec(self.package) is not None:
            return ""
        return f"the engine {self.name} is not installed: pip install 'detparity[{self.name}]'"

    def module(self) -> Any:
        """The engine's module, imported when first asked for. Raises ImportError where its runtime is not installed."""
        return importlib.import_module(f"{__name__}.{self.name}")


ENGINES: Mapping[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine("onnxruntime", ("onnx",)),
        Engine("efficient_nms", (PLUGIN,)),
        Engine("torchscript", ("torchscript",)),
        Engine("torchscript_steps", ()),
        Engine("torchscript_part", ()),
        Engine("lite", ("lite",)),
        Engine("onnx_reference", ("onnx",)),
        Engine("onnx_exact", ()),
        Engine("tensorrt", ("onnx", PLUGIN), "tensorrt"),
        Engine("openvino", ("openvino", "onnx"), "openvino"),
        Engine("ncnn", ("ncnn",), "ncnn"),
        Engine("litert", ("litert",), "ai_edge_litert"),
        Engine("executorch", ("executorch",), "executorch"),
        Engine("mnn", ("mnn",), "MNN"),
        Engine(KSERVE, ()),
    )
}
ASKED = (
    "onnxruntime",
    "openvino",
    "tensorrt",
    "ncnn",
    "litert",
    "executorch",
    "mnn",
)  # that a user may ask for by name


def judging(kind: str) -> Engine:
    """The engine that judges files of this kind."""
    return next(engine for engine in ENGINES.values() if kind in engine.runs)


def require_runtime(path: Path) -> None:
    """Raise InputError for a runtime's own file whose engine is not installed."""
    found = runtime_files(path)
    missing = ENGINES[found.runtime].missing if found is not None else ""
    if found is not None and missing:
        raise InputError(f"{path} is {CALLED[found.runtime]}, and {missing}")


def others(kind: str) -> List[str]:
    """Names of the engines that a user may ask for in place of the one that judges files of this kind."""
    own = judging(kind).name
    return [name for name in ASKED if kind in ENGINES[name].runs and name != own]


def module(name: str) -> Any:
    """The module of the engine called `name`. Raises ImportError where its runtime is not installed."""
    return ENGINES[name].module()

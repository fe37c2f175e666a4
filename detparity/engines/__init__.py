"""Engines: what runs a file. One module each, one protocol, found by name in this registry.

An engine is a module with

    prepare(source, how=Load()) -> Runner     load a path or, for ONNX, the bytes of a model; `how` is a `Load`

that raises `EngineError`, with the engine's own reason in one line, where the file does not load or a call does not run. One that
reads TorchScript has `read(path) -> ScriptFile` as well. To add one, write the module and name it in `ENGINES`. `kserve` prepares a
model that a server runs, by its address in place of a file.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Mapping, Tuple

PLUGIN = "onnx with EfficientNMS_TRT"
KSERVE = "kserve"


@dataclass(frozen=True)
class Engine:
    """runs: the kinds of file it can judge: the kind of an artifact, or `PLUGIN`; the first engine of `ENGINES` that runs a kind
    judges it, the others are asked for by name: one with no kinds gives a truth, never a verdict on itself."""

    name: str
    runs: Tuple[str, ...]

    def module(self) -> Any:
        """The engine's module, imported when first asked for. Raises ImportError where its runtime is not installed."""
        return importlib.import_module(f"{__name__}.{self.name}")


ENGINES: Mapping[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine("onnxruntime", ("onnx",)),
        Engine("efficient_nms", (PLUGIN,)),
        Engine("torchscript", ("torchscript",)),
        Engine("lite", ("lite",)),
        Engine("onnx_reference", ("onnx",)),
        Engine("onnx_exact", ()),
        Engine("tensorrt", ("onnx", PLUGIN)),
        Engine(KSERVE, ()),
    )
}


def judging(kind: str) -> Engine:
    """The engine that judges files of this kind."""
    return next(engine for engine in ENGINES.values() if kind in engine.runs)


def module(name: str) -> Any:
    """The module of the engine called `name`. Raises ImportError where its runtime is not installed."""
    return ENGINES[name].module()

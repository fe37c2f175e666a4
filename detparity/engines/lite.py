"""Lite archives in the lite interpreter, the one phones run, and their bytecode as the facts checks of TorchScript ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Union

from detparity.artifacts import lite_bytecode
from detparity.artifacts.torchscript_facts import METADATA_FILE, ScriptFile
from detparity.core.errors import EngineError
from detparity.core.vocabulary import Load, Runner
from detparity.engines import torchscript
from detparity.models.compat import jit

PACKED = "prepacked::"


def read(path: str) -> ScriptFile:
    """Read a lite archive. It has no graph: devices, constants and source lines stay empty, and no check asks for them.
    Raises EngineError where its bytecode cannot be read."""
    found = lite_bytecode.read(path, METADATA_FILE)
    return ScriptFile(
        ops=found.ops,
        devices=(),
        constants=(),
        slopes=found.slopes,
        training_ops=(),
        state=found.state,
        training=found.training,
        metadata=found.metadata,
    )


def prepare(source: Union[str, Path], how: Load = Load()) -> Runner:
    """Load an archive for running. Raises EngineError if it does not load, or on running."""
    found = lite_bytecode.read(str(source), METADATA_FILE)
    try:
        module = jit.load_lite(str(source))
    except Exception as error:  # torch raises RuntimeError, ValueError or its own types by version
        packed = any(name.startswith(PACKED) for name in found.ops)
        why = "it is optimised for mobile, which takes a torch built with XNNPACK: " if packed else ""
        raise EngineError(why + " ".join(str(error).split())[:300]) from None
    return torchscript.runner("lite", module, how, bytecode=str(found.version))

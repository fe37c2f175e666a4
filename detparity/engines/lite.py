"""Lite archives in the lite interpreter, the one phones run, and their bytecode as the facts checks of TorchScript ask for."""

from __future__ import annotations

from detparity import bytecode
from detparity.compat import jit
from detparity.engines import torchscript
from detparity.engines.torchscript import METADATA_FILE, ScriptFile
from detparity.subject import EngineError, Runner

PACKED = "prepacked::"


def read(path: str) -> ScriptFile:
    """Read a lite archive. It has no graph: devices, constants and source lines stay empty, and no check asks for them.
    Raises EngineError where its bytecode cannot be read."""
    found = bytecode.read(path, METADATA_FILE)
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


def prepare(path: str, threads: int = 0) -> Runner:
    """Load an archive for running; threads: 0 leaves the choice to torch. Raises EngineError if it does not load, or on running."""
    found = bytecode.read(path, METADATA_FILE)
    try:
        module = jit.load_lite(path)
    except Exception as error:  # torch raises RuntimeError, ValueError or its own types by version
        packed = any(name.startswith(PACKED) for name in found.ops)
        why = "it is optimised for mobile, which takes a torch built with XNNPACK: " if packed else ""
        raise EngineError(why + " ".join(str(error).split())[:300]) from None
    return torchscript.runner("lite", module, threads, bytecode=str(found.version))

"""A TorchScript file as the model: its own graph, in float64 and in float32. Nothing but that graph runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Mapping, Tuple

from detparity.core.files import require_file
from detparity.models.adapters import common
from detparity.models.adapters.ultralytics import LAYOUTS
from detparity.models.compat import jit
from detparity.models.module_reference import Made
from detparity.models.reference import ModelRequest, ReferenceFacts


def make(name: str, request: ModelRequest) -> Made:
    require_file(Path(name), "a TorchScript file")
    extra: Dict[str, Any] = {"config.txt": ""}
    module = common.called(f"torch.jit.load, for {name},", lambda: jit.load(name, extra))
    stated = _stated(extra["config.txt"])
    size = common.pair(stated.get("imgsz"))
    layout = LAYOUTS.get(str(stated.get("task")), "") if "stride" in stated else ""
    names = stated.get("names")
    facts = ReferenceFacts(
        f"torchscript:{Path(name).name}",
        "",
        common.shape(request, size),
        (),
        layout,
        _names(names),
        notes=("the model is the graph of a TorchScript file, in float64",),
    )
    return Made(module.eval(), facts)


def _stated(text: Any) -> Mapping[str, Any]:
    """What ultralytics writes beside the graph."""
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _names(value: Any) -> Tuple[str, ...]:
    values = list(value.values()) if isinstance(value, dict) else value
    return tuple(map(str, values)) if isinstance(values, list) else ()

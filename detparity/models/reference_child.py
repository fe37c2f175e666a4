"""What the child process does for references: makes a model of the user or of a foreign package, and runs it.

`models/remote_reference.py` asks; `core/isolate.py` carries requests and replies. Imported in the child alone: code of the user and of
packages runs in its workers, never in the server that they are forked from.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from typing import Any, List, Mapping, Tuple

import torch

from detparity.core.decisions import Choice, from_message, to_message
from detparity.core.isolate_messages import Arrays, Handler
from detparity.core.trace import to_message as packed
from detparity.models import adapters, module_reference
from detparity.models.float64 import exactly
from detparity.models.reference import ModelRequest

# Where packages keep their settings and caches: the one folder in which this process may write.
FOLDERS = ("YOLO_CONFIG_DIR", "HF_HOME", "MPLCONFIGDIR", "TORCH_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HOME")
SETTINGS = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}

_MADE: List[module_reference.ModuleReference] = []

Answer = Tuple[Any, Arrays]


def make(content: Mapping[str, Any], _: Arrays) -> Answer:
    """The model of a request; its facts. path: folders from which the user's code is imported."""
    os.environ.update({name: tempfile.gettempdir() for name in FOLDERS})
    os.environ.update(SETTINGS)
    sys.path[:0] = content["path"]
    request = dict(content["request"])
    request["size"] = tuple(request["size"]) if request["size"] else None
    _MADE[:] = [module_reference.ModuleReference(adapters.make(ModelRequest(**request)))]
    return facts({}, {})


def facts(_: Mapping[str, Any], __: Arrays) -> Answer:
    """The facts of the model as they are known by now."""
    return dataclasses.asdict(_MADE[0].facts), {}


def run(content: Mapping[str, Any], arrays: Arrays) -> Answer:
    """Run it one way: its outputs by name, their order, and its facts."""
    choices = from_message(Choice, content.get("choices", ()), arrays, "choice")
    found, forced = _MADE[0].run_forced(content["way"], arrays["images"], choices)
    described, read = to_message(forced, "forced")
    return {"order": list(found), "forced": described, "facts": facts({}, {})[0]}, {**found, **read}


def decisions(_: Mapping[str, Any], arrays: Arrays) -> Answer:
    """What it chooses by itself in float64."""
    described, read = to_message(_MADE[0].decisions(arrays["images"]), "choice")
    return {"choices": described}, read


def trace(_: Mapping[str, Any], arrays: Arrays) -> Answer:
    """Its float64 run, operator by operator."""
    return packed(_MADE[0].trace(arrays["images"]))


def weights(_: Mapping[str, Any], __: Arrays) -> Answer:
    """Its tensors, see `ModuleReference.weights`."""
    found = _MADE[0].weights()
    return {"order": list(found)}, {f"weight {index}": value for index, value in enumerate(found.values())}


def islands(content: Mapping[str, Any], arrays: Arrays) -> Answer:
    """What it gives in half precision with parts left in float32, see `ModuleReference.islands`."""
    found = _MADE[0].islands(content["precision"], arrays["images"])
    names = [[title, list(outputs)] for title, outputs in found]
    return {"parts": names}, {
        f"{index} {name}": value for index, (_, outputs) in enumerate(found) for name, value in outputs.items()
    }


def weights_read(_: Mapping[str, Any], arrays: Arrays) -> Answer:
    """Names of its weights in the order they are read."""
    return {"names": _MADE[0].weights_read(arrays["images"])}, {}


def run_scaled(content: Mapping[str, Any], arrays: Arrays) -> Answer:
    """What it gives with one of its weights scaled, see `ModuleReference.run_scaled`."""
    choices = from_message(Choice, content["choices"], arrays, "choice")
    weight = (content["weight"], content["factor"])
    found = _MADE[0].run_scaled(content["way"], weight, arrays["images"], choices)
    return {"order": list(found)}, found


HANDLERS: Mapping[str, Handler] = {
    **{"make": make, "facts": facts, "run": run},
    **{"decisions": decisions, "trace": trace, "weights": weights, "islands": islands},
    **{"weights_read": weights_read, "run_scaled": run_scaled},
}

# What torch imports at the first operator under a dispatch mode: here, before the server forks, and not in each worker.
with exactly():
    torch.zeros(1) + 1

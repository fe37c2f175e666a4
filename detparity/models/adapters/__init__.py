"""Adapters: what makes a model of the words of `--model`. One module a source, one protocol, found by name in this registry.

An adapter is a module with

    make(name, request) -> Made     the model that `name` is there, seeded, in evaluation, in the form its own exporter exports

that raises `InputError` for what the user can correct. All of it runs code of the user or of a foreign package, so
`models/reference_child.py` alone asks for one. To add one, write the module and name it in `ADAPTERS`.
"""

from __future__ import annotations

import importlib
from typing import Any, Mapping, Tuple

from detparity.models.adapters import common
from detparity.models.module_reference import Made
from detparity.models.reference import ModelRequest

USER = "user"
# The prefix of `--model`, and what follows it; the user's own code has none.
ADAPTERS: Mapping[str, str] = {
    USER: "FILE.py:NAME or PKG.MOD:NAME",
    "ultralytics": "yolo11n.yaml, or a checkpoint with --trust",
    "libreyolo": "dfine-n, or a checkpoint with --trust",
    "torchvision": "ssdlite320_mobilenet_v3_large",
    "transformers": "a folder with config.json",
    "torchscript": "a TorchScript file",
}


def source(spec: str) -> Tuple[str, str]:
    """The adapter of a spec and the name it is given."""
    first, _, rest = spec.partition(":")
    return (first, rest) if first in ADAPTERS and first != USER and rest else (USER, spec)


def make(request: ModelRequest) -> Made:
    """The model of a request, after one run of its example. Raises InputError."""
    kind, name = source(request.spec)
    common.seeded(request.seed)
    made: Made = _module(kind).make(name, request)
    made.module.eval()
    if request.condition:
        common.conditioned(made, request.seed)
    common.require_image(made, request)
    return made


def _module(kind: str) -> Any:
    return importlib.import_module(f"{__name__}.{kind}")

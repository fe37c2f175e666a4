"""The user's own code: `FILE.py:NAME` or `PKG.MOD:NAME`, a module, a class, or a function that returns a module, alone or with an
example of its input, a tensor or a shape."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, Iterator, List, Tuple

import torch
from torch import nn

from detparity.artifacts.input_form import channels_last
from detparity.core.errors import InputError
from detparity.models import user_file
from detparity.models.adapters import common
from detparity.models.example import pixels_of
from detparity.models.module_reference import Made
from detparity.models.reference import PLAIN, ModelRequest, ReferenceFacts, arguments


def make(name: str, request: ModelRequest) -> Made:
    home, _, attribute = name.rpartition(":")
    if not home or not attribute.isidentifier():
        raise InputError(f"--model {name} is {_instead(name)}")
    module = user_file.imported(home)
    if attribute not in vars(module):
        offered = ", ".join(list(_offered(module))[:8]) or "nothing that makes a torch.nn.Module"
        raise InputError(f"{home} has no {attribute}; it has {offered}")
    title = f"{attribute} of {Path(home).name}"
    found, example = _result(title, vars(module)[attribute], request)
    shape = _shape(title, example, request)
    kind, prepared = pixels_of(example) if isinstance(example, torch.Tensor) else ("float32", PLAIN)
    facts = ReferenceFacts(title, "", shape, (), names=_names(found), preprocessing=prepared, code=True, image=kind)
    return Made(found, facts)


def _instead(name: str) -> str:
    """What it is that names no model of the user's code, and what to do."""
    suffix = Path(name).suffix.lower()
    if suffix in (".pt", ".pth"):
        own = f"--model ultralytics:{name} --trust"
        return f"a checkpoint: --weights {name} takes those of YOLOv5 and YOLOv7, {own} those of ultralytics"
    if suffix in (".onnx", ".torchscript", ".ptl"):
        return f"an exported file: --against {name} compares with it"
    return "neither FILE.py:NAME, PKG.MOD:NAME nor the name of an adapter with a model"


def _offered(module: ModuleType) -> Iterator[str]:
    for name, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__
        if isinstance(value, nn.Module) or (own and callable(value)):
            yield name


def _result(name: str, value: Any, request: ModelRequest) -> Tuple[nn.Module, Any]:
    """The module, and its example, None where there is none."""
    given = arguments(request)
    if isinstance(value, nn.Module):
        if given:
            raise InputError(f"--model-args is for a class or a function, and {name} is a module already")
    elif callable(value):
        make = value
        value = common.called(name, lambda: make(*given.positional, **given.keywords))
    example: Any = None
    if isinstance(value, (tuple, list)) and len(value) == 2 and isinstance(value[0], nn.Module):
        value, example = value
    if not isinstance(value, nn.Module):
        raise InputError(f"{name} gives a {type(value).__name__}, not a torch.nn.Module")
    alone = isinstance(example, (tuple, list)) and len(example) == 1 and isinstance(example[0], torch.Tensor)
    return value, example[0] if alone else example


def _shape(name: str, example: Any, request: ModelRequest) -> Tuple[int, ...]:
    if example is None:
        return common.shape(request)
    if isinstance(example, torch.Tensor):
        found: List[int] = list(example.shape)
    elif isinstance(example, (tuple, list, torch.Size)) and all(type(side) is int for side in example):
        found = [int(side) for side in example]
    else:
        kinds = ", ".join(type(item).__name__ for item in example) if isinstance(example, (tuple, list)) else ""
        raise InputError(
            f"{name} gives an example that is a {type(example).__name__}{f' ({kinds})' if kinds else ''}, not one image: "
            "models with other inputs are not supported"
        )
    if request.size and len(found) >= 3:
        found[slice(1, 3) if channels_last(found) else slice(-2, None)] = request.size
    return tuple(found)


def _names(module: nn.Module) -> Tuple[str, ...]:
    found = getattr(module, "names", None)
    values = list(found.values()) if isinstance(found, dict) else found
    if isinstance(values, (list, tuple)) and all(isinstance(value, str) for value in values):
        return tuple(values)
    return ()

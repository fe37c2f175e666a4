"""The registry of planted defects of files of any detector: each names the check that must turn red.

A function of one argument edits a good ONNX export of a stand-in; one of none returns the file. The decorator states the stand-in,
the kind of file, and what it is judged against where that is not the stand-in itself.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np
import onnx
from detparity.kit.tests.checks.foreign import stand_ins
from detparity.kit.tests.checks.foreign.stand_ins import STATIC
from detparity.kit.tests.defects import edits

from detparity.core.promises import Promises

GROUPS = ("planted_fields", "planted_files", "planted_numbers")
Plant = Callable[..., Any]


@dataclass(frozen=True)
class Planted:
    """check: must turn red; on: the stand-in; asked: of the exporter, where that is not what the file was made by; says: words of
    the findings; build: arguments of the stand-in; layout: "" where the file is to state it."""

    name: str
    about: str
    check: str
    plant: Plant
    on: str = "ultralytics"
    kind: str = STATIC
    level: str = "MUST"
    says: str = ""
    quick: bool = True
    asked: Optional[Promises] = None
    build: Tuple[Tuple[str, Any], ...] = ()
    layout: Optional[str] = None

    @property
    def module(self) -> Any:
        return stand_ins.made(self.on, **dict(self.build))

    def make(self) -> bytes:
        if not inspect.signature(self.plant).parameters:
            found = self.plant()
        else:
            found = self.plant(stand_ins.onnx_of(self.on, self.kind, self.module))
        return found if isinstance(found, bytes) else bytes(found.SerializeToString())


PLANTED: Dict[str, Planted] = {}


def defect(check: str, **more: Any) -> Callable[[Plant], Plant]:
    def plant(function: Plant) -> Plant:
        name = function.__name__
        assert name not in PLANTED
        PLANTED[name] = Planted(name, inspect.getdoc(function) or "", check, function, **more)
        return function

    return plant


def ordered(model: onnx.ModelProto, tensor: str, order: Any, axis: int) -> onnx.ModelProto:
    """The slices of a tensor along one axis, in another order."""
    edits.splice(model, tensor, lambda x, op: op("Gather", x, np.array(order, np.int64), axis=axis))
    return model


def on_part(model: onnx.ModelProto, tensor: str, start: int, stop: int, axis: int, edit: Any) -> onnx.ModelProto:
    """Nodes on slices start to stop of a tensor; the others pass."""

    def build(x: str, op: edits.Op) -> str:
        parts = [edits.cut(op, x, 0, start, axis)] if start else []
        parts.append(edit(edits.cut(op, x, start, stop, axis), op))
        parts += [edits.cut(op, x, stop, edits.END, axis)] if stop < edits.END else []
        return op("Concat", *parts, axis=axis) if len(parts) > 1 else op("Identity", parts[0])

    edits.splice(model, tensor, build)
    return model


def on_input(model: onnx.ModelProto, build: Any) -> onnx.ModelProto:
    edits.splice(model, "images", build)
    return model


def registry() -> Dict[str, Planted]:
    """Every planted defect by its name."""
    for group in GROUPS:
        importlib.import_module(f"detparity.kit.tests.checks.foreign.{group}")
    return PLANTED

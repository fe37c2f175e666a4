"""Planted defects: what the suite must turn red, and by which check; and controls, which must stay green.

A planted file is one function in the module of its group, with a decorator that says what must find it:

    @defect("nms.thresholds", "nms.tail", variant="end2end-ort-dynamic-batch", says="iou threshold 0.46")
    def nms_iou_off(model):
        "The IoU threshold is off by 0.01."

A function of one argument edits a good ONNX export of its variant; one of three, `(detector, variant, options)`, returns a file.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import onnx

from detparity.core.vocabulary import Size, Variant, parse_variant

GROUPS = (
    "weights",
    "graph",
    "interface",
    "layers",
    "decode",
    "nms",
    "plugin",
    "traced",
    "scripted",
    "lite",
    "controls",
)
Plant = Callable[..., Any]


@dataclass(frozen=True)
class Planted:
    """One planted file, by the name of its function. caught_by: ids of the checks that must all turn red; empty for a control, which
    every check must let pass. level: of the findings; unseen_by: checks that must pass, which shows that the named one is needed;
    says: words the findings must hold; size: of the export, None where any will do; where: versions whose good export has the form
    that is edited, {} for all."""

    name: str
    about: str
    caught_by: Tuple[str, ...]
    variant: Variant
    plant: Plant
    level: str = "MUST"
    unseen_by: Tuple[str, ...] = ()
    says: str = ""
    size: Optional[Size] = None
    where: Mapping[str, str] = None  # type: ignore[assignment]

    def make(self, detector: Any, options: Any, good: bytes) -> bytes:
        """Return the whole file. good: the good export of the same variant."""
        if len(inspect.signature(self.plant).parameters) == 1:
            return bytes(self.plant(onnx.load_from_string(good)).SerializeToString())
        return bytes(self.plant(detector, self.variant, options))


_PLANTED: Dict[str, Planted] = {}


def defect(*caught_by: str, variant: str, head: str = "grid", **more: Any) -> Callable[[Plant], Plant]:
    """Plant a defect; caught_by: the checks that must turn red; more: fields of `Planted`."""

    def plant(function: Plant) -> Plant:
        name = function.__name__
        assert caught_by and name not in _PLANTED, name
        _add(function, caught_by, variant, head, more)
        return function

    return plant


def control(*, variant: str, head: str = "grid", **more: Any) -> Callable[[Plant], Plant]:
    """Plant a good file, which every check must let pass."""

    def plant(function: Plant) -> Plant:
        assert function.__name__ not in _PLANTED, function.__name__
        _add(function, (), variant, head, more)
        return function

    return plant


def _add(function: Plant, caught_by: Tuple[str, ...], variant: str, head: str, more: Dict[str, Any]) -> None:
    name, about = function.__name__, inspect.getdoc(function) or ""
    made = {"where": {}, **more, "unseen_by": tuple(more.get("unseen_by", ()))}
    _PLANTED[name] = Planted(name, about, tuple(caught_by), parse_variant(variant, head), function, **made)


def registry() -> Dict[str, Planted]:
    """Every planted file by its name, controls included."""
    for group in GROUPS:
        importlib.import_module(f"detparity.kit.tests.defects.{group}")
    return dict(sorted(_PLANTED.items()))

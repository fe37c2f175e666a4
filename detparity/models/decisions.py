"""Decisions of a model forced to those of a file: the model then computes what follows from the file's choice, and not from its own.

Only indices cross over, never values. A choice is matched to the operator that reads the same numbers, within noise; whether it is a
legal choice is judged by the caller, on the numbers that the model itself read (`Forced.scores`). Torch 1.13 and newer.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
import torch

from detparity.core.decisions import BEST, CUT, SUPPRESSION, Choice, Forced
from detparity.models.dispatch_mode import DispatchMode
from detparity.oracle.matched_choices import Matching, Operator

RISING = ("aten::sort", "aten::argsort", "aten::min", "aten::argmin")  # take the smallest where nothing else is stated
OPERATORS = ("aten::topk", "aten::sort", "aten::argsort", "aten::argmax", "aten::argmin", "aten::max", "aten::min")
REDUCING = ("aten::max", "aten::min")  # decide with an axis alone
COMPARING: Mapping[str, bool] = {"aten::gt": True, "aten::ge": True, "aten::lt": False, "aten::le": False}


class Forcing(DispatchMode):
    """Every selecting operator is given the choice of a file, where one of them reads the same numbers. forced: in the order they ran;
    others: operators that select and were left as they are."""

    def __init__(self, choices: Sequence[Choice]) -> None:
        super().__init__()
        self._matching = Matching(choices)

    @property
    def forced(self) -> List[Forced]:
        return self._matching.forced

    @property
    def others(self) -> List[str]:
        return self._matching.others

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operator._schema.name
        found = operator(*args, **(kwargs or {}))
        if kind_of(name) not in self._matching.kinds:
            return found
        given = arguments(operator, args, kwargs or {})
        made = decided(name, found, given)
        chosen = self._matching.given(made) if made is not None else None
        if made is None or chosen is None:
            return found
        if made.own.kind == BEST:
            return _taken(found, made.own, given, chosen)
        return torch.from_numpy(chosen if made.own.kind == CUT else chosen.astype(np.int64)).to(found.device)


def _taken(found: Any, own: Choice, given: Mapping[str, Any], rows: np.ndarray) -> Any:
    """What an operator that takes the best returns where it takes these. rows: see `Matching.given`."""
    answer = found if isinstance(found, torch.Tensor) else found[1]
    wide = own.indices if own.indices.ndim == own.scores.ndim else np.expand_dims(own.indices, own.axis)
    moved = rows.reshape(np.moveaxis(wide, own.axis, -1).shape)
    indices = torch.from_numpy(np.ascontiguousarray(np.moveaxis(moved, -1, own.axis))).to(answer.device)
    if isinstance(found, torch.Tensor):
        return indices.reshape(answer.shape)
    return torch.gather(given["self"], own.axis, indices).reshape(found[0].shape), indices.reshape(answer.shape)


class Recording(DispatchMode):
    """What every selecting operator chooses by itself, and from which numbers. operators: in the order they ran, each choice called by
    operator and number; most: bytes that may be held, beyond which nothing more is recorded; complete: whether all of them were."""

    def __init__(self, most: float = float("inf")) -> None:
        super().__init__()
        self.operators: List[Operator] = []
        self.complete = True
        self._left = most

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operator._schema.name
        found = operator(*args, **(kwargs or {}))
        if self.complete and kind_of(name):
            made = decided(name, found, arguments(operator, args, kwargs or {}), len(self.operators))
            if made is not None:
                self._left -= made.own.scores.nbytes + made.own.indices.nbytes
                self.complete = self._left >= 0
                self.operators += [made] if self.complete else []
        return found


def kind_of(name: str) -> str:
    """What an operator decides, by its name; empty where it decides nothing."""
    if name in OPERATORS:
        return BEST
    return CUT if name in COMPARING else SUPPRESSION if name == "torchvision::nms" else ""


def decided(name: str, found: Any, given: Mapping[str, Any], number: int = 0) -> Optional[Operator]:
    """A selecting operator as it ran; None where it decides nothing after all."""
    title = f"{name} {number}"
    if name in COMPARING:
        left, right = given["self"], given["other"]
        if not left.is_floating_point():
            return None
        return Operator(name, Choice(title, plain(left - right), found.cpu().numpy().copy(), 0, CUT), COMPARING[name])
    if name == "torchvision::nms":
        boxes, scores, held = plain(given["dets"]).copy(), plain(given["scores"]).copy(), found.cpu().numpy()
        indices = np.stack([np.zeros_like(held), np.zeros_like(held), held], 1)
        limits = (float(given["iou_threshold"]), -np.inf, 0)
        own = Choice(title, scores[None, None], indices, 0, SUPPRESSION, boxes[None], limits=limits)
        return Operator(name, own)
    if (name in REDUCING and "dim" not in given) or not given["self"].dim():
        return None
    flat = given.get("dim") is None and name in ("aten::argmax", "aten::argmin")
    scores = plain(given["self"].reshape(-1) if flat else given["self"])
    axis = 0 if flat else axis_of(given, scores.ndim)
    answer = (found if isinstance(found, torch.Tensor) else found[1]).cpu().numpy()
    wide = answer.reshape(1) if flat else answer if answer.ndim == scores.ndim else np.expand_dims(answer, axis)
    own = Choice(title, scores.copy(), wide.copy(), axis)
    ordered, floating = bool(given.get("sorted", True)), given["self"].is_floating_point()
    return Operator(name, own, _largest(name, given), ordered, floating)


def _largest(name: str, given: Mapping[str, Any]) -> bool:
    return bool(given.get("largest", given.get("descending", name not in RISING)))


def plain(scores: torch.Tensor) -> np.ndarray:
    found: np.ndarray = scores.detach().double().cpu().numpy()
    return found


def arguments(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Dict[str, Any]:
    names = [argument.name for argument in operator._schema.arguments]
    return {**dict(zip(names, args)), **kwargs}


def axis_of(given: Mapping[str, Any], rank: int) -> int:
    axis = given.get("dim", -1)
    return int(axis if axis is not None else -1) % max(rank, 1)

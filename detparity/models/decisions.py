"""Decisions of a model forced to those of a file: the model then computes what follows from the file's choice, and not from its own.

Only indices cross over, never values. A choice is matched to the operator that reads the same numbers, within noise; whether it is a
legal choice is judged by the caller, on the numbers that the model itself read (`Forced.scores`). Torch 1.13 and newer.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from detparity.core.decisions import BEST, CUT, SUPPRESSION, Choice, Forced, completed, nearest
from detparity.oracle.suppressed import retained

RISING = ("aten::sort", "aten::argsort", "aten::min", "aten::argmin")  # take the smallest where nothing else is stated
OPERATORS = ("aten::topk", "aten::sort", "aten::argsort", "aten::argmax", "aten::argmin", "aten::max", "aten::min")
REDUCING = ("aten::max", "aten::min")  # decide with an axis alone
COMPARING: Mapping[str, bool] = {"aten::gt": True, "aten::ge": True, "aten::lt": False, "aten::le": False}


class Forcing(TorchDispatchMode):
    """Every selecting operator is given the choice of a file, where one of them reads the same numbers. forced: in the order they ran;
    others: operators that select and were left as they are."""

    def __init__(self, choices: Sequence[Choice]) -> None:
        super().__init__()
        self._left = list(choices)
        self._kinds = {choice.kind for choice in choices}
        self.forced: List[Forced] = []
        self.others: List[str] = []
        self._calls: Dict[str, int] = {}

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operator._schema.name
        found = operator(*args, **(kwargs or {}))
        if name in COMPARING and CUT in self._kinds:
            return self._compared(name, found, arguments(operator, args, kwargs or {}))
        if name in OPERATORS:
            given = arguments(operator, args, kwargs or {})
            if name not in REDUCING or "dim" in given:
                return self._chosen(name, found, given)
        if name == "torchvision::nms" and SUPPRESSION in self._kinds:
            return self._suppressed(name, found, arguments(operator, args, kwargs or {}))
        return found

    def _suppressed(self, name: str, found: Any, given: Mapping[str, Any]) -> Any:
        """A call is given what the file's node retained of its candidates, in the order of its own scores."""
        boxes, scores = plain(given["dets"]), plain(given["scores"])
        for choice in self._left:
            if choice.kind != SUPPRESSION or choice.boxes is None:
                continue
            held = retained(choice, boxes, scores)
            if held is None:
                continue
            self._calls[choice.node] = self._calls.get(choice.node, 0) + 1
            same = bool(np.array_equal(held, found.cpu().numpy()))
            self.forced.append(
                Forced(
                    choice.node, name, scores, True, False, 0, same, SUPPRESSION, self._calls[choice.node], boxes, held,
                    float(given["iou_threshold"]),
                )
            )  # fmt: skip
            return torch.from_numpy(held.astype(np.int64)).to(found.device)
        self.others.append(name)
        return found

    def _chosen(self, name: str, found: Any, given: Mapping[str, Any]) -> Any:
        read = given["self"]
        flat = given.get("dim") is None and name in ("aten::argmax", "aten::argmin")
        scores = read.reshape(-1) if flat else read
        axis = 0 if flat else axis_of(given, scores.dim())
        answer = found if isinstance(found, torch.Tensor) else found[1]
        if not scores.dim():
            return found
        own = plain(scores)
        choice = nearest(self._left, BEST, own, own.shape[axis])
        if choice is None:
            self.others.append(name)
            return found
        self._left = [one for one in self._left if one is not choice]
        wide = answer.reshape(1) if flat else answer if answer.dim() == scores.dim() else answer.unsqueeze(axis)
        moved = wide.movedim(axis, -1)
        mine = moved.reshape(-1, moved.shape[-1]).cpu().numpy()
        chosen = completed(mine, choice.rows.astype(np.int64))
        self.forced.append(
            Forced(
                choice.node, name, own.copy(), _largest(name, given), bool(given.get("sorted", True)), mine.shape[1],
                bool(np.array_equal(mine, chosen)),
            )
        )  # fmt: skip
        indices = torch.from_numpy(np.ascontiguousarray(chosen)).reshape(moved.shape).movedim(-1, axis)
        indices = indices.to(answer.device).contiguous()
        if isinstance(found, torch.Tensor):
            return indices.reshape(answer.shape)
        return torch.gather(scores, axis, indices).reshape(found[0].shape), indices.reshape(answer.shape)

    def _compared(self, name: str, found: Any, given: Mapping[str, Any]) -> Any:
        left, right = given["self"], given["other"]
        if not left.is_floating_point():
            return found
        numbers = plain(left - right)
        choice = nearest(self._left, CUT, numbers, 0)
        if choice is None:
            return found
        self._left = [one for one in self._left if one is not choice]
        mask = torch.from_numpy(choice.indices.reshape(numbers.shape).astype(bool)).to(found.device)
        same = bool(torch.equal(mask, found))
        self.forced.append(Forced(choice.node, name, numbers.copy(), COMPARING[name], False, 0, same, CUT))
        return mask


class Recording(TorchDispatchMode):
    """What every selecting operator chooses by itself, and from which numbers. made: in the order they ran, called by operator and
    number."""

    def __init__(self) -> None:
        super().__init__()
        self.made: List[Choice] = []

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operator._schema.name
        found = operator(*args, **(kwargs or {}))
        if name in COMPARING or name in OPERATORS or name == "torchvision::nms":
            choice = _own(f"{name} {len(self.made)}", name, found, arguments(operator, args, kwargs or {}))
            self.made += [choice] if choice is not None else []
        return found


def _own(title: str, name: str, found: Any, given: Mapping[str, Any]) -> Optional[Choice]:
    if name in COMPARING:
        left, right = given["self"], given["other"]
        if not left.is_floating_point() or not left.dim():
            return None
        return Choice(title, plain(left - right), found.cpu().numpy(), 0, CUT)
    if name == "torchvision::nms":
        boxes, scores, held = plain(given["dets"]), plain(given["scores"]), found.cpu().numpy()
        indices = np.stack([np.zeros_like(held), np.zeros_like(held), held], 1)
        limits = (float(given["iou_threshold"]), -np.inf, 0)
        return Choice(title, scores[None, None], indices, 0, SUPPRESSION, boxes[None], limits=limits)
    flat = given.get("dim") is None and name in ("aten::argmax", "aten::argmin")
    if (name in REDUCING and "dim" not in given) or not given["self"].dim() or not given["self"].is_floating_point():
        return None
    scores = plain(given["self"].reshape(-1) if flat else given["self"])
    axis = 0 if flat else axis_of(given, scores.ndim)
    answer = (found if isinstance(found, torch.Tensor) else found[1]).cpu().numpy()
    wide = answer.reshape(1) if flat else answer if answer.ndim == scores.ndim else np.expand_dims(answer, axis)
    return Choice(title, scores.copy(), wide, axis)


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

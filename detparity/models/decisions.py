"""Decisions of a model forced to those of a file: the model then computes what follows from the file's choice, and not from its own.

Only indices cross over, never values. A choice is matched to the operator that reads the same numbers, within noise; whether it is a
legal choice is judged by the caller, on the numbers that the model itself read (`Forced.scores`). Torch 1.13 and newer.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from detparity.core.decisions import Choice, Forced

NEAR = 0.02  # of the spread of the numbers, by which a file may differ where it reads the same ones: whether they are right is judged
OPERATORS = ("aten::topk", "aten::sort", "aten::argsort", "aten::argmax", "aten::max")


class Forcing(TorchDispatchMode):
    """Every selecting operator is given the choice of a file, where one of them reads the same numbers. forced: in the order they ran;
    others: operators that select and were left as they are."""

    def __init__(self, choices: Sequence[Choice]) -> None:
        super().__init__()
        self._left = list(choices)
        self.forced: List[Forced] = []
        self.others: List[str] = []

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operator._schema.name
        given = _arguments(operator, args, kwargs or {})
        if name not in OPERATORS or (name == "aten::max" and "dim" not in given):
            return operator(*args, **(kwargs or {}))
        found = operator(*args, **(kwargs or {}))
        scores = given["self"]
        answer = found if isinstance(found, torch.Tensor) else found[1]
        axis = _axis(given, scores.dim())
        choice = self._match(scores, answer, axis, bool(given.get("keepdim", True)))
        if choice is None:
            self.others.append(name)
            return found
        own = scores.detach().double().cpu().numpy().copy()
        largest = bool(given.get("largest", given.get("descending", name not in ("aten::sort", "aten::argsort"))))
        self.forced.append(Forced(choice.node, name, own, largest))
        indices = torch.from_numpy(np.array(choice.indices, np.int64)).reshape(answer.shape).to(answer.device)
        if isinstance(found, torch.Tensor):
            return indices
        wide = indices if indices.dim() == scores.dim() else indices.unsqueeze(axis)
        return torch.gather(scores, axis, wide).reshape(found[0].shape), indices

    def _match(self, scores: torch.Tensor, answer: torch.Tensor, axis: int, keeps: bool) -> Optional[Choice]:
        """The choice that was made from these numbers, of those not used yet the nearest."""
        own = scores.detach().double().cpu().numpy()
        best: Optional[Tuple[float, Choice]] = None
        for choice in self._left:
            if choice.scores.size != own.size or choice.indices.size != answer.numel():
                continue
            apart = _apart(choice.scores.reshape(own.shape), own)
            if apart <= NEAR and (best is None or apart < best[0]):
                best = (apart, choice)
        if best is None:
            return None
        self._left = [choice for choice in self._left if choice is not best[1]]
        return best[1]


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """The median difference in shares of the spread: a near tie upstream may have moved a few of them further."""
    return float(np.median(np.abs(one - other))) / max(float(np.std(other)), 1e-6 * float(np.abs(other).max()), 1e-300)


def _arguments(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Dict[str, Any]:
    names = [argument.name for argument in operator._schema.arguments]
    return {**dict(zip(names, args)), **kwargs}


def _axis(given: Mapping[str, Any], rank: int) -> int:
    axis = given.get("dim", -1)
    return int(axis if axis is not None else -1) % max(rank, 1)

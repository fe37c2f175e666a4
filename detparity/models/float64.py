"""Any torch module in float64: its parameters by `.double()`, what its code makes in float32 by a dispatch mode (torch 1.13)."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any, Dict, Iterator, List, Optional

import torch
from torch.utils._pytree import tree_map

from detparity.models.dispatch_mode import DispatchMode
from detparity.models.exact_conv import of_dispatch

LOWER = (torch.float32, torch.float16, torch.bfloat16)


class Exactly(DispatchMode):
    """Every operator computes in float64: lower tensors and types among its arguments are replaced. raised: how often, by operator,
    a lower tensor was."""

    def __init__(self) -> None:
        super().__init__()
        self.raised: Dict[str, int] = {}

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(operator)
        lower: List[torch.Tensor] = []

        def higher(value: Any) -> Any:
            if isinstance(value, torch.Tensor) and value.dtype in LOWER:
                lower.append(value)
                self.raised[name] = self.raised.get(name, 0) + 1
                return value.to(torch.float64)
            return torch.float64 if isinstance(value, torch.dtype) and value in LOWER else value

        args, kwargs = tree_map(higher, args), tree_map(higher, kwargs or {})
        found = of_dispatch(operator, args) if operator is torch.ops.aten.convolution.default and not kwargs else None
        found = operator(*args, **kwargs) if found is None else found
        if lower and writes(operator) and isinstance(found, torch.Tensor):
            lower[0].copy_(found)  # in place on a lower tensor: later readers see the rounded result
        return found


def writes(operator: Any) -> bool:
    schema = getattr(operator, "_schema", None)
    return bool(schema is not None and getattr(schema, "is_mutable", False))


@contextlib.contextmanager
def exactly(mode: Optional[Exactly] = None) -> Iterator[Exactly]:
    """For the block, all that torch computes is float64. mode: one that does more."""
    before = torch.get_default_dtype()
    mode = mode if mode is not None else Exactly()
    torch.set_default_dtype(torch.float64)
    try:
        with warnings.catch_warnings(), mode:
            warnings.simplefilter("ignore")
            yield mode
    finally:
        torch.set_default_dtype(before)

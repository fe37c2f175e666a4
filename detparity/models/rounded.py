"""Half precision as a runtime without its kernels computes it: every operator in float32, its result rounded."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map


class Rounded(TorchDispatchMode):
    """Operators whose floating operands are all of the half type compute in float32 and round once. Views, and operators that mix
    types, are left as they are."""

    def __init__(self, half: torch.dtype = torch.float16) -> None:
        super().__init__()
        self.half = half

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, half = kwargs or {}, self.half
        operands = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
        floating = {one.dtype for one in operands if one.is_floating_point()}
        if floating != {half} or _views(operator):
            return operator(*args, **kwargs)

        def higher(value: Any) -> Any:
            lower = isinstance(value, torch.Tensor) and value.dtype == half
            return value.float() if lower else torch.float32 if value is half else value

        found = operator(*tree_map(higher, args), **tree_map(higher, kwargs))
        stated = kwargs.get("dtype")
        if stated is not None and stated is not half:
            return found
        if operator._schema.is_mutable:
            target = next(one for one in operands if one.dtype == half)
            return target.copy_(found)
        return tree_map(self._lower, found)

    def _lower(self, value: Any) -> Any:
        return value.to(self.half) if isinstance(value, torch.Tensor) and value.dtype == torch.float32 else value


def _views(operator: Any) -> bool:
    """Whether an operator returns its operand, or a part of it, without computing."""
    returned = operator._schema.returns
    return any(one.alias_info is not None and not one.alias_info.is_write for one in returned)

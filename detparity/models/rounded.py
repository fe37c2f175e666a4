"""Half precision as a runtime without its kernels computes it: every operator in float32, its result rounded. What the half type
cannot hold stays in float32, and so do modules that are named."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Collection, Dict, Iterator, List

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_map

from detparity.models.dispatch_mode import DispatchMode
from detparity.models.module_copy import copied

HELD = "_detparity_held"  # marks a tensor in float32 because the half type cannot hold it


class Rounded(DispatchMode):
    """Operators whose floating operands are all of the half type compute in float32 and round once. Views, and operators that mix
    types, are left as they are.

    holds: whether a result that the half type cannot hold stays in float32, and what is computed from it until it fits, for which
    modules have to be followed; free: how many of the modules that run stay in float32, in which nothing is rounded; inside: paths of
    the modules that run; beyond: of those that gave numbers which the half type cannot hold.
    """

    def __init__(self, half: torch.dtype = torch.float16, holds: bool = False) -> None:
        super().__init__()
        self.half, self.holds, self.free = half, holds, 0
        self.inside: List[str] = []
        self.beyond: Dict[str, None] = {}

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        floating = [one for one in _tensors((args, kwargs)) if one.is_floating_point()]
        held = any(map(_is_held, floating))
        if _views(operator):
            found = operator(*args, **kwargs)
            return tree_map(_hold, found) if held else found
        rounds = bool(floating) and all(one.dtype == self.half or _is_held(one) for one in floating)
        if not (rounds or held or (self.free and any(one.dtype == self.half for one in floating))):
            return operator(*args, **kwargs)
        found = operator(*tree_map(self.higher, args), **tree_map(self.higher, kwargs))
        stated = kwargs.get("dtype")
        if stated is not None and stated is not self.half:
            return found
        if operator._schema.is_mutable:
            return floating[0].copy_(found)
        return tree_map(self.lower, found) if rounds and not self.free else found

    def higher(self, value: Any) -> Any:
        """An operand in float32, and that type where the half type is stated."""
        lower = isinstance(value, torch.Tensor) and value.dtype == self.half
        return value.float() if lower else torch.float32 if value is self.half else value

    def lower(self, value: Any) -> Any:
        """A result, rounded where the half type can hold it."""
        if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
            return value
        found = value.to(self.half)
        if not self.holds or not _loses(value, found):
            return found
        self.beyond[self.inside[-1] if self.inside else ""] = None
        return _hold(value)


def _tensors(values: Any) -> List[torch.Tensor]:
    return [one for one in tree_flatten(values)[0] if isinstance(one, torch.Tensor)]


def _loses(value: torch.Tensor, rounded: torch.Tensor) -> bool:
    return bool((torch.isfinite(value) & ~torch.isfinite(rounded)).any())


def _hold(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
        setattr(value, HELD, True)
    return value


def _is_held(value: torch.Tensor) -> bool:
    return bool(getattr(value, HELD, False))


def _views(operator: Any) -> bool:
    """Whether an operator returns its operand, or a part of it, without computing."""
    returned = operator._schema.returns
    return any(one.alias_info is not None and not one.alias_info.is_write for one in returned)


class HalfModule:
    """A copy of a module in half precision, every operator rounded. The modules at the paths `left` stay in float32 and round what
    they give; so do those whose weights the half type cannot hold. beyond: paths of the modules that gave, or store, such numbers."""

    def __init__(self, module: nn.Module, half: torch.dtype, left: Collection[str] = ()) -> None:
        heavy = [path for path, part in module.named_modules() if path and _is_heavy(part, half)]
        self._half, self._left = half, frozenset((*left, *heavy))
        self.beyond: Dict[str, None] = dict.fromkeys(heavy)
        self._copy = copied(module)[0].to(half)
        before: Dict[str, torch.Tensor] = dict([*module.named_parameters(), *module.named_buffers()])
        for name, value in [*self._copy.named_parameters(), *self._copy.named_buffers()]:
            if name in before and any(name.startswith(path + ".") for path in self._left):
                value.data = before[name].detach().clone()

    def run(self, call: Callable[[nn.Module], Any]) -> Any:
        """What it gives."""
        mode = Rounded(self._half, holds=True)
        with _following(self._copy, mode, self._left), mode:
            found = call(self._copy)
        self.beyond.update(mode.beyond)
        return found


def _own(part: nn.Module) -> List[torch.Tensor]:
    values = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
    return [one for one in values if one.is_floating_point()]


def _is_heavy(part: nn.Module, half: torch.dtype) -> bool:
    return any(_loses(one, one.to(half)) for one in _own(part))


@contextlib.contextmanager
def _following(module: nn.Module, mode: Rounded, left: Collection[str]) -> Iterator[None]:
    """For the block, `mode` knows which module runs. Modules at the paths `left` compute in float32 and round what they give; so do
    those with weights that are given what the half type cannot hold."""
    hooks: List[Any] = []
    raised: List[List[torch.Tensor]] = []  # of each module that runs, weights that are in float32 for this call

    def begin(path: str) -> Callable[..., Any]:
        def hook(part: nn.Module, given: Any) -> Any:
            mode.inside.append(path)
            raised.append([one for one in _own(part) if one.dtype == mode.half and any(map(_is_held, _tensors(given)))])
            mode.free += path in left or bool(raised[-1])
            for one in raised[-1]:
                one.data = one.float()
            return tree_map(mode.higher, given) if path in left or raised[-1] else None

        return hook

    def end(path: str) -> Callable[..., Any]:
        def hook(_part: nn.Module, _given: Any, found: Any) -> Any:
            lowered, free = raised.pop(), path in left
            mode.free -= free or bool(lowered)
            for one in lowered:
                one.data = one.to(mode.half)
            result = tree_map(mode.lower, found) if (free or lowered) and not mode.free else None
            mode.inside.pop()
            return result

        return hook

    for path, part in module.named_modules():
        if not isinstance(part, torch.jit.ScriptModule):
            hooks += [part.register_forward_pre_hook(begin(path)), part.register_forward_hook(end(path))]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()

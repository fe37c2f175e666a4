"""Batch-norm folded into convolutions in float32, for modules of any kind: one of the float32 ways of a reference.

Which convolution's output each norm reads is shown by a hooked run; that the copy computes the same is proved in float64, else it is
not used.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple

import torch
from torch import nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def pairs(module: nn.Module, run: Callable[[nn.Module], Any]) -> List[Tuple[str, str]]:
    """(convolution, norm) by module path, where the norm reads nothing but the convolution's output, once."""
    made: Dict[int, Tuple[str, torch.Tensor]] = {}
    read: Dict[str, List[str]] = {}
    found: List[Tuple[str, str]] = []

    def convolved(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                made[id(output)] = (name, output)  # held, so that its id is not used again

        return hook

    def normed(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: Any) -> None:
            if inputs and id(inputs[0]) in made:
                convolution = made[id(inputs[0])][0]
                read.setdefault(convolution, []).append(name)
                found.append((convolution, name))

        return hook

    hooks: List[Any] = []
    for name, part in module.named_modules():
        if isinstance(part, CONVOLUTIONS):
            hooks.append(part.register_forward_hook(convolved(name)))
        elif is_norm(part):
            hooks.append(part.register_forward_pre_hook(normed(name)))
    try:
        run(module)
    finally:
        for hook in hooks:
            hook.remove()
    once = {norm for _, norm in found if sum(norm == other for _, other in found) == 1}
    return [(convolution, norm) for convolution, norm in found if len(read[convolution]) == 1 and norm in once]


def is_norm(part: nn.Module) -> bool:
    """Whether a module is a batch-norm with statistics of its own, of any package."""
    held = (getattr(part, key, None) for key in ("running_mean", "running_var"))
    return "BatchNorm" in type(part).__name__ and all(isinstance(one, torch.Tensor) for one in held)


def fold(module: nn.Module, which: List[Tuple[str, str]]) -> None:
    """Fold these pairs in place, in the module's own precision."""
    parts = dict(module.named_modules())
    for convolution, norm in which:
        conv: Any = parts[convolution]
        scale, shift = _affine(parts[norm])
        weight = conv.weight.detach() * scale.reshape(-1, *[1] * (conv.weight.dim() - 1))
        bias = shift if conv.bias is None else conv.bias.detach() * scale + shift
        conv.weight, conv.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
        _replace(module, norm, nn.Identity())


def _affine(norm: Any) -> Tuple[torch.Tensor, torch.Tensor]:
    mean, variance = norm.running_mean.detach(), norm.running_var.detach()
    scale = torch.rsqrt(variance + getattr(norm, "eps", 1e-5))
    if getattr(norm, "weight", None) is not None:
        scale = scale * norm.weight.detach()
    shift = -mean * scale
    return scale, shift if getattr(norm, "bias", None) is None else shift + norm.bias.detach()


def _replace(module: nn.Module, path: str, part: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, part)

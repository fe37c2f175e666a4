"""Folding batch-norm and implicit layers into the convolutions before them.

The arithmetic is done in float64 and rounded once, so that the fused weights carry no error of their own.
"""

from __future__ import annotations

import copy
from typing import Tuple

import torch
from torch import Tensor, nn

from detparity.detectors.blocks import Conv
from detparity.detectors.network import Level, Network


def fold_batch_norm(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> Tuple[Tensor, Tensor]:
    """Return weight and bias of the convolution that equals `bn(conv(x))` in evaluation."""
    scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    bias = torch.zeros_like(bn.running_mean) if conv.bias is None else conv.bias
    return conv.weight * scale.reshape(-1, 1, 1, 1), bn.bias + (bias - bn.running_mean) * scale


def fold_implicit(level: Level, added: Tensor, factor: Tensor) -> Tuple[Tensor, Tensor]:
    """Return weight and bias of the 1x1 convolution that equals `factor * conv(x + added)`."""
    weight, bias = level.conv.weight, level.conv.bias
    assert bias is not None
    moved = bias + (weight[:, :, 0, 0] * added.reshape(1, -1)).sum(1)
    return weight * factor.reshape(-1, 1, 1, 1), moved * factor.reshape(-1)


def _set(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    conv.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    conv.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)


def fuse(network: Network) -> Network:
    """Return a float64 copy of `network`, in evaluation, with every batch-norm and implicit layer folded in."""
    fused = copy.deepcopy(network).double().eval()
    with torch.no_grad():
        for module in fused.modules():
            if isinstance(module, Conv) and isinstance(module.bn, nn.BatchNorm2d):
                _set(module.conv, *fold_batch_norm(module.conv, module.bn))
                module.bn = nn.Identity()
        if hasattr(fused, "ia"):
            for level, added, factor in zip(fused.levels, fused.ia, fused.im):
                _set(level.conv, *fold_implicit(level, added.implicit, factor.implicit))
            del fused.ia, fused.im
    for parameter in fused.parameters():
        parameter.requires_grad_(False)
    return fused.eval()  # the modules put in place of the folded ones were born in training mode

"""Folding batch-norm, the branches of a RepConv, and implicit layers into single convolutions.

The arithmetic is done in float64 and rounded once, so that the fused weights carry no error of their own.
"""

from __future__ import annotations

from typing import Tuple, cast

import torch
from torch import Tensor, nn

from detparity.models.module_copy import copied
from detparity.models.yolov7.blocks import BottleneckCSP, Conv, FusedRepConv, ImplicitA, ImplicitM, RepConv, Unused
from detparity.models.yolov7.network import Level, Network, unused


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


def fold_branches(block: RepConv) -> Tuple[Tensor, Tensor]:
    """Return weight and bias of the 3x3 convolution that equals the sum of the branches: a 1x1 convolution is a 3x3 one with zeros
    around it, and the identity a 1x1 one with ones on its diagonal."""
    dense, narrow = cast(nn.Sequential, block.rbr_dense), cast(nn.Sequential, block.rbr_1x1)
    weight, bias = fold_batch_norm(cast(nn.Conv2d, dense[0]), cast(nn.BatchNorm2d, dense[1]))
    pointwise, shift = fold_batch_norm(cast(nn.Conv2d, narrow[0]), cast(nn.BatchNorm2d, narrow[1]))
    weight, bias = weight + nn.functional.pad(pointwise, [1, 1, 1, 1]), bias + shift
    if block.rbr_identity is not None:
        norm = cast(nn.BatchNorm2d, block.rbr_identity)
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        bias = bias + norm.bias - norm.running_mean * scale
        groups = cast(nn.Conv2d, dense[0]).groups
        index = torch.arange(len(scale))
        weight[index, index % (len(scale) // groups), 1, 1] += scale
    return weight, bias


def _set(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    conv.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    conv.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)


def fuse(network: Network) -> Network:
    """Return a float64 copy of `network`, in evaluation, with every batch-norm, branch and implicit layer folded in, and without
    what only training uses: layers that no level reads, and auxiliary convolutions."""
    fused = copied(network)[0].double().eval()
    for index in unused(fused):
        fused.model[index] = Unused()
    with torch.no_grad():
        for module in list(fused.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, RepConv):
                    setattr(module, name, _reparameterised(child))
        for module in fused.modules():
            if isinstance(module, Conv) and isinstance(module.bn, nn.BatchNorm2d):
                _set(module.conv, *fold_batch_norm(module.conv, module.bn))
                module.bn = nn.Identity()
            if isinstance(module, BottleneckCSP) and isinstance(module.bn, nn.BatchNorm2d):
                _fold_joined(module, module.bn)
            if isinstance(module, Level):
                _fold_level(module)
    for parameter in fused.parameters():
        parameter.requires_grad_(False)
    return fused.eval()  # the modules that replace the folded ones start in training mode


def _reparameterised(block: RepConv) -> FusedRepConv:
    conv = cast(nn.Conv2d, cast(nn.Sequential, block.rbr_dense)[0])
    _set(conv, *fold_branches(block))
    return FusedRepConv(conv, block.act)


def _fold_joined(block: BottleneckCSP, bn: nn.BatchNorm2d) -> None:
    """The norm of two joined branches is one of each."""
    first = 0
    for conv in (cast(nn.Conv2d, block.cv3), cast(nn.Conv2d, block.cv2)):
        part = nn.BatchNorm2d(conv.out_channels, eps=bn.eps).to(bn.weight.dtype)
        for name, value in part.state_dict().items():
            if value.dim():
                value.copy_(bn.state_dict()[name][first : first + conv.out_channels])
        _set(conv, *fold_batch_norm(conv, part))
        first += conv.out_channels
    block.bn = nn.Identity()


def _fold_level(level: Level) -> None:
    if isinstance(level.ia, ImplicitA) and isinstance(level.im, ImplicitM):
        _set(level.conv, *fold_implicit(level, level.ia.implicit, level.im.implicit))
        level.ia, level.im = nn.Identity(), nn.Identity()
    if hasattr(level, "auxiliary"):
        del level.auxiliary

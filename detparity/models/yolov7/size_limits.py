"""Refusing a network out of a checkpoint or a table that would take more memory than any detector, before it is run.

Numbers in a pickle are cheap: a few bytes can state a convolution of a million channels, an enlargement by a thousand, or the same
layer joined to itself again and again.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Sequence, Tuple, cast

import numpy as np
from torch import nn

from detparity.core.errors import InputError
from detparity.core.pickle_interpreter import Record
from detparity.models.yolov7 import blocks
from detparity.models.yolov7.network import Network

MAX_STRIDE = 256
MAX_KERNEL = 64
MAX_POOLS = 16
# Of one layer on the smallest image: 42 times what the largest official model has at full width.
MAX_ELEMENTS = 1 << 25
# Multiplications of one pass over the smallest image, of which the largest official model has about 5 * 10^9 at full width.
MAX_WORK, COMPARISON = 1e11, 10  # and how many take as long as one comparison of a pool
# Modules of one model, and layers that its layers read: the largest official model has about 2000 and 500.
MAX_MODULES, MAX_LAYERS, MAX_READS = 20_000, 2000, 100_000
MAX_TIED, MIN_TIED = 2, 1 << 20  # how often a stored number may be used, and how many may be used freely


def require_shape(what: str, stored: object, expected: Sequence[int]) -> None:
    """Raise InputError unless the stored array has the shape its module states: arrays are bounded by the file, numbers are not."""
    found = tuple(stored.shape) if isinstance(stored, np.ndarray) else type(stored).__name__
    if found != tuple(expected):
        raise InputError(f"{what} states a weight of {tuple(expected)} and holds one of {found}")
    if 0 in expected:
        raise InputError(f"{what} states a weight of {tuple(expected)}, which has no numbers")


def require_countable(layers: Sequence[Record]) -> None:
    """Raise InputError where records describe more modules, or use their numbers more often, than any model: a record may be shared,
    and each use of it makes modules of its own."""
    if len(layers) > MAX_LAYERS:
        raise InputError(f"has {len(layers)} layers, more than {MAX_LAYERS}")
    pending: List[object] = list(layers)
    modules, used = len(layers), 0
    stored: Dict[int, int] = {}
    while pending:
        state = getattr(pending.pop(), "state", None)
        parts = state if isinstance(state, Mapping) else {}
        for kind in ("_parameters", "_buffers"):
            arrays = parts.get(kind)
            for array in arrays.values() if isinstance(arrays, Mapping) else ():
                if isinstance(array, np.ndarray):
                    used += array.size
                    address = array.__array_interface__["data"][0]
                    stored[address] = max(stored.get(address, 0), array.size)
        children = parts.get("_modules")
        below = list(children.values()) if isinstance(children, Mapping) else []
        modules += len(below)
        if modules > MAX_MODULES:
            raise InputError(f"describes more than {MAX_MODULES} modules")
        pending.extend(below)
    if used > MIN_TIED + MAX_TIED * sum(stored.values()):
        raise InputError(f"describes {used} weights by {sum(stored.values())} stored numbers")


def require_bounded(network: Network) -> None:
    """Raise InputError where one pass over the smallest image would need more than `MAX_ELEMENTS` numbers at once in some layer,
    or more than `MAX_WORK` multiplications in all, or where a layer is larger than the image."""
    largest = max(int(cast(float, level.stride)) for level in network.levels)
    if largest > MAX_STRIDE:
        raise InputError(f"the head has a stride of {largest}, more than {MAX_STRIDE}")
    work_of(network, 2 * largest)


def work_of(network: Network, side: int) -> float:
    """Multiplications of one pass over a square image of `side` pixels, at most. Raises InputError as `require_bounded` does."""
    outputs: List[Tuple[int, float]] = [(3, 1.0)]  # channels, and size as a share of the image's
    work = 0.0
    for index, (layer, reads) in enumerate(zip(network.model, network.routes)):
        block = layer.block if isinstance(layer, blocks.One) else layer
        channels, size = _output(block, [outputs[x] for x in reads])
        if size > 1:
            raise InputError(f"layer {index} is {size:g} times as large as the image")
        widest = max([channels, *(conv.out_channels for conv in block.modules() if isinstance(conv, nn.Conv2d))])
        pixels = (side * max(size, *(outputs[x][1] for x in reads))) ** 2
        if widest * pixels > MAX_ELEMENTS:
            raise InputError(f"layer {index} has {widest} channels at {size:g} of the image's size, too many to run")
        work += _work(block, widest) * pixels
        if work > MAX_WORK:
            raise InputError(f"one pass up to layer {index} takes {work:.1g} multiplications, too many to run")
        outputs.append((channels, size))
    return work


def _work(block: nn.Module, channels: int) -> float:
    """Multiplications for one pixel, at most."""
    total = float(channels)
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            total += module.weight.numel()
        elif isinstance(module, nn.MaxPool2d):
            total += COMPARISON * channels * float(cast(int, module.kernel_size)) ** 2
    return total


def _output(block: nn.Module, reads: Sequence[Tuple[int, float]]) -> Tuple[int, float]:
    """Channels and size a layer gives, from those it reads."""
    channels, size = reads[0]
    convs = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
    if isinstance(block, blocks.Concat):
        return sum(count for count, _ in reads), size
    if isinstance(block, blocks.ReOrg):
        return 4 * channels, size / 2
    if isinstance(block, blocks.Upsample):
        return channels, size * block.factor
    if isinstance(block, blocks.MaxPool):
        return channels, size / float(cast(int, block.m.stride))
    if isinstance(block, blocks.DownC):
        return convs[1].out_channels + convs[2].out_channels, size / convs[1].stride[0]
    if isinstance(block, blocks.Stem):
        return convs[3].out_channels, size / convs[0].stride[0] / convs[2].stride[0]
    if isinstance(block, (blocks.Conv, blocks.RepConv, blocks.FusedRepConv)):
        return convs[0].out_channels, size / convs[0].stride[0]
    if isinstance(block, blocks.Focus):
        return convs[0].out_channels, size / 2 / convs[0].stride[0]
    if isinstance(block, blocks.GhostConv):
        return convs[0].out_channels + convs[1].out_channels, size / convs[0].stride[0]
    if isinstance(block, blocks.GhostBottleneck):
        return _last(cast(nn.Sequential, block.conv), reads)
    if isinstance(block, nn.Sequential):
        return _last(block, reads)
    if isinstance(block, blocks.CSPA):
        return _output(cast(nn.Module, block.cv3), reads)
    return (convs[-1].out_channels if convs else channels), size


def _last(row: nn.Sequential, reads: Sequence[Tuple[int, float]]) -> Tuple[int, float]:
    """Channels and size of the last of several blocks."""
    found = reads[0]
    for block in row:
        found = _output(block, [found])
    return found

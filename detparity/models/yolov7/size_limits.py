"""Refusing a network out of a checkpoint or a table that would take more memory than any detector, before it is run.

Numbers in a pickle are cheap: a few bytes can state a convolution of a million channels, an enlargement by a thousand, or the same
layer joined to itself again and again.
"""

from __future__ import annotations

from typing import List, Sequence, Tuple, cast

import numpy as np
from torch import nn

from detparity.core.errors import InputError
from detparity.models.yolov7 import blocks
from detparity.models.yolov7.network import Network

MAX_STRIDE = 256
MAX_KERNEL = 64
MAX_POOLS = 16
MAX_ELEMENTS = (
    1 << 27
)  # of one layer on the smallest image, 170 times what the largest official model has at full width


def require_shape(what: str, stored: object, expected: Sequence[int]) -> None:
    """Raise InputError unless the stored array has the shape its module states: arrays are bounded by the file, numbers are not."""
    found = tuple(stored.shape) if isinstance(stored, np.ndarray) else type(stored).__name__
    if found != tuple(expected):
        raise InputError(f"{what} states a weight of {tuple(expected)} and holds one of {found}")


def require_bounded(network: Network) -> None:
    """Raise InputError where one pass over the smallest image would need more than `MAX_ELEMENTS` numbers at once in some layer,
    or where a layer is larger than the image."""
    largest = max(int(cast(float, level.stride)) for level in network.levels)
    if largest > MAX_STRIDE:
        raise InputError(f"the head has a stride of {largest}, more than {MAX_STRIDE}")
    outputs: List[Tuple[int, float]] = [(3, 1.0)]  # channels, and size as a share of the image's
    for index, (layer, reads) in enumerate(zip(network.model, network.routes)):
        block = layer.block if isinstance(layer, blocks.One) else layer
        channels, size = _output(block, [outputs[x] for x in reads])
        if size > 1:
            raise InputError(f"layer {index} is {size:g} times as large as the image")
        widest = max([channels, *(conv.out_channels for conv in block.modules() if isinstance(conv, nn.Conv2d))])
        if widest * (2 * largest * max(size, *(outputs[x][1] for x in reads))) ** 2 > MAX_ELEMENTS:
            raise InputError(f"layer {index} has {widest} channels at {size:g} of the image's size, too many to run")
        outputs.append((channels, size))


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
    return (convs[-1].out_channels if convs else channels), size

"""Where backbone, neck and head of a network begin, found from how its layers are connected, not from their names.

The head is the convolution of each level. The neck begins after the coarsest stage of the backbone, that is the last layer that
halves before anything is enlarged, and the first block after it that all of what leads to that first enlargement passes through.
So the pyramid of pools and the layers that carry the finer stages over belong to the neck, as do the layers just before the heads. On
every published architecture the neck begins with the pyramid; in yolov3 with the block that narrows the last stage.
"""

from __future__ import annotations

from typing import List, Sequence, Set, Tuple

from torch import nn

from detparity.core.vocabulary import Layer
from detparity.models.yolov7.blocks import Concat, One, ReOrg, Upsample
from detparity.models.yolov7.network import Ensemble, Network, member_of


def layers_of(network: Network) -> Tuple[Layer, ...]:
    """The layers in the order they run, after all of them the head of each member of an ensemble."""
    members = network.members if isinstance(network, Ensemble) else [(len(network.model), len(network.levels))]
    layers: List[Layer] = []
    heads: List[Layer] = []
    for count, levels in members:
        first, begun = len(layers), sum(len(head.reads) for head in heads)
        last = last_of_backbone(network, range(first, first + count))
        prefix, _, _ = member_of(network, "levels", begun)
        for index in range(first, first + count):
            stage = "backbone" if index <= last else "neck"
            name = f"{prefix}model.{index - first}"
            layers.append(Layer(name, _kind(_block(network, index)), tuple(network.routes[index]), stage))
        taps = tuple(network.taps[begun : begun + levels])
        heads.append(Layer(f"{prefix}model.{count}", "Detect", taps, "head"))
    return (*layers, *heads)


def last_of_backbone(network: Network, layers: range) -> int:
    """The index of the last layer of the backbone among `layers`, one network's; all are backbone where nothing is enlarged."""
    enlarging = next((i for i in layers if isinstance(_block(network, i), Upsample)), None)
    if enlarging is None:
        return layers[-1]
    before = _before(network.routes, enlarging)
    halving = max((i for i in before if _halves(_block(network, i))), default=layers[0])
    passed = (
        i
        for i in before
        if i > halving and not isinstance(_block(network, i), Concat) and not _bypassed(network.routes, before, i)
    )
    return next(passed, halving)


def _before(routes: Sequence[Sequence[int]], index: int) -> List[int]:
    """The layers that layer `index` depends on, in order."""
    found: Set[int] = set()
    waiting = [index]
    while waiting:
        new = {j - 1 for j in routes[waiting.pop()] if j} - found
        found |= new
        waiting.extend(new)
    return sorted(found)


def _bypassed(routes: Sequence[Sequence[int]], layers: Sequence[int], index: int) -> bool:
    """Whether one of `layers` after `index` reads past it."""
    return any(j <= index for later in layers if later > index for j in routes[later])


def _block(network: Network, index: int) -> nn.Module:
    layer = network.model[index]
    return layer.block if isinstance(layer, One) else layer


def _halves(block: nn.Module) -> bool:
    moving = [module for module in block.modules() if isinstance(module, (nn.Conv2d, nn.MaxPool2d))]
    return isinstance(block, ReOrg) or any(_first(module.stride) > 1 for module in moving)


def _first(stride: object) -> int:
    return int(stride[0]) if isinstance(stride, (tuple, list)) else int(stride)  # type: ignore[call-overload]


def _kind(block: nn.Module) -> str:
    return type(block[0] if isinstance(block, nn.Sequential) else block).__name__

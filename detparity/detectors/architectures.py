"""The family's architectures in our own terms: functions that draw a network on a `Plan`.

A plan hands out handles: 0 is the image, k the output of layer k - 1. `suites/checkpoint` checks each plan against the published
layer tables, module by module and parameter by parameter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from torch import nn

from detparity.detectors import blocks
from detparity.detectors.network import Level, Network
from detparity.errors import InputError

P5_ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)


@dataclass
class Plan:
    """A network being drawn: `steps` are (kind, what it reads, arguments); channel counts follow `width`."""

    width: float
    activation: Callable[[], nn.Module]
    steps: List[Tuple[str, Tuple[int, ...], Tuple[Any, ...]]] = field(default_factory=list)
    channels: List[int] = field(default_factory=lambda: [3])
    strides: List[int] = field(default_factory=lambda: [1])
    taps: Tuple[int, ...] = ()
    head: str = ""

    def _add(self, kind: str, reads: Sequence[int], args: Tuple[Any, ...], channels: int, scale: float = 1) -> int:
        self.steps.append((kind, tuple(reads), args))
        self.channels.append(channels)
        self.strides.append(int(self.strides[reads[0]] * scale))
        return len(self.steps)

    def conv(self, x: int, channels: int, kernel: int = 1, stride: int = 1) -> int:
        """Convolution block; `channels` before the width factor, then rounded up to a multiple of 8."""
        scaled = math.ceil(channels * self.width / 8) * 8
        return self._add("Conv", [x], (self.channels[x], scaled, kernel, stride), scaled, stride)

    def concat(self, *xs: int) -> int:
        return self._add("Concat", xs, (1,), sum(self.channels[x] for x in xs))

    def halve(self, x: int) -> int:
        """2x2 max-pool."""
        return self._add("MP", [x], (), self.channels[x], 2)

    def pool(self, x: int, kernel: int) -> int:
        """Same-size max-pool."""
        return self._add("SP", [x], (kernel,), self.channels[x])

    def enlarge(self, x: int) -> int:
        """Nearest-neighbour enlargement by two."""
        return self._add("nn.Upsample", [x], (2,), self.channels[x], 0.5)

    def detect(self, kind: str, *xs: int) -> None:
        """End the plan with a head of this kind reading these layers, one per level."""
        self.head, self.taps = kind, xs


def _elan_tiny(p: Plan, x: int, width: int, out: int) -> int:
    """Two 1x1 branches, two 3x3 steps on the second, all four gathered into `out` channels."""
    left = p.conv(x, width)
    right = p.conv(x, width)
    first = p.conv(right, width, 3)
    second = p.conv(first, width, 3)
    return p.conv(p.concat(second, first, right, left), out)


def _pyramid_tiny(p: Plan, x: int, width: int) -> int:
    """Spatial pyramid of pools 5, 9, 13 on one branch, joined with the other."""
    side = p.conv(x, width)
    main = p.conv(x, width)
    pools = [p.pool(main, kernel) for kernel in (5, 9, 13)]
    gathered = p.conv(p.concat(*reversed(pools), main), width)
    return p.conv(p.concat(gathered, side), width)


def _up_tiny(p: Plan, x: int, skip: int, width: int) -> int:
    """Enlarge `x` and join it with the finer `skip`."""
    above = p.enlarge(p.conv(x, width))
    return _elan_tiny(p, p.concat(p.conv(skip, width), above), width // 2, width)


def _down_tiny(p: Plan, x: int, skip: int, width: int) -> int:
    """Halve `x` and join it with the coarser `skip`."""
    return _elan_tiny(p, p.concat(p.conv(x, width, 3, 2), skip), width // 2, width)


def _tiny(p: Plan, head: str) -> None:
    x = p.conv(p.conv(0, 32, 3, 2), 64, 3, 2)
    x = _elan_tiny(p, x, 32, 64)
    c3 = _elan_tiny(p, p.halve(x), 64, 128)
    c4 = _elan_tiny(p, p.halve(c3), 128, 256)
    c5 = _elan_tiny(p, p.halve(c4), 256, 512)
    top = _pyramid_tiny(p, c5, 256)
    mid = _up_tiny(p, top, c4, 128)
    p3 = _up_tiny(p, mid, c3, 64)
    p4 = _down_tiny(p, p3, mid, 128)
    p5 = _down_tiny(p, p4, top, 256)
    p.detect(head, p.conv(p3, 128, 3), p.conv(p4, 256, 3), p.conv(p5, 512, 3))


@dataclass(frozen=True)
class Architecture:
    """A named plan with its anchors (pixels), activation and head."""

    draw: Callable[[Plan], None]
    anchors: Tuple[Tuple[Tuple[int, int], ...], ...]
    activation: Callable[[], nn.Module]


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.1)


ARCHITECTURES: Mapping[str, Architecture] = {
    "deploy-yolov7-tiny": Architecture(lambda p: _tiny(p, "Detect"), P5_ANCHORS, _leaky),
    "training-yolov7-tiny": Architecture(lambda p: _tiny(p, "IDetect"), P5_ANCHORS, _leaky),
}
ALIASES: Mapping[str, str] = {"yolov7-tiny": "deploy-yolov7-tiny"}


def plan(name: str, width: float = 1.0) -> Plan:
    """Draw the architecture called `name` (or an alias) with its channels multiplied by `width`.

    Raises InputError for an unknown name or a width outside (0, 4].
    """
    full = ALIASES.get(name, name)
    if full not in ARCHITECTURES:
        raise InputError(f"unknown architecture {name!r}: known are {', '.join(sorted({*ARCHITECTURES, *ALIASES}))}")
    if not 0 < width <= 4:
        raise InputError(f"width {width:g} is outside 0 to 4")
    drawn = Plan(width, ARCHITECTURES[full].activation)
    ARCHITECTURES[full].draw(drawn)
    return drawn


def _block(kind: str, args: Tuple[Any, ...], activation: Callable[[], nn.Module]) -> nn.Module:
    makers: Dict[str, Callable[..., nn.Module]] = {
        "Conv": lambda c1, c2, kernel, stride: blocks.Conv(c1, c2, kernel, stride, act=activation()),
        "Concat": blocks.Concat,
        "MP": lambda: blocks.MaxPool(2, 2),
        "SP": lambda kernel: blocks.MaxPool(kernel, 1),
        "nn.Upsample": blocks.Upsample,
    }
    return makers[kind](*args)


def build(name: str, width: float = 1.0, classes: int = 80, drawn: Optional[Plan] = None) -> Network:
    """Return an untrained network of this architecture, in the state the modules are born in."""
    import torch

    p = drawn or plan(name, width)
    architecture = ARCHITECTURES[ALIASES.get(name, name)]
    levels = [
        Level(p.channels[tap], 5 + classes, torch.tensor(anchors, dtype=torch.float32), p.strides[tap])
        for tap, anchors in zip(p.taps, architecture.anchors)
    ]
    made = [_block(kind, args, p.activation) for kind, _, args in p.steps]
    return Network(made, [reads for _, reads, _ in p.steps], p.taps, levels, implicit=p.head == "IDetect")

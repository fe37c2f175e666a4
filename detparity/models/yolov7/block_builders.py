"""Blocks from channel counts: what each kind of layer is made of, by the names that layer tables use.

The arguments are those of the tables, with the channels a layer reads put first and, for what repeats inside itself, the number
of repeats third.
"""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple, Union

from torch import nn

from detparity.models.compat import activations
from detparity.models.yolov7 import blocks
from detparity.models.yolov7.blocks import BN_EPS, BN_MOMENTUM, Conv
from detparity.models.yolov7.size_limits import MAX_KERNEL, MAX_POOLS

POOLS = (5, 9, 13)
ACTIVATIONS: Mapping[str, Callable[..., nn.Module]] = {
    "SiLU": activations.silu,
    "Hardswish": activations.hardswish,
    "LeakyReLU": nn.LeakyReLU,
    "ReLU": nn.ReLU,
    "Identity": nn.Identity,
}
_ACTIVATION = re.compile(
    r"(?:nn\.)?(\w+)\(\s*(?:(?:negative_slope\s*=\s*)?([0-9.e+-]+))?\s*(?:,?\s*inplace\s*=\s*\w+)?\s*\)"
)

Act = Union[None, bool, str]


def activation(given: Act) -> nn.Module:
    """Return the activation a table names: None and True are SiLU, False is none, else as in `nn.LeakyReLU(0.1)`.

    Raises ValueError for one that is not known.
    """
    if given is None or given is True:
        return activations.silu()
    if given is False:
        return nn.Identity()
    found = _ACTIVATION.fullmatch(given.strip()) if isinstance(given, str) else None
    if not found or found[1] not in ACTIVATIONS or (found[2] and found[1] != "LeakyReLU"):
        raise ValueError(f"the activation {given!r} is not known: known are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[found[1]](*([float(found[2])] if found[2] else []))


def square(size: Any) -> Any:
    """The side of a kernel given as one number or as equal ones. Raises ValueError for others."""
    sides = list(size) if isinstance(size, (list, tuple)) else [size]
    if not sides or any(side != sides[0] for side in sides):
        raise ValueError(f"a kernel of {size} is not square")
    return sides[0]


def conv(
    c1: int,
    c2: int,
    kernel: int = 1,
    stride: int = 1,
    padding: Optional[int] = None,
    groups: int = 1,
    act: Act = None,
) -> nn.Module:
    if c1 % groups or c2 % groups:
        raise ValueError(f"{c1} to {c2} channels do not divide into {groups} groups")
    return Conv(c1, c2, kernel, stride, padding, groups, activation(act))


def rep_conv(
    c1: int,
    c2: int,
    kernel: int = 3,
    stride: int = 1,
    padding: Optional[int] = None,
    groups: int = 1,
    act: Act = None,
) -> nn.Module:
    if kernel != 3 or padding not in (None, 1):
        raise ValueError("a RepConv has a kernel of 3 and a padding of 1")

    def branch(size: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(c1, c2, size, stride, size // 2, groups=groups, bias=False), norm(c2))

    identity = norm(c1) if c1 == c2 and stride == 1 else None
    return blocks.RepConv(branch(3), branch(1), identity, activation(act))


def norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=BN_EPS, momentum=BN_MOMENTUM)


def _pools(kernels: Sequence[int]) -> nn.ModuleList:
    return nn.ModuleList([nn.MaxPool2d(kernel, 1, kernel // 2) for kernel in kernels])


def halving(kernel: int = 2) -> nn.Module:
    return blocks.MaxPool(kernel, kernel)


def stem(c1: int, c2: int) -> nn.Module:
    half = c2 // 2
    return blocks.Stem(
        cv1=Conv(c1, half, 3, 2),
        cv2=Conv(half, half),
        cv3=Conv(half, half, 3, 2),
        cv4=Conv(2 * half, c2),
        pool=nn.MaxPool2d(2, 2),
    )


def down_c(c1: int, c2: int, count: int = 1, kernel: int = 2) -> nn.Module:
    return blocks.DownC(
        cv1=Conv(c1, c1), cv2=Conv(c1, c2 // 2, 3, kernel), cv3=Conv(c1, c2 // 2), mp=nn.MaxPool2d(kernel, kernel)
    )


def spp(c1: int, c2: int, kernels: Sequence[int] = POOLS) -> nn.Module:
    return blocks.SPP(Conv(c1, c1 // 2), Conv(c1 // 2 * (len(kernels) + 1), c2), _pools(kernels))


def sppf(c1: int, c2: int, kernel: int = 5) -> nn.Module:
    return blocks.SPPF(Conv(c1, c1 // 2), Conv(c1 // 2 * 4, c2), nn.MaxPool2d(kernel, 1, kernel // 2))


def focus(
    c1: int,
    c2: int,
    kernel: int = 1,
    stride: int = 1,
    padding: Optional[int] = None,
    groups: int = 1,
    act: Act = None,
) -> nn.Module:
    return blocks.Focus(conv(4 * c1, c2, kernel, stride, padding, groups, act))


def depthwise(c1: int, c2: int, kernel: int = 1, stride: int = 1, act: Act = None) -> nn.Module:
    return Conv(c1, c2, kernel, stride, None, math.gcd(c1, c2), activation(act))


def ghost_conv(
    c1: int, c2: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: Act = None
) -> blocks.GhostConv:
    half = c2 // 2
    return blocks.GhostConv(
        conv(c1, half, kernel, stride, None, groups, act), Conv(half, half, 5, groups=half, act=activation(act))
    )


def ghost_bottleneck(c1: int, c2: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    half = c2 // 2
    halved = stride == 2
    main = nn.Sequential(
        ghost_conv(c1, half),
        depthwise(half, half, kernel, stride, False) if halved else nn.Identity(),
        ghost_conv(half, c2, act=False),
    )
    side = nn.Sequential(depthwise(c1, c1, kernel, stride, False), conv(c1, c2, act=False))
    return blocks.GhostBottleneck(main, side if halved else nn.Identity())


def c3(c1: int, c2: int, count: int = 1, shortcut: bool = True, groups: int = 1, narrow: float = 0.5) -> nn.Module:
    half = int(c2 * narrow)
    m = nn.Sequential(*[bottleneck(half, half, shortcut, groups, 1.0) for _ in range(count)])
    return blocks.C3(Conv(c1, half), Conv(c1, half), Conv(2 * half, c2), m)


def c3_spp(c1: int, c2: int, kernels: Sequence[int] = POOLS) -> nn.Module:
    half = c2 // 2
    return blocks.C3(Conv(c1, half), Conv(c1, half), Conv(2 * half, c2), spp(half, half, kernels))


def c3_ghost(c1: int, c2: int, count: int = 1) -> nn.Module:
    half = c2 // 2
    m = nn.Sequential(*[ghost_bottleneck(half, half) for _ in range(count)])
    return blocks.C3(Conv(c1, half), Conv(c1, half), Conv(2 * half, c2), m)


def bottleneck_csp(c1: int, c2: int, count: int = 1, shortcut: bool = True) -> nn.Module:
    half = c2 // 2
    return blocks.BottleneckCSP(
        cv1=Conv(c1, half),
        cv2=nn.Conv2d(c1, half, 1, bias=False),
        cv3=nn.Conv2d(half, half, 1, bias=False),
        cv4=Conv(2 * half, c2),
        bn=norm(2 * half),
        act=activation(None),
        m=nn.Sequential(*[bottleneck(half, half, shortcut, 1, 1.0) for _ in range(count)]),
    )


def sppcspc(c1: int, c2: int, count: int = 1) -> nn.Module:
    return blocks.SPPCSPC(
        cv1=Conv(c1, c2),
        cv2=Conv(c1, c2),
        cv3=Conv(c2, c2, 3),
        cv4=Conv(c2, c2),
        cv5=Conv((1 + len(POOLS)) * c2, c2),
        cv6=Conv(c2, c2, 3),
        cv7=Conv(2 * c2, c2),
        m=_pools(POOLS),
    )


def bottleneck(c1: int, c2: int, shortcut: bool = True, groups: int = 1, narrow: float = 0.5) -> nn.Module:
    inner = int(c2 * narrow)
    return blocks.Bottleneck(Conv(c1, inner), Conv(inner, c2, 3, groups=groups), shortcut and c1 == c2)


def res(c1: int, c2: int, shortcut: bool = True, groups: int = 1, narrow: float = 0.5) -> nn.Module:
    inner = int(c2 * narrow)
    if inner % groups:
        raise ValueError(f"{inner} channels do not divide into {groups} groups")
    return blocks.Res(
        cv1=Conv(c1, inner),
        cv2=Conv(inner, inner, 3, groups=groups),
        cv3=Conv(inner, c2),
        add=shortcut and c1 == c2,
    )


def res_x(c1: int, c2: int, shortcut: bool = True, groups: int = 32, narrow: float = 0.5) -> nn.Module:
    return res(c1, c2, shortcut, groups, narrow)


def _csp(
    form: str, inner: Callable[..., nn.Module], narrow: float, groups: int = 1, adds: bool = True
) -> Callable[..., nn.Module]:
    """A maker of cross-stage partial blocks over `count` inner blocks. adds: whether those add their input unless given."""

    def make(c1: int, c2: int, count: int = 1, shortcut: bool = adds) -> nn.Module:
        half = c2 if form == "B" else c2 // 2
        m = nn.Sequential(*[inner(half, half, shortcut, groups, narrow) for _ in range(count)])
        if form == "A":
            return blocks.CSPA(Conv(c1, half), Conv(c1, half), Conv(2 * half, c2), m)
        if form == "B":
            return blocks.CSPB(Conv(c1, half), Conv(half, half), Conv(2 * half, c2), m)
        return blocks.CSPC(Conv(c1, half), Conv(c1, half), Conv(half, half), Conv(2 * half, c2), m)

    return make


def upsample(size: None = None, factor: float = 2, mode: str = "nearest") -> nn.Module:
    if size is not None or mode != "nearest" or float(factor) != int(factor):
        raise ValueError(f"enlarging to {size} by {factor} in the mode {mode!r} is not known")
    return blocks.Upsample(int(factor))


def concat(dimension: int = 1) -> nn.Module:
    if dimension != 1:
        raise ValueError(f"layers are joined along channels (1), not along {dimension}")
    return blocks.Concat(1)  # a table may say True


def reorg() -> nn.Module:
    return blocks.ReOrg()


def shortcut(dimension: int = 1) -> nn.Module:
    return blocks.Shortcut()


# What numbers a table may give, from and to.
RANGES = {"stride": (1, MAX_KERNEL), "padding": (0, MAX_KERNEL), "groups": (1, 1 << 16), "kernel": (1, MAX_KERNEL)}


def _integer(name: str, value: Any, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"a {name} of {value!r} is no integer from {low} to {high}")
    return value


@dataclass(frozen=True)
class Kind:
    """make: the maker; widened: whether its first argument is the number of channels it gives; counted: whether a repeat count
    goes to the block itself; joins: whether it reads several layers; strides: pixels it takes for one, from its arguments."""

    make: Callable[..., nn.Module]
    widened: bool = True
    counted: bool = False
    joins: bool = False
    strides: Callable[[Mapping[str, Any]], float] = lambda args: 1

    def bind(self, *arguments: Any) -> Dict[str, Any]:
        """Arguments by name, defaults included. Raises TypeError for too many, ValueError for what no block can have."""
        bound = inspect.signature(self.make).bind(*arguments)
        bound.apply_defaults()
        found = dict(bound.arguments)
        for name, (low, high) in RANGES.items():
            if name in found and not (name == "padding" and found[name] is None):
                found[name] = _integer(name, square(found[name]) if name == "kernel" else found[name], low, high)
        if "kernels" in found:
            if not isinstance(found["kernels"], (list, tuple)) or not 1 <= len(found["kernels"]) <= MAX_POOLS:
                raise ValueError(f"{found['kernels']!r} are no 1 to {MAX_POOLS} kernels")
            found["kernels"] = tuple(_integer("kernel", kernel, 1, MAX_KERNEL) for kernel in found["kernels"])
        if "narrow" in found and not 0 < float(found["narrow"]) <= 4:
            raise ValueError(f"an inner width of {found['narrow']!r} is not in 0 to 4")
        if not isinstance(found.get("shortcut", True), bool):
            raise ValueError(f"{found['shortcut']!r} is no yes or no")
        return found


def _stride(arguments: Mapping[str, Any]) -> float:
    return float(arguments["stride"])


def _kernel(arguments: Mapping[str, Any]) -> float:
    return float(arguments["kernel"])


def _same_size(kernel: int = 3, stride: int = 1) -> nn.Module:
    if kernel % 2 == 0 or stride != 1:
        raise ValueError(f"a pool of {kernel} with stride {stride} does not keep the size")
    return blocks.MaxPool(kernel, 1)


KINDS: Mapping[str, Kind] = {
    "Conv": Kind(conv, strides=_stride),
    "RepConv": Kind(rep_conv, strides=_stride),
    "Stem": Kind(stem, strides=lambda args: 4),
    "DownC": Kind(down_c, counted=True, strides=_kernel),
    "SPP": Kind(spp),
    "SPPF": Kind(sppf),
    "Focus": Kind(focus, strides=lambda args: 2 * _stride(args)),
    "DWConv": Kind(depthwise, strides=_stride),
    "GhostConv": Kind(ghost_conv, strides=_stride),
    "GhostBottleneck": Kind(ghost_bottleneck, strides=_stride),
    "C3": Kind(c3, counted=True),
    "C3SPP": Kind(c3_spp),
    "C3Ghost": Kind(c3_ghost, counted=True),
    "BottleneckCSP": Kind(bottleneck_csp, counted=True),
    "SPPCSPC": Kind(sppcspc, counted=True),
    "Bottleneck": Kind(bottleneck),
    "Res": Kind(res),
    "ResX": Kind(res_x),
    "BottleneckCSPA": Kind(_csp("A", bottleneck, 1.0), counted=True),
    "BottleneckCSPB": Kind(_csp("B", bottleneck, 1.0, adds=False), counted=True),
    "BottleneckCSPC": Kind(_csp("C", bottleneck, 1.0), counted=True),
    **{f"ResCSP{form}": Kind(_csp(form, res, 0.5), counted=True) for form in "ABC"},
    **{f"ResXCSP{form}": Kind(_csp(form, res, 1.0, groups=32), counted=True) for form in "ABC"},
    "MP": Kind(halving, widened=False, strides=_kernel),
    "SP": Kind(_same_size, widened=False),
    "ReOrg": Kind(reorg, widened=False, strides=lambda args: 2),
    "nn.Upsample": Kind(upsample, widened=False, strides=lambda args: 1 / args["factor"]),
    "Concat": Kind(concat, widened=False, joins=True),
    "Shortcut": Kind(shortcut, widened=False, joins=True),
}
HEADS: Tuple[str, ...] = ("Detect", "IDetect", "IAuxDetect")

"""The family's architectures in our own terms: functions that draw a network on a `Plan`.

Handles: 0 is the image, k the output of layer k - 1. `tests/models/yolov7` checks each plan against the published layer tables,
layer by layer. Three lineages: ELAN networks (tiny, P5, P6) and the cross-stage partial and residual ones they are compared with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple

from detparity.core.errors import InputError
from detparity.models.yolov7 import plan as plans
from detparity.models.yolov7.network import Network
from detparity.models.yolov7.plan import Anchors, Plan

# Widths and heights in pixels: three boxes a level, from the finest level to the coarsest.
P5_ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
CSP_ANCHORS = (
    ((12, 16), (19, 36), (40, 28)),
    ((36, 75), (76, 55), (72, 146)),
    ((142, 110), (192, 243), (459, 401)),
)
P6_ANCHORS = (
    ((19, 27), (44, 40), (38, 94)),
    ((96, 68), (86, 152), (180, 137)),
    ((140, 301), (303, 264), (238, 542)),
    ((436, 615), (739, 380), (925, 792)),
)

# --- ELAN: two 1x1 branches, a chain of 3x3 convolutions on the second, some of all that gathered


def _elan(p: Plan, x: int, width: int, out: int, length: int, step: int = 0, every: int = 2) -> int:
    """width: of the branches; step: of the chain, as the branches unless given; every: how many of the chain are gathered, all
    (1) or each second one from its end (2)."""
    left = p.conv(x, width)
    chain = [p.conv(x, width)]
    for _ in range(length):
        chain.append(p.conv(chain[-1], step or width, 3))
    return p.conv(p.concat(*chain[::-every], left), out)


# --- tiny


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
    return _elan(p, p.concat(p.conv(skip, width), above), width // 2, width, 2, every=1)


def _down_tiny(p: Plan, x: int, skip: int, width: int) -> int:
    """Halve `x` and join it with the coarser `skip`."""
    return _elan(p, p.concat(p.conv(x, width, 3, 2), skip), width // 2, width, 2, every=1)


def _tiny(p: Plan, head: str) -> None:
    x = p.conv(p.conv(0, 32, 3, 2), 64, 3, 2)
    x = _elan(p, x, 32, 64, 2, every=1)
    c3, c4, c5 = [x := _elan(p, p.halve(x), width, 2 * width, 2, every=1) for width in (64, 128, 256)]
    top = _pyramid_tiny(p, c5, 256)
    mid = _up_tiny(p, top, c4, 128)
    p3 = _up_tiny(p, mid, c3, 64)
    p4 = _down_tiny(p, p3, mid, 128)
    p5 = _down_tiny(p, p4, top, 256)
    p.detect(head, [p.conv(p3, 128, 3), p.conv(p4, 256, 3), p.conv(p5, 512, 3)])


# --- P5: yolov7 and yolov7x


def _halve_twice(p: Plan, x: int, width: int, *more: int) -> int:
    """A max-pool on one branch, a strided convolution on the other, joined, with whatever else is given."""
    pooled = p.conv(p.halve(x), width)
    strided = p.conv(p.conv(x, width), width, 3, 2)
    return p.concat(strided, pooled, *more)


def _p5(p: Plan, head: str, base: int, length: int, narrow: bool, out: str) -> None:
    """base: channels of the first layer; length: of the chains; narrow: whether the neck's chains are half as wide, and gathered
    in full; out: the block before the head."""

    def neck(x: int, width: int, channels: int) -> int:
        return _elan(p, x, width, channels, length, width // 2 if narrow else width, 1 if narrow else 2)

    x = p.conv(p.conv(p.conv(p.conv(0, base, 3), 2 * base, 3, 2), 2 * base, 3), 4 * base, 3, 2)
    x = _elan(p, x, 64, 8 * base, length)
    c3 = _elan(p, _halve_twice(p, x, 4 * base), 128, 16 * base, length)
    c4 = _elan(p, _halve_twice(p, c3, 8 * base), 256, 32 * base, length)
    c5 = _elan(p, _halve_twice(p, c4, 16 * base), 256, 32 * base, length)
    top = p.add("SPPCSPC", [c5], 16 * base)
    mid = neck(_joined_up(p, top, c4, 8 * base), 256, 8 * base)
    p3 = neck(_joined_up(p, mid, c3, 4 * base), 128, 4 * base)
    p4 = neck(_halve_twice(p, p3, 4 * base, mid), 256, 8 * base)
    p5 = neck(_halve_twice(p, p4, 8 * base, top), 512, 16 * base)
    p.detect(head, [p.add(out, [x], channels * base, 3, 1) for x, channels in ((p3, 8), (p4, 16), (p5, 32))])


def _joined_up(p: Plan, x: int, skip: int, width: int) -> int:
    """Enlarge `x` and join it with the finer `skip`, both as wide."""
    above = p.enlarge(p.conv(x, width))
    return p.concat(p.conv(skip, width), above)


# --- P6: yolov7-w6, -e6, -d6, -e6e


def _p6(p: Plan, head: str, base: int, length: int, down: str, twice: bool = False, aux: int = 0) -> None:
    """base: channels of the first layer; length: of the chains; down: the block that halves; twice: two ELANs side by side, added;
    aux: base of the auxiliary layers of a training head, which read one ELAN of each level and the top."""
    spare: List[int] = []

    def elan(x: int, width: int, out: int, step: int = 0, every: int = 2) -> int:
        first = _elan(p, x, width, out, length, step, every)
        if not twice:
            spare.append(first)
            return first
        second = _elan(p, x, width, out, length, step, every)
        spare.append(second)
        return p.add("Shortcut", [second, first], 1)

    def halved(x: int, channels: int) -> int:
        return p.conv(x, channels, 3, 2) if down == "Conv" else p.add(down, [x], channels)

    x = p.conv(p.add("ReOrg", [0]), base, 3)
    stages = []
    for factor, width in ((2, 64), (4, 128), (8, 256), (12, 384), (16, 512)):
        x = elan(halved(x, factor * base), width, factor * base)
        stages.append(x)
    top = x = p.add("SPPCSPC", [x], 8 * base)
    ups = []
    for skip, factor, width in zip(stages[3:0:-1], (6, 4, 2), (384, 256, 128)):
        x = elan(_joined_up(p, x, skip, factor * base), width, factor * base, width // 2, 1)
        ups.append(x)
    beside = [*reversed(spare[-3:]), top]
    outs = [x]
    for skip, factor, width in ((ups[1], 4, 256), (ups[0], 6, 384), (top, 8, 512)):
        x = elan(p.concat(halved(x, factor * base), skip), width, factor * base, width // 2, 1)
        outs.append(x)
    factors = (4, 8, 12, 16)
    taps = [p.conv(x, factor * base, 3) for x, factor in zip(outs, factors)]
    p.detect(head, taps, [p.conv(x, factor * aux, 3) for x, factor in zip(beside, factors)] if aux else ())


# --- cross-stage partial and residual networks


def _repeated(p: Plan, x: int, kind: str, channels: int, count: int) -> int:
    return p.add(kind, [x], channels, repeat=count)


def _csp_p5(p: Plan, head: str, stem: Callable[[Plan], int], kinds: Tuple[str, str], counts: Sequence[int]) -> None:
    """stem: draws up to stride 4; kinds: the block of the backbone and that of the neck; counts: backbone blocks by stage."""
    body, neck = kinds
    x, stages = stem(p), []
    for channels, count in zip((256, 512, 1024), counts):
        x = _repeated(p, p.conv(x, channels, 3, 2), body, channels, count)
        stages.append(x)
    top = p.add("SPPCSPC", [x], 512)
    mid = _repeated(p, _joined_up(p, top, stages[1], 256), neck, 256, 2)
    x = _repeated(p, _joined_up(p, mid, stages[0], 128), neck, 128, 2)
    taps = [p.conv(x, 256, 3)]
    for skip, channels in ((mid, 256), (top, 512)):
        x = _repeated(p, p.concat(p.conv(x, channels, 3, 2), skip), neck, channels, 2)
        taps.append(p.conv(x, 2 * channels, 3))
    p.detect(head, taps)


def _darknet_stem(p: Plan, body: str) -> int:
    """To stride 4, as Darknet begins."""
    x = p.add("Bottleneck", [p.conv(p.conv(0, 32, 3), 64, 3, 2)], 64)
    return _repeated(p, p.conv(x, 128, 3, 2), body, 128, 2)


def _csp_darknet(p: Plan, head: str) -> None:
    kinds = ("BottleneckCSPC", "BottleneckCSPB")
    _csp_p5(p, head, lambda p: _darknet_stem(p, kinds[0]), kinds, (8, 8, 4))


def _resnet(p: Plan, head: str, res: str) -> None:
    kinds = (f"{res}CSPC", f"{res}CSPB")
    _csp_p5(p, head, lambda p: _repeated(p, p.add("Stem", [0], 128), kinds[0], 128, 3), kinds, (4, 6, 3))


def _darknet(p: Plan, head: str, pyramid: bool) -> None:
    """yolov3, with or without a spatial pyramid."""
    x, stages = _darknet_stem(p, "Bottleneck"), []
    for channels, count in ((256, 8), (512, 8), (1024, 4)):
        x = _repeated(p, p.conv(x, channels, 3, 2), "Bottleneck", channels, count)
        stages.append(x)
    x = p.add("Bottleneck", [x], 1024, False)
    x = p.add("SPP", [x], 512, (5, 9, 13)) if pyramid else p.conv(x, 512)
    x = p.conv(p.conv(x, 1024, 3), 512)
    taps = [p.conv(x, 1024, 3)]
    x = p.concat(p.enlarge(p.conv(x, 256)), stages[1])
    x = p.conv(p.add("Bottleneck", [p.add("Bottleneck", [x], 512, False)], 512, False), 256)
    taps.append(p.conv(x, 512, 3))
    x = p.add("Bottleneck", [p.concat(p.enlarge(p.conv(x, 128)), stages[0])], 256, False)
    taps.append(p.add("Bottleneck", [x], 256, False, repeat=2))
    p.detect(head, taps[::-1])


def _csp_p6(
    p: Plan, head: str, down: str, widths: Sequence[int], laterals: Sequence[int], counts: Sequence[int]
) -> None:
    """widths: of the five stages; laterals: of the neck, the coarsest first; counts: backbone blocks by stage."""

    def halved(x: int, channels: int) -> int:
        return p.conv(x, channels, 3, 2) if down == "Conv" else p.add(down, [x], channels)

    x, stages = p.conv(p.add("ReOrg", [0]), 64, 3), []
    for channels, count in zip(widths, counts):
        x = _repeated(p, halved(x, channels), "BottleneckCSPA", channels, count)
        stages.append(x)
    x = p.add("SPPCSPC", [x], widths[-1] // 2)
    path = [x]
    for skip, channels in zip(stages[3:0:-1], laterals):
        x = _repeated(p, _joined_up(p, x, skip, channels), "BottleneckCSPB", channels, 3)
        path.append(x)
    taps = [p.conv(x, 2 * laterals[-1], 3)]
    for skip, channels in zip(path[2::-1], [*laterals[1::-1], widths[-1] // 2]):
        x = _repeated(p, p.concat(halved(x, channels), skip), "BottleneckCSPB", channels, 3)
        taps.append(p.conv(x, 2 * channels, 3))
    p.detect(head, taps)


# --- the list


@dataclass(frozen=True)
class Architecture:
    """draw: draws it on a plan; anchors: pixels; activation: of its convolutions, None is SiLU; width, depth: its own factors."""

    draw: Callable[[Plan], None]
    anchors: Anchors
    activation: Optional[str] = None
    width: float = 1.0
    depth: float = 1.0


LEAKY = "nn.LeakyReLU(0.1)"
_YOLOV7: Mapping[str, Any] = {"base": 32, "length": 4, "narrow": True, "out": "RepConv"}
_YOLOV7X: Mapping[str, Any] = {"base": 40, "length": 6, "narrow": False, "out": "Conv"}
_W6: Mapping[str, Any] = {"base": 64, "length": 4, "down": "Conv"}
_E6: Mapping[str, Any] = {"base": 80, "length": 6, "down": "DownC"}
_D6: Mapping[str, Any] = {"base": 96, "length": 8, "down": "DownC"}
_E6E: Mapping[str, Any] = {**_E6, "twice": True}
_WIDE = ((128, 256, 512, 768, 1024), (384, 256, 128))


def _drawn(draw: Callable[..., None], anchors: Anchors, head: str, *args: Any, **how: Any) -> Architecture:
    return Architecture(lambda p: draw(p, head, *args, **how), anchors)


ARCHITECTURES: Mapping[str, Architecture] = {
    "baseline-r50-csp": _drawn(_resnet, CSP_ANCHORS, "IDetect", "Res"),
    "baseline-x50-csp": _drawn(_resnet, CSP_ANCHORS, "IDetect", "ResX"),
    "baseline-yolor-csp": _drawn(_csp_darknet, CSP_ANCHORS, "IDetect"),
    "baseline-yolor-csp-x": Architecture(lambda p: _csp_darknet(p, "IDetect"), CSP_ANCHORS, None, 1.25, 1.33),
    "baseline-yolor-d6": Architecture(
        lambda p: _csp_p6(p, "IDetect", "DownC", *_WIDE, (3, 15, 15, 7, 7)), P6_ANCHORS, None, 1.25
    ),
    "baseline-yolor-e6": Architecture(
        lambda p: _csp_p6(p, "IDetect", "DownC", *_WIDE, (3, 7, 7, 3, 3)), P6_ANCHORS, None, 1.25
    ),
    "baseline-yolor-p6": _drawn(
        _csp_p6, P6_ANCHORS, "IDetect", "Conv", (128, 256, 384, 512, 640), (256, 192, 128), (3, 7, 7, 3, 3)
    ),
    "baseline-yolor-w6": _drawn(_csp_p6, P6_ANCHORS, "IDetect", "Conv", *_WIDE, (3, 7, 7, 3, 3)),
    "baseline-yolov3": _drawn(_darknet, P5_ANCHORS, "Detect", pyramid=False),
    "baseline-yolov3-spp": _drawn(_darknet, P5_ANCHORS, "Detect", pyramid=True),
    "baseline-yolov4-csp": _drawn(_csp_darknet, CSP_ANCHORS, "Detect"),
    "deploy-yolov7": _drawn(_p5, CSP_ANCHORS, "Detect", **_YOLOV7),
    "deploy-yolov7-d6": _drawn(_p6, P6_ANCHORS, "Detect", **_D6),
    "deploy-yolov7-e6": _drawn(_p6, P6_ANCHORS, "Detect", **_E6),
    "deploy-yolov7-e6e": _drawn(_p6, P6_ANCHORS, "Detect", **_E6E),
    "deploy-yolov7-tiny": Architecture(lambda p: _tiny(p, "Detect"), P5_ANCHORS, LEAKY),
    "deploy-yolov7-tiny-silu": Architecture(lambda p: _tiny(p, "Detect"), P5_ANCHORS),
    "deploy-yolov7-w6": _drawn(_p6, P6_ANCHORS, "Detect", **_W6),
    "deploy-yolov7x": _drawn(_p5, CSP_ANCHORS, "Detect", **_YOLOV7X),
    "training-yolov7": _drawn(_p5, CSP_ANCHORS, "IDetect", **_YOLOV7),
    "training-yolov7-d6": _drawn(_p6, P6_ANCHORS, "IAuxDetect", **_D6, aux=96),
    "training-yolov7-e6": _drawn(_p6, P6_ANCHORS, "IAuxDetect", **_E6, aux=80),
    "training-yolov7-e6e": _drawn(_p6, P6_ANCHORS, "IAuxDetect", **_E6E, aux=80),
    "training-yolov7-tiny": Architecture(lambda p: _tiny(p, "IDetect"), P5_ANCHORS, LEAKY),
    "training-yolov7-w6": _drawn(_p6, P6_ANCHORS, "IAuxDetect", **_W6, aux=80),
    "training-yolov7x": _drawn(_p5, CSP_ANCHORS, "IDetect", **_YOLOV7X),
}


def full_name(name: str) -> str:
    """The full name of an architecture: `yolov7-tiny` is `deploy-yolov7-tiny`. Raises InputError for an unknown one."""
    for prefix in ("", "deploy-", "baseline-"):
        if prefix + name in ARCHITECTURES:
            return prefix + name
    raise InputError(f"unknown architecture {name!r}: `detparity models` lists those that are known")


def plan(name: str, width: Optional[float] = None) -> Plan:
    """Draw the architecture called `name` with its channels multiplied by `width`, its own factor where None.

    Raises InputError for an unknown name, a width outside (0, 4], or one that gives a block no integer number of channels.
    """
    known = ARCHITECTURES[full_name(name)]
    factor = known.width if width is None else width
    require_factor("width", factor)
    drawn = Plan(factor, known.anchors, known.activation, known.depth, title=full_name(name))
    known.draw(drawn)
    return drawn


def require_factor(what: str, factor: float) -> None:
    """Raise InputError for a factor of widths or depths that is not in (0, 4]."""
    if not 0 < factor <= 4:
        raise InputError(f"{what} {factor:g} is outside 0 to 4")


def build(name: str, width: Optional[float] = None, classes: int = 80) -> Network:
    """Return an untrained network of this architecture, in the modules' initial state."""
    return plans.build(plan(name, width), classes)

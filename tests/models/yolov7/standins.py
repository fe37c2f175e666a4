"""Stand-ins for the classes that official checkpoints name, so that a suite can write and load such files in any torch.

They are a second implementation of `detparity.models.yolov7`: unfused, layer by layer over the stored `f`, decoded
over a meshgrid. Module paths, class names and attributes are the published format; the code is ours.
"""

from __future__ import annotations

import copy
import itertools
import sys
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Dict, Iterator, List, Optional, Sequence, Union

import numpy as np
import torch
from torch import Tensor, nn

from detparity.models.compat.meshgrid import meshgrid
from detparity.models.yolov7.architectures import LEAKY, P5_ANCHORS
from detparity.models.yolov7.plan import Plan, Step

WIDTH = 1 / 32
CALIBRATION = (2, 3, 128, 128)  # images that set the batch-norm statistics: a multiple of every stride
OBJECTNESS = -3.0  # of the head's bias: few rows are objects


class _Block(nn.Module):
    """Gives the blocks of `models.common` their module name."""

    def __init_subclass__(cls) -> None:
        cls.__module__ = "models.common"


def _act(given: Union[str, None]) -> nn.Module:
    kinds = {None: nn.SiLU, "nn.SiLU()": nn.SiLU, "nn.Hardswish()": nn.Hardswish, LEAKY: _leaky}
    return kinds[given]()


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.1, inplace=True)


class Conv(_Block):
    def __init__(
        self, c1: int, c2: int, k: int = 1, s: int = 1, p: Optional[int] = None, g: int = 1, act: Optional[str] = None
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2 if p is None else p, groups=g, bias=False)
        self.bn = nn.BatchNorm2d(c2, eps=1e-3, momentum=0.03)
        self.act = _act(act)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class RepConv(_Block):
    def __init__(
        self, c1: int, c2: int, k: int = 3, s: int = 1, p: None = None, g: int = 1, act: Union[str, None] = None
    ) -> None:
        super().__init__()
        self.deploy, self.groups, self.in_channels, self.out_channels = False, g, c1, c2
        self.act = _act(act)
        self.rbr_identity = nn.BatchNorm2d(c1, eps=1e-3, momentum=0.03) if c1 == c2 and s == 1 else None
        for name, kernel in (("rbr_dense", k), ("rbr_1x1", 1)):
            conv = nn.Conv2d(c1, c2, kernel, s, kernel // 2, groups=g, bias=False)
            setattr(self, name, nn.Sequential(conv, nn.BatchNorm2d(c2, eps=1e-3, momentum=0.03)))

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.rbr_dense, self.rbr_1x1, self.rbr_identity]
        return self.act(sum(branch(x) for branch in branches if branch is not None))


class MP(_Block):
    def __init__(self, k: int = 2) -> None:
        super().__init__()
        self.m = nn.MaxPool2d(k, k)

    def forward(self, x: Tensor) -> Tensor:
        return self.m(x)


class SP(_Block):
    def __init__(self, k: int = 3, s: int = 1) -> None:
        super().__init__()
        self.m = nn.MaxPool2d(k, s, k // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.m(x)


class ReOrg(_Block):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[..., row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))], 1)


class Concat(_Block):
    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.d = dimension

    def forward(self, xs: List[Tensor]) -> Tensor:
        return torch.cat(xs, self.d)


class Shortcut(_Block):
    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.d = dimension

    def forward(self, xs: List[Tensor]) -> Tensor:
        return xs[0] + xs[1]


class Stem(_Block):
    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        inner = c2 // 2
        self.cv1 = Conv(c1, inner, 3, 2)
        self.cv2 = Conv(inner, inner)
        self.cv3 = Conv(inner, inner, 3, 2)
        self.pool = nn.MaxPool2d(2, stride=2)
        self.cv4 = Conv(2 * inner, c2)

    def forward(self, x: Tensor) -> Tensor:
        first = self.cv1(x)
        return self.cv4(torch.cat((self.cv3(self.cv2(first)), self.pool(first)), 1))


class DownC(_Block):
    def __init__(self, c1: int, c2: int, n: int = 1, k: int = 2) -> None:
        super().__init__()
        self.cv1 = Conv(c1, c1)
        self.cv2 = Conv(c1, c2 // 2, 3, k)
        self.cv3 = Conv(c1, c2 // 2)
        self.mp = nn.MaxPool2d(kernel_size=k, stride=k)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.cv2(self.cv1(x)), self.cv3(self.mp(x))), 1)


class SPP(_Block):
    def __init__(self, c1: int, c2: int, k: Sequence[int] = (5, 9, 13)) -> None:
        super().__init__()
        self.cv1 = Conv(c1, c1 // 2)
        self.cv2 = Conv(c1 // 2 * (1 + len(k)), c2)
        self.m = nn.ModuleList([nn.MaxPool2d(kernel_size=size, stride=1, padding=size // 2) for size in k])

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        return self.cv2(torch.cat([y, *(pool(y) for pool in self.m)], 1))


class SPPCSPC(_Block):
    def __init__(self, c1: int, c2: int, n: int = 1) -> None:
        super().__init__()
        shapes = {"cv1": (c1, 1), "cv2": (c1, 1), "cv3": (c2, 3), "cv4": (c2, 1), "cv5": (4 * c2, 1), "cv6": (c2, 3)}
        for name, (channels, kernel) in shapes.items():
            setattr(self, name, Conv(channels, c2, kernel))
        self.m = nn.ModuleList([nn.MaxPool2d(kernel_size=size, stride=1, padding=size // 2) for size in (5, 9, 13)])
        self.cv7 = Conv(2 * c2, c2)

    def forward(self, x: Tensor) -> Tensor:
        deep = self.cv4(self.cv3(self.cv1(x)))
        deep = self.cv6(self.cv5(torch.cat([deep, *(pool(deep) for pool in self.m)], 1)))
        return self.cv7(torch.cat((deep, self.cv2(x)), 1))


class Bottleneck(_Block):
    def __init__(self, c1: int, c2: int, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        super().__init__()
        inner = int(c2 * e)
        self.cv1 = Conv(c1, inner)
        self.cv2 = Conv(inner, c2, 3, g=g)
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


class Res(_Block):
    def __init__(self, c1: int, c2: int, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        super().__init__()
        inner = int(c2 * e)
        self.cv1 = Conv(c1, inner)
        self.cv2 = Conv(inner, inner, 3, g=g)
        self.cv3 = Conv(inner, c2)
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv3(self.cv2(self.cv1(x)))
        return x + y if self.add else y


class _CSP(_Block):
    """The three cross-stage partial forms; what lies inside is each class's own."""

    form, inside, options = "", Bottleneck, {"g": 1, "e": 1.0}

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True) -> None:
        super().__init__()
        half = c2 if self.form == "B" else c2 // 2
        self.cv1 = Conv(c1, half)
        self.cv2 = Conv(half if self.form == "B" else c1, half)
        if self.form == "C":
            self.cv3, self.cv4 = Conv(half, half), Conv(2 * half, c2)
        else:
            self.cv3 = Conv(2 * half, c2)
        self.m = nn.Sequential(*[self.inside(half, half, shortcut, **self.options) for _ in range(n)])

    def forward(self, x: Tensor) -> Tensor:
        first = self.cv1(x)
        deep = self.m(first)
        if self.form == "C":
            return self.cv4(torch.cat((self.cv3(deep), self.cv2(x)), 1))
        return self.cv3(torch.cat((deep, self.cv2(first if self.form == "B" else x)), 1))


def _csps() -> Dict[str, type]:
    insides = {
        "Bottleneck": (Bottleneck, {"g": 1, "e": 1.0}),
        "Res": (Res, {"g": 1, "e": 0.5}),
        "ResX": (Res, {"g": 32, "e": 1.0}),
    }
    return {
        f"{kind}CSP{form}": type(f"{kind}CSP{form}", (_CSP,), {"form": form, "inside": inside, "options": options})
        for kind, (inside, options) in insides.items()
        for form in "ABC"
    }


CSPS = _csps()


class ImplicitA(_Block):
    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel, self.mean, self.std = channel, 0.0, 0.02
        self.implicit = nn.Parameter(torch.zeros(1, channel, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.implicit


class ImplicitM(_Block):
    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel, self.mean, self.std = channel, 1.0, 0.02
        self.implicit = nn.Parameter(torch.ones(1, channel, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.implicit


class Detect(nn.Module):
    """Decodes both in evaluation and in training: nothing here trains."""

    __module__ = "models.yolo"

    def __init__(self, nc: int, pixels: Tensor, strides: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        self.nc, self.no = nc, nc + 5
        self.nl, self.na = int(pixels.shape[0]), int(pixels.shape[1])
        self.grid = [torch.empty(0) for _ in channels]
        self.stride = torch.tensor([float(stride) for stride in strides])
        self.register_buffer("anchors", pixels / self.stride.reshape(-1, 1, 1))
        self.register_buffer("anchor_grid", pixels.reshape(self.nl, 1, self.na, 1, 1, 2).clone())
        self.m = nn.ModuleList([nn.Conv2d(width, self.na * self.no, 1) for width in channels])

    def logits(self, level: int, x: Tensor) -> Tensor:
        return self.m[level](x)

    def forward(self, features: List[Tensor]) -> Tensor:
        return torch.cat([self._decoded(k, self.logits(k, x)) for k, x in enumerate(features)], 1)

    def _decoded(self, level: int, logits: Tensor) -> Tensor:
        batch, _, ny, nx = logits.shape
        s = logits.reshape(batch, self.na, self.no, ny, nx).permute(0, 1, 3, 4, 2).sigmoid()
        row, column = meshgrid(torch.arange(ny), torch.arange(nx))
        corner = torch.stack([column, row], 2).reshape(1, 1, ny, nx, 2).to(s.dtype)
        self.grid[level] = corner
        centre = (corner - 0.5 + 2 * s[..., :2]) * float(self.stride[level])
        sides = 4 * s[..., 2:4].pow(2) * self.anchor_grid[level]
        return torch.cat([centre, sides, s[..., 4:]], -1).reshape(batch, -1, self.no)


class IDetect(Detect):
    __module__ = "models.yolo"

    def __init__(self, nc: int, pixels: Tensor, strides: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__(nc, pixels, strides, channels)
        self.ia = nn.ModuleList([ImplicitA(width) for width in channels])
        self.im = nn.ModuleList([ImplicitM(self.na * self.no) for _ in channels])

    def logits(self, level: int, x: Tensor) -> Tensor:
        return self.im[level](self.m[level](self.ia[level](x)))


class IAuxDetect(IDetect):
    """Reads two layers a level; the second half only trains."""

    __module__ = "models.yolo"

    def __init__(self, nc: int, pixels: Tensor, strides: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__(nc, pixels, strides, channels[: len(strides)])
        self.m2 = nn.ModuleList([nn.Conv2d(width, self.na * self.no, 1) for width in channels[len(strides) :]])

    def forward(self, features: List[Tensor]) -> Tensor:
        return super().forward(features[: self.nl])


class Model(nn.Module):
    __module__ = "models.yolo"

    def __init__(self, layers: Sequence[nn.Module], yaml: Dict[str, Any]) -> None:
        super().__init__()
        self.traced = False
        self.yaml = yaml
        self.model = nn.Sequential(*layers)
        self.save = sorted(j % layer.i for layer in layers for j in _sources(layer) if j != -1)
        self.names = [f"kind {index}" for index in range(yaml["nc"])]
        self.stride = layers[-1].stride

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images to (B, rows, 5 + nc) predictions. Only what `save` lists is stored, so a wrong list shows."""
        stored: Dict[int, Tensor] = {}
        latest = images
        for layer in self.model:
            xs = [latest if j == -1 else stored[j % layer.i] for j in _sources(layer)]
            latest = layer(xs if isinstance(layer.f, list) else xs[0])
            if layer.i in self.save:
                stored[layer.i] = latest
        return latest


class Ensemble(nn.ModuleList):
    __module__ = "models.experimental"

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([member(images) for member in self], 1)


def _sources(layer: nn.Module) -> List[int]:
    return layer.f if isinstance(layer.f, list) else [layer.f]


COMMON = (Conv, RepConv, MP, SP, ReOrg, Concat, Shortcut, Stem, DownC, SPP, SPPCSPC, Bottleneck, Res)
HEADS = (Detect, IDetect, IAuxDetect)
CLASSES = (*COMMON, *CSPS.values(), ImplicitA, ImplicitM, *HEADS, Model, Ensemble)
KINDS = {kind.__name__: kind for kind in (*COMMON, *CSPS.values())}  # what layers of a plan are made of
MORE: List[type] = []  # classes of other files that official pickles may name
MODULES = ("models", "models.common", "models.experimental", "models.yolo")  # all that official pickles may name


@contextmanager
def installed() -> Iterator[None]:
    """Let the official module names mean the stand-ins, as pickling and unpickling want; put back what was there afterwards."""
    modules = {name: ModuleType(name) for name in MODULES}
    for kind in (*CLASSES, *MORE):
        setattr(modules[kind.__module__], kind.__name__, kind)
    before = {name: sys.modules.get(name) for name in MODULES}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def small_plan(head: str, *activations: str) -> Plan:
    """Several kinds of block, read from near and far, in 20 layers: a yolov7-tiny is over 150 KB before it has a weight.
    activations: of the convolutions, alternating."""
    p, following = Plan(WIDTH, P5_ANCHORS), itertools.cycle(activations)

    def conv(x: int, channels: int, kernel: int = 1, stride: int = 1) -> int:
        p.activation = next(following)
        return p.conv(x, channels, kernel, stride)

    c3 = conv(p.halve(conv(conv(0, 32, 3, 2), 64, 3, 2)), 64, 3)
    c4 = conv(p.halve(c3), 128, 3)
    c5 = conv(c4, 256, 3, 2)
    pools = [p.pool(c5, kernel) for kernel in (5, 9, 13)]
    top = conv(p.concat(*reversed(pools), c5), 256)
    mid = conv(p.concat(c4, p.enlarge(conv(top, 128))), 128, 3)
    p3 = conv(p.concat(c3, p.enlarge(conv(mid, 64))), 128)
    p.detect(head, [p3, mid, top])
    return p


MIXED = ("nn.Hardswish()", "nn.SiLU()")


def build(plan: Plan, classes: int, seed: int) -> Model:
    """The model of `plan` with seeded random weights in float32, in evaluation, with the grid of a first run."""
    model = unfilled(plan, classes)
    _fill(model, np.random.default_rng([seed, 11]))
    side = max(plan.strides)
    with torch.no_grad():
        model(torch.zeros(1, 3, 2 * side, 3 * side))
    return model


def unfilled(plan: Plan, classes: int) -> Model:
    """The model of `plan` as its modules are born."""
    layers = [_layer(step) for step in plan.steps]
    for index, step in enumerate(plan.steps):
        _label(layers[index], index, _from(index, step.reads))
    head = {kind.__name__: kind for kind in HEADS}[plan.head]
    pixels = torch.tensor(plan.anchors, dtype=torch.float32)
    reads = [*plan.taps, *plan.auxiliary]
    layers.append(head(classes, pixels, [plan.strides[t] for t in plan.taps], [plan.channels[t] for t in reads]))
    _label(layers[-1], len(plan.steps), [tap - 1 for tap in reads])
    flat = [[side for pair in level for side in pair] for level in plan.anchors]
    return Model(layers, {"nc": classes, "depth_multiple": 1.0, "width_multiple": plan.width, "anchors": flat})


def _layer(step: Step) -> nn.Module:
    if step.kind == "nn.Upsample":
        return nn.Upsample(*step.args)
    made = [KINDS[step.kind](*step.args) for _ in range(step.repeat)]
    return made[0] if step.repeat == 1 else nn.Sequential(*made)


def _label(layer: nn.Module, index: int, source: Union[int, List[int]]) -> None:
    layer.i, layer.f = index, source
    layer.type = f"{type(layer).__module__}.{type(layer).__name__}"
    layer.np = sum(parameter.numel() for parameter in layer.parameters())


def _from(index: int, reads: Sequence[int]) -> Union[int, List[int]]:
    """As published tables say it: near layers by distance, far ones by their number."""
    sources = [read - 1 if index - (read - 1) > 4 else read - 1 - index for read in reads]
    return sources if len(sources) > 1 else sources[0]


def _fill(model: Model, rng: np.random.Generator) -> None:
    """Weights from numpy, so the same in every torch; batch-norm statistics from one float64 pass, so that signals neither die nor
    grow."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            _set(module.weight, rng.standard_normal(tuple(module.weight.shape)) * np.sqrt(2 / module.weight[0].numel()))
        elif isinstance(module, nn.BatchNorm2d):
            _set(module.weight, rng.uniform(0.8, 1.2, module.num_features))
            _set(module.bias, rng.normal(0.0, 0.1, module.num_features))
            module.momentum = 1.0
        elif isinstance(module, (ImplicitA, ImplicitM)):
            _set(module.implicit, rng.normal(module.mean, 0.1, tuple(module.implicit.shape)))
    for conv in [*model.model[-1].m, *getattr(model.model[-1], "m2", [])]:
        biases = rng.normal(0.0, 0.3, (model.model[-1].na, model.model[-1].no))
        biases[:, 4] += OBJECTNESS
        _set(conv.bias, biases.reshape(-1))
    with torch.no_grad():
        model.double().train()(torch.from_numpy(rng.random(CALIBRATION)))
    for norm in norms:
        norm.momentum = 0.03
    model.float().eval()


def _set(target: Tensor, values: np.ndarray) -> None:
    with torch.no_grad():
        target.copy_(torch.from_numpy(values))


def run(model: nn.Module, x: np.ndarray, dtype: torch.dtype = torch.float64) -> np.ndarray:
    """Predictions of a copy of `model` in `dtype`."""
    moved = copy.deepcopy(model).to(dtype).eval()
    with torch.no_grad():
        return moved(torch.from_numpy(x).to(dtype)).numpy()


def stripped(model: Model, dtype: torch.dtype = torch.float16) -> Dict[str, Any]:
    """The dictionary of a released checkpoint: the model alone."""
    keys = ("epoch", "best_fitness", "training_results", "ema", "updates", "optimizer", "wandb_id")
    return {**dict.fromkeys(keys), "epoch": -1, "model": copy.deepcopy(model).to(dtype)}

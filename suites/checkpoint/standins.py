"""Stand-ins for the classes that official checkpoints name, so that a suite can write and load such files in any torch.

They are a second way to run a detector, apart from `detparity.detectors`: unfused, layer by layer over the stored `f`, decoded
over a meshgrid. Module paths, class names and attributes are the published format; the code is ours.
"""

from __future__ import annotations

import copy
import sys
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor, nn

from detparity.compat.meshgrid import meshgrid
from detparity.detectors.architectures import P5_ANCHORS, Plan

WIDTH = 1 / 32
CALIBRATION = (2, 3, 128, 128)
OBJECTNESS = -3.0  # of the head's bias: few rows are objects


class Conv(nn.Module):
    __module__ = "models.common"

    def __init__(self, c1: int, c2: int, kernel: int, stride: int, act: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(c2, eps=1e-3, momentum=0.03)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class MP(nn.Module):
    __module__ = "models.common"

    def __init__(self) -> None:
        super().__init__()
        self.m = nn.MaxPool2d(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.m(x)


class SP(nn.Module):
    __module__ = "models.common"

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.m = nn.MaxPool2d(kernel, 1, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.m(x)


class Concat(nn.Module):
    __module__ = "models.common"

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.d = dimension

    def forward(self, xs: List[Tensor]) -> Tensor:
        return torch.cat(xs, self.d)


class ImplicitA(nn.Module):
    __module__ = "models.common"

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel, self.mean, self.std = channel, 0.0, 0.02
        self.implicit = nn.Parameter(torch.zeros(1, channel, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.implicit


class ImplicitM(nn.Module):
    __module__ = "models.common"

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel, self.mean, self.std = channel, 1.0, 0.02
        self.implicit = nn.Parameter(torch.ones(1, channel, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.implicit


class Detect(nn.Module):
    """Decodes in evaluation and in training alike: nothing here trains."""

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
        """(B, 3, H, W) images to (B, rows, 5 + nc) predictions. Only what `save` lists is kept, so a wrong list shows."""
        kept: Dict[int, Tensor] = {}
        latest = images
        for layer in self.model:
            xs = [latest if j == -1 else kept[j % layer.i] for j in _sources(layer)]
            latest = layer(xs if isinstance(layer.f, list) else xs[0])
            if layer.i in self.save:
                kept[layer.i] = latest
        return latest


def _sources(layer: nn.Module) -> List[int]:
    return layer.f if isinstance(layer.f, list) else [layer.f]


CLASSES = (Conv, MP, SP, Concat, ImplicitA, ImplicitM, Detect, IDetect, Model)
MODULES = ("models", "models.common", "models.experimental", "models.yolo")  # all that official pickles may name


@contextmanager
def installed() -> Iterator[None]:
    """Let the official module names mean the stand-ins, as pickling and unpickling want; put back what was there afterwards."""
    modules = {name: ModuleType(name) for name in MODULES}
    for kind in CLASSES:
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


def small_plan(head: str, activation: Callable[[], nn.Module]) -> Plan:
    """Every kind of block, read from near and far, in 20 layers: a yolov7-tiny is over 150 KB before it has a weight."""
    p = Plan(WIDTH, activation)
    c3 = p.conv(p.halve(p.conv(p.conv(0, 32, 3, 2), 64, 3, 2)), 64, 3)
    c4 = p.conv(p.halve(c3), 128, 3)
    c5 = p.conv(c4, 256, 3, 2)
    pools = [p.pool(c5, kernel) for kernel in (5, 9, 13)]
    top = p.conv(p.concat(*reversed(pools), c5), 256)
    mid = p.conv(p.concat(c4, p.enlarge(p.conv(top, 128))), 128, 3)
    p3 = p.conv(p.concat(c3, p.enlarge(p.conv(mid, 64))), 128)
    p.detect(head, p3, mid, top)
    return p


def leaky() -> nn.Module:
    return nn.LeakyReLU(0.1, inplace=True)


def mixed() -> Callable[[], nn.Module]:
    """A maker of Hardswish and SiLU by turns."""
    kinds = [nn.SiLU, nn.Hardswish]

    def make() -> nn.Module:
        kinds.reverse()
        return kinds[0]()

    return make


def build(plan: Plan, classes: int, seed: int) -> Model:
    """The model of `plan` with seeded random weights in float32, in evaluation, with the grid of a first run."""
    layers = [_layer(index, kind, args, plan) for index, (kind, _, args) in enumerate(plan.steps)]
    for index, (_, reads, _) in enumerate(plan.steps):
        _label(layers[index], index, _from(index, reads))
    head = {"Detect": Detect, "IDetect": IDetect}[plan.head]
    pixels = torch.tensor(P5_ANCHORS, dtype=torch.float32)
    layers.append(head(classes, pixels, [plan.strides[t] for t in plan.taps], [plan.channels[t] for t in plan.taps]))
    _label(layers[-1], len(plan.steps), [tap - 1 for tap in plan.taps])
    flat = [[side for pair in level for side in pair] for level in P5_ANCHORS]
    yaml = {"nc": classes, "depth_multiple": 1.0, "width_multiple": plan.width, "anchors": flat}
    model = Model(layers, yaml)
    _fill(model, np.random.default_rng([seed, 11]))
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 96))
    return model


def _layer(index: int, kind: str, args: Tuple[Any, ...], plan: Plan) -> nn.Module:
    makers: Dict[str, Callable[..., nn.Module]] = {
        "Conv": lambda c1, c2, kernel, stride: Conv(c1, c2, kernel, stride, plan.activation()),
        "MP": MP,
        "SP": SP,
        "Concat": Concat,
        "nn.Upsample": lambda factor: nn.Upsample(None, factor, "nearest"),
    }
    return makers[kind](*args)


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
    for conv in model.model[-1].m:
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

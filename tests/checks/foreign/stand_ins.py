"""Small torch modules of our own, one for each layout: seeded, calibrated, exported in well under a second.

Scores lie between about 0.01 and 0.9 and boxes are in pixels, as of a trained detector; under 40,000 weights.
"""

from __future__ import annotations

import functools
import io
import warnings
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import onnx
import torch
from torch import Tensor, nn

from detparity.core.layout import PRESETS, Preprocessing
from detparity.core.promises import Promises
from detparity.models.compat.onnx_export import export_onnx
from detparity.models.module_reference import Made, ModuleReference
from detparity.models.reference import ReferenceFacts

SIZE = (64, 96)
OPSET = 13
STRIDES = (8, 16, 32)
NAMES = ("disc", "ring", "bar", "cross", "star")
STATIC, BATCH, SIZES, TRACED = "static", "dynamic-batch", "dynamic", "traced"
KINDS = (STATIC, BATCH, SIZES, TRACED)


class Block(nn.Sequential):
    """Half the side: convolution, batch-norm, SiLU."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.SiLU())


class Pyramid(nn.Module):
    """Maps at strides 4, 8, 16 and 32, and a 1x1 convolution on each of the last three, or on those of `levels`."""

    def __init__(self, channels: int, levels: Sequence[int] = (1, 2, 3)) -> None:
        super().__init__()
        self.stem = Block(3, 8)
        self.stages = nn.ModuleList([Block(8, 16), Block(16, 24), Block(24, 32), Block(32, 32)])
        self.levels = tuple(levels)
        self.heads = nn.ModuleList([nn.Conv2d((16, 24, 32, 32)[level], channels, 1) for level in self.levels])

    def maps(self, x: Tensor) -> List[Tensor]:
        x = self.stem(x)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def raw(self, maps: List[Tensor]) -> List[Tensor]:
        return [head(maps[level]) for head, level in zip(self.heads, self.levels)]


def rows(level: Tensor) -> Tensor:
    """(B, cells, channels) of a map."""
    return level.flatten(2).transpose(1, 2)


def cells(level: Tensor) -> Tensor:
    """(B, cells, 2): column and row of each cell, counted in the graph, so that any size is right."""
    ones = torch.ones_like(level[:, :1])
    return rows(torch.cat([ones.cumsum(3), ones.cumsum(2)], 1) - 1)


class Dense(Pyramid):
    """Every cell a candidate: boxes by the distances to their sides, then class logits, then `more` numbers."""

    def __init__(self, classes: int = len(NAMES), more: int = 0, baked: bool = False) -> None:
        super().__init__(4 + classes + more)
        self.classes, self.more = classes, more
        cut = [(-(-SIZE[0] // stride), -(-SIZE[1] // stride)) for stride in STRIDES]
        self.baked = [cells(torch.zeros(1, 1, *sides)) for sides in cut] if baked else []

    def candidates(self, x: Tensor) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """Corners, class probabilities, further numbers, and (cell centres, stride), of all rows."""
        found, centres = [], []
        for number, (level, stride) in enumerate(zip(self.raw(self.maps(x)), STRIDES)):
            where = self.baked[number] if self.baked and torch.onnx.is_in_onnx_export() else cells(level)
            found.append(rows(level))
            centres.append(torch.cat([(where + 0.5) * stride, torch.full_like(where[..., :1], stride)], -1))
        part, centre = torch.cat(found, 1), torch.cat(centres, 1)
        sides = part[..., :4].sigmoid() * 5 * centre[..., 2:]
        boxes = torch.cat([centre[..., :2] - sides[..., :2], centre[..., :2] + sides[..., 2:]], -1)
        return boxes, part[..., 4 : 4 + self.classes].sigmoid(), part[..., 4 + self.classes :], centre


def centred(corners: Tensor) -> Tensor:
    low, high = corners[..., :2], corners[..., 2:]
    return torch.cat([(low + high) / 2, high - low], -1)


class Ultralytics(Dense):
    def forward(self, x: Tensor) -> Any:
        boxes, scores, _, _ = self.candidates(x)
        return torch.cat([centred(boxes), scores], -1).transpose(1, 2)


class Corners(Dense):
    def forward(self, x: Tensor) -> Any:
        boxes, scores, _, _ = self.candidates(x)
        return torch.cat([boxes, scores], -1).transpose(1, 2)


class Seg(Dense):
    def __init__(self) -> None:
        super().__init__(more=32)
        self.prototypes = nn.Conv2d(16, 32, 1)

    def forward(self, x: Tensor) -> Any:
        boxes, scores, others, _ = self.candidates(x)
        prototypes = nn.functional.silu(self.prototypes(self.maps(x)[0]))
        wide = nn.functional.interpolate(prototypes, scale_factor=2.0, mode="nearest")
        return torch.cat([centred(boxes), scores, others], -1).transpose(1, 2), wide


class Pose(Dense):
    """One class and 17 keypoints (x, y, visibility)."""

    def __init__(self) -> None:
        super().__init__(1, more=51)

    def forward(self, x: Tensor) -> Any:
        boxes, scores, others, centres = self.candidates(x)
        points = others.reshape(others.shape[0], -1, 17, 3)
        where = centres[..., None, :2] + 2 * points[..., :2] * centres[..., None, 2:]
        keypoints = torch.cat([where, points[..., 2:].sigmoid()], -1).flatten(2)
        return torch.cat([centred(boxes), scores, keypoints], -1).transpose(1, 2)


class Obb(Dense):
    def __init__(self) -> None:
        super().__init__(more=1)

    def forward(self, x: Tensor) -> Any:
        boxes, scores, others, _ = self.candidates(x)
        angle = (others.sigmoid() - 0.25) * 3.141592653589793
        return torch.cat([centred(boxes), scores, angle], -1).transpose(1, 2)


class Objectness(Pyramid):
    """YOLOv5's decode with three anchors, YOLOX's with one."""

    def __init__(self, anchors: int, classes: int = len(NAMES)) -> None:
        super().__init__(anchors * (5 + classes))
        self.anchors, self.fields = anchors, 5 + classes
        self.register_buffer("sides", torch.arange(2.0, 2.0 + anchors).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Any:
        found = []
        for level, stride in zip(self.raw(self.maps(x)), STRIDES):
            part = level.reshape(level.shape[0], self.anchors, self.fields, -1).transpose(2, 3)
            boxes = self.boxes(part[..., :4], cells(level).unsqueeze(1), stride)
            found.append(torch.cat([boxes, part[..., 4:].sigmoid()], -1).flatten(1, 2))
        return torch.cat(found, 1)

    def boxes(self, part: Tensor, where: Tensor, stride: int) -> Tensor:
        if self.anchors == 1:
            return torch.cat([(part[..., :2] + where) * stride, part[..., 2:].exp() * stride], -1)
        part = part.sigmoid() * 2
        return torch.cat([(part[..., :2] - 0.5 + where) * stride, part[..., 2:] ** 2 * self.sides * stride], -1)


class Detr(Pyramid):
    """Queries are the cells of stride 16: logits and boxes in fractions of the side."""

    def __init__(self, classes: int = len(NAMES)) -> None:
        super().__init__(4 + classes, (2,))

    def queries(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        found = rows(self.raw(self.maps(x))[0])
        return found[..., 4:], found[..., :4].sigmoid()

    def forward(self, x: Tensor) -> Any:
        logits, boxes = self.queries(x)
        return {"logits": logits, "pred_boxes": boxes}


def chosen(boxes: Tensor, scores: Tensor, count: int) -> Tensor:
    """The best `count` of all (row, class) pairs: (B, count, 6)."""
    classes = scores.shape[-1]
    best, index = scores.flatten(1).topk(count)
    row = torch.div(index, classes, rounding_mode="floor")
    picked = boxes.gather(1, row.unsqueeze(-1).expand(-1, -1, 4))
    number = (index - row * classes).to(boxes.dtype)
    return torch.cat([picked, best.unsqueeze(-1), number.unsqueeze(-1)], -1)


class EndToEnd(Dense):
    def __init__(self, count: int = 30) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Any:
        boxes, scores, _, _ = self.candidates(x)
        return chosen(boxes, scores, self.count)


class RtDetr(Detr):
    def forward(self, x: Tensor) -> Any:
        logits, boxes = self.queries(x)
        return chosen(boxes, logits.sigmoid(), 20)


def free(corners: Tensor, threshold: float) -> Tensor:
    """Of rows in order of score, those that no better row overlaps by more: (B, n) bool. One pass, no loop."""
    low = torch.maximum(corners[..., None, :2], corners[..., None, :, :2])
    high = torch.minimum(corners[..., None, 2:], corners[..., None, :, 2:])
    inside = (high - low).clamp(min=0).prod(-1)
    area = (corners[..., 2:] - corners[..., :2]).prod(-1)
    iou = inside / (area[..., :, None] + area[..., None, :] - inside)
    order = torch.ones_like(area).cumsum(-1)
    better = order[..., :, None] > order[..., None, :]
    return ((iou > threshold) & better).sum(-1) == 0


class Suppressed(Dense):
    """Class-wise suppression in the graph, at most 40 rows of which the last are empty."""

    def __init__(self, iou: float = 0.5, score: float = 0.5, offset: float = 1000.0) -> None:
        super().__init__()
        self.iou, self.score, self.offset = iou, score, offset

    def forward(self, x: Tensor) -> Any:
        boxes, scores, _, _ = self.candidates(x)
        found = chosen(boxes, scores, 40)
        apart = found[..., :4] + found[..., 5:] * self.offset
        usable = free(apart, self.iou) & (found[..., 4] > self.score)
        found = found * usable.unsqueeze(-1).to(found.dtype)
        _, order = found[..., 4].topk(40)
        return found.gather(1, order.unsqueeze(-1).expand(-1, -1, 6))


class Torchvision(Dense):
    """One image without a batch axis; as many rows as pass."""

    def forward(self, x: Tensor) -> Any:
        boxes, scores, _, _ = self.candidates(x[None])
        found = chosen(boxes, scores, 40)[0]
        usable = free(found[..., :4] + found[..., 5:] * 1000, 0.5) & (found[..., 4] > 0.5)
        found = found[usable]
        return {"boxes": found[:, :4], "labels": found[:, 5].to(torch.int64) + 1, "scores": found[:, 4]}


class Maps(Pyramid):
    """Three maps that nothing decodes."""

    def __init__(self) -> None:
        super().__init__(4 + len(NAMES))

    def forward(self, x: Tensor) -> Any:
        return tuple(self.raw(self.maps(x)))


class Several(Detr):
    """Outputs of other shapes and units, in a dictionary: scores, boxes, a map and one number an image."""

    def forward(self, x: Tensor) -> Any:
        maps = self.maps(x)
        found = rows(self.raw(maps)[0])
        return {
            "probabilities": found[..., 4:].softmax(-1),
            "regression": found[..., :4],
            "heat": maps[0].mean(1, keepdim=True).sigmoid(),
            "quality": maps[3].mean((1, 2, 3)),
        }


class ChannelsLast(Dense):
    """Takes (B, H, W, 3)."""

    def forward(self, x: Tensor) -> Any:
        boxes, scores, _, _ = self.candidates(x.permute(0, 3, 1, 2))
        return torch.cat([boxes, scores], -1)


@dataclass(frozen=True)
class StandIn:
    """build: the module; layout: its preset, empty for generic; outputs: names; image: axes of the input, "BCHW", "CHW" or "BHWC"."""

    build: Callable[..., nn.Module]
    layout: str
    outputs: Tuple[str, ...]
    image: str = "BCHW"

    @property
    def preprocessing(self) -> Preprocessing:
        return PRESETS[self.layout].preprocessing if self.layout else Preprocessing()

    def example(self, size: Tuple[int, int], batch: int = 1) -> Tensor:
        images = torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(7)) * self.preprocessing.scale
        return {"BCHW": images, "CHW": images[0], "BHWC": images.permute(0, 2, 3, 1)}[self.image]

    def kinds(self) -> Tuple[str, ...]:
        return tuple(kind for kind in KINDS if kind != BATCH or self.image != "CHW")

    def axes(self, kind: str) -> Dict[str, Dict[int, str]]:
        """Axes that vary: what an exporter is asked for."""
        found: Dict[int, str] = {}
        if kind in (BATCH, SIZES) and "B" in self.image:
            found[0] = "batch"
        if kind == SIZES:
            found.update({self.image.index("H"): "height", self.image.index("W"): "width"})
        if not found:
            return {}
        outputs = {} if 0 not in found else {name: {0: "batch"} for name in self.outputs}
        return {"images": found, **outputs}


ONE = ("output0",)
STAND_INS: Mapping[str, StandIn] = {
    "yolov5": StandIn(functools.partial(Objectness, 3), "yolov5", ONE),
    "ultralytics": StandIn(Ultralytics, "ultralytics", ONE),
    "ultralytics-seg": StandIn(Seg, "ultralytics-seg", ("output0", "output1")),
    "ultralytics-pose": StandIn(Pose, "ultralytics-pose", ONE),
    "ultralytics-obb": StandIn(Obb, "ultralytics-obb", ONE),
    "ultralytics-end2end": StandIn(EndToEnd, "ultralytics-end2end", ONE),
    "ultralytics-nms": StandIn(Suppressed, "ultralytics-nms", ONE),
    "ultralytics-rtdetr": StandIn(RtDetr, "ultralytics-rtdetr", ONE),
    "yolo9": StandIn(Corners, "yolo9", ("output",)),
    "yolox": StandIn(functools.partial(Objectness, 1), "yolox", ("output",)),
    "detr": StandIn(Detr, "detr", ("logits", "pred_boxes")),
    "torchvision": StandIn(Torchvision, "torchvision", ("boxes", "labels", "scores"), "CHW"),
    "maps": StandIn(Maps, "", ("p3", "p4", "p5")),
    "several": StandIn(Several, "", ("probabilities", "regression", "heat", "quality")),
    "channels-last": StandIn(ChannelsLast, "", ("predictions",), "BHWC"),
}


def made(name: str, seed: int = 0, size: Tuple[int, int] = SIZE, shift: float = 0.0, **build: Any) -> nn.Module:
    """A stand-in in eval mode: batch-norm and heads set on one drawn image. shift: added to every class logit."""
    return _made(name, seed, size, shift, tuple(sorted(build.items())))


@functools.cache
def _made(name: str, seed: int, size: Tuple[int, int], shift: float, build: Tuple[Tuple[str, Any], ...]) -> nn.Module:
    stand_in = STAND_INS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = stand_in.build(**dict(build))
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        module.train()
        module(stand_in.example((128, 192), 2))
        module.eval()
        hooks = [head.register_forward_hook(functools.partial(_calibrate, module, shift)) for head in module.heads]
        module(stand_in.example((128, 192), 2))
    for hook in hooks:
        hook.remove()
    return module


def _calibrate(module: nn.Module, shift: float, head: nn.Conv2d, given: Any, result: Tensor) -> None:
    """Give every channel of a head a spread and a mean as trained ones have; scores are rarely near one."""
    assert head.bias is not None
    spread = result.std((0, 2, 3)).clamp(min=1e-6)
    mean = (result - head.bias.view(1, -1, 1, 1)).mean((0, 2, 3))
    anchors = int(getattr(module, "anchors", 1))
    middle = torch.linspace(-0.3, 0.7, len(spread) // anchors)
    middle[4:] += shift - 1.6
    scale = 1.1 / spread
    head.weight.mul_(scale.view(-1, 1, 1, 1))
    head.bias.copy_(middle.repeat(anchors) - mean * scale)


def onnx_of(name: str, kind: str = STATIC, module: Optional[nn.Module] = None, opset: int = OPSET) -> onnx.ModelProto:
    """The ONNX export of a stand-in, or of another module in its place."""
    return onnx.load_from_string(_onnx(name, kind, module if module is not None else made(name), opset))


@functools.cache
def _onnx(name: str, kind: str, module: nn.Module, opset: int) -> bytes:
    stand_in = STAND_INS[name]
    return export_onnx(module, stand_in.example(SIZE), ["images"], stand_in.outputs, stand_in.axes(kind), opset)


def traced_of(name: str, module: Optional[nn.Module] = None) -> bytes:
    """The TorchScript trace of a stand-in, or of another module in its place."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        module = module if module is not None else made(name)
        torch.jit.save(torch.jit.trace(module, STAND_INS[name].example(SIZE), strict=False), buffer)
    return buffer.getvalue()


def reference_of(name: str, module: Optional[nn.Module] = None, layout: Optional[str] = None) -> ModuleReference:
    """A stand-in as what its files are judged against. layout: "" where the file has to state it, and the names."""
    stand_in = STAND_INS[name]
    facts = ReferenceFacts(
        name,
        "",
        tuple(stand_in.example(SIZE).shape),
        (),
        layout=stand_in.layout if layout is None else layout,
        names=NAMES if layout is None else (),
        preprocessing=stand_in.preprocessing,
    )
    return ModuleReference(Made(module if module is not None else made(name), facts))


def promises_of(name: str, kind: str, opset: int = OPSET) -> Promises:
    """What the exporter of `onnx_of` was asked for; of a trace, its example."""
    stand_in = STAND_INS[name]
    shape = tuple(stand_in.example(SIZE).shape)
    if kind == TRACED:
        return Promises("torch.jit.trace", shape=shape)
    return Promises("torch.onnx.export", ("images",), stand_in.outputs, stand_in.axes(kind), opset, shape)

"""The detector as one module that runs, traces, scripts and exports: layers, routes, and a head of one `Level` per stride.

`Network.forward` gives the raw logits level by level; `Predictions` decodes them. Decoding is the single formula of the
family (xy = (2 s - 0.5 + grid) stride, wh = (2 s)^2 anchor), written once for all of these.
"""

from __future__ import annotations

import copy
from typing import List, Sequence, Tuple, cast

import torch
from torch import Tensor, nn

from detparity.core.errors import InputError
from detparity.core.vocabulary import Size
from detparity.models.yolov7.blocks import ImplicitA, ImplicitM, as_layer


class Level(nn.Module):
    """One output level: a 1x1 convolution to anchors * fields channels, and the geometry to decode it.

    anchors: (na, 2) width and height in pixels; stride: pixels per cell; fields: 5 + classes; implicit: whether vectors are added
    before and multiplied after the convolution until they are folded into it; auxiliary: input channels of a convolution that
    only training runs, 0 for none. It is held for the sake of the checkpoint and dropped when fusing.
    """

    def __init__(
        self, channels: int, fields: int, anchors: Tensor, stride: int, implicit: bool = False, auxiliary: int = 0
    ) -> None:
        super().__init__()
        self.na = int(anchors.shape[0])
        self.fields = fields
        self.stride = float(stride)
        self.conv = nn.Conv2d(channels, self.na * fields, 1)
        self.ia: nn.Module = ImplicitA(channels) if implicit else nn.Identity()
        self.im: nn.Module = ImplicitM(self.na * fields) if implicit else nn.Identity()
        if auxiliary:
            self.auxiliary = nn.Conv2d(auxiliary, self.na * fields, 1)
        self.register_buffer("anchors", anchors.reshape(1, self.na, 1, 1, 2).clone())

    def planes(self, x: Tensor) -> Tensor:
        """(B, C, ny, nx) features to (B, na * fields, ny, nx) logits, as the convolution leaves them."""
        return self.im(self.conv(self.ia(x)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ny, nx) features to (B, na, ny, nx, fields) logits."""
        y = self.planes(x)
        b, _, ny, nx = y.shape
        return y.view(b, self.na, self.fields, ny, nx).permute(0, 1, 3, 4, 2).contiguous()

    def grid(self, raw: Tensor) -> Tensor:
        """(1, 1, ny, nx, 2) column and row of each cell. Cumulative sums leave no size and no device in a trace, and
        neither does a power of zero: up to torch 2.0 ones_like records the device."""
        ones = torch.pow(raw[:1, :1, :, :, :1], 0.0)
        return torch.cat([torch.cumsum(ones, 3), torch.cumsum(ones, 2)], 4) - 1.0

    def decode(self, raw: Tensor, grid: Tensor) -> Tensor:
        """Logits (B, na, ny, nx, fields) to predictions (B, na * ny * nx, fields): pixels, then probabilities."""
        s = torch.sigmoid(raw)
        xy = (s[..., 0:2] * 2.0 - 0.5 + grid) * self.stride
        wh = (s[..., 2:4] * 2.0) ** 2 * self.anchors
        return torch.cat([xy, wh, s[..., 4:]], 4).view(raw.shape[0], -1, self.fields)

    def decode_planes(self, planes: Tensor, grid: Tensor) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same of planes (B, na * fields, ny, nx), by a constant grid (1, 1, 2, cells): centres and sides (B, na, 2, cells) in
        pixels, objectness (B, na, 1, cells) and classes. Slices are contiguous here, and a convolution can include the sigmoid."""
        s = torch.sigmoid(planes).view(-1, self.na, self.fields, grid.shape[3])
        xy = (s[:, :, 0:2] * 2.0 - 0.5 + grid) * self.stride
        wh = (s[:, :, 2:4] * 2.0) ** 2 * self.anchors.view(1, self.na, 2, 1)
        return xy, wh, s[:, :, 4:5], s[:, :, 5:]


class Network(nn.Module):
    """Layers run in order; `routes[i]` lists what layer i reads: 0 is the image, k is the output of layer k - 1.

    `taps` lists in the same numbering what each level of the head reads. Outputs that are not read again are released.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        routes: Sequence[Sequence[int]],
        taps: Sequence[int],
        levels: Sequence[Level],
    ) -> None:
        super().__init__()
        self.model = nn.ModuleList([as_layer(block) for block in blocks])
        self.routes: List[List[int]] = [list(route) for route in routes]
        self.taps: List[int] = list(taps)
        self.levels = nn.ModuleList(levels)
        self.last_use: List[int] = _last_use(self.routes, self.taps)

    def features(self, images: Tensor) -> List[Tensor]:
        """(B, 3, H, W) images to the (B, C, ny, nx) tensor that each level reads."""
        outputs: List[Tensor] = [images]
        for i, layer in enumerate(self.model):
            xs: List[Tensor] = []
            for j in self.routes[i]:
                xs.append(outputs[j])
            outputs.append(layer(xs))
            for j in self.routes[i]:
                if self.last_use[j] == i:
                    outputs[j] = images
        read: List[Tensor] = []
        for tap in self.taps:
            read.append(outputs[tap])
        return read

    def forward(self, images: Tensor) -> List[Tensor]:
        """(B, 3, H, W) images to one (B, na, ny, nx, fields) tensor of logits per level."""
        read = self.features(images)
        raw: List[Tensor] = []
        for k, level in enumerate(self.levels):
            raw.append(level(read[k]))
        return raw


def unused(network: Network) -> List[int]:
    """Indices of the layers that no level reads, neither itself nor through others."""
    live, layers = set(network.taps), range(len(network.routes))
    for i in reversed(layers):
        if i + 1 in live:
            live.update(network.routes[i])
    return [i for i in layers if i + 1 not in live]


class Ensemble(Network):
    """Several networks as one that reads the image once and gives the levels of one after the other.

    members: how many layers and levels each of them has, in order.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        routes: Sequence[Sequence[int]],
        taps: Sequence[int],
        levels: Sequence[Level],
        members: Sequence[Tuple[int, int]],
    ) -> None:
        super().__init__(blocks, routes, taps, levels)
        self.members: List[Tuple[int, int]] = list(members)


def member_of(network: Network, kind: str, index: int) -> Tuple[str, int, int]:
    """Whose layer (kind "model") or level (kind "levels") an index is: the prefix of its member's official keys, its own index in
    that member, and how many layers that has."""
    if not isinstance(network, Ensemble):
        return "", index, len(network.model)
    for number, counts in enumerate(network.members):
        count = counts[0 if kind == "model" else 1]
        if index < count:
            return f"{number}.", index, counts[0]
        index -= count
    raise IndexError(index)


def joined(members: Sequence[Network]) -> Ensemble:
    """An ensemble as the family makes it: the members' predictions one after the other. The modules are shared."""
    layers: List[nn.Module] = []
    routes: List[List[int]] = []
    taps: List[int] = []
    levels: List[Level] = []
    for member in members:
        shift = len(layers)
        moved = [[j + shift if j else 0 for j in reads] for reads in [*member.routes, member.taps]]
        routes.extend(moved[:-1])
        taps.extend(moved[-1])
        layers.extend(member.model)
        levels.extend(cast(Level, level) for level in member.levels)
    return Ensemble(layers, routes, taps, levels, [(len(member.model), len(member.levels)) for member in members])


def _last_use(routes: Sequence[Sequence[int]], taps: Sequence[int]) -> List[int]:
    last = [-1] * (len(routes) + 1)
    for i, route in enumerate(routes):
        for j in route:
            last[j] = i
    for tap in taps:
        last[tap] = len(routes)
    return last


class Predictions(nn.Module):
    """(B, 3, H, W) images to (B, rows, fields) decoded predictions, at any size that is a multiple of the largest stride."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.decode(self.network(images))

    def decode(self, raw: List[Tensor]) -> Tensor:
        """Logits per level to (B, rows, fields)."""
        rows: List[Tensor] = []
        for k, level in enumerate(self.network.levels):
            rows.append(level.decode(raw[k], level.grid(raw[k])))
        return torch.cat(rows, 1)


class FixedPredictions(nn.Module):
    """`Predictions` for one image size, with the grid as a constant: nothing about sizes is left to compute at run time."""

    def __init__(self, network: Network, size: Size) -> None:
        super().__init__()
        self.network = network
        reference = next(network.parameters())
        self.grids: List[Tensor] = []
        for level in network.levels:
            ny, nx = int(size[0] // level.stride), int(size[1] // level.stride)
            self.grids.append(level.grid(reference.new_ones(1, 1, ny, nx, 1)))

    def forward(self, images: Tensor) -> Tensor:
        raw = self.network(images)
        rows = [level.decode(raw[k], self.grids[k]) for k, level in enumerate(self.network.levels)]
        return torch.cat(rows, 1)


class FixedBoxes(nn.Module):
    """(B, 3, H, W) images of one size to boxes (B, rows, 4) in pixels and scores (B, rows, classes), for suppression of a fixed shape.

    corners: boxes as x1, y1, x2, y2 in place of centre and size; by_class: scores as (B, classes, rows).

    What follows from `FixedPredictions`, in less time: decoded on the planes that the convolutions leave, and turned into rows last.
    """

    def __init__(self, network: Network, size: Size, corners: bool, by_class: bool) -> None:
        super().__init__()
        self.network = network
        self.corners, self.by_class = corners, by_class
        self.grids = [grid.flatten(2, 3).transpose(2, 3).contiguous() for grid in FixedPredictions(network, size).grids]

    def forward(self, images: Tensor) -> Tuple[Tensor, Tensor]:
        boxes: List[Tensor] = []
        scores: List[Tensor] = []
        for each, grid, x in zip(self.network.levels, self.grids, self.network.features(images)):
            level = cast(Level, each)
            rows, classes = level.na * grid.shape[3], max(level.fields - 5, 1)
            xy, wh, objectness, conditional = level.decode_planes(level.planes(x), grid)
            score = objectness * conditional if classes > 1 else objectness
            parts = [xy - wh * 0.5, xy + wh * 0.5] if self.corners else [xy, wh]
            boxes.append(torch.cat(parts, 2).transpose(2, 3).reshape(-1, rows, 4))
            if self.by_class:
                scores.append(score.transpose(1, 2).reshape(-1, classes, rows))
            else:
                scores.append(score.transpose(2, 3).reshape(-1, rows, classes))
        return torch.cat(boxes, 1), torch.cat(scores, 2 if self.by_class else 1)


class RawTuple(nn.Module):
    """(B, 3, H, W) images to the logits of each level as a tuple: what a tracer and an ONNX exporter accept as several outputs."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tuple[Tensor, ...]:
        return tuple(self.network(images))


class _HalfNetwork(Network):
    """A network whose layers compute in float16 and whose logits are float32."""

    def forward(self, images: Tensor) -> List[Tensor]:
        return [level.float() for level in super().forward(images.half())]


def has_half_kernels() -> bool:
    """Whether this torch convolves float16 on the CPU."""
    if int(torch.__version__.split(".")[0]) < 2:  # without kernels, and it looks for a GPU when it is asked
        return False
    try:
        nn.Conv2d(1, 1, 1).half()(torch.zeros(1, 1, 1, 1).half())
    except RuntimeError:
        return False
    return True


def half_network(network: Network) -> Network:
    """A copy with float16 weights. What decodes, anchors and strides, stays in float32. Raises InputError where this torch has no
    kernels for it."""
    if not has_half_kernels():
        raise InputError(
            f"torch {torch.__version__} cannot convolve float16 on the CPU, so it traces nothing in it: --include onnx"
        )
    found = copy.deepcopy(network)
    found.__class__ = _HalfNetwork
    for parameter in found.parameters():
        parameter.data = parameter.data.half()
    return found

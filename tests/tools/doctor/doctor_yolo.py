"""A detector in the habits of well-known code bases, none of which scripts: for the script doctor, which imports this file.

Layers know where they read from (`f`), the network loops over them, the head keeps its grid, the activation is a lambda.
"""

from __future__ import annotations

import torch
from torch import nn


class Unit(nn.Module):
    """Convolution, batch-norm, activation."""

    def __init__(self, c1, c2, kernel=3, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = lambda x: x * torch.sigmoid(x)

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))  # <- lambda


class Join(nn.Module):
    def forward(self, parts):
        return torch.cat(parts, 1)  # <- join


class Head(nn.Module):
    def __init__(self, classes, widths):
        super().__init__()
        self.fields, self.anchors = classes + 5, 3
        self.cells = [None for _ in widths]
        self.predict = nn.ModuleList([nn.Conv2d(width, self.anchors * self.fields, 1) for width in widths])

    def forward(self, features):
        rows = []
        for k in range(len(self.cells)):
            raw = self.predict[k](features[k])  # <- index
            batch, _, ny, nx = raw.shape
            if self.cells[k] is None:
                self.cells[k] = torch.ones(1, 1, ny, nx, 1).cumsum(2)  # <- cache
            raw = raw.view(batch, self.anchors, self.fields, ny, nx).permute(0, 1, 3, 4, 2)
            rows.append((raw.sigmoid() + self.cells[k]).reshape(batch, -1, self.fields))
        if self.training:
            return rows
        return torch.cat(rows, 1), rows  # <- return


class Detector(nn.Module):
    """60 submodules and the model itself."""

    def __init__(self, classes=4, width=8):
        super().__init__()
        plan = [(-1, Unit(3, width, 3, 2)), *[(-1, Unit(width, width)) for _ in range(12)]]
        plan += [(-1, nn.MaxPool2d(2)), *[(-1, Unit(width, width)) for _ in range(3)]]
        plan += [([-1, 14], Join()), (-1, Unit(2 * width, width)), ([-1, 15], Join()), (11, nn.MaxPool2d(2))]
        plan += [([19, 20], Head(classes, [2 * width, width]))]
        for index, (source, layer) in enumerate(plan):
            layer.i, layer.f = index, source
        self.layers = nn.Sequential(*[layer for _, layer in plan])
        self.stored = [11, 14, 15, 19, 20]

    def forward(self, images, augment=False):
        if augment:
            images = images.flip(3)
        return self.once(images)

    def once(self, images):
        outputs = []
        now = images
        for layer in self.layers:
            if layer.f != -1:  # <- routes
                now = outputs[layer.f] if isinstance(layer.f, int) else self.gather(outputs, now, layer.f)
            now = layer(now)
            outputs.append(now if layer.i in self.stored else None)
        return now

    def gather(self, outputs, now, sources):
        return [now if j == -1 else outputs[j] for j in sources]

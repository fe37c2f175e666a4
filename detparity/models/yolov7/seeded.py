"""Detectors without a checkpoint: random weights, conditioned so that detections are neither empty nor saturated.

Weights come from numpy's PCG64 and batch-norm statistics from one float64 pass over seeded images, so a (name, width, seed) is
the same detector on every version of torch.
"""

from __future__ import annotations

from typing import Optional, cast

import numpy as np
import torch
from torch import Tensor, nn

from detparity.core.errors import InputError
from detparity.inputs import images
from detparity.models.yolov7.architectures import full_name, plan
from detparity.models.yolov7.blocks import ImplicitA, ImplicitM
from detparity.models.yolov7.detector import YoloDetector, first_pass, make_detector
from detparity.models.yolov7.network import Level, Network
from detparity.models.yolov7.plan import Plan, build
from detparity.models.yolov7.size_limits import work_of

CALIBRATION_SIDE = 192
CALIBRATION_IMAGES = ("natural", "noise", "natural", "low-contrast", "natural", "dark", "natural", "gradient")
MAX_CALIBRATION = 3e11  # multiplications: the largest official model takes 1.2 * 10^11
# Mean and spread of the logits per field: boxes near their anchors, one row in a few dozen an object, classes distinct.
LOGITS = {"xy": (0.0, 1.0), "wh": (0.0, 0.7), "objectness": (-4.0, 1.8), "class": (-4.0, 1.8)}


def seeded(name: str = "yolov7-tiny", width: Optional[float] = 0.25, seed: int = 0, classes: int = 80) -> YoloDetector:
    """Return the detector of this architecture, width (None: its own) and seed. Raises InputError for an unknown name or width."""
    drawn = plan(name, width)
    return conditioned(drawn, f"{full_name(name)}-w{drawn.width:g}-s{seed}", seed, classes)


def conditioned(drawn: Plan, title: str, seed: int, classes: int) -> YoloDetector:
    """Return the detector of this plan and seed. Raises InputError for a block that cannot be made."""
    network = build(drawn, classes)
    work = len(CALIBRATION_IMAGES) * work_of(network, _side(network))
    if work > MAX_CALIBRATION:
        raise InputError(
            f"{title} takes {work:.1g} multiplications to be given its weights, more than {MAX_CALIBRATION:.0g}"
        )
    network = network.double()
    rng = np.random.default_rng([seed, 7])
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            _fill(module.weight, rng.standard_normal(tuple(module.weight.shape)) * np.sqrt(2.0 / fan_in))
        elif isinstance(module, nn.BatchNorm2d):
            _fill(module.weight, rng.uniform(0.8, 1.2, tuple(module.weight.shape)))
            _fill(module.bias, rng.normal(0.0, 0.1, tuple(module.bias.shape)))
    for kind, centre in ((ImplicitA, 0.0), (ImplicitM, 1.0)):
        for module in network.modules():
            if isinstance(module, kind):
                _fill(module.implicit, rng.normal(centre, 0.02, tuple(module.implicit.shape)))
    _calibrate(network, seed)
    names = tuple(f"class{index}" for index in range(classes))
    return make_detector(title, names, network.float())


def _fill(target: Tensor, values: np.ndarray) -> None:
    with torch.no_grad():
        target.copy_(torch.from_numpy(values))


def _side(network: Network) -> int:
    stride = max(int(cast(float, level.stride)) for level in network.levels)
    return -(-CALIBRATION_SIDE // stride) * stride


def _calibrate(network: Network, seed: int) -> None:
    """Set batch-norm statistics and head scales from one pass: in training mode each layer normalises by its own batch."""
    size = (_side(network), _side(network))
    batch = np.stack([images.make(kind, size, seed + k) for k, kind in enumerate(CALIBRATION_IMAGES)]).astype(
        np.float64
    )
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    raw = first_pass(network.train(), torch.from_numpy(batch))
    with torch.no_grad():
        for level, logits in zip(network.levels, raw):
            _scale_head(cast(Level, level), logits)
    network.eval()


def _scale_head(level: Level, logits: Tensor) -> None:
    """Give each output channel the mean and spread its field should have."""
    fields = logits.shape[-1]
    kinds = ["xy", "xy", "wh", "wh", "objectness"] + ["class"] * (fields - 5)
    expected = torch.tensor([LOGITS[kind] for kind in kinds], dtype=logits.dtype)
    flat = logits.permute(1, 4, 0, 2, 3).reshape(-1, fields, logits.shape[0] * logits.shape[2] * logits.shape[3])
    scale = (expected[:, 1] / flat.std(2)).reshape(-1)
    conv = level.conv
    assert conv.bias is not None
    shift = (expected[:, 0] - flat.mean(2) * scale.reshape(-1, fields)).reshape(-1)
    if isinstance(level.im, ImplicitM):  # what is added to the bias is multiplied afterwards
        shift = shift / level.im.implicit.reshape(-1)
    conv.weight.mul_(scale.reshape(-1, 1, 1, 1))
    conv.bias.copy_(shift + conv.bias * scale)

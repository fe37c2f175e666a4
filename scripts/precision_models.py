"""Models of other packages for `precision_table.py`: weights by seed, set so that they detect something on drawn scenes, or trained.

Without training, batch-norm is set on the scenes; then the last convolutions of class and objectness are scaled and shifted, level by
level, until their logits spread over both sides of the threshold, and those of boxes until these are about two strides wide. What such
a model detects means nothing and nearly ties, so that 8 bits are judged on trained ones alone (`steps` of AdamW, by the packages' own
losses, on `TRAINING` scenes).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from detparity.inputs import images
from detparity.inputs.scenes import CLASSES, Scene, scene
from detparity.models import fold

SPREAD, SHOWN = 2.0, 0.02  # standard deviation of the logits; share of them that is over a score of 0.25
BOXES = 0.3  # standard deviation of the logits of boxes
SCENES = 8
TRAINING, BATCH, RATE, FIRST_SCENE = 320, 8, 1.5e-3, 2_000_000
EMPTY = {"yolox": 0.0, "yolo9": -1.0}  # what fills the rows of a picture with fewer objects than another


def make(name: str, size: Tuple[int, int], target: Path, steps: int = 0) -> None:
    """Write the checkpoint of PACKAGE:MODEL, trained for so many steps."""
    package, _, model = name.partition(":")
    torch.manual_seed(0)
    target.parent.mkdir(parents=True, exist_ok=True)
    PACKAGES[package](model, size, target, steps)


def _train(network: Any, steps: int, size: Tuple[int, int], loss: Callable[[List[Scene]], Tensor]) -> None:
    """AdamW, the rate by one cycle; each batch is drawn from the same scenes."""
    network.train()
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.dtype.is_floating_point)
    scenes = [scene(size, FIRST_SCENE + k) for k in range(TRAINING)]
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
    draw = np.random.default_rng(0)
    for step in range(steps):
        found = loss([scenes[int(k)] for k in draw.integers(0, TRAINING, BATCH)])
        optimiser.zero_grad()
        found.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step}: loss {float(found.detach()):.3f}", flush=True)
    network.eval()


def _centres(one: Scene) -> np.ndarray:
    """(n, 4): centre and sides, in pixels."""
    return np.concatenate([(one.boxes[:, :2] + one.boxes[:, 2:]) / 2, one.boxes[:, 2:] - one.boxes[:, :2]], 1)


def _set(
    network: nn.Module, heads: Mapping[nn.Conv2d, float], boxes: Mapping[nn.Conv2d, Tensor], given: np.ndarray
) -> None:
    """Batch-norm on these images, then the heads: of scores with the logit that `SHOWN` of its numbers are to exceed, of boxes with
    their bias."""
    x = torch.from_numpy(np.ascontiguousarray(given, np.float32))
    norms: List[Any] = [part for part in network.modules() if fold.is_norm(part)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        network(x)
    for norm in norms:
        norm.eval()
        norm.momentum = 0.03
    made: Dict[nn.Conv2d, Tensor] = {}
    hooks = [
        one.register_forward_hook(lambda part, _given, found: made.update({part: found})) for one in (*heads, *boxes)
    ]
    with torch.no_grad():
        network(x)
        for one, threshold in heads.items():
            logits = made[one].detach()
            spread = SPREAD / max(float(logits.std()), 1e-6)
            one.weight.mul_(spread)
            assert one.bias is not None
            level = torch.quantile((logits - one.bias.reshape(1, -1, 1, 1)).flatten() * spread, 1 - SHOWN)
            one.bias.copy_(torch.full_like(one.bias, float(threshold - level)))
        for one, bias in boxes.items():
            assert one.bias is not None
            one.weight.mul_(BOXES / max(float(made[one].std()), 1e-6))
            one.bias.copy_(bias)
    for hook in hooks:
        hook.remove()


def _of_bins(sides: int = 4, bins: int = 16) -> Tensor:
    """The bias by which each side of a box is about one stride away."""
    found = torch.zeros(sides, bins)
    found[:, 1] = 5.0
    return found.flatten()


def _scenes(size: Tuple[int, int]) -> np.ndarray:
    return np.stack([images.make("scene", size, 500 + k) for k in range(SCENES)])


def _ultralytics(name: str, size: Tuple[int, int], target: Path, steps: int) -> None:
    from ultralytics import YOLO
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel

    model = YOLO(f"{name}.yaml")
    network: Any = DetectionModel(f"{name}.yaml", nc=len(CLASSES), verbose=False)
    network.names = dict(enumerate(CLASSES))
    head = network.model[-1]
    scores, boxes = {branch[-1]: -1.1 for branch in head.cv3}, {branch[-1]: _of_bins() for branch in head.cv2}
    sides = np.array([size[1], size[0]] * 2)

    def loss(scenes: List[Scene]) -> Tensor:
        batch = {
            "img": torch.from_numpy(np.stack([one.image for one in scenes])),
            "batch_idx": torch.from_numpy(np.repeat(np.arange(len(scenes)), [len(one.classes) for one in scenes])),
            "cls": torch.from_numpy(np.concatenate([one.classes for one in scenes])).float()[:, None],
            "bboxes": torch.from_numpy(np.concatenate([_centres(one) for one in scenes]) / sides).float(),
        }
        found: Tensor = network(batch)[0]
        return found.sum()

    if steps:
        network.args = get_cfg()
        _train(network, steps, size, loss)
    else:
        _set(network.eval(), scores, boxes, _scenes(size))
    network.criterion = None
    network.args = {"imgsz": size[0], "model": f"{name}.yaml", "task": "detect"}
    model.model = network
    model.save(str(target))


def _libreyolo(name: str, size: Tuple[int, int], target: Path, steps: int) -> None:
    from libreyolo.models.base.model import BaseModel

    from detparity.models.adapters.libreyolo import _preprocessing

    family, _, kind = name.rpartition("-")
    made = next(one for one in BaseModel._registry if family == one.FAMILY)
    model = made._from_scratch(size=kind, device="cpu", seed=0, nb_classes=len(CLASSES))
    model.names = dict(enumerate(CLASSES))
    head = model.model.head
    # Of YOLOX a score is the product of two: objectness over half, a class nearly always.
    heads = (
        {**dict.fromkeys(head.obj_preds, 0.0), **dict.fromkeys(head.cls_preds, 2.0)}
        if family == "yolox"
        else {branch[-1]: -1.1 for branch in head.cv3}
    )
    yolox = torch.tensor([0.5, 0.5, 0.7, 0.7])  # in cells, and logarithms of sides in strides
    boxes = dict.fromkeys(head.reg_preds, yolox) if family == "yolox" else {one[-1]: _of_bins() for one in head.cv2}
    preprocessing, sides = _preprocessing(model, size)[0], np.array([size[1], size[0]] * 2)

    def loss(scenes: List[Scene]) -> Tensor:
        given = preprocessing.apply(np.stack([one.image for one in scenes]))
        rows = np.full((len(scenes), max(len(one.classes) for one in scenes), 5), EMPTY[family], np.float32)
        for row, one in zip(rows, scenes):
            row[: len(one.classes), 0] = one.classes
            row[: len(one.classes), 1:] = _centres(one) if family == "yolox" else one.boxes / sides
        x = torch.from_numpy(np.ascontiguousarray(given, np.float32))
        found: Dict[str, Tensor] = model.model(x, torch.from_numpy(rows))
        return found["total_loss"]

    if steps:
        _train(model.model, steps, size, loss)
    else:
        _set(model.model.eval(), heads, boxes, preprocessing.apply(_scenes(size)))
    model.save(str(target))


PACKAGES: Mapping[str, Callable[[str, Tuple[int, int], Path, int], None]] = {
    "ultralytics": _ultralytics,
    "libreyolo": _libreyolo,
}

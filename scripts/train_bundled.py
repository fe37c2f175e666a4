"""Trains the bundled detector, a yolov7-tiny of a quarter of the width, on drawn scenes, and writes it into the package.

    python scripts/train_bundled.py                    # the detector as committed: docs/bundled.md says how long it takes
    python scripts/train_bundled.py --steps 300 --output /tmp/context.pt

The same seed gives the same scenes in the same order, the same first weights and the same steps. What is left to chance is the order
in which threads add float32 numbers, which differs between machines and versions of torch: the score is the same to a few thousandths,
the weights are not the same to the bit.
"""

from __future__ import annotations

import argparse
import collections
import copy
import importlib
import io
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Deque, Iterator, List, NamedTuple, Sequence, Tuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detparity.checks.mean_ap import suppressed
from detparity.core.files import write_bytes
from detparity.core.vocabulary import Size
from detparity.inputs.scenes import CLASSES, scene
from detparity.models.choice import bundled_weights
from detparity.models.compat import pickler
from detparity.models.yolov7 import architectures, checkpoint_loader
from detparity.models.yolov7 import plan as plans
from detparity.models.yolov7.detector import official_key
from detparity.models.yolov7.network import Level, Network, Predictions
from detparity.models.yolov7.plan import Anchors, Plan
from detparity.oracle.average_precision import Objects, Precision, precision
from detparity.oracle.nms import NmsRule

ARCHITECTURE, WIDTH, SEED = "yolov7-tiny", 0.25, 0
STEPS, BATCH, SIDES = 10000, 16, (160, 192, 224, 256, 288)
USES, STORED = 3, 32  # steps a drawn batch serves on average, transformed and recoloured; batches stored for it
RATE, LAST_RATE = 3e-3, 0.01  # of AdamW: the highest, and the share of it at the end
DECAY, WARM_UP = 0.02, 300  # weight decay; steps to the highest rate
AVERAGE = 0.9995  # of the moving average of the weights, from one step to the next
FIRST_SCENE = 1_000_000  # seeds of training scenes start here; those below are held out
ANCHOR_SCENES = 400  # scenes whose boxes the anchors are fitted to
REACH = 2.5  # an anchor is responsible for a box whose sides are at most this many times longer or shorter than its own
BOX, OBJECTNESS, CLASS = 5.0, 1.0, 1.0  # weights of the three losses
HELD_OUT_SIZE = (256, 320)
RULE = NmsRule(iou_threshold=0.6, score_threshold=0.01, cap=300, best_class=True)


# --- what to learn


class Targets(NamedTuple):
    """Positives of one level: image, anchor, row, column (n,) and class (n,) int64; centre and sides in pixels (n, 4) float32."""

    positions: Tuple[Tensor, Tensor, Tensor, Tensor]
    classes: Tensor
    boxes: Tensor


def assign(boxes: np.ndarray, images: np.ndarray, classes: np.ndarray, anchors: Anchors, size: Size) -> List[Targets]:
    """Which anchors are responsible for which objects, level by level: those of a similar shape, in the cell that holds the centre and
    in the two cells nearest to it, one to the side and one above or below. Of two objects at one position the smaller has it.

    boxes: (n, 4) centre and sides in pixels; images, classes: (n,).
    """
    found = []
    order = np.argsort(-boxes[:, 2] * boxes[:, 3], kind="stable")
    boxes, images, classes = boxes[order], images[order], classes[order]
    for level, stride in zip(np.asarray(anchors, np.float32), (8, 16, 32)):
        rows, columns = size[0] // stride, size[1] // stride
        ratio = boxes[:, None, 2:4] / level[None]
        which, anchor = np.nonzero(np.maximum(ratio, 1 / ratio).max(2) < REACH)
        centre = boxes[which, :2] / stride
        cell = np.floor(centre).astype(np.int64)
        beside = np.where(centre - cell < 0.5, -1, 1)
        parts: List[np.ndarray] = []
        for dx, dy in ((0, 0), (1, 0), (0, 1)):
            x, y = cell[:, 0] + dx * beside[:, 0], cell[:, 1] + dy * beside[:, 1]
            inside = (x >= 0) & (y >= 0) & (x < columns) & (y < rows)
            parts.append(np.stack([which, images[which], anchor, y, x], 1)[inside])
        positives = np.concatenate(parts)
        positives = positives[np.argsort(positives[:, 0], kind="stable")]  # the smaller objects last
        key = np.ravel_multi_index(positives[:, 1:].T, (int(images.max(initial=0)) + 1, len(level), rows, columns))
        _, last = np.unique(key[::-1], return_index=True)
        chosen = positives[len(positives) - 1 - last]
        b, a, y, x = (torch.from_numpy(chosen[:, k].copy()) for k in range(1, 5))
        who = chosen[:, 0]
        found.append(Targets((b, a, y, x), torch.from_numpy(classes[who]), torch.from_numpy(boxes[who])))
    return found


@dataclass(frozen=True, eq=False)
class Batch:
    """Scenes of one size: images (n, 3, H, W); of their objects the image and the class (m,), centre and sides in pixels (m, 4)."""

    images: np.ndarray
    owners: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray

    def transformed(self, flip_x: bool, flip_y: bool, transpose: bool, channels: Sequence[int]) -> Batch:
        """The same scenes mirrored, transposed and with their colours exchanged."""
        images, boxes = self.images[:, list(channels)], self.boxes.copy()
        height, width = images.shape[2:]
        if flip_x:
            images, boxes[:, 0] = images[..., ::-1], width - boxes[:, 0]
        if flip_y:
            images, boxes[:, 1] = images[..., ::-1, :], height - boxes[:, 1]
        if transpose:
            images, boxes = images.swapaxes(2, 3), boxes[:, [1, 0, 3, 2]]
        return Batch(images, self.owners, self.classes, boxes)


def draw(size: Size, first: int, count: int = BATCH) -> Batch:
    """The scenes of `count` seeds from `first` on."""
    drawn = [scene(size, first + k) for k in range(count)]
    corners = np.concatenate([one.boxes for one in drawn]).astype(np.float32)
    return Batch(
        np.stack([one.image for one in drawn]),
        np.repeat(np.arange(count), [len(one.classes) for one in drawn]),
        np.concatenate([one.classes for one in drawn]),
        np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1),
    )


class Batches(torch.utils.data.IterableDataset):
    """The batch of each step: images (BATCH, 3, H, W) and the targets of each level. One step in `USES` draws new scenes, which
    costs as much as half a step of training; the others take a batch of the last `STORED` and transform it."""

    def __init__(self, steps: int, anchors: Anchors, seed: int) -> None:
        self.steps, self.anchors, self.seed = steps, anchors, seed

    def __iter__(self) -> Iterator[Tuple[Tensor, List[Targets]]]:
        rng = np.random.default_rng([self.seed, 13])
        stored: Deque[Batch] = collections.deque(maxlen=STORED)
        for step in range(self.steps):
            if step % USES == 0:
                size = (SIDES[int(rng.random() * len(SIDES))], SIDES[int(rng.random() * len(SIDES))])
                batch = draw(size, FIRST_SCENE + (self.seed * self.steps + step) * BATCH)
                stored.append(batch)
            else:
                batch = stored[int(rng.random() * len(stored))]
            flip_x, flip_y, transpose = rng.random(3) < 0.5
            transformed = batch.transformed(flip_x, flip_y, transpose, np.argsort(rng.random(3)).tolist())
            yield torch.from_numpy(np.ascontiguousarray(transformed.images)), self.targets(transformed)

    def targets(self, batch: Batch) -> List[Targets]:
        height, width = batch.images.shape[2:]
        return assign(batch.boxes, batch.owners, batch.classes, self.anchors, (height, width))


def fit_anchors(seed: int, levels: int = 3, each: int = 3) -> Anchors:
    """Widths and heights that the boxes of scenes gather around (k-means on the logarithms of the sides), by rising area."""
    boxes = np.concatenate([scene((256, 256), FIRST_SCENE - 1 - k).boxes for k in range(ANCHOR_SCENES)])
    sides = np.log(boxes[:, 2:] - boxes[:, :2])
    order = np.argsort(sides.sum(1), kind="stable")
    centres = np.stack([part.mean(0) for part in np.array_split(sides[order], levels * each)])
    for _ in range(50):
        nearest = ((sides[:, None] - centres[None]) ** 2).sum(2).argmin(1)
        centres = np.stack(
            [sides[nearest == k].mean(0) if (nearest == k).any() else centres[k] for k in range(len(centres))]
        )
    fitted = np.round(np.exp(centres[np.argsort(centres.sum(1))])).reshape(levels, each, 2)
    return tuple(tuple((float(w), float(h)) for w, h in level) for level in fitted)


# --- how to learn it


def loss_of(raw: Sequence[Tensor], targets: Sequence[Targets], network: Network) -> Tuple[Tensor, Tuple[float, ...]]:
    """The loss of a batch, and its three parts. Each is a sum over positives or cells, divided by the number of positives."""
    box, objectness, kind = (raw[0].new_zeros(()) for _ in range(3))
    count = max(1, sum(len(target.classes) for target in targets))
    for logits, target, level in zip(raw, targets, _levels(network)):
        expected = torch.zeros_like(logits[..., 4])
        if len(target.classes):
            b, a, y, x = target.positions
            chosen = logits[b, a, y, x]
            s = torch.sigmoid(chosen[:, :4])
            cell = torch.stack([x, y], 1).to(s.dtype)
            anchor = cast(Tensor, level.anchors).reshape(-1, 2)[a]
            found = torch.cat([(2 * s[:, :2] - 0.5 + cell) * level.stride, (2 * s[:, 2:]) ** 2 * anchor], 1)
            overlap, complete = overlaps(found, target.boxes)
            box = box + (1 - complete).sum()
            expected[b, a, y, x] = overlap.detach().clamp(0, 1)
            labels = F.one_hot(target.classes, len(CLASSES)).to(s.dtype)
            kind = kind + F.binary_cross_entropy_with_logits(chosen[:, 5:], labels, reduction="sum")
        objectness = objectness + F.binary_cross_entropy_with_logits(logits[..., 4], expected, reduction="sum")
    parts = (BOX * box / count, OBJECTNESS * objectness / count, CLASS * kind / count)
    return sum(parts[1:], parts[0]), tuple(float(part.detach()) for part in parts)


def overlaps(a: Tensor, b: Tensor) -> Tuple[Tensor, Tensor]:
    """IoU and complete IoU (less the distance of the centres and the difference in proportion) of boxes, centre and sides (n, 4)."""
    low = torch.maximum(a[:, :2] - a[:, 2:] / 2, b[:, :2] - b[:, 2:] / 2)
    high = torch.minimum(a[:, :2] + a[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2)
    common = (high - low).clamp(min=0).prod(1)
    iou = common / (a[:, 2:].prod(1) + b[:, 2:].prod(1) - common + 1e-7)
    around = torch.maximum(a[:, :2] + a[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2) - torch.minimum(
        a[:, :2] - a[:, 2:] / 2, b[:, :2] - b[:, 2:] / 2
    )
    distance = ((a[:, :2] - b[:, :2]) ** 2).sum(1) / ((around**2).sum(1) + 1e-7)
    angle = torch.atan(a[:, 2] / a[:, 3].clamp(min=1e-7)) - torch.atan(b[:, 2] / b[:, 3])
    shape = (2 / math.pi * angle) ** 2
    with torch.no_grad():
        weight = shape / (1 - iou + shape + 1e-7)
    return iou, iou - distance - weight * shape


def _levels(network: Network) -> List[Level]:
    return [cast(Level, level) for level in network.levels]


def start(network: Network) -> None:
    """Few cells hold an object, and the first steps should not be spent on learning that."""
    for level in _levels(network):
        bias = cast(Tensor, level.conv.bias).detach().reshape(level.na, level.fields)
        bias[:, 4] = -4.5
        bias[:, 5:] = -1.5


def optimiser(network: Network) -> torch.optim.Optimizer:
    """Weights of convolutions decay, biases and batch-norms do not."""
    plain = [p for p in network.parameters() if p.ndim < 2]
    decayed = [p for p in network.parameters() if p.ndim >= 2]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99))


def rate(step: int, steps: int) -> float:
    """Up in a line, then down along a cosine."""
    warm = min(WARM_UP, max(1, steps // 10))
    if step < warm:
        return RATE * (step + 1) / warm
    down = 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
    return RATE * (LAST_RATE + (1 - LAST_RATE) * down)


class Average:
    """The moving average of a network, which follows closely at first."""

    def __init__(self, network: Network) -> None:
        self.network = copy.deepcopy(network).eval()
        self._steps = 0

    @torch.no_grad()
    def update(self, network: Network) -> None:
        self._steps += 1
        keep = AVERAGE * (1 - math.exp(-self._steps / 1000))
        for own, other in zip(self.network.state_dict().values(), network.state_dict().values()):
            if own.is_floating_point():
                own.mul_(keep).add_(other, alpha=1 - keep)
            else:
                own.copy_(other)


def train(drawn: Plan, steps: int, seed: int, every: int) -> Network:
    """Return the averaged network after `steps` steps; prints the losses now and then, and the score on 60 held-out scenes."""
    torch.manual_seed(seed)
    network = plans.build(drawn, len(CLASSES)).train()
    start(network)
    average, steps_of = Average(network), optimiser(network)
    batches = torch.utils.data.DataLoader(
        Batches(steps, drawn.anchors, seed), batch_size=None, num_workers=1, prefetch_factor=4
    )
    began, sums = time.perf_counter(), np.zeros(3)
    for step, (images, targets) in enumerate(batches):
        for group in steps_of.param_groups:
            group["lr"] = rate(step, steps)
        # Half as long as with the channels apart: these layers are narrow.
        raw = network(images.contiguous(memory_format=torch.channels_last))
        loss, parts = loss_of(raw, targets, network)
        steps_of.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        steps_of.step()
        average.update(network)
        sums += parts
        if (step + 1) % 100 == 0:
            box, objectness, kind = sums / 100
            seconds = time.perf_counter() - began
            print(
                f"step {step + 1:6d}  {seconds:6.0f} s  box {box:.3f}  objectness {objectness:.3f}  class {kind:.3f}",
                flush=True,
            )
            sums[:] = 0
        if (step + 1) % every == 0 and step + 1 < steps:
            print(f"  held out: {line(score(average.network, 60))}", flush=True)
    return average.network


# --- how good it is


def score(network: Network, count: int, size: Size = HELD_OUT_SIZE, first: int = 0) -> Precision:
    """Precision on `count` held-out scenes of this size."""
    detections, truths = [], []
    predictions = Predictions(network)
    for start_seed in range(first, first + count, BATCH):
        drawn = [scene(size, seed) for seed in range(start_seed, min(start_seed + BATCH, first + count))]
        with torch.no_grad():
            rows = predictions(torch.from_numpy(np.stack([one.image for one in drawn]))).numpy()
        for one, values in zip(drawn, rows):
            detections.append(suppressed(values, RULE))
            truths.append(Objects(one.boxes, one.classes))
    return precision(detections, truths, len(CLASSES))


def line(found: Precision) -> str:
    each = ", ".join(f"{name} {value:.3f}" for name, value in zip(CLASSES, found.table[:, 0]))
    return f"mAP50 {found.map50:.4f}, mAP50-95 {found.map:.4f} ({each})"


# --- the file


def official(network: Network, drawn: Plan) -> bytes:
    """The checkpoint in the official format, in float16: what `torch.save` writes of the stand-in classes of our own."""
    standins = _standins()
    model = standins.unfilled(drawn, len(CLASSES)).eval()
    model.names = list(CLASSES)
    state = {official_key(network, key): value for key, value in network.state_dict().items()}
    head = f"model.{len(drawn.steps)}."
    own = model.state_dict()
    state.update({key: own[key] for key in (head + "anchors", head + "anchor_grid")})
    model.load_state_dict(state)
    written = io.BytesIO()
    with standins.installed():
        pickler.save(standins.stripped(model), written)
    return written.getvalue()


def _standins() -> Any:
    return importlib.import_module("detparity.kit.tests.models.yolov7.standins")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of the schedule (default %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="of scenes and weights (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch; a second process draws (default %(default)s)")
    parser.add_argument("--every", type=int, default=1000, help="steps between scores (default %(default)s)")
    parser.add_argument("--held-out", type=int, default=300, help="scenes of the last score (default %(default)s)")
    parser.add_argument("--output", type=Path, default=bundled_weights())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    began = time.perf_counter()
    drawn = architectures.plan(ARCHITECTURE, WIDTH)
    drawn.anchors = fit_anchors(options.seed)
    print(f"torch {torch.__version__}, {options.threads} threads, seed {options.seed}, anchors {drawn.anchors}")
    network = train(drawn, options.steps, options.seed, options.every)
    write_bytes(options.output, official(network, drawn))
    minutes = (time.perf_counter() - began) / 60
    print(f"{options.output}: {options.output.stat().st_size} bytes after {minutes:.1f} minutes")
    found = score(checkpoint_loader.load(options.output).network, options.held_out)  # as stored, in float16
    height, width = HELD_OUT_SIZE
    print(f"{options.held_out} held-out scenes of {height}x{width}: {line(found)}")


if __name__ == "__main__":
    main()

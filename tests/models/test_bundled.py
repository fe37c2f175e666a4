"""The bundled detector: the committed file, its score on held-out scenes, and the parts of the script that trained it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from detparity.core import resources
from detparity.inputs.scenes import CLASSES
from detparity.models.choice import ModelChoice, bundled_weights, load_detector
from detparity.models.yolov7 import architectures, checkpoint_loader
from detparity.models.yolov7 import plan as plans

MOST_BYTES = 1_500_000
PAGE = resources.root() / "docs" / "bundled.md"


@pytest.fixture(scope="module")
def trainer():
    """The training script as a module."""
    return importlib.import_module("detparity.kit.scripts.train_bundled")


@pytest.fixture(scope="module")
def detector():
    return load_detector(ModelChoice())


@pytest.mark.smoke
def test_the_committed_file_is_small_and_is_the_detector_used_by_default(detector):
    path = bundled_weights()

    assert path.stat().st_size < MOST_BYTES
    assert checkpoint_loader.load(path).facts.digest == detector.facts.digest
    assert detector.facts.names == CLASSES
    assert detector.facts.strides == (8, 16, 32)


@pytest.fixture(scope="module")
def fitted(trainer):
    return trainer.fit_anchors(trainer.SEED)


def test_its_anchors_are_those_fitted_to_scenes(detector, fitted):
    assert detector.facts.anchors == fitted


def test_the_score_on_the_first_held_out_scenes(detector, trainer):
    assert trainer.score(detector.network, 40).map50 >= 0.85


@pytest.mark.more  # more scenes of what the test above asks; the committed file changes when it is trained again
def test_the_score_on_held_out_scenes_is_the_documented_one(detector, trainer):
    """On all scenes that the page speaks of, class by class."""
    found = trainer.score(detector.network, 300)

    assert found.map50 >= 0.85, trainer.line(found)
    if not PAGE.is_file():
        pytest.skip("an installed kit has no docs")
    rows = re.findall(r"^\| (\w+) \| (\d\.\d+) \| (\d\.\d+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    stated = {name: (float(first), float(mean)) for name, first, mean in rows}
    scored = {"all": (found.map50, found.map)}
    scored.update({name: (table[0], table.mean()) for name, table in zip(CLASSES, found.table)})
    assert stated == {name: pytest.approx(values, abs=2e-3) for name, values in scored.items()}
    assert f"({bundled_weights().stat().st_size:,} bytes)" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("size", [(96, 160), (416, 384)])
def test_it_detects_at_sizes_it_was_not_trained_at(size, detector, trainer):
    assert trainer.score(detector.network, 12, size).map50 >= 0.75


# The script


@pytest.fixture(scope="module")
def drawn(trainer, fitted):
    """A plan with fitted anchors, four scenes of 128x160, and their targets."""
    plan = architectures.plan(trainer.ARCHITECTURE, trainer.WIDTH)
    plan.anchors = fitted
    batch = trainer.draw((128, 160), 0, 4)
    return plan, batch, trainer.Batches(1, plan.anchors, 0).targets(batch)


def test_every_object_has_anchors_near_it_and_every_cell_one_object(drawn, trainer):
    plan, batch, targets = drawn
    answered = set()

    for level, target, stride in zip(plan.anchors, targets, (8, 16, 32)):
        b, a, y, x = (index.numpy() for index in target.positions)
        assert len(set(zip(b, a, y, x))) == len(b) > 0
        found = target.boxes.numpy()
        cells = found[:, :2] / stride - np.stack([x, y], 1)
        assert (cells >= -0.5).all() and (cells <= 1.5).all()  # what a cell can decode
        ratio = found[:, 2:] / np.asarray(level)[a]
        assert (np.maximum(ratio, 1 / ratio) < trainer.REACH).all()  # of the 4 that an anchor can decode
        assert (x < 160 // stride).all() and (y < 128 // stride).all() and min(x.min(), y.min()) >= 0
        answered |= set(zip(b.tolist(), map(tuple, found.tolist())))

    expected = set(zip(batch.owners.tolist(), map(tuple, batch.boxes.tolist())))
    assert answered <= expected
    assert len(expected - answered) <= len(expected) // 20  # of a shape no anchor has, or under a smaller one


@pytest.mark.filterwarnings(
    "ignore:CUDA initialization"
)  # old builds with CUDA look for a driver at the first backward pass
def test_a_few_steps_lower_the_loss_and_a_perfect_head_has_none(drawn, trainer):
    plan, batch, targets = drawn
    pixels = torch.from_numpy(batch.images)
    torch.manual_seed(0)
    network = plans.build(plan, len(CLASSES)).train()
    trainer.start(network)
    steps = trainer.optimiser(network)
    seen = []

    for _ in range(12):
        loss, parts = trainer.loss_of(network(pixels), targets, network)
        steps.zero_grad()
        loss.backward()
        steps.step()
        seen.append(float(loss.detach()))

    assert float(loss.detach()) == pytest.approx(sum(parts), rel=1e-5)
    assert seen[-1] < 0.85 * seen[0]
    assert trainer.loss_of(_perfect(network, targets, pixels), targets, network)[1] == pytest.approx(
        (0, 0, 0), abs=1e-3
    )


def _perfect(network, targets, pixels):
    """Logits whose predictions are the targets."""
    found = []
    for level, target in zip(network.levels, targets):
        stride = int(level.stride)
        shape = (len(pixels), level.na, pixels.shape[2] // stride, pixels.shape[3] // stride, level.fields)
        raw = torch.full(shape, -20.0)
        b, a, y, x = target.positions
        share = (target.boxes[:, :2] / stride - torch.stack([x, y], 1) + 0.5) / 2
        side = torch.sqrt(target.boxes[:, 2:] / level.anchors.reshape(-1, 2)[a]) / 2
        s = torch.cat([share, side], 1).clamp(1e-6, 1 - 1e-6)
        values = torch.full((len(b), level.fields), -20.0)
        values[:, :4] = torch.log(s / (1 - s))
        values[:, 4] = 20.0
        values[torch.arange(len(b)), 5 + target.classes] = 20.0
        raw[b, a, y, x] = values
        found.append(raw)
    return found


def test_the_rate_rises_then_falls(trainer):
    rates = [trainer.rate(step, 4000) for step in range(4000)]
    top = int(np.argmax(rates))

    assert top < 400 and rates[top] == pytest.approx(trainer.RATE, rel=1e-2)
    assert (np.diff(rates[: top + 1]) > 0).all() and (np.diff(rates[top:]) <= 0).all()
    assert rates[-1] < 0.02 * trainer.RATE


def test_the_same_seed_gives_the_same_batches(trainer):
    plan = architectures.plan(trainer.ARCHITECTURE, trainer.WIDTH)
    first, again, other = (list(trainer.Batches(4, plan.anchors, seed)) for seed in (0, 0, 1))

    for (images, targets), (same, expected) in zip(first, again):
        assert torch.equal(images, same)
        assert all(torch.equal(a.boxes, b.boxes) for a, b in zip(targets, expected))
    assert first[0][0].shape != other[0][0].shape or not torch.equal(first[0][0], other[0][0])
    assert not torch.equal(first[0][0], first[1][0])  # the same scenes, turned


@pytest.mark.parametrize(
    "flips", [(True, False, False), (False, True, False), (False, False, True), (True, True, True)]
)
def test_turned_scenes_keep_their_boxes_around_their_objects(flips, trainer):
    """The truth of a scene in which each object is its own colour, before and after."""
    images = np.zeros((1, 3, 64, 96), np.float32)
    boxes = np.array([[4, 6, 20, 30], [40, 2, 90, 10], [30, 40, 50, 60]], np.float32)
    for k, (x1, y1, x2, y2) in enumerate(boxes.astype(int)):
        images[0, :, y1:y2, x1:x2] = np.array([0.1, 0.2, 0.3])[:, None, None] + k
    centres = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)

    batch = trainer.Batch(images, np.zeros(3, np.int64), np.arange(3), centres).transformed(*flips, (2, 0, 1))

    assert batch.images.shape[2:] == ((96, 64) if flips[2] else (64, 96))
    for k, (x, y, w, h) in enumerate(batch.boxes):
        inside = batch.images[0, :, int(y - h / 2) : int(y + h / 2), int(x - w / 2) : int(x + w / 2)]
        np.testing.assert_allclose(
            inside, np.broadcast_to(np.array([0.3, 0.1, 0.2])[:, None, None] + k, inside.shape), rtol=1e-5
        )
        assert inside[0].size == round(w * h)


def test_what_is_written_is_read_as_the_same_network(trainer, tmp_path: Path):
    plan = architectures.plan(trainer.ARCHITECTURE, trainer.WIDTH)
    plan.anchors = (((9.0, 8.0), (17.0, 15.0), (20.0, 31.0)),) * 3
    torch.manual_seed(3)
    network = plans.build(plan, len(CLASSES)).eval()
    (tmp_path / "trained.pt").write_bytes(trainer.official(network, plan))

    loaded = checkpoint_loader.load(tmp_path / "trained.pt")

    assert (loaded.facts.names, loaded.facts.anchors) == (CLASSES, plan.anchors)
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(network.half().float()(x), loaded.network(x)):
            assert torch.allclose(ours, theirs, atol=1e-4)

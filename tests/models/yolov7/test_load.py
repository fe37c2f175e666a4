"""Checkpoints become our detectors: the real files where they lie beside the checkout, and our own architectures everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from detparity.core.errors import InputError
from detparity.models.yolov7 import architectures, checkpoint_loader
from detparity.models.yolov7.detector import make_detector
from detparity.models.yolov7.network import Predictions
from detparity.models.yolov7.seeded import seeded
from detparity.oracle.noise_floor import measure

REAL = ("yolov7-tiny-torch1.13", "yolov7-tiny-torch1.7", "yolov7-tiny-training-torch1.13")


def _run(network: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    reference = next(network.parameters())
    with torch.no_grad():
        return Predictions(network)(torch.from_numpy(x).to(reference.dtype))[0].numpy()


@pytest.mark.parametrize("name", REAL)
def test_fused_eager_equals_the_stored_rows(name, shared_data):
    """Both are float32 and unlike in their rounding, so each may be one floor from the truth: eager's own error is the measure."""
    path = shared_data / "checkpoints" / f"{name}.pt"
    detector, stored = checkpoint_loader.load(path), np.load(path.with_suffix(".npz"))
    rows, theirs = stored["rows"], stored["fused"].astype(np.float64)

    truth = _run(detector.exact, stored["x"])
    ours = _run(detector.network, stored["x"])

    assert tuple(stored["shape"]) == (1, *ours.shape)
    assert list(stored["stride"]) == list(detector.facts.strides)
    floor = measure([truth[rows]], [ours[rows]])
    found = measure([truth[rows]], [theirs])
    assert {key: stats.rms / floor[key].rms < 3 for key, stats in found.items()} == {key: True for key in found}
    assert {key: stats.max / floor[key].max < 5 for key, stats in found.items()} == {key: True for key in found}


@pytest.mark.parametrize("name, file", [("deploy-yolov7-tiny", REAL[0]), ("training-yolov7-tiny", REAL[2])])
def test_architecture_has_the_checkpoints_shapes(name, file, shared_data):
    """Parameter by parameter, at the checkpoint's own width."""
    loaded = checkpoint_loader.load(shared_data / "checkpoints" / f"{file}.pt")
    built = make_detector("built", loaded.facts.names, architectures.build(name, 0.25))

    assert [(w.key, w.weight.shape, w.stride, w.padding) for w in built.weights] == [
        (w.key, w.weight.shape, w.stride, w.padding) for w in loaded.weights
    ]
    assert built.facts.anchors == loaded.facts.anchors


@pytest.mark.smoke
def test_seeded_detector_is_the_same_every_time_and_alive():
    first, second, other = seeded(), seeded(), seeded(seed=1)
    x = torch.rand(1, 3, 320, 320, generator=torch.Generator().manual_seed(0))

    scores = _run(first.network, x.numpy())
    best = scores[:, 4] * scores[:, 5:].max(1)

    assert first.facts.digest == second.facts.digest != other.facts.digest
    assert 20 < int((best > 0.25).sum()) < len(best) // 4  # neither empty nor saturated
    assert float(best.max()) < 1.0


@pytest.mark.smoke
@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: seeded("yolov9"), "unknown architecture 'yolov9'"),
        (lambda: seeded(width=0), "width 0 is outside"),
        (lambda: seeded(width=float("nan")), "width nan is outside"),
        (lambda: checkpoint_loader.load(Path("no/such.pt")), "no/such.pt"),
    ],
)
def test_what_cannot_be_built_is_reported_in_one_line(call, message):
    with pytest.raises(InputError) as caught:
        call()

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nan_weights_are_named():
    network = architectures.build("yolov7-tiny", 0.125, 3)
    with torch.no_grad():
        network.model[3].block.conv.weight[0, 0, 0, 0] = float("nan")

    with pytest.raises(InputError, match=r"1 of 64 values of model\.3\.conv\.weight are NaN"):
        make_detector("broken", ("a", "b", "c"), network)

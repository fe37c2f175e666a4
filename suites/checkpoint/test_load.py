"""Checkpoints become our detectors: the real files where they lie beside the checkout, and our own architectures everywhere."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from detparity.detectors import architectures, checkpoint
from detparity.detectors.detector import make_detector
from detparity.detectors.fuse import fuse
from detparity.detectors.network import Predictions
from detparity.detectors.seeded import seeded
from detparity.errors import InputError
from detparity.oracle.noise import measure

REAL = ("yolov7-tiny-torch1.13", "yolov7-tiny-torch1.7", "yolov7-tiny-training-torch1.13")
TABLES = {"deploy-yolov7-tiny": "deploy/yolov7-tiny", "training-yolov7-tiny": "training/yolov7-tiny"}


def _run(network: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    reference = next(network.parameters())
    with torch.no_grad():
        return Predictions(network)(torch.from_numpy(x).to(reference.dtype))[0].numpy()


@pytest.mark.parametrize("name", REAL)
def test_fused_eager_equals_the_stored_rows(name, shared_data):
    """Both are float32 and unlike in their rounding, so each may be one floor from the truth: eager's own error is the measure."""
    path = shared_data / "checkpoints" / f"{name}.pt"
    detector, stored = checkpoint.load(path), np.load(path.with_suffix(".npz"))
    rows, theirs = stored["rows"], stored["fused"].astype(np.float64)

    truth = _run(detector.exact, stored["x"])
    ours = _run(detector.network, stored["x"])

    assert tuple(stored["shape"]) == (1, *ours.shape)
    assert list(stored["stride"]) == list(detector.facts.strides)
    floor = measure([truth[rows]], [ours[rows]])
    found = measure([truth[rows]], [theirs])
    assert {key: stats.rms / floor[key].rms < 3 for key, stats in found.items()} == {key: True for key in found}
    assert {key: stats.max / floor[key].max < 5 for key, stats in found.items()} == {key: True for key in found}


@pytest.mark.parametrize("name", sorted(TABLES))
def test_architecture_is_the_published_one(name, shared_data):
    """Layer by layer: what it reads, which block, with which arguments."""
    table = json.loads((shared_data / "architectures.json").read_text())[TABLES[name]]
    plan = architectures.plan(name)
    expected, steps = [], []
    for index, (source, _, block, arguments) in enumerate(table["layers"][:-1]):
        sources = source if isinstance(source, list) else [source]
        reads = tuple(index + j + 1 if j < 0 else j + 1 for j in sources)
        numbers = tuple(a for a in arguments if isinstance(a, int) and not isinstance(a, bool))
        # A Conv's table gives channels, kernel, stride, (padding), groups; Upsample's gives size, factor, mode.
        expected.append((block, reads, numbers[:3] if block == "Conv" else numbers))
    for kind, reads, arguments in plan.steps:
        steps.append((kind, reads, arguments[1:] if kind == "Conv" else arguments))
    sources, _, head, _ = table["layers"][-1]

    assert steps == expected
    assert (plan.head, plan.taps) == (head, tuple(j + 1 for j in sources))
    anchors = [[n for pair in level for n in pair] for level in architectures.ARCHITECTURES[name].anchors]
    assert anchors == table["anchors"]


@pytest.mark.parametrize("name, file", [("deploy-yolov7-tiny", REAL[0]), ("training-yolov7-tiny", REAL[2])])
def test_architecture_has_the_checkpoints_shapes(name, file, shared_data):
    """Parameter by parameter, at the checkpoint's own width."""
    loaded = checkpoint.load(shared_data / "checkpoints" / f"{file}.pt")
    built = make_detector("built", loaded.facts.names, architectures.build(name, 0.25))

    assert [(w.key, w.weight.shape, w.stride, w.padding) for w in built.weights] == [
        (w.key, w.weight.shape, w.stride, w.padding) for w in loaded.weights
    ]
    assert built.facts.anchors == loaded.facts.anchors


@pytest.mark.smoke
@pytest.mark.parametrize("name", sorted(TABLES))
def test_fusing_changes_nothing_but_the_form(name):
    """In float64 the folded network equals the one with batch-norm and implicit layers to rounding."""
    network = architectures.build(name, 0.125, 3).double()
    generator = torch.Generator().manual_seed(5)
    for module in network.modules():
        for key, value in [*module._parameters.items(), *module._buffers.items()]:
            if value is not None and value.is_floating_point() and key not in ("anchors",):
                noise = torch.rand(value.shape, generator=generator, dtype=torch.float64)
                value.data.copy_(noise + 0.5 if key in ("running_var", "implicit") else noise - 0.4)
    x = torch.rand(2, 3, 64, 96, generator=generator, dtype=torch.float64)
    plain = _with_implicit(network.eval(), x)
    fused = fuse(network)(x)

    assert not [name for name, module in fuse(network).named_modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for before, after in zip(plain, fused):
        assert float((before - after).abs().max()) <= 1e-9 * float(before.abs().max())


def _with_implicit(network, x):
    """Run an unfused network; its implicit layers are applied here, as the published head does."""
    if not hasattr(network, "ia"):
        with torch.no_grad():
            return network(x)
    features, handles = {}, []
    for k, level in enumerate(network.levels):
        handles.append(level.conv.register_forward_pre_hook(lambda _m, args, k=k: (args[0] + network.ia[k].implicit,)))
        handles.append(level.conv.register_forward_hook(lambda _m, _a, out, k=k: out * network.im[k].implicit))
    with torch.no_grad():
        features = network(x)
    for handle in handles:
        handle.remove()
    return features


@pytest.mark.smoke
def test_leaving_out_an_implicit_layer_shows():
    """The check above would see an implicit layer that was forgotten."""
    network = architectures.build("training-yolov7-tiny", 0.125, 3).double().eval()
    with torch.no_grad():
        network.im[1].implicit.mul_(1.01)
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    forgotten = copy.deepcopy(network)
    del forgotten.ia, forgotten.im

    left, right = _with_implicit(network, x)[1], fuse(forgotten)(x)[1]

    assert float((left - right).abs().max()) > 1e-4 * float(left.abs().max())


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
        (lambda: checkpoint.load(Path("no/such.pt")), "no/such.pt"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(call, message):
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

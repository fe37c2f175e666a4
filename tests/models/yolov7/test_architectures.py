"""Every architecture of the family: drawn as published, shaped as published, loaded from checkpoints in the official format, and the
same network before and after fusing."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Dict, Iterator, List

import numpy as np
import pytest
import torch
from detparity.kit.tests.models.yolov7 import standins
from torch import nn

from detparity.cli import main
from detparity.core import environment
from detparity.inputs import images
from detparity.models.compat.pickler import save
from detparity.models.yolov7 import architectures, checkpoint_loader, fuse, yaml_config
from detparity.models.yolov7 import plan as plans
from detparity.models.yolov7.detector import make_detector, official_key
from detparity.models.yolov7.network import Network, Predictions

NAMES = sorted(architectures.ARCHITECTURES)
# Float64 on both sides, by two ways of computing: 1e-13 apart at most, where a wrong weight in one layer shows at 1e-5 and more.
EXACT = 1e-9
META = environment.holds(
    {"torch": ">=2.0"}, environment.environment()
)  # a device for shapes without numbers, as a context


def _narrow(name: str) -> float:
    """A width at which the default run can afford it; 32 groups need as many channels."""
    return 0.5 if "x50" in name else 1 / 16


@pytest.mark.parametrize("name", NAMES)
def test_drawn_as_published(name, shared_data):
    """Layer by layer: which block, what it reads, all its arguments, channels, strides; then head and anchors."""
    published = json.loads((shared_data / "architectures.json").read_text())
    assert sorted(key.replace("/", "-") for key in published) == NAMES
    entry = dict(published[name.replace("-", "/", 1)])
    entry["backbone"] = entry.pop("layers")

    expected, classes = yaml_config.plan_of(entry)
    drawn = architectures.plan(name)

    assert classes == 80
    assert drawn.steps == expected.steps
    assert (drawn.head, drawn.taps, drawn.auxiliary) == (expected.head, expected.taps, expected.auxiliary)
    assert (drawn.channels, drawn.strides, drawn.anchors) == (expected.channels, expected.strides, expected.anchors)


@contextlib.contextmanager
def _without_memory() -> Iterator[None]:
    """Modules made inside have shapes and no numbers, where torch can do that."""
    if META:
        with torch.device("meta"):
            yield
    else:
        yield


@pytest.mark.parametrize("name", NAMES)
def test_shaped_as_the_official_modules(name):
    """Parameter by parameter, at full width where modules can be made without memory."""
    drawn = architectures.plan(name, None if META else _narrow(name))
    with _without_memory():
        ours = plans.build(drawn, 80)
        official = standins.unfilled(drawn, 80)

    found = {official_key(ours, key): tuple(value.shape) for key, value in ours.state_dict().items()}
    expected = {key: tuple(value.shape) for key, value in official.state_dict().items()}
    head = f"model.{len(drawn.steps)}"
    # Anchors are held level by level: one entry represents all of them here.
    assert found.pop(f"{head}.anchor_grid") == (1, 3, 1, 1, 2)
    assert expected.pop(f"{head}.anchor_grid") == (len(drawn.taps), 1, 3, 1, 1, 2)
    assert expected.pop(f"{head}.anchors") == (len(drawn.taps), 3, 2)
    assert found == expected
    assert len(ours.state_dict()) == len(found) + len(drawn.taps)


# Millions of parameters of the network as deployed, as its authors state them; of yolov7-d6 they state those in training.
STATED = {
    "deploy-yolov7": 36.9,
    "deploy-yolov7x": 71.3,
    "deploy-yolov7-w6": 70.4,
    "deploy-yolov7-e6": 97.2,
    "deploy-yolov7-e6e": 151.7,
    "deploy-yolov7-tiny-silu": 6.2,
    "training-yolov7-d6": 154.7,
}


@pytest.mark.skipif(not META, reason="full width without memory needs torch 2.0")
@pytest.mark.parametrize("name", sorted(STATED))
def test_as_many_parameters_as_its_authors_state(name):
    with _without_memory():
        network = architectures.build(name)
    deployed = [value.numel() for key, value in network.named_parameters() if "rbr_1x1" not in key]

    assert sum(deployed) / 1e6 == pytest.approx(STATED[name], abs=0.1)


def test_the_command_lists_them_with_their_numbers(monkeypatch, capsys):
    """yolov7's own training prints these counts. Before torch 2.0 the weights are really made, so two represent all there."""
    if not META:
        few = {name: architectures.ARCHITECTURES[name] for name in ("deploy-yolov7-tiny", "training-yolov7-tiny")}
        monkeypatch.setattr(architectures, "ARCHITECTURES", few)

    assert main.main(["models"]) == 0

    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {row[0] for row in rows[1:-2]} == set(architectures.ARCHITECTURES)
    assert ["deploy-yolov7-tiny", "Detect", "78", "6,227,101", "12.5", "MB", "8,", "16,", "32", "640"] in rows
    if META:
        parameters = {row[0]: row[3] for row in rows[1:-2]}
        assert (parameters["deploy-yolov7"], parameters["training-yolov7"]) == ("37,620,125", "37,622,682")
        w6 = next(row for row in rows if row and row[0] == "deploy-yolov7-w6")
        assert w6[-5:] == ["8,", "16,", "32,", "64", "1280"]


def _image(stride: int) -> np.ndarray:
    return images.natural((2 * stride, 3 * stride), 7)[None]


def _worst(values: np.ndarray, truth: np.ndarray) -> float:
    """The largest error, relative to the value or, near zero, absolute."""
    assert values.shape == truth.shape and values.dtype == truth.dtype == np.float64
    return float((np.abs(values - truth) / np.maximum(np.abs(truth), 1.0)).max())


def _exact(network: Network, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return Predictions(network)(torch.from_numpy(x).double()).numpy()


# One of each kind of layers and head; the others are for a nightly run.
KINDS = ("baseline-r50-csp", "baseline-yolor-d6", "baseline-yolov4-csp", "deploy-yolov7-tiny", "training-yolov7-w6")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.lanes if n in KINDS else pytest.mark.more) for n in NAMES]
)
def test_a_checkpoint_of_it_loads_and_agrees(name, tmp_path):
    """Pickled in the official format by classes that are not ours, float16, and run by them in float64."""
    path = tmp_path / f"{name}.pt"
    content = standins.stripped(standins.build(architectures.plan(name, _narrow(name)), 3, 9))
    with standins.installed():
        save(content, path)

    detector = checkpoint_loader.load(path)
    x = _image(detector.facts.max_stride)

    assert detector.facts.strides == ((8, 16, 32, 64) if len(detector.facts.anchors) == 4 else (8, 16, 32))
    assert _worst(_exact(detector.exact, x), standins.run(content["model"], x)) < EXACT


# --- fusing, layer by layer


def _layers(network: Network, x: torch.Tensor) -> Dict[str, torch.Tensor]:
    """What each layer and each level gives."""
    found: Dict[str, torch.Tensor] = {}
    handles = [
        module.register_forward_hook(lambda _m, _a, out, name=name: found.update({name: out}))
        for kind in ("model", "levels")
        for name, module in ((f"{kind}.{i}", module) for i, module in enumerate(getattr(network, kind)))
    ]
    with torch.no_grad():
        network(x)
    for handle in handles:
        handle.remove()
    return found


def _departures(plain: Network, fused: Network, size: int, bound: float = EXACT) -> List[str]:
    """Layers at which the two are further apart than rounding, with what only training uses left out."""
    x = torch.from_numpy(images.natural((size, size), 3)[None]).to(next(fused.parameters()).dtype)
    before, after = _layers(plain, x), _layers(fused, x)
    unused = {f"model.{index}" for index in fuse.unused(plain)}
    return [
        name
        for name, value in before.items()
        if name not in unused and float((value - after[name]).abs().max()) > bound * float(value.abs().max())
    ]


def _trained(name: str) -> Network:
    return _shaken(architectures.build(name, _narrow(name), 3))


def _shaken(network: Network) -> Network:
    """Unfused, in evaluation, with batch-norms and implicit layers of which every number matters."""
    network = network.double().eval()
    rng = np.random.default_rng(4)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values, low, high in (
                    (module.weight, 0.5, 1.5),
                    (module.bias, -0.2, 0.2),
                    (module.running_mean, -0.2, 0.2),
                    (module.running_var, 0.5, 1.5),
                ):
                    values.copy_(torch.from_numpy(rng.uniform(low, high, tuple(values.shape))))
        for level in network.levels:
            for implicit in (level.ia, level.im):
                for values in implicit.parameters():
                    values.add_(torch.from_numpy(rng.normal(0.0, 0.1, tuple(values.shape))))
    return network


FUSED = [name for name in NAMES if name.startswith("training") or "csp" in name or "spp" in name or "d6" in name]


@pytest.mark.parametrize("name", FUSED)
def test_fused_and_unfused_agree_at_every_layer(name):
    network = _trained(name)
    fused = fuse.fuse(network)

    assert _departures(network, fused, 128) == []
    left = [type(module).__name__ for module in fused.modules()]
    assert not {"BatchNorm2d", "RepConv", "ImplicitA", "ImplicitM"} & set(left)
    assert not [key for key in fused.state_dict() if "auxiliary" in key]
    assert len(fused.model) == len(network.model)


@pytest.mark.parametrize("name", ["training-yolov7", "training-yolov7-w6"])
def test_fused_and_unfused_float32_agree_within_noise(name):
    """Each is as far from float64 as the other: fusing adds no error of its own."""
    network = _trained(name)
    exact, fused, plain = fuse.fuse(network), fuse.fuse(network).float(), copy.deepcopy(network).float()
    x = torch.from_numpy(images.natural((128, 128), 3)[None])
    truth = _layers(exact, x.double())

    def error(other: Network) -> Dict[str, float]:
        found = _layers(other, x)
        return {k: float((found[k].double() - truth[k]).pow(2).mean().sqrt()) for k in truth if k.startswith("levels")}

    noise = error(plain)
    assert {k: round(value / noise[k], 1) for k, value in error(fused).items() if value > 3 * noise[k]} == {}


@pytest.mark.parametrize("name", ["training-yolov7", "training-yolov7-w6"])
def test_weights_before_fusing_are_known_to_the_bit_without_the_network(name):
    network = _trained(name).float()
    convs = {
        official_key(network, path): module
        for path, module in network.named_modules()
        if isinstance(module, torch.nn.Conv2d)
    }
    weights = make_detector("trained", tuple(f"class{k}" for k in range(network.levels[0].fields - 5)), network).weights
    known = [(one, convs[one.key].weight.detach().numpy()) for one in weights if one.key in convs]

    assert len(known) > 0.9 * len(weights)
    assert [one.key for one, own in known if not np.array_equal(one.plain, own)] == []
    assert sum(np.shares_memory(one.plain, own) for one, own in known) <= len(network.levels)
    assert any(not np.array_equal(one.plain, one.weight) for one in weights)


@pytest.mark.parametrize("part, neutral", [("ia", 0.0), ("im", 1.0)])
def test_an_implicit_layer_left_out_is_seen_where_it_is(part, neutral):
    network = _trained("training-yolov7")
    missed = copy.deepcopy(network)
    with torch.no_grad():
        getattr(missed.levels[1], part).implicit.fill_(neutral)

    assert _departures(network, fuse.fuse(network), 64) == []
    assert _departures(network, fuse.fuse(missed), 64) == ["levels.1"]


def _with_identity() -> Network:
    """RepConv between equal channels, as no official table has it: the third branch."""
    drawn = plans.Plan(1.0, architectures.CSP_ANCHORS[:1])
    drawn.add("RepConv", [drawn.add("Conv", [0], 64, 3, 8)], 64, 3, 1)
    drawn.detect("Detect", [2])
    return _shaken(plans.build(drawn, 3))


@pytest.mark.parametrize("branch", ["rbr_1x1", "rbr_identity"])
def test_a_branch_left_out_is_seen_where_it_is(branch):
    network = _with_identity() if branch == "rbr_identity" else _trained("deploy-yolov7")
    missed = copy.deepcopy(network)
    block = missed.model[-1].block
    norm = block.rbr_1x1[1] if branch == "rbr_1x1" else block.rbr_identity
    with torch.no_grad():
        norm.weight.zero_()

    assert _departures(network, fuse.fuse(network), 64) == []
    assert _departures(network, fuse.fuse(missed), 64)[0] == f"model.{len(network.model) - 1}"

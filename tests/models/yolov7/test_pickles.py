"""Old pickles in new torch and new ones in old: checkpoints pickled by the oldest and the newest lane, by this one, and by the
real classes are read by us and unpickled as the official code does, run live, and give the same numbers in float64."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Tuple

import numpy as np
import pytest
import torch
from detparity.kit.tests.models.yolov7 import standins
from torch import nn

from detparity.core import environment, pickle_reader
from detparity.core.errors import InputError
from detparity.inputs import images
from detparity.models.compat import activations, inplace, shims, torch_load, upsample
from detparity.models.compat.modules import mend
from detparity.models.compat.pickler import save
from detparity.models.compat.torch_load import load_trusted
from detparity.models.yolov7 import architectures, checkpoint_loader
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import Predictions
from detparity.oracle.noise_floor import GROUPS, limit, measure

pytestmark = pytest.mark.lanes

FOLDER = Path(__file__).with_name("fixtures")
KINDS = ("small-detect", "small-idetect", "small-mixed")
MADE = [f"{kind}-torch{version}" for kind in KINDS for version in ("1.7", "2.15")]
IN_TRAINING = [name for name in MADE if "idetect" in name]
OLD_UPSAMPLE = "small-detect-torch1.7"
REAL = ("yolov7-tiny-torch1.7", "yolov7-tiny-torch1.13", "yolov7-tiny-training-torch1.13")
# Both sides are float64 runs of the same float16 weights, one fused and one not: at most 5e-14
# apart in all lanes, where float32 is 2e-6 and more.
EXACT = 1e-9
IMAGE = images.natural((64, 96), 7)[None]


def _fixture(name: str) -> Tuple[Path, np.ndarray, np.ndarray]:
    """The checkpoint, the image and what the stand-ins made of it where the checkpoint was pickled."""
    path = FOLDER / f"{name}.pt"
    stored = np.load(path.with_suffix(".npz"))
    return path, stored["pixels"].astype(np.float32) / 255, stored["predictions"]


def _ours(detector: YoloDetector, x: np.ndarray, dtype: torch.dtype = torch.float64) -> np.ndarray:
    network = detector.exact if dtype == torch.float64 else detector.network
    with torch.no_grad():
        return Predictions(network)(torch.from_numpy(x).to(dtype)).numpy()


def _official(path: Path, mended: bool = True) -> nn.Module:
    """The complete pickled model, as the published loader takes it: `ema` before `model`."""
    with standins.installed():
        content = load_trusted(path)
    model = content["model"] if content["ema"] is None else content["ema"]
    return mend(model) if mended else model


def _worst(values: np.ndarray, truth: np.ndarray) -> float:
    """The largest error, relative to the value or, near zero, absolute."""
    assert values.shape == truth.shape and values.dtype == truth.dtype == np.float64
    return float((np.abs(values - truth) / np.maximum(np.abs(truth), 1.0)).max())


# --- committed pickles


@pytest.mark.smoke
@pytest.mark.parametrize("name", MADE)
def test_our_reader_arrives_at_the_stored_predictions(name):
    path, x, truth = _fixture(name)

    assert _worst(_ours(checkpoint_loader.load(path), x), truth) < EXACT


@pytest.mark.parametrize("name", MADE)
def test_float32_stays_within_the_noise_of_the_stand_ins(name):
    path, x, truth = _fixture(name)

    found = measure(truth, _ours(checkpoint_loader.load(path), x, torch.float32))
    floor = measure(truth, standins.run(_official(path), x, torch.float32))

    for statistic in ("rms", "max"):
        floors = {key: getattr(found[key], statistic) / getattr(floor[key], statistic) for key in found}
        allowed = {key: limit(statistic, truth[0][:, GROUPS[key[1]]].size) for key in found}
        assert {key: value for key, value in floors.items() if not value < allowed[key]} == {}


@pytest.mark.parametrize("name", MADE)
def test_facts_are_the_pickled_ones(name):
    detector = checkpoint_loader.load(FOLDER / f"{name}.pt")
    kinds = {type(module) for module in detector.network.modules()}
    known = [type(activations.silu()), type(activations.hardswish()), nn.LeakyReLU]

    assert detector.facts.names == ("kind 0", "kind 1", "kind 2")
    assert detector.facts.strides == (8, 16, 32)
    assert detector.facts.anchors == architectures.P5_ANCHORS
    assert [kind in kinds for kind in known] == ([True, True, False] if "mixed" in name else [False, False, True])
    assert set(detector.slopes) == (set() if "mixed" in name else {0.1})


@pytest.mark.smoke
@pytest.mark.parametrize("name", IN_TRAINING)
def test_a_training_checkpoint_is_complete_and_its_ema_is_what_counts(name):
    path, x, truth = _fixture(name)
    root: Any = pickle_reader.read(path)
    with standins.installed():
        content = load_trusted(path)
    state = root["optimizer"]["state"]
    biases = [tensor for key, tensor in content["model"].named_parameters() if key.endswith("bias")]

    assert (root["epoch"], root["best_fitness"], root["updates"]) == (3, 0.25, 17)
    assert [state[key]["momentum_buffer"].tolist() for key in sorted(state)] == [[1.0] * len(bias) for bias in biases]
    assert _worst(standins.run(mend(content["model"]), x), truth) > 1e-3


# --- the same, unpickled


@pytest.mark.smoke
@pytest.mark.parametrize("name", MADE)
def test_the_unpickled_model_runs_and_equals_our_reader(name):
    """In every lane: 1.7 unpickles what 2.15 wrote, and 2.15 what 1.7 wrote."""
    path, x, truth = _fixture(name)
    live = standins.run(_official(path), x)

    assert _worst(live, truth) < EXACT
    assert _worst(_ours(checkpoint_loader.load(path), x), live) < EXACT


def _breaks_as_stated(shim: ModuleType, act: Callable[[], np.ndarray], truth: np.ndarray) -> None:
    """Without the shim, `act` fails in the versions and with the message that the shim states, and is right elsewhere. What it
    states of exporting (an AssertionError of its probe) is not tried here."""
    found = environment.environment()
    needs = [need for need in shim.SHIM.needs if not need.breaks.startswith("AssertionError")]
    patterns = [need.breaks for need in needs if environment.holds(need.when, found)]
    if not patterns:
        assert _worst(act(), truth) < EXACT
        return
    with pytest.raises(Exception) as caught:
        act()
    assert re.match(patterns[0], f"{type(caught.value).__name__}: {caught.value}")


@pytest.mark.smoke
def test_upsampling_of_torch_1_7_breaks_unmended_where_its_shim_says():
    path, x, truth = _fixture(OLD_UPSAMPLE)
    model = _official(path, mended=False)

    _breaks_as_stated(upsample, lambda: standins.run(model, x), truth)


@pytest.mark.smoke
@pytest.mark.parametrize("name", MADE)
def test_torch_load_breaks_without_its_shim_where_that_says(name, monkeypatch):
    path, x, truth = _fixture(name)
    monkeypatch.setenv(shims.SWITCH, "torch_load")

    _breaks_as_stated(torch_load, lambda: standins.run(_official(path), x), truth)


@pytest.mark.smoke
def test_our_reader_needs_no_classes(monkeypatch):
    """The stand-ins are removed after use, so the official code fails without them; the reader does not."""
    path, x, truth = _fixture(MADE[0])
    before = {name: sys.modules.get(name) for name in standins.MODULES}
    _official(path)
    assert {name: sys.modules.get(name) for name in standins.MODULES} == before

    monkeypatch.setitem(sys.modules, "models", None)  # whatever else lies on the path
    with pytest.raises(ModuleNotFoundError, match="models"):
        load_trusted(path)
    assert _worst(_ours(checkpoint_loader.load(path), x), truth) < EXACT


# --- pickled by this torch


def _drawn(name: str) -> Any:
    plans = {
        "small-detect": lambda: standins.small_plan("Detect", standins.LEAKY),
        "small-idetect": lambda: standins.small_plan("IDetect", standins.LEAKY),
        "small-mixed": lambda: standins.small_plan("Detect", *standins.MIXED),
    }
    return plans[name]() if name in plans else architectures.plan(name, 1 / 16)


PLANS = (*KINDS, "yolov7-tiny", "training-yolov7-tiny")


@pytest.mark.smoke
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=["fp16", "fp32"])
@pytest.mark.parametrize("name", PLANS)
def test_what_this_torch_pickles_is_read_as_it_is_unpickled(name, dtype, tmp_path):
    path = tmp_path / f"{name}.pt"
    content = standins.stripped(standins.build(_drawn(name), 4, 9), dtype)
    with standins.installed():
        save(content, path)
    truth = standins.run(content["model"], IMAGE)

    detector = checkpoint_loader.load(path)

    assert (detector.facts.name, detector.facts.classes) == (name, 4)
    assert _worst(_ours(detector, IMAGE), truth) < EXACT
    assert _worst(standins.run(_official(path), IMAGE), truth) < EXACT


def test_a_weight_that_is_off_by_one_bit_shows(tmp_path):
    """The comparison above would see the smallest change of one float16 weight."""
    path = tmp_path / "moved.pt"
    content = standins.stripped(standins.build(_drawn("small-detect"), 4, 9))
    truth = standins.run(content["model"], IMAGE)
    weight = content["model"].model[0].conv.weight.detach()
    bits = weight.numpy().view(np.uint16)
    bits[0, 0, 1, 1] ^= 1
    with standins.installed():
        save(content, path)

    assert _worst(_ours(checkpoint_loader.load(path), IMAGE), truth) > 1000 * EXACT


def test_the_format_from_before_torch_1_6_is_refused_in_one_line(tmp_path):
    path = tmp_path / "legacy.pt"
    content = standins.stripped(standins.build(_drawn("small-detect"), 4, 9))
    with standins.installed(), pytest.warns(UserWarning, match="source code"):
        save(content, path, _use_new_zipfile_serialization=False)

    with pytest.raises(InputError) as caught:
        checkpoint_loader.load(path)

    assert str(caught.value) == (
        f"{path}: was saved in the format from before torch 1.6; save it again with torch>=1.6"
    )


# --- as torch 1.5 and 1.6 pickled


def _pickled_without(attribute: str, folder: Path) -> Tuple[Path, np.ndarray]:
    """A checkpoint whose modules lack an attribute, as they did before torch had it, and what its model makes of the image."""
    content = standins.stripped(standins.build(_drawn("small-mixed"), 4, 9))
    truth = standins.run(content["model"], IMAGE)
    removed = [module.__dict__.pop(attribute) for module in content["model"].modules() if attribute in module.__dict__]
    assert removed
    with standins.installed():
        save(content, folder / "aged.pt")
    return folder / "aged.pt", truth


@pytest.mark.smoke
def test_activations_of_torch_1_6_break_unmended_where_their_shim_says(tmp_path):
    path, truth = _pickled_without("inplace", tmp_path)

    _breaks_as_stated(inplace, lambda: standins.run(_official(path, mended=False), IMAGE), truth)
    assert _worst(standins.run(_official(path), IMAGE), truth) < EXACT
    assert _worst(_ours(checkpoint_loader.load(path), IMAGE), truth) < EXACT


@pytest.mark.smoke
def test_buffers_of_torch_1_5_need_no_shim_in_any_torch(tmp_path):
    """torch gives unpickled modules `_non_persistent_buffers_set` itself, so what reads it works: state dicts and copies."""
    path, truth = _pickled_without("_non_persistent_buffers_set", tmp_path)
    young = standins.build(_drawn("small-mixed"), 4, 9)

    assert set(_official(path, mended=False).state_dict()) == set(young.state_dict())
    assert _worst(standins.run(_official(path), IMAGE), truth) < EXACT
    assert _worst(_ours(checkpoint_loader.load(path), IMAGE), truth) < EXACT


# --- pickled by the real classes


@pytest.mark.parametrize("name", REAL)
def test_real_checkpoints_unpickle_into_the_stand_ins(name, shared_data):
    path = shared_data / "checkpoints" / f"{name}.pt"
    live = standins.run(_official(path), IMAGE)

    assert live.shape == (1, 378, 85)
    assert _worst(_ours(checkpoint_loader.load(path), IMAGE), live) < EXACT

"""Files that hold a usable model are read, whoever wrapped it and whatever lies beside it; nothing in them is executed."""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import enum
import functools
import pathlib
import sys
import types
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional

import numpy as np
import pytest
import torch
from detparity.kit.tests.models.yolov7 import standins
from torch import nn

from detparity.core.errors import InputError
from detparity.inputs import images
from detparity.models.choice import ModelChoice, load_detector
from detparity.models.compat.pickler import save
from detparity.models.yolov7 import architectures, checkpoint_loader
from detparity.models.yolov7.fuse import fuse
from detparity.models.yolov7.network import Predictions

EXACT = 1e-9
IMAGE = images.natural((64, 96), 7)[None]
NAMES = 3


def _model(name: str = "yolov7-tiny", width: float = 1 / 16) -> Any:
    return standins.build(architectures.plan(name, width), NAMES, 5)


@pytest.fixture(scope="module")
def model() -> Any:
    return _model()


@pytest.fixture(scope="module")
def truth(model: Any) -> np.ndarray:
    return standins.run(model, IMAGE)


@pytest.fixture(scope="module")
def small() -> Any:
    return _small()


@pytest.fixture(scope="module")
def small_truth(small: Any) -> np.ndarray:
    return standins.run(small, IMAGE)


def _small() -> Any:
    return standins.build(standins.small_plan("Detect", standins.LEAKY), NAMES, 5)


@contextmanager
def foreign(*classes: type) -> Iterator[None]:
    """Let classes be found by the module they name, as pickling wants."""
    parts = [kind.__module__.split(".") for kind in classes]
    names = {".".join(part[: count + 1]) for part in parts for count in range(len(part))}
    before = {name: sys.modules.get(name) for name in names}
    for name in names - set(sys.modules):
        sys.modules[name] = types.ModuleType(name)
    for kind in classes:
        module = sys.modules.setdefault(kind.__module__, types.ModuleType(kind.__module__))
        setattr(module, kind.__name__, kind)
    try:
        yield
    finally:
        for name, found in before.items():
            if found is None:
                del sys.modules[name]


def _saved(content: Any, path: Path, *classes: type) -> Path:
    with standins.installed(), foreign(*classes):
        save(content, path)
    return path


def _run(detector: Any) -> np.ndarray:
    with torch.no_grad():
        return Predictions(detector.exact)(torch.from_numpy(IMAGE).double()).numpy()


def _equal(path: Path, truth: np.ndarray, cfg: Optional[str] = None) -> Any:
    detector = load_detector(ModelChoice((path,), cfg=cfg))
    values = _run(detector)
    assert values.shape == truth.shape
    assert float((np.abs(values - truth) / np.maximum(np.abs(truth), 1.0)).max()) < EXACT
    return detector


def _refused(path: Path, words: str, cfg: Optional[str] = None) -> str:
    with pytest.raises(InputError) as caught:
        load_detector(ModelChoice((path,), cfg=cfg))
    assert words in str(caught.value) and "\n" not in str(caught.value), str(caught.value)
    return str(caught.value)


# --- state dicts: what stands before the keys, and around the dictionary

PREFIXES = ("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "ema.module.", "detector.net.")


@pytest.mark.parametrize("prefix", ["", *PREFIXES])
def test_any_prefix_is_read_as_the_bare_keys(prefix: str, model: Any, truth: np.ndarray, tmp_path: Path) -> None:
    state = {prefix + key: value for key, value in model.state_dict().items()}
    _equal(_saved(state, tmp_path / "x.pt"), truth, "yolov7-tiny")


def test_the_layers_alone_are_read(model: Any, truth: np.ndarray, tmp_path: Path) -> None:
    _equal(_saved(model.model.state_dict(), tmp_path / "x.pt"), truth, "yolov7-tiny")


@pytest.mark.parametrize("key", ["model_state_dict", "ema_state_dict", "net", "state_dict", "params_ema", "anything"])
def test_any_key_around_the_state_is_read(key: str, model: Any, truth: np.ndarray, tmp_path: Path) -> None:
    content = {key: model.state_dict(), "epoch": 3, "optimizer": {"state": {0: {"step": torch.ones(1)}}}, "best": None}
    _equal(_saved(content, tmp_path / "x.pt"), truth, "yolov7-tiny")


def test_averaged_weights_come_first(model: Any, truth: np.ndarray, tmp_path: Path) -> None:
    other = {key: value * 0 for key, value in model.state_dict().items()}
    for content in (
        {"model": other, "ema": {"module": model.state_dict(), "updates": 7}},
        {"model_state_dict": other, "ema_state_dict": model.state_dict()},
        {**{f"model.{k}": v for k, v in other.items()}, **{f"ema.{k}": v for k, v in model.state_dict().items()}},
    ):
        _equal(_saved(content, tmp_path / "x.pt"), truth, "yolov7-tiny")


def test_what_lies_beside_the_layers_is_left_alone(model: Any, truth: np.ndarray, tmp_path: Path) -> None:
    extra = {
        "loss.0.pos_weight": torch.ones(1),
        "n_averaged": torch.tensor(3),
        "model.model.0.total_ops": torch.ones(1),
    }
    state = {**{f"model.{key}": value for key, value in model.state_dict().items()}, **extra}
    _equal(_saved({"state_dict": state}, tmp_path / "x.pt"), truth, "yolov7-tiny")


def test_two_models_in_one_state_are_refused(model: Any, tmp_path: Path) -> None:
    state = {f"{who}.{key}": value for who in ("teacher", "student") for key, value in model.state_dict().items()}
    _refused(
        _saved(state, tmp_path / "x.pt"), "holds several models in one state dict, under the prefixes 'teacher.model.'"
    )


# --- state dicts: which architecture


@pytest.mark.parametrize(
    "name, width",
    [
        *(("training-yolov7-tiny", 0.125), ("yolov7", 1 / 16), ("baseline-yolov4-csp", 1 / 16)),
        pytest.param("baseline-x50-csp", 1.0, marks=pytest.mark.slow),
    ],
)
def test_a_state_dict_is_read_without_its_table(name: str, width: float, tmp_path: Path) -> None:
    model = _model(name, width)
    detector = _equal(_saved(model.state_dict(), tmp_path / "x.pt"), standins.run(model, IMAGE))

    assert detector.note.startswith(f"fits {name} at width ")
    assert not detector.note.endswith("pruning")


def test_a_state_dict_that_fits_two_is_refused_by_their_names(model: Any, tmp_path: Path) -> None:
    path = _saved(model.state_dict(), tmp_path / "x.pt")
    _refused(path, "shapes fit yolov7-tiny and yolov7-tiny-silu, which differ in what no shape shows (activations)")


@pytest.mark.parametrize("cfg", ["yolov7", "yolov3", "yolov7-w6"])
def test_another_architectures_table_is_named_with_the_right_one(cfg: str, model: Any, tmp_path: Path) -> None:
    path = _saved(model.state_dict(), tmp_path / "x.pt")
    text = _refused(path, "holds weights that fit yolov7-tiny or yolov7-tiny-silu, not ", cfg)
    assert text.endswith("give --cfg yolov7-tiny")


def test_a_state_dict_of_none_of_them_names_the_nearest(model: Any, tmp_path: Path) -> None:
    state = {key: value for key, value in model.state_dict().items() if not key.startswith("model.5.")}
    path = _saved(state, tmp_path / "x.pt")
    _refused(path, "fits none of the 26 known ones, the nearest is deploy-yolov7-tiny with 99 % of its layers")
    _refused(path, "do not fit yolov7-tiny: layer 5 has the convolutions none where conv (", "yolov7-tiny")


def test_the_same_network_by_two_tables_is_no_choice(tmp_path: Path) -> None:
    """Fused, the head of training-yolov7 is that of deploy-yolov7."""
    from detparity.models.yolov7.detector import official_key

    network = fuse(architectures.build("yolov7", 1 / 16, NAMES)).float()
    state = {official_key(network, key): value for key, value in network.state_dict().items() if "anchors" not in key}
    detector = load_detector(ModelChoice((_saved(state, tmp_path / "x.pt"),)))

    assert detector.note.startswith("fits yolov7 at width 0.062") or detector.note.startswith(
        "fits yolov7 at width 0.0"
    )


# --- pruned


def _prune(model: Any, count: int) -> None:
    """Remove output channels of the first convolution."""
    first, second = model.model[0], model.model[1]
    left = list(range(first.conv.out_channels - count))
    first.conv.out_channels = first.bn.num_features = second.conv.in_channels = len(left)
    first.conv.weight = nn.Parameter(first.conv.weight[left].clone())
    second.conv.weight = nn.Parameter(second.conv.weight[:, left].clone())
    for name in ("weight", "bias"):
        setattr(first.bn, name, nn.Parameter(getattr(first.bn, name)[left].clone()))
    for name in ("running_mean", "running_var"):
        setattr(first.bn, name, getattr(first.bn, name)[left].clone())


def test_a_pruned_model_is_read_by_its_own_widths(tmp_path: Path) -> None:
    model = _model("training-yolov7-tiny", 0.125)
    with torch.no_grad():
        _prune(model, 3)
    truth = standins.run(model, IMAGE)

    found = _equal(_saved({"model": model, "ema": None}, tmp_path / "x.pt"), truth)
    by_table = _equal(_saved(model.state_dict(), tmp_path / "state.pt"), truth, "training-yolov7-tiny")
    alone = _equal(_saved(model.state_dict(), tmp_path / "state.pt"), truth)

    assert [len(one.weights[0].weight) for one in (found, by_table, alone)] == [5, 5, 5]
    assert alone.note == "fits training-yolov7-tiny with channel counts of its own, as after pruning"


@pytest.mark.parametrize("form", ["model", "state"])
def test_masks_of_pruning_are_applied(form: str, tmp_path: Path) -> None:
    from torch.nn.utils import prune

    model = _model()
    for layer in (model.model[0].conv, model.model[7].conv):
        prune.l1_unstructured(layer, "weight", 0.4)
        layer.weight = layer.weight.detach()  # what a forward pass leaves cannot be pickled
    content = {"model": model} if form == "model" else model.state_dict()
    path = _saved(content, tmp_path / "x.pt")
    for layer in (model.model[0].conv, model.model[7].conv):
        prune.remove(layer, "weight")

    _equal(path, standins.run(model, IMAGE), None if form == "model" else "yolov7-tiny")


# --- wrappers


def _wrapper(module: str, name: str, attribute: str, model: Any) -> Any:
    kind = type(name, (nn.Module,), {"__module__": module})
    made = kind()
    setattr(made, attribute, model)
    return made


class _Plain:
    """An object that is no module."""


WRAPPERS = {
    "DataParallel": ("torch.nn.parallel.data_parallel", "module"),
    "DistributedDataParallel": ("torch.nn.parallel.distributed", "module"),
    "OptimizedModule": ("torch._dynamo.eval_frame", "_orig_mod"),
    "AveragedModel": ("torch.optim.swa_utils", "module"),
    "Wrapper": ("my_project.wrap", "detector"),
    "AutoShape": ("models.common", "model"),
}


@pytest.mark.parametrize("key", ["model", "ema", None])
@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapped_model_is_found(
    name: str, key: Optional[str], small: Any, small_truth: np.ndarray, tmp_path: Path
) -> None:
    module, attribute = WRAPPERS[name]
    kind = type(name, (nn.Module,), {"__module__": module, "training": False})
    made = kind.__new__(kind)
    made.__dict__.update(
        _modules=collections.OrderedDict({attribute: small}), _parameters={}, _buffers={}, device_ids=[0]
    )
    before = sys.modules.get(module)
    original = getattr(before, name, None)
    try:
        content = made if key is None else {"model": None, "ema": None, key: made, "epoch": 1}
        if key is None and module.startswith("torch"):
            content = [made]  # a file of one opaque object alone is refused by its name
        path = _saved(content, tmp_path / "x.pt", kind)
    finally:
        if original is not None:
            setattr(before, name, original)
    if key is None and name == "Wrapper":
        _refused(path, "names 'my_project.wrap.Wrapper', which is not on the list of known classes")
    else:
        _equal(path, small_truth)


def test_an_averaging_object_is_found(small: Any, small_truth: np.ndarray, tmp_path: Path) -> None:
    kind = type("ModelEMA", (), {"__module__": "utils.torch_utils"})
    made = kind()
    made.ema, made.updates, made.decay = small, 7, 0.99
    other = _model("yolov7-tiny", 0.125)

    _equal(_saved({"model": other, "ema": made}, tmp_path / "x.pt", kind), small_truth)


def test_a_package_around_models_is_read(small_truth: np.ndarray, tmp_path: Path) -> None:
    """As `yolov7.models.yolo`: a copy of the code inside a package."""
    model = _small()
    renamed: Dict[type, type] = {}
    for part in model.modules():
        kind = type(part)
        if kind.__module__.startswith("models."):
            inner = renamed.setdefault(kind, type(kind.__name__, (kind,), {"__module__": f"yolov7.{kind.__module__}"}))
            part.__class__ = inner
    for kind in renamed.values():
        kind.__module__ = kind.__module__

    _equal(_saved({"model": model}, tmp_path / "x.pt", *renamed.values()), small_truth)


def test_a_foreign_model_is_named(tmp_path: Path) -> None:
    kind = type("DetectionModel", (nn.Module,), {"__module__": "ultralytics.nn.tasks"})
    path = _saved({"model": kind(), "ema": None}, tmp_path / "x.pt", kind)
    _refused(path, "its 'model' is a ultralytics.nn.tasks.DetectionModel where models.yolo.Model is expected")


def _doubling(module: Any, arguments: Any, output: Any) -> Any:
    return 2 * output


def test_a_hook_that_changes_numbers_is_refused(tmp_path: Path) -> None:
    """It runs in the pickled model and cannot run here, so what we would call the truth would not be."""
    model = _small()
    model.model[3].register_forward_hook(_doubling)
    hooked = types.ModuleType("their_hooks")
    hooked._doubling = _doubling
    _doubling.__module__ = "their_hooks"
    sys.modules["their_hooks"] = hooked
    try:
        path = _saved({"model": model}, tmp_path / "x.pt")
    finally:
        del sys.modules["their_hooks"]
    _refused(path, "calls their_hooks._doubling whenever it runs (a forward hook), which is not read")


# --- whatever lies beside the model


class Colour(enum.Enum):
    RED = 1


class Flagged(enum.IntFlag):
    ON = 1


Point = collections.namedtuple("Point", "x y")


def _scheduler() -> Any:
    return torch.optim.lr_scheduler.StepLR(_optimizer(), 3)


def _optimizer() -> Any:
    return torch.optim.SGD(nn.Linear(2, 2).parameters(), 0.1)


def _easydict() -> Any:
    options = type("EasyDict", (dict,), {"__module__": "easydict"})
    return options(lr=0.01)


def _averaging() -> Any:
    shadow = _Plain()
    shadow.__dict__.update(decay=0.9, shadow=[torch.ones(2)])
    return shadow


# Made when a test asks: an optimizer imports most of torch.
EXTRAS: Dict[str, Callable[[], Any]] = {
    "namespace": lambda: argparse.Namespace(epochs=300, when=datetime.date(2024, 1, 1)),
    "datetime": lambda: datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),
    "delta": lambda: datetime.timedelta(seconds=3),
    "path": lambda: pathlib.PurePosixPath("runs/train"),
    "numpy-scalar": lambda: np.float64(0.5),
    "numpy-array": lambda: np.arange(3),
    "numpy-text": lambda: np.array(["a", "b"]),
    "numpy-object": lambda: np.array([None, "b"], object),
    "numpy-date": lambda: np.datetime64("2024-01-01"),
    "numpy-random": lambda: np.random.default_rng(3),
    "complex": lambda: torch.ones(2, dtype=torch.complex64),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "defaultdict": lambda: collections.defaultdict(list, {"a": [1]}),
    "counter": lambda: collections.Counter("aab"),
    "deque": lambda: collections.deque([1, 2], 3),
    "scheduler": _scheduler,
    "optimizer": _optimizer,
    "easydict": _easydict,
    "decimal": lambda: decimal.Decimal("0.1"),
    "enum": lambda: Colour.RED,
    "flag": lambda: Flagged.ON,
    "namedtuple": lambda: Point(1, 2),
    "class": lambda: nn.Conv2d,
    "function": lambda: _doubling,
    "partial": lambda: functools.partial(int, base=2),
    "exception": lambda: ValueError("x"),
    "complex-number": lambda: 1 + 2j,
    "range": lambda: range(3),
    "bytearray": lambda: bytearray(b"abc"),
    "slice": lambda: slice(1, 2),
    "loss": nn.BCEWithLogitsLoss,
    "simple-namespace": lambda: types.SimpleNamespace(a=1),
    "averaging": _averaging,
    "generator-state": torch.get_rng_state,
    "nothing": list,
}


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_whatever_lies_beside_the_model_is_left_alone(
    name: str, small: Any, small_truth: np.ndarray, tmp_path: Path
) -> None:
    extra = EXTRAS[name]()
    classes = [type(extra)] if name == "easydict" else []
    if name == "function":
        _doubling.__module__ = __name__
    content = {"epoch": 5, "model": small, "ema": None, "extra": extra}
    with foreign(Colour, Flagged, Point, _Plain):
        sys.modules[Colour.__module__]._doubling = _doubling  # type: ignore[attr-defined]
        path = _saved(content, tmp_path / "x.pt", *classes)

    _equal(path, small_truth)


@pytest.mark.parametrize("attribute", ["hyp", "args", "criterion"])
def test_unknown_objects_on_the_model_are_left_alone(attribute: str, small_truth: np.ndarray, tmp_path: Path) -> None:
    model = _small()
    kind = type("EasyDict", (dict,), {"__module__": "easydict"})
    setattr(model, attribute, kind(lr=0.1))

    _equal(_saved({"model": model}, tmp_path / "x.pt", kind), small_truth)


def test_nothing_beside_the_model_is_executed(small: Any, tmp_path: Path) -> None:
    """A name that runs things is refused; an unknown one is data, whatever it would do if it were imported."""
    marker = tmp_path / "executed"
    (tmp_path / "trap.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Trap:\n    pass\n", encoding="utf-8")
    kind = type("Trap", (), {"__module__": "trap"})
    path = _saved({"model": small, "extra": kind()}, tmp_path / "x.pt", kind)
    sys.path.insert(0, str(tmp_path))
    try:
        load_detector(ModelChoice((path,)))
    finally:
        sys.path.remove(str(tmp_path))

    assert not marker.exists() and "trap" not in sys.modules


# --- class names


@pytest.mark.parametrize(
    "names, found",
    [
        ({0: "a", 1: "b", 2: "c"}, ("a", "b", "c")),
        ({2: "c", 0: "a", 1: "b"}, ("a", "b", "c")),
        ({"2": "c", "0": "a", "1": "b"}, ("a", "b", "c")),
        (("a", "b", "c"), ("a", "b", "c")),
        ([0, 1, 2], ("0", "1", "2")),
        ({1: "a", 2: "b", 3: "c"}, "it numbers its 3 class names 1 to 3, without 0"),
        ({0: "a", 2: "b", 3: "c"}, "without 1"),
        ({0: "a", "0": "b", 1: "c"}, "it has two names for class 0"),
        ({"a": 0, "b": 1, "c": 2}, "under 'a', which is no class number"),
        (["a", "b"], "it names 2 classes but its head scores 3"),
        (list("abcd"), "it names 4 classes but its head scores 3"),
        ([], "it names no classes but its head scores 3"),
        ({}, "it names no classes but its head scores 3"),
        (None, "it names no classes but its head scores 3"),
        ("abc", "it holds class names that are neither a list nor a dictionary"),
        ([None, "b", "c"], "it holds class names that are no texts"),
        (7, "it holds class names that are neither a list nor a dictionary"),
    ],
)
def test_class_names_are_read_or_refused_and_never_shifted(names: Any, found: Any, tmp_path: Path) -> None:
    model = _small()
    model.names = names
    path = _saved({"model": model}, tmp_path / "x.pt")

    if isinstance(found, tuple):
        assert load_detector(ModelChoice((path,))).facts.names == found
    else:
        _refused(path, found)


def test_ten_names_by_text_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    model = standins.build(standins.small_plan("Detect", standins.LEAKY), 12, 5)
    model.names = {str(index): f"label{index}" for index in range(12)}
    detector = checkpoint_loader.load(_saved({"model": model}, tmp_path / "x.pt"))

    assert detector.facts.names == tuple(f"label{index}" for index in range(12))

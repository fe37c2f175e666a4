"""The forms a checkpoint comes in: state dicts with a table beside them, ensembles, complete models, and unknown blocks."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detparity.kit.tests.examples import examples
from detparity.kit.tests.models.yolov7 import standins
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detparity.core.errors import InputError
from detparity.inputs import images
from detparity.models.choice import ModelChoice, load_detector
from detparity.models.compat.pickler import save
from detparity.models.yolov7 import checkpoint_loader, yaml_config
from detparity.models.yolov7.detector import official_key
from detparity.models.yolov7.fuse import fuse
from detparity.models.yolov7.network import Predictions
from detparity.models.yolov7.plan import Plan
from detparity.models.yolov7.seeded import conditioned, seeded

EXACT = 1e-9
IMAGE = images.natural((64, 96), 7)[None]
# A small network in the format of a layer table: every sort of row, read from near and far.
TABLE = {
    "nc": 3,
    "depth_multiple": 0.5,
    "width_multiple": 0.25,
    "anchors": [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119]],
    "backbone": [
        [-1, 1, "Conv", [32, 3, 2, "None", 1, "nn.LeakyReLU(0.1)"]],
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 4, "Bottleneck", [64]],
        [-1, 1, "DownC", [64]],
        [-1, 3, "BottleneckCSPA", [64]],
        [-1, 1, "MP", []],
    ],
    "head": [
        [-1, 1, "SPPCSPC", [64]],
        [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
        [[-1, 4], 1, "Concat", [1]],
        [-1, 1, "RepConv", [64, 3, 1]],
        [6, 1, "Conv", [128, [1, 1]]],
        [[9, 10], 1, "IDetect", ["nc", "anchors"]],
    ],
}


def _plan(changes: Any = None) -> Plan:
    return yaml_config.plan_of({**TABLE, **(changes or {})})[0]


def _yaml(folder: Path, entry: Any = None) -> Path:
    """JSON is YAML as well."""
    path = folder / "small.yaml"
    path.write_text(json.dumps(entry or TABLE), encoding="utf-8")
    return path


def _saved(content: Any, path: Path) -> Path:
    with standins.installed():
        save(content, path)
    return path


def _exact(detector: Any, x: np.ndarray = IMAGE) -> np.ndarray:
    with torch.no_grad():
        return Predictions(detector.exact)(torch.from_numpy(x).double()).numpy()


def _worst(values: np.ndarray, truth: np.ndarray) -> float:
    assert values.shape == truth.shape
    return float((np.abs(values - truth) / np.maximum(np.abs(truth), 1.0)).max())


# --- layer tables


def test_a_table_builds_by_its_rules(tmp_path):
    drawn, classes = yaml_config.plan_of(yaml_config.read(_yaml(tmp_path)))

    assert (classes, drawn.head, drawn.taps) == (3, "IDetect", (10, 11))
    assert drawn.strides == [1, 2, 4, 4, 8, 8, 16, 16, 8, 8, 8, 16]
    assert drawn.channels == [3, 8, 16, 16, 16, 16, 16, 16, 16, 32, 16, 32]
    # Four bottlenecks at half depth are two in a row; three in a CSP block are round(1.5) inside it.
    assert (drawn.steps[2].repeat, drawn.steps[4].repeat, drawn.steps[4].args[2]) == (2, 1, 2)
    assert drawn.steps[0].args[-1] == "nn.LeakyReLU(0.1)"
    detector = load_detector(ModelChoice(cfg=str(_yaml(tmp_path))))
    assert (detector.facts.name, detector.facts.classes, detector.facts.strides) == ("small-w0.25-s0", 3, (8, 16))


def _with_row(index: int, row: Any) -> Any:
    rows = [*TABLE["backbone"], *TABLE["head"]]
    rows[index] = row
    return {"backbone": rows, "head": []}


@pytest.mark.parametrize(
    "changes, words",
    [
        (_with_row(3, [-1, 1, "Sharpener", [64]]), "layer 3 (Sharpener): an unknown block; known are"),
        (_with_row(1, [-1, 1, "Conv", ["wide"]]), "layer 1 (Conv): wants a number of channels first, not 'wide'"),
        (_with_row(1, [-1, 1, "Conv", []]), "layer 1 (Conv): wants a number of channels first, not None"),
        (_with_row(1, [-1, 1, "Conv", [10**9]]), "layer 1 (Conv): wants a number of channels first"),
        (_with_row(1, [-1, 1, "Conv", [64, [3, 1]]]), "layer 1 (Conv): its arguments [64, (3, 1)] do not fit"),
        (_with_row(1, [-1, 1, "Conv", [64, 3, 2, None, 5]]), "layer 1 (Conv): 8 to 16 channels do not divide into 5"),
        (_with_row(1, [-1, 1, "Conv", [64, 3, 2, None, 1, "nn.Mish()"]]), "the activation 'nn.Mish()' is not known"),
        (_with_row(1, [-1, 1, "Conv", [64, 1, 1, 0, 1, True, 9, 9]]), "layer 1 (Conv): its arguments"),
        (_with_row(1, [7, 1, "Conv", [64]]), "layer 1 (Conv): reads from 7, which is no earlier layer"),
        (_with_row(1, [-3, 1, "Conv", [64]]), "layer 1 (Conv): reads from -3, which is no earlier layer"),
        (_with_row(1, [[-1, 0], 1, "Conv", [64]]), "layer 1 (Conv): reads 2 layers where it takes one"),
        (_with_row(8, [[-1, 5], 1, "Concat", [1]]), "layer 8 (Concat): joins layers of strides 8, 16"),
        (_with_row(8, [[-1, 4], 1, "Concat", [2]]), "joined along channels (1), not along 2"),
        (_with_row(8, [[0, 0, 0], 1, "Shortcut", [1]]), "layer 8 (Shortcut): adds layers of 8 and 8 and 8 channels"),
        (_with_row(2, [-1, 4, "Conv", [128]]), "layer 2 (Conv): cannot be repeated 2 times"),
        (_with_row(2, [-1, 10**6, "Bottleneck", [64]]), "a repeat count of 1000000"),
        (_with_row(7, [-1, 1, "nn.Upsample", [None, 2, "bilinear"]]), "the mode 'bilinear' is not known"),
        (_with_row(7, [-1, 1, "nn.Upsample", [None, 0, "nearest"]]), "layer 7 (nn.Upsample): its arguments"),
        (_with_row(4, ["Conv"]), "where [from, repeats, block, [arguments]] is expected"),
        (_with_row(11, [-1, 1, "Conv", [64]]), "layer 11 (Conv): the last layer is no head"),
        (_with_row(11, [[9], 1, "Detect", []]), "the head (Detect) reads 1 layers for 2 sets of anchors"),
        (_with_row(11, [[9, 10], 1, "IAuxDetect", []]), "reads 2 layers, not two for each of 2 levels"),
        ({"backbone": [], "head": []}, "the table has no layers"),
        ({"backbone": "Conv"}, "`backbone` is a str where a list of layers is expected"),
        ({"anchors": 3}, "`anchors` is 3 where a list of widths and heights"),
        ({"anchors": [[1, 2], [1, 2, 3, 4]]}, "`anchors` is"),
        ({"nc": 0}, "`nc` is 0"),
        ({"width_multiple": float("nan")}, "width_multiple nan is outside 0 to 4"),
        ({"depth_multiple": "deep"}, "`depth_multiple` is 'deep'"),
    ],
)
def test_a_wrong_table_is_reported_in_one_line(changes, words):
    with pytest.raises(InputError) as caught:
        conditioned(_plan(changes), "wrong", 0, 3)

    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "is empty"),
        ("# nothing\n", "holds a NoneType where a model"),
        ("- 1\n- 2\n", "holds a list where a model"),
        ("nc: [1\n", "is not a YAML file"),
        ("a: &a [1, 1]\nb: [*a, *a]\n", "aliases are not taken"),
        ("nc: !!python/object/apply:os.system ['true']\n", "is not a YAML file"),
        ("[" * 5000, "is not a YAML file"),
        ("x" * 2_000_000, "which no layer table is"),
    ],
)
def test_a_file_that_is_no_table_is_one_line(text, words, tmp_path):
    path = tmp_path / "odd.yaml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(InputError) as caught:
        load_detector(ModelChoice(cfg=str(path)))

    assert str(caught.value).startswith(str(path)) and words in str(caught.value)
    assert "\n" not in str(caught.value)


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 70),
    st.sampled_from(
        [10**6, 10**12, -(10**12), 0.5, 1e300, float("nan"), float("inf"), "", "x" * 300, (), (1,), (2, 2), {}]
    ),
    st.lists(st.integers(-12, 12), max_size=6),
)
_ROWS = [*TABLE["backbone"], *TABLE["head"]]
_CELLS = [(index, position) for index, row in enumerate(_ROWS) for position in (0, 1, 2)] + [
    (index, (3, position)) for index, row in enumerate(_ROWS) for position in range(len(row[3]) + 1)
]


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_value_anywhere_in_a_table_gives_a_model_or_one_line(monkeypatch, data):
    # At its own side a kernel of 70 cells takes as long as a large model.
    monkeypatch.setattr("detparity.models.yolov7.seeded.CALIBRATION_SIDE", 64)
    rows = copy.deepcopy(_ROWS)
    for index, position in data.draw(st.lists(st.sampled_from(_CELLS), min_size=1, max_size=2)):
        value = data.draw(st.one_of(_VALUES, st.sampled_from([row[2] for row in _ROWS])))
        if isinstance(position, int):
            rows[index][position] = value
        else:
            rows[index][3] = [*rows[index][3]][: position[1]] if isinstance(rows[index][3], list) else []
            rows[index][3].append(value)

    try:
        detector = conditioned(_plan({"backbone": rows, "head": []}), "odd", 0, 3)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) <= 400
    else:
        assert detector.facts.classes == 3


@pytest.mark.parametrize(
    "rows, words",
    [
        ([[-1, 1, "Conv", [16000, 3, 2]], [-1, 1, "Conv", [16000, 3, 1]]], "too many weights or channels"),
        ([[-1, 1, "Conv", [1000, 64, 2]], [-1, 1, "Conv", [1000, 64, 1]]], "too many weights or channels"),
        ([[-1, 1, "Conv", [64, 3, 1]], [[0] * 300, 1, "Concat", [1]]], "too many weights or channels"),
        ([[-1, 1, "Conv", [64, 3, 64]], [-1, 1, "Conv", [64, 3, 64]]], "the head has a stride of 4096, more than 256"),
    ],
)
def test_a_table_that_asks_for_too_much_is_one_line(rows, words):
    head = [[len(rows) - 1], 1, "Detect", ["nc", "anchors"]]
    table_of = {"anchors": [[10, 13]], "width_multiple": 1.0, "backbone": [*rows, head], "head": []}

    with pytest.raises(InputError) as caught:
        conditioned(_plan(table_of), "large", 0, 3)

    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_stride_above_64_can_be_seeded():
    rows = [[-1, 1, "Conv", [32, 3, 2]]] * 7
    detector = conditioned(
        _plan({"anchors": [[90, 70]], "backbone": [*rows, [[6], 1, "Detect", []]], "head": []}), "far", 0, 3
    )

    assert detector.facts.strides == (128,)


# --- state dicts


@pytest.mark.smoke
@pytest.mark.parametrize("wrap", ["{}", "module.{}"])
@pytest.mark.parametrize("outer", [None, "state_dict", "model"])
def test_a_state_dict_with_its_table_is_the_model(outer, wrap, tmp_path):
    model = standins.build(_plan(), 5, 3)
    state = {wrap.format(key): value for key, value in model.state_dict().items()}
    path = _saved({outer: state, "epoch": 3} if outer else state, tmp_path / "state.pt")

    detector = load_detector(ModelChoice((path,), cfg=str(_yaml(tmp_path))))

    assert detector.facts.classes == 5  # the weights say so, whatever the table's nc
    assert _worst(_exact(detector), standins.run(model, IMAGE)) < EXACT


def test_a_state_dict_brings_its_own_anchors(tmp_path):
    """Training may have fitted them to its data."""
    model = standins.build(_plan({"anchors": [[11, 14, 17, 31, 34, 24], [31, 62, 63, 46, 60, 120]]}), 3, 3)
    path = _saved(model.state_dict(), tmp_path / "state.pt")

    detector = checkpoint_loader.load(path, plan=_plan())

    assert detector.facts.anchors[0] == ((11, 14), (17, 31), (34, 24))
    assert _worst(_exact(detector), standins.run(model, IMAGE)) < EXACT


def test_a_fused_state_dict_is_the_same_model(tmp_path):
    network = fuse(conditioned(_plan(), "small", 0, 3).network).float()
    state = {official_key(network, key): value for key, value in network.state_dict().items() if "anchors" not in key}
    path = _saved(state, tmp_path / "state.pt")

    detector = checkpoint_loader.load(path, plan=_plan())

    assert "model.9.rbr_reparam.weight" in state
    with torch.no_grad():
        expected = Predictions(network.double())(torch.from_numpy(IMAGE).double()).numpy()
    assert _worst(_exact(detector), expected) < EXACT


def test_a_state_dict_of_another_network_is_refused_by_its_first_difference(tmp_path):
    path = _saved(standins.build(_plan(), 3, 3).state_dict(), tmp_path / "state.pt")
    large = _plan({"backbone": [[-1, 1, "Conv", [32, 5, 2]], *TABLE["backbone"][1:]]})
    long = _plan({"backbone": [*TABLE["backbone"], [-1, 1, "SP", [5]]]})

    for plan, words in (
        (None, "which does not say its architecture; name it with --cfg"),
        (large, "layer 0 has the convolutions conv (3x3) where conv (5x5) is expected"),
        (long, "model.12.m.0.weight, the first convolution of the head, is missing: it has 12 layers and not 13"),
    ):
        with pytest.raises(InputError, match=r"state\.pt: ") as caught:
            checkpoint_loader.load(path, plan=plan)
        assert words in str(caught.value)


def test_a_table_for_a_complete_model_is_refused(tmp_path):
    path = _saved(standins.stripped(standins.build(_plan(), 3, 3)), tmp_path / "best.pt")

    with pytest.raises(InputError, match="says its architecture itself; --cfg is for a state dict"):
        checkpoint_loader.load(path, plan=_plan())


# --- ensembles


def _two(tmp_path: Path) -> Any:
    models = [standins.build(_plan(), 3, 1), standins.build(_plan({"width_multiple": 0.5}), 3, 2)]
    models[1].names = ["last 0", "last 1", "last 2"]
    expected = np.concatenate([standins.run(model, IMAGE) for model in models], 1)
    return models, expected


@pytest.mark.parametrize("form", ["files", "list", "ensemble", "nested"])
def test_an_ensemble_is_its_members_one_after_the_other(form, tmp_path):
    models, expected = _two(tmp_path)
    contents = [standins.stripped(model, torch.float32) for model in models]
    if form == "files":
        paths = [_saved(content, tmp_path / f"{name}.pt") for name, content in zip("ab", contents)]
    elif form == "list":
        paths = [_saved(contents, tmp_path / "both.pt")]
    elif form == "ensemble":
        paths = [_saved({"model": standins.Ensemble(models), "ema": None}, tmp_path / "both.pt")]
    else:
        paths = [_saved(models, tmp_path / "both.pt")]

    detector = load_detector(ModelChoice(tuple(paths)))

    assert detector.facts.name == ("a+b" if form == "files" else "both")
    assert detector.facts.names == ("last 0", "last 1", "last 2")
    assert detector.facts.strides == (8, 16, 8, 16)
    assert _worst(_exact(detector), expected) < EXACT
    keys = [conv.key for conv in detector.weights]
    assert len(set(keys)) == len(keys)
    assert {"0.model.0.conv", "1.model.0.conv", "0.model.11.m.0", "1.model.11.m.1"} <= set(keys)


def test_members_that_do_not_go_together_are_refused(tmp_path):
    paths = [
        _saved(standins.stripped(standins.build(_plan(), classes, 1)), tmp_path / f"{classes}.pt") for classes in (2, 3)
    ]

    with pytest.raises(InputError, match="do not make one ensemble: they have 2 classes and 3 anchors; 3 classes"):
        checkpoint_loader.load(*paths)


# --- what is not known


def test_an_unknown_block_is_named_with_its_path(tmp_path):
    sharpener = type("Sharpener", (torch.nn.Identity,), {"__module__": "models.common"})
    model = standins.build(_plan(), 3, 3)
    model.model[4].m[1].cv2 = sharpener()
    with standins.installed():
        setattr(sys.modules["models.common"], "Sharpener", sharpener)  # noqa: B010 - a module has no such attribute to mypy
        save(standins.stripped(model), tmp_path / "odd.pt")

    with pytest.raises(InputError) as caught:
        checkpoint_loader.load(tmp_path / "odd.pt")

    assert "odd.pt: layer 4 (model.4.m.1.cv2) is a models.common.Sharpener, a block" in str(caught.value)


def test_leftovers_of_official_training_change_nothing(tmp_path):
    model = standins.build(_plan(), 3, 3)
    truth = standins.run(model, IMAGE)
    model.traced, model.hyp, model.gr, model.class_weights = True, {"lr0": 0.01}, 1.0, torch.ones(3)
    model.stride, model.nc = torch.tensor([8.0, 16.0]), 3

    detector = checkpoint_loader.load(_saved(standins.stripped(model, torch.float32), tmp_path / "x.pt"))

    assert _worst(_exact(detector), truth) < EXACT


@pytest.mark.parametrize("classes", [1, 2, 80, 365])
def test_any_number_of_classes(classes):
    detector = seeded("yolov7-tiny", 0.125, 0, classes)

    assert detector.facts.fields == 5 + classes
    assert np.isfinite(_exact(detector)).all()
    assert _exact(detector).shape == (1, 378, 5 + classes)


# --- numbers in a file that ask for more than any detector


_BASE = standins.build(_plan(), 3, 3)


def _hostile(change: Any) -> Any:
    content = standins.stripped(_BASE)
    change(content["model"])
    return content


def _stored(name: str, value: Any) -> Any:
    """Set an attribute deep in a model, as a pickle may: `4.m.1.cv2.conv.in_channels`."""

    def change(model: Any) -> None:
        path, _, key = name.rpartition(".")
        target = model.model
        for step in path.split("."):
            target = target.__dict__["_modules"][step]
        # Pickling looks attributes up in these, so they stay containers; what lies in them may be anything.
        target.__dict__[key] = {"x": value} if key.startswith("_") and not isinstance(value, (dict, list)) else value

    return change


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("0.conv.in_channels", 10**9, "layer 0: torch.nn.modules.conv.Conv2d states a weight of (8, 1000000000, 3, 3)"),
        ("0.conv.out_channels", 10**12, "states a weight of"),
        ("0.conv.kernel_size", (10**6, 10**6), "states a weight of"),
        ("0.conv.kernel_size", (3, 1), "has an uneven kernel_size"),
        ("0.conv.padding", (10**6, 10**6), "a padding of 1000000"),
        ("0.conv.stride", (0, 0), "a stride of 0"),
        ("0.conv.groups", 0, "layer 0 (models.common.Conv) is damaged: ZeroDivisionError"),
        ("0.bn.num_features", 10**12, "torch.nn.modules.batchnorm.BatchNorm2d states a weight of (1000000000000,)"),
        ("5.m.kernel_size", 10**6, "pools 1000000"),
        ("7.scale_factor", 1e6, "layer 7 is 62500 times as large as the image"),
        ("7.scale_factor", float("nan"), "is damaged"),
        ("8.f", [-1] * 10000, "its layers do not fit together: "),
        ("8.f", "all", "reads from 'all'"),
        ("11.nc", 10**9, "the head scores 1000000000 classes, which its convolutions do not"),
        ("11.stride", torch.tensor([8.0, 1e6]), "the head has a stride of 1000000, more than 256"),
        ("11.stride", torch.tensor([8.0]), "the head has 2 convolutions, 2 anchor sets and strides [8.0]"),
        ("3.cv1.conv.in_channels", 8, "layer 3: torch.nn.modules.conv.Conv2d states a weight of (16, 8, 1, 1)"),
        ("0._modules", None, "is damaged"),
        ("4.m._modules", [1], "is damaged"),
    ],
)
def test_a_number_that_asks_for_too_much_is_one_line(name, value, words, tmp_path):
    path = _saved(_hostile(_stored(name, value)), tmp_path / "x.pt")

    with pytest.raises(InputError) as caught:
        checkpoint_loader.load(path)

    assert str(caught.value).startswith(str(path)) and words in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < len(str(path)) + 400


def test_layers_that_do_not_fit_together_are_one_line(tmp_path):
    model = standins.build(_plan(), 3, 3)
    model.model[1].f = -2  # the image, of 3 channels where 8 are expected
    path = _saved(standins.stripped(model), tmp_path / "x.pt")

    with pytest.raises(InputError, match="its layers do not fit together: ") as caught:
        checkpoint_loader.load(path)

    assert str(caught.value).startswith(str(path))


_PATHS = [
    f"{path}.{key}"
    for path, keys in {
        "0.conv": (
            "in_channels",
            "out_channels",
            "kernel_size",
            "stride",
            "padding",
            "dilation",
            "groups",
            "_parameters",
        ),
        "0.bn": ("num_features", "eps", "_buffers", "_parameters"),
        "0": ("f", "_modules"),
        "2.1": ("add", "_modules"),
        "4.m": ("_modules",),
        "5.m": ("kernel_size", "stride", "padding", "ceil_mode"),
        "7": ("scale_factor", "mode", "size"),
        "8": ("f", "d"),
        "9": ("_modules",),
        "11": ("f", "nc", "stride", "_buffers", "_modules", "_parameters"),
    }.items()
    for key in keys
]


@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(_PATHS), _VALUES), min_size=1, max_size=2))
def test_any_value_anywhere_gives_a_model_or_one_line(tmp_path_factory, changes):
    model = copy.deepcopy(_BASE)
    # The deeper paths first: a change above may remove what leads to them.
    for name, value in sorted(changes, key=lambda change: -change[0].count(".")):
        _stored(name, value)(model)
    path = tmp_path_factory.mktemp("fuzz") / "x.pt"
    with standins.installed():
        save({"model": model, "ema": None}, path)

    try:
        detector = checkpoint_loader.load(path)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < len(str(path)) + 400
    else:
        assert detector.facts.classes == 3

"""Files of a few kilobytes that ask for more than any detector: checkpoints, lite archives and layer tables, refused in one line."""

from __future__ import annotations

import pickle
import pickletools
import shutil
import struct
import time
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import numpy as np
import pytest
import torch
from detparity.kit.tests.core.hostile import archived, doubled, named, number, pickled, text
from detparity.kit.tests.models.yolov7 import standins

from detparity.artifacts import lite_bytecode
from detparity.core.errors import EngineError, InputError
from detparity.models.choice import ModelChoice, load_detector
from detparity.models.compat import jit
from detparity.models.compat.pickler import save
from detparity.models.yolov7 import checkpoint_loader
from detparity.models.yolov7.network import Predictions
from detparity.models.yolov7.seeded import seeded

SECONDS = 15


def _refused(act: Callable[[], Any], words: str, kind: type = InputError) -> None:
    start = time.perf_counter()
    with pytest.raises(kind) as caught:
        act()
    assert words in str(caught.value) and "\n" not in str(caught.value), str(caught.value)
    assert time.perf_counter() - start < SECONDS


# --- checkpoints


def _model() -> Any:
    return standins.build(standins.small_plan("Detect", standins.LEAKY), 3, 5)


def _load(content: Any, path: Path) -> Callable[[], Any]:
    with standins.installed():
        save(content, path)
    return lambda: checkpoint_loader.load(path)


def test_modules_shared_again_and_again_are_counted_before_they_are_made(tmp_path: Path) -> None:
    """Twelve deep is little to read, and 4096 convolutions to make."""
    model = _model()
    inner: Any = model.model[0].conv
    for _ in range(14):
        inner = torch.nn.Sequential(inner, inner)
    model.model[4] = inner
    model.model[4].f, model.model[4].i = -1, 4
    _refused(_load({"model": model}, tmp_path / "x.pt"), "")


def test_weights_used_again_and_again_are_counted_before_they_are_copied(tmp_path: Path) -> None:
    model = _model()
    wide = torch.nn.Conv2d(256, 256, 3, padding=1)
    model.model[4] = torch.nn.Sequential(*[torch.nn.Sequential(wide, torch.nn.SiLU()) for _ in range(40)])
    model.model[4].f, model.model[4].i = -1, 4
    _refused(_load({"model": model}, tmp_path / "x.pt"), "weights by")


def test_a_model_of_one_doubled_module_is_refused(tmp_path: Path) -> None:
    root = pickle.EMPTY_DICT + text("model") + doubled(13) + pickle.SETITEM
    path = archived(tmp_path / "x.pt", {"data.pkl": pickled(root)})
    _refused(lambda: checkpoint_loader.load(path), "")


def test_layers_that_take_hours_are_refused(tmp_path: Path) -> None:
    model = _model()
    model.model[0] = torch.nn.Sequential(*[torch.nn.MaxPool2d(63, 1, 31) for _ in range(300)])
    model.model[0].f, model.model[0].i = -1, 0
    _refused(_load({"model": model}, tmp_path / "x.pt"), "too many to run")


def test_a_weight_of_no_numbers_is_refused(tmp_path: Path) -> None:
    model = _model()
    conv = model.model[0].conv
    conv.weight = torch.nn.Parameter(torch.zeros(10**9, 0, 3, 3))
    conv.in_channels, conv.out_channels = 0, 10**9
    _refused(_load({"model": model}, tmp_path / "x.pt"), "states a weight of (1000000000, 0, 3, 3)")


# --- state dicts


def test_a_state_dict_of_endless_layers_is_refused(tmp_path: Path) -> None:
    for key in ("model.9999.conv.weight", "model.99999999.conv.weight"):
        state = {key: torch.zeros(8, 3, 3, 3), "model.0.conv.weight": torch.zeros(8, 3, 3, 3)}
        _refused(_load(state, tmp_path / "x.pt"), "does not say its architecture")


# --- layer tables

HEAD = [[-1], 1, "Detect", ["nc", "anchors"]]


def _table(tmp_path: Path, text_of: str) -> Callable[[], Any]:
    path = tmp_path / "x.yaml"
    path.write_text(text_of, encoding="utf-8")
    return lambda: load_detector(ModelChoice(cfg=str(path)))


def _with(**changes: str) -> str:
    parts = {
        "nc": "3",
        "depth_multiple": "1.0",
        "width_multiple": "0.25",
        "anchors": "[[10, 13]]",
        "backbone": "[[-1, 1, Conv, [32, 3, 2]], [-1, 1, Conv, [64, 3, 2]]]",
        "head": "[[[-1], 1, Detect, [nc, anchors]]]",
        **changes,
    }
    return "\n".join(f"{key}: {value}" for key, value in parts.items())


HUGE = "0x" + "f" * 900
TABLES: Dict[str, Tuple[str, str]] = {
    "timestamp": (_with(nc="!!timestamp abc"), "is not a YAML file: "),
    "empty integer": (_with(nc="!!int ''"), "is not a YAML file: "),
    "empty float": (_with(width_multiple="!!float ''"), "is not a YAML file: "),
    "no boolean": (_with(nc="!!bool maybe"), "is not a YAML file: "),
    "date": (_with(nc="2024-01-01"), "the table holds a date, which no layer table does"),
    "set": (_with(nc="!!set {a, b}"), "the table holds a set, which no layer table does"),
    "bytes": (_with(nc="!!binary aGVsbG8="), "the table holds a bytes"),
    **{
        f"huge {name}": (_with(**{name: HUGE}), "the table holds an integer of 3600 bits")
        for name in ("nc", "width_multiple", "depth_multiple", "anchors", "backbone")
    },
    "huge from": (_with(backbone=f"[[{HUGE}, 1, Conv, [32, 3, 2]]]"), "an integer of 3600 bits"),
    "huge repeats": (_with(backbone=f"[[-1, {HUGE}, Conv, [32, 3, 2]]]"), "an integer of 3600 bits"),
    "huge channels": (_with(backbone=f"[[-1, 1, Conv, [{HUGE}, 3, 2]]]"), "an integer of 3600 bits"),
    "huge kernel": (_with(backbone=f"[[-1, 1, Conv, [32, {HUGE}, 2]]]"), "an integer of 3600 bits"),
    "huge anchor": (_with(anchors=f"[[10, {HUGE}]]"), "an integer of 3600 bits"),
    "long number": (_with(nc="9" * 5000), "a value of 5000 letters is not taken"),
    "long hexadecimal": (_with(nc="0x" + "f" * 5000), "a value of 5002 letters is not taken"),
    "sexagesimal": (_with(nc=":".join(["59"] * 4000)), "letters is not taken"),
    "deep": ("a: " + "[" * 300 + "]" * 300, "nested more than 20 deep"),
    "deeper": ("a: " + "[" * 3000 + "]" * 3000, "is not a YAML file: "),
    "repeats": (
        _with(
            backbone=f"[{', '.join(['[-1, 900, Bottleneck, [32]]'] * 40)}]".replace(
                "[-1, 900", "[-1, 1, Conv, [32, 3, 2]], [-1, 900", 1
            )
        ),
        "too many for any detector",
    ),
    "repeats inside": (
        _with(backbone=f"[{', '.join(['[-1, 900, BottleneckCSPA, [32]]'] * 40)}]"),
        "too many for any detector",
    ),
    "reads": (_with(backbone=f"[{', '.join(['[[' + '-1,' * 60 + '-1], 1, Concat, [1]]'] * 400)}]"), "too many"),
    "parts": (_with(backbone=f"[{'1, ' * 40_000}1]"), "is larger than|layer 0 is '1'|parts"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_asks_for_much_is_one_line(name: str, tmp_path: Path) -> None:
    table, words = TABLES[name]
    start = time.perf_counter()
    with pytest.raises(InputError) as caught:
        _table(tmp_path, table)()

    assert any(part in str(caught.value) for part in words.split("|")), str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert time.perf_counter() - start < SECONDS


def test_the_largest_table_that_is_taken_is_quick(tmp_path: Path) -> None:
    """A thousand blocks are made, or refused, in seconds."""
    rows = ", ".join(["[-1, 800, Bottleneck, [32]]"] * 1)
    load = _table(tmp_path, _with(backbone=f"[[-1, 1, Conv, [32, 3, 2]], {rows}]", width_multiple="1.0"))
    start = time.perf_counter()
    try:
        load()
    except InputError as error:
        assert "\n" not in str(error)
    assert time.perf_counter() - start < 4 * SECONDS


# --- lite archives


@pytest.fixture(scope="module")
def lite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lite") / "module.ptl"
    module = Predictions(seeded("yolov7-tiny", 0.125, 0, 3).network).eval()
    path.write_bytes(jit.lite(jit.script(module), {}))
    return path


def _rewritten(source: Path, path: Path, changes: Dict[str, bytes], how: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(source) as archive:
        top = archive.namelist()[0].partition("/")[0]
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    members.update({f"{top}/{name}": content for name, content in changes.items()})
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _program() -> bytes:
    return pickled(number(8) + pickle.TUPLE1)


def _shared(depth: int) -> bytes:
    value = pickle.EMPTY_TUPLE
    for _ in range(depth):
        value += pickle.BINPUT + b"\0" + pickle.BINGET + b"\0" + pickle.TUPLE2
    return value


PID = (
    pickle.MARK + text("storage") + named("torch", "FloatStorage") + text("0") + text("cpu") + number(4) + pickle.TUPLE
)
REBUILD = named("torch._utils", "_rebuild_tensor_v2")


ROOT = "__torch__.detparity.models.yolov7.network"


def _root(path: Path) -> str:
    """The module of the root's type in the file's own pickle: TorchScript mangles it where it scripted one before."""
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        qualified = next(
            argument for code, argument, _ in pickletools.genops(archive.read(name)) if code.name == "GLOBAL"
        )
    return str(qualified).split(" ")[0]


def _tensor(pid: bytes, size: bytes, stride: bytes) -> bytes:
    arguments = pickle.MARK + pid + number(0) + size + stride + pickle.NEWFALSE + pickle.NONE + pickle.TUPLE
    state = pickle.EMPTY_DICT + text("w") + REBUILD + arguments + pickle.REDUCE + pickle.SETITEM
    return pickled(named(ROOT, "Predictions") + pickle.EMPTY_TUPLE + pickle.NEWOBJ + state + pickle.BUILD)


def _one(value: bytes) -> bytes:
    return value + pickle.TUPLE1


TEXT_ID, SHORT_ID, GOOD_ID = (value + pickle.BINPERSID for value in (text("0"), pickle.EMPTY_TUPLE, PID))
FOUR, ONE = _one(number(4)), _one(number(1))
MEMO = pickled(pickle.NONE + pickle.LONG_BINPUT + struct.pack("<I", 1 << 29))
OWN = pickled(pickle.EMPTY_LIST + pickle.BINPUT + b"\0" + pickle.BINGET + b"\0" + pickle.APPEND)
PICKLES: Dict[str, Tuple[str, bytes, str]] = {
    "persistent id that is a text": ("data.pkl", _tensor(TEXT_ID, FOUR, ONE), "persistent id"),
    "persistent id that is short": ("data.pkl", _tensor(SHORT_ID, FOUR, ONE), "persistent id"),
    "storage that is none": ("data.pkl", _tensor(text("0"), FOUR, ONE), "that is not a storage"),
    "gigabytes of one number": (
        "data.pkl",
        _tensor(GOOD_ID, _one(number(1 << 30)), _one(number(0))),
        "beyond its storage",
    ),
    "memo": ("bytecode.pkl", MEMO, "memo index"),
    "memo of the state": ("data.pkl", MEMO, "memo index"),
    "key of nested tuples": (
        "bytecode.pkl",
        pickled(pickle.EMPTY_DICT + _shared(60) + pickle.NONE + pickle.SETITEM),
        "key",
    ),
    "shared forty deep": (
        "bytecode.pkl",
        pickled(number(8) + _shared(40) + pickle.TUPLE2),
        "times the file's own parts",
    ),
    "in itself": ("data.pkl", OWN, "contains itself"),
    "deep": ("data.pkl", pickled(pickle.EMPTY_TUPLE + pickle.TUPLE1 * 100_000), "nested more than"),
    "no program": ("bytecode.pkl", _program(), "no program of"),
    "a text": ("bytecode.pkl", pickled(text("x")), "cannot be read"),
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_lite_archive_that_asks_for_much_is_one_line(name: str, lite_file: Path, tmp_path: Path) -> None:
    member, content, words = PICKLES[name]
    content = content.replace(ROOT.encode(), _root(lite_file).encode())
    path = _rewritten(lite_file, tmp_path / "x.ptl", {member: content})
    _refused(lambda: lite_bytecode.read(path, ""), words, EngineError)


def test_a_compressed_member_is_refused_and_a_damaged_one_is_one_line(lite_file: Path, tmp_path: Path) -> None:
    path = _rewritten(lite_file, tmp_path / "x.ptl", {}, zipfile.ZIP_DEFLATED)
    _refused(lambda: lite_bytecode.read(path, ""), "compressed member", EngineError)

    content = bytearray(path.read_bytes())
    for position in range(200, len(content) - 6000, 40):
        content[position] ^= 0x55
    path.write_bytes(bytes(content))
    _refused(lambda: lite_bytecode.read(path, ""), "cannot be read", EngineError)


def test_a_storage_is_read_once_however_many_tensors_share_it(lite_file: Path, tmp_path: Path) -> None:
    shutil.copy(lite_file, tmp_path / "x.ptl")
    found = lite_bytecode.read(tmp_path / "x.ptl", "")

    assert found.ops["aten::conv2d"] > 50
    assert all(isinstance(value, np.ndarray) and not value.flags.writeable for value in found.state.values())

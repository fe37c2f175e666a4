"""Reading checkpoints as plain data: what torch writes comes back, and hostile files get one clear line."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import pathlib
import pickle
import struct
import sys
import time
import tracemalloc
import types
import warnings
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detparity.core.errors import InputError
from detparity.core.pickle_reader import Opaque, Record, kind, read
from detparity.models.compat.pickler import save
from detparity.models.compat.torch_load import load_trusted

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
OFFICIAL = {
    "yolov7-tiny-torch1.7": "models.yolo.Detect",
    "yolov7-tiny-torch1.13": "models.yolo.Detect",
    "yolov7-tiny-training-torch1.13": "models.yolo.IDetect",
}
PEAK_BYTES = 6 << 20
DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]

fast = settings(max_examples=60, derandomize=True, database=None, deadline=None)
fuzz = settings(fast, max_examples=150)


# --- helpers


def saved(value: object, path: Path, **options: Any) -> Path:
    save(value, str(path), **options)
    return path


def archived(path: Path, data: bytes, storages: Dict[str, bytes]) -> Path:
    """A checkpoint's zip around a pickle, as torch lays it out."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", data)
        for key, content in storages.items():
            file.writestr(f"a/data/{key}", content)
        file.writestr("a/version", b"3\n")
    return path


def refusal(path: Path) -> str:
    """The message with which `read` refuses a file, checked for what every such message promises."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(InputError) as caught:
            read(path)
        seconds = time.perf_counter() - start
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert "\n" not in message and "\r" not in message
    assert message.startswith(f"{path}: ")
    assert len(message) < len(str(path)) + 250
    assert peak < PEAK_BYTES
    assert seconds < 5
    return message


def values(tensor: torch.Tensor) -> np.ndarray:
    """What the reader promises for a tensor: bfloat16 widened, everything else as it is."""
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def assert_same(array: object, tensor: torch.Tensor) -> None:
    expected = values(tensor)
    assert type(array) is np.ndarray
    assert array.dtype == expected.dtype and array.shape == expected.shape
    assert array.tobytes() == expected.tobytes()
    assert not array.flags.writeable


def walk(node: object) -> Iterator[object]:
    """Every part of a result, each time it is used."""
    yield node
    parts: List[object] = []
    if isinstance(node, Record):
        parts = [node.args, node.state]
    elif isinstance(node, Opaque):
        parts = [node.args, node.state, *node.items]
    elif isinstance(node, dict):
        parts = [*node, *node.values()]
    elif isinstance(node, (set, frozenset)):
        parts = sorted(node, key=repr)
    elif isinstance(node, (list, tuple)):
        parts = [*node]
    for part in parts:
        yield from walk(part)


def assert_plain(root: object) -> None:
    plain = {type(None), bool, int, float, str, bytes, list, tuple, dict, OrderedDict, set, frozenset}
    for node in walk(root):
        assert type(node) in plain | {Record, np.ndarray} or isinstance(node, Opaque)
        assert type(node) is not np.ndarray or not node.flags.writeable


# A small assembler for pickles that no pickler would write.


def text(value: str) -> bytes:
    content = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(content)) + content


def number(value: int) -> bytes:
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return pickle.LONG1 + bytes([len(content)]) + content


def tuple_of(*parts: bytes) -> bytes:
    return pickle.MARK + b"".join(parts) + pickle.TUPLE


def named(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + tuple_of(*arguments) + pickle.REDUCE


def pickled(expression: bytes) -> bytes:
    return pickle.PROTO + b"\x02" + expression + pickle.STOP


def persistent(*parts: bytes) -> bytes:
    return tuple_of(*parts) + pickle.BINPERSID


def storage(sort: str = "FloatStorage", key: str = "0", count: int = 4) -> bytes:
    return persistent(text("storage"), named("torch", sort), text(key), text("cpu"), number(count))


def tensor(size: bytes, stride: bytes, offset: bytes = number(0), of: bytes = storage(), *more: bytes) -> bytes:
    hooks = call(named("collections", "OrderedDict"))
    rebuild = named("torch._utils", "_rebuild_tensor_v2")
    return call(rebuild, of, offset, size, stride, pickle.NEWFALSE, hooks, *more)


def counts(*numbers: int) -> bytes:
    return tuple_of(*map(number, numbers))


TRUE, NONE, EMPTY = pickle.NEWTRUE, pickle.NONE, pickle.EMPTY_TUPLE
PUT0, GET0 = pickle.BINPUT + b"\0", pickle.BINGET + b"\0"
# One tuple in itself 60 times over: harmless to hold, endless to walk or to hash.
SHARED = EMPTY + (PUT0 + GET0 + pickle.TUPLE2) * 60
NUMPY_FLOAT = call(named("numpy", "dtype"), text("f8"), pickle.NEWFALSE, TRUE)


def array_state(shape: bytes, content: bytes) -> bytes:
    return tuple_of(number(1), shape, NUMPY_FLOAT, pickle.NEWFALSE, content) + pickle.BUILD


def numpy_array(shape: bytes, content: bytes) -> bytes:
    code = call(named("_codecs", "encode"), text("b"), text("latin1"))
    rebuild = named("numpy.core.multiarray", "_reconstruct")
    return call(rebuild, named("numpy", "ndarray"), counts(0), code) + array_state(shape, content)


def numpy_bytes(content: bytes) -> bytes:
    return call(named("_codecs", "encode"), text(content.decode("latin-1")), text("latin1"))


# --- official checkpoints


def official(name: str) -> Path:
    path = DATA / "checkpoints" / f"{name}.pt"
    if not path.exists():
        pytest.skip(f"the official-format checkpoint {name} is not in ../shared/data")
    return path


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_checkpoint_reads_as_plain_data(name: str) -> None:
    path = official(name)
    assert kind(path) == "checkpoint"
    root = read(path)
    assert isinstance(root, dict)
    assert {"epoch", "best_fitness", "model", "ema", "updates", "optimizer", "wandb_id"} <= set(root)
    assert_plain(root)
    model = root["model"]
    assert isinstance(model, Record) and model.qualified == "models.yolo.Model" and model.args == ()
    layers: Any = model.state["_modules"]["model"].state["_modules"]  # type: ignore[index]
    assert [layer.state["i"] for layer in layers.values()] == list(range(len(layers)))
    assert list(layers.values())[-1].qualified == OFFICIAL[name]
    assert len(model.state["names"]) == 80  # type: ignore[arg-type]


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_checkpoint_holds_every_stored_byte(name: str) -> None:
    """By the zip alone: the model's tensors are the archive's storages, each used in full."""
    path = official(name)
    with zipfile.ZipFile(path) as file:
        sizes = {info.filename: info.file_size for info in file.infolist() if "/data/" in info.filename}
        first = file.read(f"{file.namelist()[0].split('/')[0]}/data/0") if "1.13" in name else None
    arrays = {id(node): node for node in walk(read(path)) if isinstance(node, np.ndarray)}
    assert sum(array.nbytes for array in arrays.values()) == sum(sizes.values())
    model: Any = read(path)
    weight = model["model"].state["_modules"]["model"].state["_modules"]["0"].state["_modules"]["conv"]
    weight = weight.state["_parameters"]["weight"]
    assert weight.dtype == np.float16 and weight.shape == (8, 3, 3, 3)
    if first is not None:  # 1.13 numbers the storages in the order of use; 1.7 names them by address
        assert weight.tobytes() == first


# --- what torch writes comes back


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """A tensor of any supported type, with any bits, as some view of its storage."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    carrier = {torch.bfloat16: torch.int16, torch.bool: torch.uint8}.get(dtype, dtype)
    noise = np.random.default_rng(draw(st.integers(0, 99)))
    content = noise.bytes(int(np.prod(shape)) * torch.empty(0, dtype=carrier).element_size())
    array = np.frombuffer(content, values(torch.empty(0, dtype=carrier)).dtype).reshape(shape)
    complete = torch.from_numpy(np.array(array > 127 if dtype == torch.bool else array))
    complete = complete.view(torch.bfloat16) if dtype == torch.bfloat16 else complete
    for axis in range(complete.dim()):
        start, step = draw(st.integers(0, 2)), draw(st.integers(1, 2))
        complete = complete[(slice(None),) * axis + (slice(start, None, step),)]
    return complete.permute(draw(st.permutations(range(complete.dim()))))


@fast
@given(value=tensors())
def test_any_view_of_any_type_comes_back(value: torch.Tensor, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "view.pt"
    assert_same(read(saved(value, path)), value)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scalar_and_empty_tensors_come_back(dtype: torch.dtype, tmp_path: Path) -> None:
    for value in (
        torch.ones((), dtype=dtype),
        torch.empty(0, dtype=dtype),
        torch.empty(2, 0, 3, dtype=dtype),
    ):
        assert_same(read(saved(value, tmp_path / "x.pt")), value)


def test_bfloat16_is_widened_exactly(tmp_path: Path) -> None:
    value = torch.tensor([1.0, -2.5, 3.0e38, 1.0e-40, float("inf"), float("nan"), -0.0]).bfloat16()
    array = read(saved(value, tmp_path / "x.pt"))
    assert isinstance(array, np.ndarray) and array.dtype == np.float32
    np.testing.assert_array_equal(array, value.float().numpy())


def test_tied_tensors_share_memory(tmp_path: Path) -> None:
    complete = torch.arange(12.0).reshape(3, 4)
    root: Any = read(
        saved({"all": complete, "row": complete[1], "again": complete, "other": complete + 1}, tmp_path / "x.pt")
    )
    assert root["all"] is root["again"]
    assert np.shares_memory(root["all"], root["row"])
    assert not np.shares_memory(root["all"], root["other"])
    assert_same(root["row"], complete[1])


def test_parameters_come_back_as_arrays(tmp_path: Path) -> None:
    plain, marked = (
        torch.nn.Parameter(torch.arange(3.0)),
        torch.nn.Parameter(torch.ones(2), requires_grad=False),
    )
    marked.note = "state"  # type: ignore[attr-defined]  # newer torch then writes _rebuild_parameter_with_state
    root: Any = read(saved([plain, marked], tmp_path / "x.pt"))
    assert_same(root[0], plain)
    assert_same(root[1], marked)


numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=5) | st.binary(max_size=5)
leaves = scalars | st.sets(numbers, max_size=3) | st.frozensets(st.text(max_size=3), max_size=3)
plain_data: st.SearchStrategy[Any] = st.deferred(
    lambda: (
        leaves
        | st.lists(plain_data, max_size=3)
        | st.tuples(plain_data, plain_data)
        | st.dictionaries(st.text(max_size=3) | numbers, plain_data, max_size=3)
        | st.dictionaries(st.text(max_size=3), plain_data, max_size=3).map(OrderedDict)
    )
)


@fast
@given(value=plain_data, protocol=st.sampled_from([2, 3, 4]))
def test_plain_data_comes_back(value: object, protocol: int, tmp_path_factory: Any) -> None:
    path = saved(value, tmp_path_factory.getbasetemp() / "plain.pt", pickle_protocol=protocol)
    root = read(path)
    assert root == value
    assert [type(node) for node in walk(root)] == [type(node) for node in walk(value)]


def test_numpy_and_torch_odds_and_ends_come_back(tmp_path: Path) -> None:
    root: Any = read(
        saved(
            {
                "float": np.float64(0.1),
                "half": np.float16(0.5),
                "int": np.int32(-7),
                "bool": np.bool_(True),
                "array": np.arange(6.0).reshape(2, 3),
                "fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
                "empty": np.zeros((0, 3), np.float32),
                "fitness": np.array([0.25]),
                "size": torch.Size([2, 3]),
                "dtype": torch.float16,
                "cpu": torch.device("cpu"),
                "cuda": torch.device("cuda", 1),
                "path": pathlib.PurePosixPath("runs/train/exp"),
                "windows": pathlib.PureWindowsPath("C:/runs"),
                "options": argparse.Namespace(epochs=3, name="x"),
            },
            tmp_path / "x.pt",
        )
    )
    assert [root[key] for key in ("float", "half", "int", "bool")] == [0.1, 0.5, -7, True]
    assert [type(root[key]) for key in ("float", "half", "int", "bool")] == [float, float, int, bool]
    np.testing.assert_array_equal(root["array"], np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(root["fortran"], np.arange(6).reshape(2, 3))
    assert root["fortran"].dtype == np.int16 and root["empty"].shape == (0, 3) and root["fitness"][0] == 0.25
    assert (root["size"], root["dtype"]) == ((2, 3), "torch.float16")
    assert (root["cpu"], root["cuda"]) == ("cpu", "cuda:1")
    assert (root["path"], root["windows"]) == ("runs/train/exp", "C:\\runs")
    assert root["options"].qualified == "argparse.Namespace"
    assert root["options"].state == {"epochs": 3, "name": "x"}
    assert_plain(root)


@pytest.mark.parametrize("protocol", [2, 4])
def test_modules_come_back_as_records(protocol: int, tmp_path: Path) -> None:
    layers = [
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.LeakyReLU(0.1),
        torch.nn.Upsample(None, 2),
    ]
    model = torch.nn.Sequential(*layers).half()
    root: Any = read(saved({"model": model}, tmp_path / "x.pt", pickle_protocol=protocol))["model"]  # type: ignore[index]
    assert root.qualified == "torch.nn.modules.container.Sequential"
    children = root.state["_modules"]
    assert [child.name for child in children.values()] == [type(layer).__name__ for layer in layers]
    for child, layer in zip(children.values(), layers):
        assert set(child.state) == set(vars(layer))
        for name, value in [*layer.named_parameters(), *layer.named_buffers()]:
            assert_same({**child.state["_parameters"], **child.state["_buffers"]}[name], value)
    assert children["3"].state["scale_factor"] == 2 and children["2"].state["negative_slope"] == 0.1


def test_state_dict_agrees_with_torch_load(tmp_path: Path) -> None:
    path = saved(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).state_dict(), tmp_path / "x.pt")
    root, expected = read(path), load_trusted(path)
    assert isinstance(root, OrderedDict) and list(root) == list(expected)
    for name, value in expected.items():
        assert_same(root[name], value)


def fake_block(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A class that pickles as `models.common.NAME`."""
    module = types.ModuleType("models.common")
    block = type(name, (torch.nn.Identity,), {"__module__": "models.common"})
    setattr(module, name, block)
    monkeypatch.setitem(sys.modules, "models", types.ModuleType("models"))
    monkeypatch.setitem(sys.modules, "models.common", module)
    return block()


@pytest.mark.parametrize("name", ["RepConv", "Sharpener"])
def test_blocks_of_the_models_package_are_recorded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known or not: the code that builds from the record can then report the position of an unknown block."""
    path = saved(fake_block(name, monkeypatch), tmp_path / "x.pt")
    monkeypatch.undo()
    root = read(path)
    assert isinstance(root, Record) and (root.module, root.name) == ("models.common", name)
    assert root.state["training"] is True


def test_file_saved_without_checksums_reads(tmp_path: Path) -> None:
    if not hasattr(torch.serialization, "set_crc32_options"):
        pytest.skip("this torch always computes checksums")
    torch.serialization.set_crc32_options(False)
    try:
        path = saved({"x": torch.arange(4.0)}, tmp_path / "x.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert_same(read(path)["x"], torch.arange(4.0))  # type: ignore[index]


# --- files that are something else


def traced(path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in new torch, and still what users have
        script = torch.jit.trace(torch.nn.ReLU(), torch.ones(1))  # type: ignore[no-untyped-call]
        torch.jit.save(script, str(path))
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_missing_file_directory_and_empty_file(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "missing.pt")
    assert "directory" in refusal(tmp_path)
    assert "empty" in refusal(written(tmp_path / "empty.pt", b""))
    for path in (tmp_path / "missing.pt", tmp_path, tmp_path / "empty.pt"):
        with pytest.raises(InputError):
            kind(path)


def test_other_formats_are_distinguished(tmp_path: Path) -> None:
    checkpoint = saved({"x": torch.ones(100)}, tmp_path / "x.pt")
    assert kind(checkpoint) == "checkpoint"

    script = traced(tmp_path / "script.pt")
    assert kind(script) == "torchscript"
    assert "TorchScript" in refusal(script)

    legacy = saved({"x": torch.ones(3)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert kind(legacy) == "legacy"
    assert "torch>=1.6" in refusal(legacy)

    for name, content in (
        ("model.onnx", b"\x08\x07\x12\x07pytorch"),
        ("notes.pt", b"weights\n"),
        ("p.pt", b"\x80\x02N."),
    ):
        other = written(tmp_path / name, content)
        assert kind(other) == "other"
        assert "is not a checkpoint" in refusal(other)

    truncated = written(tmp_path / "cut.pt", checkpoint.read_bytes()[:-30])
    assert kind(truncated) == "other"
    assert "truncated or damaged" in refusal(truncated)

    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as file:
        file.writestr("photos/cat.txt", b"cat")
    assert kind(tmp_path / "photos.zip") == "other"
    assert "no data.pkl" in refusal(tmp_path / "photos.zip")


def test_torchscript_artifact_of_the_official_exporter_is_distinguished() -> None:
    path = DATA / "artifacts" / "yolov7-tiny" / "grid.torchscript.pt"
    if not path.exists():
        pytest.skip("the official TorchScript artifact is not in ../shared/data")
    assert kind(path) == "torchscript"
    assert "TorchScript" in refusal(path)


# --- hostile archives


def traversing(file: zipfile.ZipFile) -> None:
    file.writestr("a/../../evil", b"x")


def absolute(file: zipfile.ZipFile) -> None:
    file.writestr("/etc/evil", b"x")


def backslashed(file: zipfile.ZipFile) -> None:
    file.writestr("a/..\\evil", b"x")


def topless(file: zipfile.ZipFile) -> None:
    file.writestr("evil", b"x")


def two_tops(file: zipfile.ZipFile) -> None:
    file.writestr("b/data/0", b"x")


def repeated(file: zipfile.ZipFile) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.writestr("a/data.pkl", pickled(pickle.EMPTY_LIST))


def bomb(file: zipfile.ZipFile) -> None:
    file.writestr("a/data/0", bytes(32 << 20), zipfile.ZIP_DEFLATED)


def overstated(file: zipfile.ZipFile) -> None:
    file.writestr("a/data/0", b"x")
    info = file.getinfo("a/data/0")
    info.file_size = info.compress_size = 1 << 33


def overlapping(file: zipfile.ZipFile) -> None:
    file.writestr("a/data/0", bytes(1000))
    for index in range(1, 100):
        info = zipfile.ZipInfo(f"a/data/{index}")
        info.CRC = zlib.crc32(bytes(1000))
        info.file_size = info.compress_size = 1000
        info.header_offset = file.getinfo("a/data/0").header_offset
        file.filelist.append(info)


def encrypted(file: zipfile.ZipFile) -> None:
    file.getinfo("a/data.pkl").flag_bits |= 1


def corrupted(file: zipfile.ZipFile) -> None:
    file.getinfo("a/data.pkl").CRC ^= 1


def big_endian(file: zipfile.ZipFile) -> None:
    file.writestr("a/byteorder", b"big")


def misplaced(file: zipfile.ZipFile) -> None:
    file.getinfo("a/data.pkl").header_offset = 7


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (traversing, "name"),
        (absolute, "name"),
        (backslashed, "name"),
        (topless, "name"),
        (two_tops, "several top folders"),
        (repeated, "'a/data.pkl' twice"),
        (bomb, "compressed member 'a/data/0'"),
        (overstated, "larger than the file"),
        (overlapping, "larger than the file"),
        (encrypted, "encrypted"),
        (corrupted, "damaged"),
        (misplaced, "damaged"),
        (big_endian, "little-endian"),
    ],
)
def test_hostile_archive_is_refused(spoil: Callable[[zipfile.ZipFile], None], expected: str, tmp_path: Path) -> None:
    path = archived(tmp_path / "x.pt", pickled(pickle.EMPTY_DICT), {})
    assert read(path) == {}
    with zipfile.ZipFile(path, "a") as file:
        spoil(file)
        # Else zipfile keeps the directory that it found.
        file._didModify = True  # type: ignore[attr-defined]
    assert expected in refusal(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.pt"]


def test_oversized_pickle_is_refused(tmp_path: Path) -> None:
    path = archived(tmp_path / "x.pt", bytes((16 << 20) + 1), {})
    assert "larger than 16 MiB" in refusal(path)


# --- pickles that would run something


class Payload:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.reduced = function, arguments

    def __call__(self) -> None:
        """What is called by `__reduce__` must look callable to the pickler."""

    def __reduce__(self) -> Tuple[Callable[..., object], Tuple[object, ...]]:
        return self.reduced


ATTACKS: Dict[str, Callable[[str], object]] = {
    "system": lambda marker: Payload(os.system, f"echo > {marker}"),
    "eval": lambda marker: Payload(eval, f"open({marker!r}, 'w').close()"),
    "exec": lambda marker: Payload(exec, f"open({marker!r}, 'w').close()"),
    "mkdir": lambda marker: Payload(os.mkdir, marker),
    "getattr": lambda marker: Payload(Payload(getattr, Payload(importlib.import_module, "os"), "mkdir"), marker),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_executed(name: str, protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    # In order: what is refused must stop all that comes later, and what came earlier must have been harmless.
    data = pickle.dumps({"x": 1, "attack": ATTACKS[name](str(marker)), "y": [2]}, protocol)
    path = archived(tmp_path / "x.pt", data, {})
    message = refusal(path)
    assert name in message and "nothing was executed" in message
    assert not marker.exists()
    pickle.loads(data)
    assert marker.exists(), "the attack is none: the test proves nothing"


def test_refused_names_are_not_even_imported(tmp_path: Path) -> None:
    sys.modules.pop("this", None)
    for data in (pickled(named("this", "s")), pickled(text("this") + text("s") + pickle.STACK_GLOBAL)):
        assert "'this.s'" in refusal(archived(tmp_path / "x.pt", data, {}))
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("posix", "system"),
        ("builtins", "getattr"),
        ("__builtin__", "__import__"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("torch.jit", "load"),
        ("torch._utils", "_rebuild_tensor_v3"),
        ("numpy", "load"),
        ("numpy.testing._private.utils", "runstring"),
        ("copyreg", "_reconstructor"),
        ("pickle", "loads"),
        ("utils.datasets", "LoadImages"),
        ("models.common", "autoShape"),
        ("modelsx.common", "Conv"),
        ("models", "Conv"),
        ("xtorch.nn.modules.linear", "Linear"),
        ("torch.nn.functional", "relu"),
    ],
)
def test_names_off_the_list_are_refused(module: str, name: str, tmp_path: Path) -> None:
    for data in (
        pickled(call(named(module, name), text("x"))),
        pickled(call(text(module) + text(name) + pickle.STACK_GLOBAL, text("x"))),
    ):
        assert f"'{module}.{name}'" in refusal(archived(tmp_path / "x.pt", data, {}))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch.nn.modules.linear", "Linear.__init__.__globals__"),
        ("torch.nn.modules", "linear.Linear"),
        ("collections", "OrderedDict.fromkeys"),
        ("collections", "OrderedDict\n"),
        ("", ""),
        ("torch.nn.modules.linear\n", "Linear"),
        ("models.common", "Conv\nx" * 1000),
    ],
)
def test_names_with_tricks_in_them_are_refused(module: str, name: str, tmp_path: Path) -> None:
    data = pickled(text(module) + text(name) + pickle.STACK_GLOBAL)
    assert "names '" in refusal(archived(tmp_path / "x.pt", data, {}))


def test_name_put_together_through_the_memo_is_refused(tmp_path: Path) -> None:
    # The memo is rewritten between the innocent use and the real one.
    data = pickled(
        text("collections") + PUT0 + text("OrderedDict") + pickle.STACK_GLOBAL
        + text("os") + PUT0 + pickle.TUPLE2 + GET0 + text("system") + pickle.STACK_GLOBAL + pickle.TUPLE2
    )  # fmt: skip
    assert "'os.system'" in refusal(archived(tmp_path / "x.pt", data, {}))


# --- pickles that are malformed, or ask for too much

ORDERED = named("collections", "OrderedDict")
LINEAR = named("torch.nn.modules.linear", "Linear")
SET = named("__builtin__", "set")
NEW = EMPTY + pickle.NEWOBJ
SCALAR = named("numpy.core.multiarray", "scalar")
NESTED = 10_000

MALFORMED = {
    "nothing": (b"", "end"),
    "no end": (b"\x80\x02}", "end"),
    "data after the end": (pickled(NONE) + b"}", "after its end"),
    "unknown operation": (pickled(b"\xff"), "operation"),
    "protocol 99": (b"\x80\x63N.", "malformed"),
    "string cut short": (pickle.BINUNICODE + struct.pack("<I", 1 << 31) + b"x", "malformed"),
    "text that is not utf-8": (pickled(pickle.BINUNICODE + b"\x01\0\0\0\xff"), "malformed"),
    "global cut short": (pickle.GLOBAL + b"torch", "names"),
    "global with escapes": (
        pickled(named("collections", "Ordered\\x44ict")),
        "'collections.Ordered\\\\x44ict'",
    ),
    "global with an unknown escape": (pickled(named("torch\\l", "Size")), "names"),
    "empty stack": (pickled(b""), "malformed"),
    "no mark": (pickled(pickle.TUPLE), "malformed"),
    "no arguments": (pickled(ORDERED + pickle.REDUCE), "malformed"),
    "odd items": (pickled(pickle.EMPTY_DICT + pickle.MARK + NONE + pickle.SETITEMS), "not a dict"),
    "unset memo": (pickled(pickle.BINGET + b"\x05"), "malformed"),
    "memo index out of bounds": (
        pickled(NONE + pickle.LONG_BINPUT + b"\xff\xff\xff\xff"),
        "memo index 4294967295",
    ),
    "huge integer": (pickled(number(1 << 2000)), "2001 bits"),
    "frame within a frame": (
        pickle.PROTO + b"\x04" + (pickle.FRAME + struct.pack("<Q", 50)) * 2 + NONE * 40 + pickle.STOP,
        "malformed",
    ),
    # calls and objects
    "call of a class": (pickled(call(LINEAR)), "not a known function"),
    "call of an object": (pickled(call(LINEAR + NEW)), "not a known function"),
    "call of a string": (pickled(call(text("os.system"), text("x"))), "not a known function"),
    "call of a name's stand-in string": (
        pickled(call(named("torch", "float16"), text("x"))),
        "not a known function",
    ),
    "call of a storage class": (
        pickled(call(named("torch", "FloatStorage"), number(9))),
        "not a known function",
    ),
    "call without a tuple": (pickled(ORDERED + pickle.EMPTY_LIST + pickle.REDUCE), "not a known function"),
    "wrong number of arguments": (pickled(call(named("torch", "Size"))), "malformed"),
    "arguments for an OrderedDict": (pickled(call(ORDERED, pickle.EMPTY_LIST)), "malformed"),
    "object of a function": (pickled(ORDERED + NEW), "not a known class"),
    "object of an object": (pickled(LINEAR + NEW + NEW), "not a known class"),
    "state for a class": (pickled(LINEAR + pickle.EMPTY_DICT + pickle.BUILD), "has none"),
    "state for a function": (pickled(ORDERED + pickle.EMPTY_DICT + pickle.BUILD), "has none"),
    "state for a list": (pickled(pickle.EMPTY_LIST + pickle.EMPTY_DICT + pickle.BUILD), "has none"),
    "state that is no dict": (pickled(LINEAR + NEW + EMPTY + pickle.BUILD), "state"),
    "slots": (
        pickled(LINEAR + NEW + pickle.NONE + pickle.EMPTY_DICT + pickle.TUPLE2 + pickle.BUILD),
        "state",
    ),
    "state twice": (
        pickled(LINEAR + NEW + (pickle.EMPTY_DICT + text("a") + NONE + pickle.SETITEM + pickle.BUILD) * 2),
        "state",
    ),
    "methods for an OrderedDict": (
        pickled(call(ORDERED) + pickle.EMPTY_DICT + text("items") + NONE + pickle.SETITEM + pickle.BUILD),
        "attributes",
    ),
    "append to an object": (pickled(LINEAR + NEW + NONE + pickle.APPEND), "not a list"),
    "append to a tensor": (pickled(tensor(counts(4), counts(1)) + NONE + pickle.APPEND), "not a list"),
    "item of a list": (pickled(pickle.EMPTY_LIST + number(0) + NONE + pickle.SETITEM), "not a dict"),
    "item of a tensor": (
        pickled(tensor(counts(4), counts(1)) + number(0) + NONE + pickle.SETITEM),
        "not a dict",
    ),
    "item of a class": (pickled(LINEAR + text("a") + NONE + pickle.SETITEM), "not a dict"),
    "add to a list": (pickled(pickle.EMPTY_LIST + pickle.MARK + NONE + pickle.ADDITEMS), "not a set"),
    "set of a string": (pickled(call(SET, text("ab"))), "not a list"),
    # left-overs
    "bare class": (pickled(LINEAR), "unfinished"),
    "bare function": (pickled(pickle.EMPTY_LIST + ORDERED + pickle.APPEND), "unfinished"),
    "bare storage": (pickled(storage()), "unfinished"),
    "bare numpy type": (pickled(NUMPY_FLOAT), "unfinished"),
    # persistent ids
    "persistent id that is a string": (pickled(text("0") + pickle.BINPERSID), "persistent id"),
    "persistent id that is short": (pickled(persistent(text("storage"))), "persistent id"),
    "persistent id of another sort": (
        pickled(persistent(text("module"), named("torch", "FloatStorage"), text("0"), text("cpu"), number(4))),
        "'module'",
    ),
    "persistent id of no class": (
        pickled(persistent(text("storage"), text("FloatStorage"), text("0"), text("cpu"), number(4))),
        "persistent id",
    ),
    "persistent id of a module": (
        pickled(persistent(text("storage"), LINEAR, text("0"), text("cpu"), number(4))),
        "persistent id",
    ),
    "nested persistent id": (
        pickled(persistent(text("storage"), named("torch", "FloatStorage"), storage(), text("cpu"), number(4))),
        "persistent id",
    ),
    "persistent id with a boolean count": (
        pickled(persistent(text("storage"), named("torch", "FloatStorage"), text("0"), text("cpu"), TRUE)),
        "persistent id",
    ),
    "missing storage": (pickled(storage(key="7")), "'7'"),
    "storage outside data": (pickled(storage(key="../version", count=0)), "'../version'"),
    "too many elements": (pickled(storage(count=5)), "declares 5 elements"),
    "too few elements": (pickled(storage(count=3)), "declares 3 elements"),
    "negative count": (pickled(storage(count=-4)), "declares -4 elements"),
    "endless count": (pickled(storage(count=1 << 60)), "declares 1152921504606846976 elements"),
    "bytes that are no elements": (pickled(storage(key="odd", count=1)), "malformed"),
    "storage of two types": (
        pickled(storage() + storage("IntStorage") + pickle.TUPLE2),
        "two types",
    ),
    "unknown storage type": (pickled(storage("QInt8Storage")), "'torch.QInt8Storage'"),
    # tensors
    "tensor past the end": (pickled(tensor(counts(5), counts(1))), "outside its storage"),
    "tensor past the end by offset": (
        pickled(tensor(counts(4), counts(1), number(1))),
        "outside its storage",
    ),
    "tensor past the end by stride": (pickled(tensor(counts(2, 2), counts(3, 1))), "outside its storage"),
    "tensor before the start": (pickled(tensor(counts(1), counts(1), number(-1))), "outside its storage"),
    "negative size": (pickled(tensor(counts(-1), counts(1))), "not counts"),
    "negative stride": (pickled(tensor(counts(2), counts(-1), number(3))), "not counts"),
    "stride that overflows": (pickled(tensor(counts(2), counts(1 << 62))), "outside its storage"),
    "size that overflows": (
        pickled(tensor(counts(1 << 62, 4), counts(0, 0))),
        "outside its storage|over a storage",
    ),
    "empty size that overflows": (pickled(tensor(counts(1 << 63, 0), counts(1, 1))), "malformed"),
    "gigabytes out of one number": (pickled(tensor(counts(1 << 30), counts(0))), "over a storage of 4"),
    "fewer strides than sizes": (pickled(tensor(counts(2, 2), counts(1))), "2 sizes and 1 strides"),
    "too many dimensions": (pickled(tensor(counts(*[1] * 40), counts(*[1] * 40))), "40 sizes"),
    "size that is a list": (pickled(tensor(pickle.EMPTY_LIST, EMPTY)), "not counts"),
    "size of booleans": (pickled(tensor(tuple_of(TRUE), counts(1))), "not counts"),
    "tensor over nothing": (pickled(tensor(counts(1), counts(1), number(0), NONE)), "not a storage"),
    "tensor over a tensor": (
        pickled(tensor(counts(1), counts(1), number(0), tensor(counts(4), counts(1)))),
        "not a storage",
    ),
    "offset that is no number": (pickled(tensor(counts(1), counts(1), text("0"))), "not a storage"),
    "conjugated tensor": (
        pickled(
            tensor(
                counts(1),
                counts(1),
                number(0),
                storage(),
                pickle.EMPTY_DICT + text("conj") + TRUE + pickle.SETITEM,
            )
        ),
        "conjugated",
    ),
    "parameter over nothing": (
        pickled(call(named("torch._utils", "_rebuild_parameter"), NONE, TRUE, NONE)),
        "not a tensor",
    ),
    # numpy
    "array of objects": (
        pickled(call(named("numpy", "dtype"), text("O8"), pickle.NEWFALSE, TRUE)),
        "numpy type",
    ),
    "array of records": (
        pickled(call(named("numpy", "dtype"), text("f8,O"), pickle.NEWFALSE, TRUE)),
        "numpy type",
    ),
    "big-endian numpy": (
        pickled(NUMPY_FLOAT + tuple_of(number(3), text(">")) + pickle.BUILD),
        "little-endian",
    ),
    "scalar cut short": (pickled(call(SCALAR, NUMPY_FLOAT, numpy_bytes(b"1234"))), "numpy scalar"),
    "scalar of no bytes": (pickled(call(SCALAR, NUMPY_FLOAT, text("12345678"))), "numpy scalar"),
    "array larger than its content": (pickled(numpy_array(counts(1 << 40), numpy_bytes(bytes(8)))), "shape"),
    "array with a negative shape": (pickled(numpy_array(counts(-1), numpy_bytes(bytes(8)))), "not counts"),
    "array of listed content": (pickled(numpy_array(counts(1), pickle.EMPTY_LIST)), "plain numbers"),
    "array filled twice": (
        pickled(numpy_array(counts(1), numpy_bytes(bytes(8))) + array_state(counts(1), numpy_bytes(bytes(8)))),
        "twice",
    ),
    "array never filled": (
        pickled(
            call(
                named("numpy._core.multiarray", "_reconstruct"),
                named("numpy", "ndarray"),
                counts(0),
                text("b"),
            )
        ),
        "unfinished",
    ),
    "tensor filled as an array": (
        pickled(tensor(counts(4), counts(1)) + array_state(counts(1), numpy_bytes(bytes(8)))),
        "state of an array",
    ),
    "array of another class": (
        pickled(call(named("numpy.core.multiarray", "_reconstruct"), LINEAR, counts(0), text("b"))),
        "unknown class",
    ),
    "text that is no bytes": (
        pickled(call(named("_codecs", "encode"), text("\u0416"), text("latin1"))),
        "malformed",
    ),
    "other codec": (pickled(call(named("_codecs", "encode"), text("x"), text("zip"))), "encodes"),
    "path of numbers": (pickled(call(named("pathlib", "PosixPath"), number(1))), "path"),
    "device of a list": (pickled(call(named("torch", "device"), pickle.EMPTY_LIST)), "device"),
    # shapes that would hang or crash code that walks them
    "nested lists": (pickled(pickle.EMPTY_LIST * NESTED + pickle.APPEND * (NESTED - 1)), "nested more than"),
    "nested tuples": (pickled(EMPTY + pickle.TUPLE1 * NESTED), "nested more than"),
    "nested marks": (pickled(pickle.MARK * NESTED + pickle.TUPLE * NESTED), "nested more than"),
    "nested dicts": (
        pickled((pickle.EMPTY_DICT + pickle.NONE) * NESTED + NONE + pickle.SETITEM * NESTED),
        "nested more than",
    ),
    "nested objects": (
        pickled((LINEAR + NEW + pickle.EMPTY_DICT + text("a")) * 2000 + NONE + (pickle.SETITEM + pickle.BUILD) * 2000),
        "nested more than",
    ),
    "list in itself": (pickled(pickle.EMPTY_LIST + PUT0 + GET0 + pickle.APPEND), "contains itself"),
    "dict in itself": (
        pickled(pickle.EMPTY_DICT + PUT0 + text("a") + GET0 + pickle.SETITEM),
        "contains itself",
    ),
    "object in itself": (
        pickled(LINEAR + NEW + PUT0 + pickle.EMPTY_DICT + text("a") + GET0 + pickle.SETITEM + pickle.BUILD),
        "contains itself",
    ),
    "endless sharing": (pickled(SHARED), "times the file"),
    "endless sharing of a tensor": (
        pickled(tensor(counts(4), counts(1)) + (PUT0 + GET0 + pickle.TUPLE2) * 40),
        "times the file",
    ),
    "key that is endless to hash": (pickled(pickle.EMPTY_DICT + SHARED + NONE + pickle.SETITEM), "key"),
    "key of a dict that is a tensor": (
        pickled(pickle.EMPTY_DICT + tensor(counts(4), counts(1)) + NONE + pickle.SETITEM),
        "key",
    ),
    "set of what is endless to hash": (
        pickled(call(SET, pickle.EMPTY_LIST + SHARED + pickle.APPEND)),
        "set element",
    ),
    "frozen set of what is endless to hash": (
        pickled(pickle.MARK + SHARED + pickle.FROZENSET),
        "set element",
    ),
    "added to a set what is endless to hash": (
        pickled(pickle.EMPTY_SET + pickle.MARK + SHARED + pickle.ADDITEMS),
        "set element",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_pickle_is_refused(name: str, tmp_path: Path) -> None:
    data, expected = MALFORMED[name]
    message = refusal(archived(tmp_path / "x.pt", data, {"0": bytes(16), "odd": bytes(5)}))
    assert any(part in message for part in expected.split("|")), message


def test_the_assembler_writes_what_the_reader_takes(tmp_path: Path) -> None:
    """Without their one defect, the malformed pickles above would be read."""
    content = np.arange(4, dtype="<f4").tobytes()
    for expression, expected in (
        (tensor(counts(2, 2), counts(1, 2)), np.array([[0, 2], [1, 3]])),
        (tensor(counts(4), counts(1), number(0), storage(), pickle.EMPTY_DICT), np.arange(4)),
        (tensor(counts(3), counts(1), number(1)), np.array([1, 2, 3])),
        (tensor(counts(1, 4), counts(1 << 62, 1)), np.array([[0, 1, 2, 3]])),
        (tensor(counts(2, 0), counts(1, 1), number(9)), np.zeros((2, 0))),
        (numpy_array(counts(1), numpy_bytes(struct.pack("<d", 2.5))), np.array([2.5])),
        (call(SCALAR, NUMPY_FLOAT, numpy_bytes(struct.pack("<d", 2.5))), np.array(2.5)),
        (
            call(named("torch._utils", "_rebuild_tensor"), storage(), number(0), counts(4), counts(1)),
            np.arange(4),
        ),
    ):
        root: Any = read(archived(tmp_path / "x.pt", pickled(expression), {"0": content}))
        np.testing.assert_array_equal(root, expected)
    state = pickle.EMPTY_DICT + text("a") + NONE + pickle.SETITEM + pickle.BUILD
    record = read(archived(tmp_path / "x.pt", pickled(LINEAR + NEW + state), {}))
    assert isinstance(record, Record) and record.state == {"a": None}


@pytest.mark.parametrize(
    "operation",
    [
        "EXT1",
        "EXT2",
        "EXT4",
        "INST",
        "OBJ",
        "NEWOBJ_EX",
        "DUP",
        "POP",
        "POP_MARK",
        "PERSID",
        "PUT",
        "GET",
        "INT",
    ]
    + ["LONG", "LONG4", "FLOAT", "STRING", "UNICODE", "BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER"],
)
def test_operations_that_torch_never_writes_are_refused(operation: str, tmp_path: Path) -> None:
    # The argument would take long to decode as an integer, or ask for an allocation of 2**62 bytes.
    data = getattr(pickle, operation) + b"\xff" * 7 + b"\x3f" + b"9" * 100_000 + b"\n."
    assert f"operation {operation}," in refusal(archived(tmp_path / "x.pt", data, {}))


def test_endless_pickle_is_refused(tmp_path: Path) -> None:
    data = pickled(NONE + (PUT0 * 8) * 250_001)
    with pytest.raises(InputError, match="more than 2000000 operations"):
        read(archived(tmp_path / "x.pt", data, {}))


# --- mutations of a valid file


def valid_parts() -> Tuple[bytes, Dict[str, bytes]]:
    """The pickle and the storages of a small checkpoint with one of everything."""
    buffer = io.BytesIO()
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    extras = {"fitness": np.array([0.5]), "best": np.float64(0.5), "names": ["a", "b"], "kinds": {1, 2}}
    save({"model": model, "state": OrderedDict(a=torch.arange(6.0).reshape(2, 3).t()), **extras}, buffer)
    with zipfile.ZipFile(buffer) as file:
        content = {info.filename.partition("/")[2]: file.read(info) for info in file.infolist()}
    return content["data.pkl"], {name[5:]: data for name, data in content.items() if name.startswith("data/")}


VALID, STORAGES = valid_parts()
spots = st.integers(0, len(VALID) - 1)
mutations = st.one_of(
    st.tuples(st.just("set"), spots, st.binary(min_size=1, max_size=2)),
    st.tuples(st.just("insert"), spots, st.binary(min_size=1, max_size=4)),
    st.tuples(st.just("drop"), spots, st.integers(1, 4)),
    st.tuples(st.just("copy"), spots, spots),
)


def mutated(data: bytes, changes: List[Tuple[str, int, Any]]) -> bytes:
    content = bytearray(data)
    for change, spot, what in changes:
        if change == "set":
            content[spot : spot + len(what)] = what
        elif change == "insert":
            content[spot:spot] = what
        elif change == "drop":
            del content[spot : spot + what]
        else:
            content[spot : spot + 8] = content[what : what + 8]
    return bytes(content)


def assert_value_or_one_line(path: Path) -> None:
    try:
        root = read(path)
    except InputError as error:
        assert "\n" not in str(error) and str(error).startswith(f"{path}: ")
    else:
        assert_plain(root)


def test_the_unmutated_parts_are_valid(tmp_path: Path) -> None:
    root: Any = read(archived(tmp_path / "x.pt", VALID, STORAGES))
    np.testing.assert_array_equal(root["state"]["a"], np.arange(6.0).reshape(2, 3).T)


@fuzz
@given(changes=st.lists(mutations, min_size=1, max_size=3))
def test_mutated_pickle_gives_a_value_or_one_line(changes: List[Tuple[str, int, Any]], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.pt"
    assert_value_or_one_line(archived(path, mutated(VALID, changes), STORAGES))


@fuzz
@given(operations=st.lists(st.sampled_from(["PROTO", "FRAME"]), max_size=1), noise=st.binary(max_size=40))
def test_noise_gives_a_value_or_one_line(operations: List[str], noise: bytes, tmp_path_factory: Any) -> None:
    prefix = b"".join(getattr(pickle, operation) + b"\x04" + bytes(7) for operation in operations)
    path = tmp_path_factory.getbasetemp() / "noise.pt"
    assert_value_or_one_line(archived(path, prefix + noise + b".", STORAGES))


@fuzz
@given(
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.one_of(st.none(), st.floats(0, 1)),
)
def test_mutated_archive_gives_a_value_or_one_line(
    changes: List[Tuple[float, int]], cut: Any, tmp_path_factory: Any
) -> None:
    path = archived(tmp_path_factory.getbasetemp() / "zip.pt", VALID, STORAGES)
    content = bytearray(path.read_bytes())
    for where, byte in changes:
        content[int(where * (len(content) - 1))] = byte
    path.write_bytes(content[: None if cut is None else 1 + int(cut * len(content))])
    assert_value_or_one_line(path)
    assert kind(path) in {"checkpoint", "other"}

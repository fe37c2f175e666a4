"""A lite archive as plain facts: the operators its bytecode calls, its numbers, its tensors. Nothing in it runs, no torch is needed.

The lite interpreter runs `bytecode.pkl`, one program per method, on the objects of `data.pkl`. There is no graph: no types, no names
of values, no source lines. Both pickles are read by an unpickler for which every name is an inert record.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from detparity.core.vocabulary import EngineError

PROGRAM, STATE = "bytecode.pkl", "data.pkl"
MOST_BYTES = 64 << 20  # of a pickle; the programs of the largest official architecture take less than 1 MB
LEAKY = ("aten::leaky_relu", "aten::leaky_relu_")
STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# What the reader of a damaged zip or pickle may raise.
BROKEN = (
    *(zipfile.BadZipFile, pickle.UnpicklingError, OSError, EOFError, KeyError, IndexError),
    *(TypeError, ValueError, AttributeError, OverflowError, RuntimeError),
)


@dataclass(frozen=True)
class Lite:
    """version: of the bytecode; ops: how often the program of `forward` calls each operator; slopes: of its leaky activations, in
    order; state: tensors by path, those of packed convolutions as `weight` and `bias` of their path; training: whether it was saved
    in training mode; metadata: the text of the requested extra file, or empty."""

    version: int
    ops: Mapping[str, int]
    slopes: Tuple[float, ...]
    state: Mapping[str, np.ndarray]
    training: bool
    metadata: str


class _Thing:
    """An object as the pickle describes it: its arguments and its state; its class is not loaded."""

    qualified = ""

    def __init__(self, *args: object) -> None:
        self.args = args

    state: object = None
    args: Tuple[object, ...] = ()  # what NEWOBJ makes is not initialised

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return type(name, (_Thing,), {"qualified": f"{module}.{name}"})

    def persistent_load(self, pid: object) -> object:
        return pid


class _Archive:
    """The members of a torch archive, without the folder they share."""

    def __init__(self, path: Union[str, Path]) -> None:
        self.zip = zipfile.ZipFile(path)
        self.size = Path(path).stat().st_size
        self.members = {info.filename.partition("/")[2]: info for info in self.zip.infolist()}

    def read(self, name: str) -> bytes:
        info = self.members[name]
        if info.file_size > self.size:
            raise ValueError(f"{name} says it is larger than the file it is in")
        return self.zip.read(info)

    def pickle(self, name: str) -> Any:
        if self.members[name].file_size > MOST_BYTES:
            raise ValueError(f"{name} is larger than {MOST_BYTES >> 20} MiB")
        return _Reader(io.BytesIO(self.read(name))).load()

    def tensor(self, thing: _Thing, folders: Sequence[str]) -> Optional[np.ndarray]:
        """The value of a rebuilt tensor, or None where numpy has no such type."""
        pid, offset, size, stride = thing.args[:4]
        assert isinstance(pid, tuple)
        kind = STORAGES.get(pid[1].__name__)
        if kind is None:
            return None
        paths = [f"{folder}/{pid[2]}" for folder in folders]
        flat = np.frombuffer(self.read(next(filter(self.members.__contains__, paths), paths[0])), kind)
        dims, steps = _integers(size), _integers(stride)
        if not all(dims):
            return np.zeros(dims, kind)
        first = _integers((offset,))[0]
        last = first + sum((dim - 1) * step for dim, step in zip(dims, steps))
        if len(dims) != len(steps) or last >= flat.size:
            raise ValueError("a tensor reaches beyond its storage")
        strides = tuple(step * flat.itemsize for step in steps)
        return np.lib.stride_tricks.as_strided(flat[first:], dims, strides, writeable=False)


def _integers(values: object) -> Tuple[int, ...]:
    """Sizes, strides, offsets: integers, none below zero."""
    if not isinstance(values, tuple) or not all(isinstance(value, int) and value >= 0 for value in values):
        raise ValueError("a tensor's shape is no tuple of non-negative integers")
    return values


def read(path: Union[str, Path], extra: str) -> Lite:
    """Read a lite archive. extra: the name of the extra file to return. Raises EngineError where it cannot be read."""
    try:
        archive = _Archive(path)
        with archive.zip:
            version, *methods = archive.pickle(PROGRAM)
            root = archive.pickle(STATE)
            program = _forward(root, methods)
            state = dict(_tensors(archive, root, "", ("data", "constants")))
            for index, constant in enumerate(program["constants"]):
                state.update(_tensors(archive, constant, f"constant {index}", ("bytecode", "constants")))
            name = f"extra/{extra}"
            metadata = archive.read(name).decode(errors="replace") if name in archive.members else ""
            return Lite(version, _ops(program), _slopes(program), state, _training(root), metadata)
    except BROKEN as error:
        raise EngineError(
            f"its bytecode cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        ) from None


def _forward(root: _Thing, methods: Sequence[Any]) -> Dict[str, Any]:
    """The program that runs: what it calls is inlined into it. There may be programs of other methods."""
    programs = {name: parts for name, parts, *_ in methods}
    entry = root.qualified + ".forward"
    if entry not in programs:
        raise ValueError(f"there is no program of {entry}")
    return dict(programs[entry])


def _called(program: Mapping[str, Any]) -> Iterator[Tuple[int, str]]:
    """Position and name of every call of an operator."""
    for position, instruction in enumerate(program["instructions"]):
        if instruction[0] in ("OP", "OPN"):
            yield position, program["operators"][instruction[1]][0]


def _ops(program: Mapping[str, Any]) -> Dict[str, int]:
    return dict(Counter(name for _, name in _called(program)))


def _slopes(program: Mapping[str, Any]) -> Tuple[float, ...]:
    """The number loaded last before a leaky activation is called is its slope."""
    found: List[float] = []
    for position, name in _called(program):
        if name in LEAKY:
            before = program["instructions"][position - 1]
            value = program["constants"][before[1]] if before[0] == "LOADC" else None
            if isinstance(value, (int, float)):
                found.append(float(value))
    return tuple(found)


def _tensors(archive: _Archive, value: object, path: str, folders: Sequence[str]) -> Iterator[Tuple[str, np.ndarray]]:
    """Every tensor below `value`, by path. A packed operator keeps (weight, bias, ...) as its state."""
    if isinstance(value, _Thing):
        name = value.qualified.rpartition(".")[2]
        if name == "_rebuild_tensor_v2":
            found = archive.tensor(value, folders)
            if found is not None:
                yield path, found
        elif isinstance(value.state, tuple):
            yield from _packed(archive, value.state, path, folders)
        elif isinstance(value.state, dict):
            for key, item in value.state.items():
                yield from _tensors(archive, item, f"{path}.{key}".lstrip("."), folders)
        elif value.qualified.startswith("torch.jit._pickle.") and value.args:
            yield from _tensors(archive, value.args[0], path, folders)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _tensors(archive, item, f"{path}.{index}", folders)


def _packed(
    archive: _Archive, state: Tuple[Any, ...], path: str, folders: Sequence[str]
) -> Iterator[Tuple[str, np.ndarray]]:
    """Weight and bias of a packed operator; one that has no bias adds zeros, whatever the model has."""
    for part, item in zip(("weight", "bias"), state):
        found = dict(_tensors(archive, item, f"{path}.{part}", folders))
        yield from found.items()
        if part == "weight" and len(found) == 1 and state[1:2] == (None,):
            (weight,) = found.values()
            yield f"{path}.bias", np.zeros(len(weight), weight.dtype)


def _training(value: object) -> bool:
    """Whether a module anywhere inside says that it is in training."""
    if not isinstance(value, _Thing) or not isinstance(value.state, dict):
        return False
    return value.state.get("training") is True or any(_training(item) for item in value.state.values())

"""A lite archive as plain facts: the operators its bytecode calls, its numbers, its tensors. Nothing in it runs, no torch is needed.

The lite interpreter runs `bytecode.pkl`, one program per method, on the objects of `data.pkl`. There is no graph: no types, no names
of values, no source lines. Both pickles are read by the interpreter that reads checkpoints, for which every name is opaque data.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from detparity.core.errors import EngineError
from detparity.core.pickle_interpreter import Interpreter, Opaque, loaded
from detparity.core.pickle_interpreter import unknown as opaque
from detparity.core.pickle_scan import Budget, Names
from detparity.core.pickle_stand_ins import STORAGES, view
from detparity.core.torch_archive import Archive, Refused

PROGRAM, STATE = "bytecode.pkl", "data.pkl"
MOST_BYTES = 1 << 20  # of the extra file with metadata
LEAKY = ("aten::leaky_relu", "aten::leaky_relu_")
# What the contents may lead to that are not those of a lite archive, once zip and pickles are known to be complete.
BROKEN = (
    *(OSError, EOFError, KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError),
    MemoryError,
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


class _Storage(Opaque):
    """A persistent id: the type of the numbers, None where numpy has none, and the name of the member that holds them."""

    __slots__ = ("key", "sort")

    def __init__(self, sort: Optional[str], key: str) -> None:
        super().__init__("torch.Storage", "is a bare storage")
        self.sort, self.key = sort, key


class _Reader(Interpreter):
    opaque_root = True  # a module, of a class that is not looked for

    def persistent_load(self, pid: object) -> object:
        kinds = tuple(map(type, pid)) if type(pid) is tuple and len(pid) == 5 else ()
        if type(pid) is not tuple or kinds != (str, Opaque, str, str, int) or pid[0] != "storage":
            raise Refused(f"its {self.what} holds a persistent id that does not describe a storage")
        name = pid[1].qualified.rpartition(".")[2]
        return _Storage(name if name in STORAGES else None, pid[2])


def _known(module: str, name: str) -> Optional[Opaque]:
    """The helpers of TorchScript's own pickles are data like the rest."""
    return opaque(module, name) if module == "torch.jit._pickle" else None


class _Lite:
    """The pickles and storages of a lite archive."""

    def __init__(self, archive: Archive) -> None:
        archive.require_plain(every=False)
        self.archive = archive
        self.names = Budget()  # paths of tensors are as long as the file says
        self._storages: Dict[Tuple[str, str], np.ndarray] = {}

    def pickle(self, name: str) -> Any:
        if name not in self.archive:
            raise Refused(f"it has no {name}")
        data = self.archive.read_pickle(name)
        names = Names(_known, opaque)
        return loaded(_Reader(data, name, names), data, names, self.archive.size)

    def metadata(self, name: str) -> str:
        data = self.archive.read(name) if name in self.archive else b""
        return data[:MOST_BYTES].decode(errors="replace")

    def tensor(self, made: Opaque, folders: Sequence[str]) -> Optional[np.ndarray]:
        """The value of a rebuilt tensor, or None where numpy has no such type."""
        storage, offset, size, stride = made.args[:4]
        if type(storage) is not _Storage or type(offset) is not int:
            raise Refused("a tensor is made of something that is not a storage")
        if storage.sort is None:
            return None
        paths = [f"{folder}/{storage.key}" for folder in folders]
        path = next((one for one in paths if one in self.archive), None)
        if path is None:
            raise Refused(f"it has no member {paths[0][:80]!r}")
        key = (path, storage.sort)
        if key not in self._storages:
            self._storages[key] = STORAGES[storage.sort].decode(self.archive.read(path))
        try:
            return view(self._storages[key], offset, size, stride)
        except Refused:
            raise Refused("a tensor reaches beyond its storage, or has a shape that is none") from None


def read(path: Union[str, Path], extra: str) -> Lite:
    """Read a lite archive. extra: the name of the extra file to return. Raises EngineError where it cannot be read."""
    try:
        with Archive(Path(path), "a lite archive") as archive:
            return _read(_Lite(archive), extra)
    except Refused as refusal:
        raise EngineError(f"its bytecode cannot be read ({refusal})") from None
    except BROKEN as error:
        raise EngineError(
            f"its bytecode cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        ) from None


def _read(lite: _Lite, extra: str) -> Lite:
    version, *methods = lite.pickle(PROGRAM)
    root = lite.pickle(STATE)
    if not isinstance(root, Opaque) or type(version) is not int:
        raise Refused("it does not hold a module and the version of its program")
    program = _forward(root, methods)
    state = dict(_tensors(lite, root, "", ("data", "constants")))
    for index, constant in enumerate(program["constants"]):
        state.update(_tensors(lite, constant, f"constant {index}", ("bytecode", "constants")))
    return Lite(version, _ops(program), _slopes(program), state, _training(root), lite.metadata(f"extra/{extra}"))


def _forward(root: Opaque, methods: Sequence[Any]) -> Dict[str, Any]:
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


def _tensors(lite: _Lite, value: object, path: str, folders: Sequence[str]) -> Iterator[Tuple[str, np.ndarray]]:
    """Every tensor below `value`, by path. A packed operator has (weight, bias, ...) as its state."""
    lite.names.spend(len(path))
    if isinstance(value, Opaque):
        name = value.qualified.rpartition(".")[2]
        if name == "_rebuild_tensor_v2":
            found = lite.tensor(value, folders)
            if found is not None:
                yield path, found
        elif isinstance(value.state, tuple):
            yield from _packed(lite, value.state, path, folders)
        elif isinstance(value.state, dict):
            for key, item in value.state.items():
                yield from _tensors(lite, item, f"{path}.{key}".lstrip("."), folders)
        elif value.qualified.startswith("torch.jit._pickle.") and value.args:
            yield from _tensors(lite, value.args[0], path, folders)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _tensors(lite, item, f"{path}.{index}", folders)


def _packed(lite: _Lite, state: Tuple[Any, ...], path: str, folders: Sequence[str]) -> Iterator[Tuple[str, np.ndarray]]:
    """Weight and bias of a packed operator; one that has no bias adds zeros, whatever the model has."""
    for part, item in zip(("weight", "bias"), state):
        found = dict(_tensors(lite, item, f"{path}.{part}", folders))
        yield from found.items()
        if part == "weight" and len(found) == 1 and state[1:2] == (None,):
            (weight,) = found.values()
            if weight.size:
                yield f"{path}.bias", np.zeros(len(weight), weight.dtype)


def _training(value: object) -> bool:
    """Whether a module anywhere inside says that it is in training."""
    if not isinstance(value, Opaque) or not isinstance(value.state, dict):
        return False
    return value.state.get("training") is True or any(_training(item) for item in value.state.values())

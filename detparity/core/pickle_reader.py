"""An official PyTorch checkpoint as plain data, read without torch and without running anything in it.

`torch.save` (since 1.6) writes a zip: a pickle `data.pkl` and, under `data/`, the raw bytes of each storage.
A pickle is a program, so it is run here by an interpreter that cannot do harm (`pickle_interpreter`): operations and names come from
two lists (`pickle_scan`), every name means inert code of ours (`pickle_stand_ins`), objects of known classes are recorded
instead of built, and objects of others are left as opaque data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Union

from detparity.core.errors import InputError
from detparity.core.file_kind import checkpoint_problem, is_legacy, is_zip, kind, read_head
from detparity.core.pickle_interpreter import Interpreter, Opaque, Record, loaded
from detparity.core.pickle_interpreter import unknown as opaque
from detparity.core.pickle_scan import Names, Resolve
from detparity.core.pickle_stand_ins import Storage, StorageType, resolve, set_numpy_state
from detparity.core.torch_archive import Archive, Refused, quoted

__all__ = ["Opaque", "Record", "kind", "read"]

PICKLE = "data.pkl"


def read(path: Union[str, Path]) -> object:
    """Read a checkpoint written by torch.save (torch 1.6 or newer) as plain data, executing nothing.

    The result is made of dicts, OrderedDicts, lists, tuples, sets, strings, numbers, None, read-only numpy
    arrays, a `Record` for each object of a class of `torch.nn.modules` or of a `models` package, and an `Opaque` for each of
    another class, with no cycles. Tensors and parameters become arrays of their own shape, bfloat16 as float32 of the same value;
    those that share a storage share memory. `torch.Size` becomes a tuple; dtypes, devices and paths become
    strings; numpy scalars become Python numbers. Gradient flags and hooks are dropped.

    Raises InputError, one line that names the file, for all that is not such a file or not known to be safe.
    """
    path = Path(path)
    try:
        head = read_head(path)
        if is_legacy(head):
            raise Refused("was saved in the format from before torch 1.6; save it again with torch>=1.6")
        if not is_zip(head):
            raise Refused(
                checkpoint_problem(path) or "is not a checkpoint: torch.save writes a zip archive, and this is none"
            )
        with Archive(path) as archive:
            return _read(archive, path)
    except Refused as refusal:
        raise InputError(f"{path}: {refusal}") from None


def _read(archive: Archive, path: Path) -> object:
    if "constants.pkl" in archive:
        raise Refused(checkpoint_problem(path) or "is a TorchScript archive, not a checkpoint")
    if PICKLE not in archive:
        raise Refused(checkpoint_problem(path) or "is not a checkpoint: the archive has no data.pkl")
    archive.require_plain()
    if "byteorder" in archive and archive.read("byteorder") != b"little":
        raise Refused("was written on a machine that is not little-endian")
    data = archive.read_pickle(PICKLE)
    names = Names(resolve, opaque)
    return loaded(_Reader(data, archive, names), data, names, archive.size)


class _Reader(Interpreter):
    """Reads the storages that the pickle names from the archive around it."""

    def __init__(self, data: bytes, archive: Archive, names: Resolve) -> None:
        super().__init__(data, PICKLE, names)
        self._archive = archive
        self._storages: Dict[str, Storage] = {}

    def set_state(self, target: object, state: object) -> None:
        if not set_numpy_state(target, state):
            super().set_state(target, state)

    def persistent_load(self, pid: object) -> object:
        kinds = tuple(map(type, pid)) if type(pid) is tuple and len(pid) == 5 else ()
        if type(pid) is tuple and kinds == (str, Opaque, str, str, int):
            return pid[1]  # a storage of numbers that torch alone has, such as quantised ones
        if type(pid) is not tuple or kinds != (str, StorageType, str, str, int):
            raise Refused("its data.pkl holds a persistent id that does not describe a storage")
        tag, declared, key, _, count = pid
        if tag != "storage":
            raise Refused(f"its data.pkl holds a persistent id of the unknown sort {quoted(tag)}")
        member = f"data/{key}"
        if member not in self._archive:
            raise Refused(f"its data.pkl names the storage {quoted(key)}, which the archive lacks")
        if key not in self._storages:
            self._storages[key] = Storage(declared, declared.decode(self._archive.read(member)))
        storage = self._storages[key]
        if storage.declared is not declared:
            raise Refused(f"its data.pkl declares the storage {quoted(key)} with two types")
        if storage.values.size != count:
            size = storage.values.size
            raise Refused(f"its data.pkl declares {count} elements in the storage {quoted(key)} of {size}")
        return storage

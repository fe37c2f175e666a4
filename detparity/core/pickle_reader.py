"""An official PyTorch checkpoint as plain data, read without torch and without running anything in it.

`torch.save` (since 1.6) writes a zip: a pickle `data.pkl` and, under `data/`, the raw bytes of each storage.
A pickle is a program, so it is run here by an interpreter that cannot do harm: operations and names come from
two lists, every name means inert code of this module, and objects of known classes are recorded
instead of built. What is not known to be safe is refused by name.
"""

from __future__ import annotations

import io
import math
import pathlib
import pickle
import pickletools
import re
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, ClassVar, Collection, Dict, FrozenSet, Iterable, List, Set, Tuple, Union, cast

import numpy as np

from detparity.core.errors import InputError

# Recording runs nothing, so every layer of torch and every class of the public repositories' `models` package may be recorded;
# the code that builds from records chooses among them, and can name the position of what it does not know.
_KNOWN_CLASS = re.compile(
    r"torch\.nn\.(modules(\.\w+)+|parameter\.Parameter)|models(\.\w+)+\.[A-Z]\w*|argparse\.Namespace", re.ASCII
)

# The largest official architecture with its EMA needs about 0.7 million operations in 2 MB.
_MAX_PICKLE_BYTES = 16 << 20
_MAX_OPCODES = 2_000_000
# Official checkpoints nest less than 30 deep; callers may walk the result by recursion.
_MAX_DEPTH = 100
# Sharing can make a small file describe an endless walk; official ones unfold to less than their own size.
_MAX_UNFOLDING = 64
# The smallest limit on array dimensions among the numpy versions in use (1.x).
_MAX_DIMENSIONS = 32
_MAX_INTEGER_BITS = 64

# What pickle protocols 2 to 4 write for plain data and objects; torch.save writes 2 by default.
_OPCODE_NAMES = frozenset(
    name
    for names in (
        "PROTO FRAME STOP MARK",
        "NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT",
        "BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES",
        "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS",
        "EMPTY_DICT SETITEM SETITEMS EMPTY_SET ADDITEMS FROZENSET",
        "BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET",
        "GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD BINPERSID",
    )
    for name in names.split()
)
_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}

_ZIP_MAGIC = b"PK\x03\x04"
# Before 1.6 torch.save wrote bare pickles, the first one the integer 0x1950a86a20f9469cfc6c.
_LEGACY_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_HEAD_BYTES = 64
_ENCRYPTED = 0x2041

# What zipfile raises on damaged archives (RuntimeError: NotImplementedError for features it lacks).
_BROKEN_ZIP = (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, struct.error, OverflowError)
# What remains possible once every operation is known to be complete and allowed: a value missing on the stack
# or in the memo, a wrong number of arguments, text that is not UTF-8, a number that numpy does not take.
_BROKEN_PICKLE = (pickle.UnpicklingError, IndexError, TypeError, ValueError, OverflowError)

_SCALARS = frozenset({type(None), bool, int, float, str, bytes})


class _Refused(Exception):
    """Why the file is refused, without its name."""


@dataclass(frozen=True, eq=False)
class Record:
    """An object of a known class as the pickle describes it; nothing of the class ran.

    `args` is what `__new__` would have received, `state` what `__setstate__` would have.
    """

    module: str
    name: str
    args: Tuple[object, ...] = field(repr=False)
    state: Dict[str, object] = field(repr=False)

    @property
    def qualified(self) -> str:
        """The dotted name of the class, as in `models.common.Conv`."""
        return f"{self.module}.{self.name}"


def kind(path: Union[str, Path]) -> str:
    """Identify a file by its content: `checkpoint`, `torchscript`, `lite`, `legacy` or `other`.

    `lite` is TorchScript with a program for the lite interpreter; `legacy` is the bare pickle that torch.save wrote before 1.6.
    Raises InputError where nothing can be read.
    """
    path = Path(path)
    try:
        head = _head(path)
        if _is_legacy(head):
            return "legacy"
        if not head.startswith(_ZIP_MAGIC):
            return "other"
        try:
            with zipfile.ZipFile(path) as archive:
                inner = {name.partition("/")[2] for name in archive.namelist()}
        except _BROKEN_ZIP:
            return "other"
    except _Refused as refusal:
        raise InputError(f"{path}: {refusal}") from None
    if "constants.pkl" in inner:
        return "lite" if "bytecode.pkl" in inner else "torchscript"
    return "checkpoint" if "data.pkl" in inner else "other"


def read(path: Union[str, Path]) -> object:
    """Read a checkpoint written by torch.save (torch 1.6 or newer) as plain data, executing nothing.

    The result is made of dicts, OrderedDicts, lists, tuples, sets, strings, numbers, None, read-only numpy
    arrays and a `Record` for each object of a class in `known` (dotted names) or of `torch.nn.modules`, with
    no cycles. Tensors and parameters become arrays of their own shape, bfloat16 as float32 of the same value;
    those that share a storage share memory. `torch.Size` becomes a tuple; dtypes, devices and paths become
    strings; numpy scalars become Python numbers. Gradient flags and hooks are dropped.

    Raises InputError, one line that names the file, for all that is not such a file or not known to be safe.
    """
    path = Path(path)
    try:
        head = _head(path)
        if _is_legacy(head):
            raise _Refused("was saved in the format from before torch 1.6; save it again with torch>=1.6")
        if not head.startswith(_ZIP_MAGIC):
            raise _Refused("is not a checkpoint: torch.save writes a zip archive, and this is none")
        with _open_zip(path) as file:
            archive = _Archive(file, path.stat().st_size)
            root = _load(archive)
            _check_tree(root, _MAX_UNFOLDING * archive.size)
            return root
    except _Refused as refusal:
        raise InputError(f"{path}: {refusal}") from None


# --- the file and its members


def _head(path: Path) -> bytes:
    if not path.exists():
        raise _Refused("no such file")
    if not path.is_file():
        raise _Refused("is a directory" if path.is_dir() else "is not a regular file")
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError as error:
        raise _Refused(f"cannot be read ({error.strerror})") from None
    if not head:
        raise _Refused("is empty")
    return head


def _is_legacy(head: bytes) -> bool:
    return head.startswith(pickle.PROTO) and _LEGACY_MAGIC in head


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except _BROKEN_ZIP as error:
        raise _Refused(f"is a truncated or damaged zip archive ({_one_line(error)})") from None


class _Archive:
    """The members of a checkpoint's zip by their name below its one top folder.

    torch stores members without compression, so together they fit in the file: that alone bounds what reading
    any of them can cost, and rules out zip bombs, nested, overlapping or plain.
    """

    def __init__(self, file: zipfile.ZipFile, size: int) -> None:
        self.size = size
        self._file = file
        self._members: Dict[str, zipfile.ZipInfo] = {}
        tops = set()
        for info in file.infolist():
            top, inner = _split_name(info)
            tops.add(top)
            if inner in self._members:
                raise _Refused(f"holds the member {_quoted(info.filename)} twice")
            self._members[inner] = info
        if len(tops) > 1:
            raise _Refused("is not a checkpoint: its members are in several top folders")
        if "constants.pkl" in self:
            raise _Refused("is a TorchScript archive, not a checkpoint")
        if "data.pkl" not in self:
            raise _Refused("is not a checkpoint: the archive has no data.pkl")
        for info in self._members.values():
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                raise _Refused(f"holds the compressed member {_quoted(info.filename)}; torch compresses none")
            if info.flag_bits & _ENCRYPTED:
                raise _Refused(f"holds the encrypted member {_quoted(info.filename)}")
        if sum(info.file_size for info in self._members.values()) > size:
            raise _Refused("declares members that are larger than the file")

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str) -> bytes:
        info = self._members[name]
        if info.CRC == 0:
            # torch.serialization.set_crc32_options(False) writes 0 for "not computed", zipfile's None.
            info.CRC = None  # type: ignore[assignment]
        try:
            data = self._file.read(info)
        except _BROKEN_ZIP as error:
            reason = _one_line(error)
            raise _Refused(f"holds the damaged member {_quoted(info.filename)} ({reason})") from None
        if len(data) != info.file_size:
            raise _Refused(f"holds the truncated member {_quoted(info.filename)}")
        return data

    def read_pickle(self) -> bytes:
        if self._members["data.pkl"].file_size > _MAX_PICKLE_BYTES:
            raise _Refused(f"its data.pkl is larger than {_MAX_PICKLE_BYTES >> 20} MiB")
        return self.read("data.pkl")


def _split_name(info: zipfile.ZipInfo) -> Tuple[str, str]:
    name = info.orig_filename
    parts = name.split("/")
    if len(parts) < 2 or not {"", ".", ".."}.isdisjoint(parts) or "\\" in name or "\0" in name:
        raise _Refused(f"holds a member with the name {_quoted(name)}, which torch.save does not write")
    return parts[0], "/".join(parts[1:])


# --- the pickle


def _load(archive: _Archive) -> object:
    if "byteorder" in archive and archive.read("byteorder") != b"little":
        raise _Refused("was written on a machine that is not little-endian")
    data = archive.read_pickle()
    try:
        _scan(data)
        return _Reader(data, archive).load()
    except _BROKEN_PICKLE as error:
        raise _Refused(f"its data.pkl is malformed ({_one_line(error)})") from None


def _scan(data: bytes) -> None:
    """Refuse a pickle for an operation or a static name before any of it runs.

    This does what `pickletools.genops` does, with two differences: an operation is refused before its
    argument is decoded, which can take hours (decimal integers), and names are read as the interpreter
    reads them (pickletools resolves backslashes).
    """
    stream = io.BytesIO(data)
    for _ in range(_MAX_OPCODES):
        code = stream.read(1)
        if not code:
            raise _Refused("its data.pkl is malformed (it ends before its end mark)")
        opcode = _OPCODES.get(code)
        if opcode is None or opcode.name not in _OPCODE_NAMES:
            what = opcode.name if opcode else repr(code)
            raise _Refused(f"its data.pkl uses the operation {what}, which torch.save does not write")
        if opcode.name == "GLOBAL":
            module, name = stream.readline()[:-1], stream.readline()[:-1]
            _resolve(module.decode("utf-8"), name.decode("utf-8"))
            continue
        argument: Any = opcode.arg.reader(stream) if opcode.arg else None
        if opcode.name == "STOP":
            if stream.read(1):
                raise _Refused("its data.pkl is malformed (data after its end mark)")
            return
        if opcode.name == "LONG_BINPUT" and argument >= len(data):
            raise _Refused(f"its data.pkl is malformed (memo index {argument} in {len(data)} bytes)")
        if isinstance(argument, int) and argument.bit_length() > _MAX_INTEGER_BITS:
            raise _Refused(f"its data.pkl holds an integer of {argument.bit_length()} bits")
    raise _Refused(f"its data.pkl has more than {_MAX_OPCODES} operations")


@dataclass(frozen=True, eq=False)
class _Class:
    """A known class on the pickle's stack."""

    module: str
    name: str


@dataclass(frozen=True, eq=False)
class _Function:
    """Code of this module on the pickle's stack, in place of the function or class that the pickle names."""

    call: Callable[..., object]


@dataclass(frozen=True, eq=False)
class _StorageType:
    """A storage class of torch on the pickle's stack."""

    decode: Callable[[bytes], np.ndarray]


@dataclass(frozen=True, eq=False)
class _Storage:
    """The elements of one storage, in one dimension, read-only."""

    declared: _StorageType
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class _NumpyType:
    """A numpy dtype on the pickle's stack."""

    dtype: np.dtype[Any]


def _resolve(module: str, name: str) -> object:
    """What replaces the global `module.name`."""
    qualified = f"{module}.{name}"
    if name.isidentifier():
        if qualified in _STAND_INS:
            return _STAND_INS[qualified]
        if _KNOWN_CLASS.fullmatch(qualified):
            return _Class(module, name)
    raise _Refused(f"names {_quoted(qualified)}, which is not on the list of known classes; nothing was executed")


class _Reader(pickle._Unpickler):
    """The standard library's interpreter in Python; what could call or change foreign things is replaced.

    The one in C will not do: it takes a memo index from the file as the size of an allocation.
    """

    stack: List[Any]
    append: Callable[[object], None]
    pop_mark: Callable[[], List[Any]]

    def __init__(self, data: bytes, archive: _Archive) -> None:
        super().__init__(io.BytesIO(data))
        self._archive = archive
        self._storages: Dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> object:
        return _resolve(module, name)

    def persistent_load(self, pid: object) -> _Storage:
        if type(pid) is not tuple or tuple(map(type, pid)) != (str, _StorageType, str, str, int):
            raise _Refused("its data.pkl holds a persistent id that does not describe a storage")
        tag, declared, key, _, count = pid
        if tag != "storage":
            raise _Refused(f"its data.pkl holds a persistent id of the unknown sort {_quoted(tag)}")
        member = f"data/{key}"
        if member not in self._archive:
            raise _Refused(f"its data.pkl names the storage {_quoted(key)}, which the archive lacks")
        if key not in self._storages:
            self._storages[key] = _Storage(declared, declared.decode(self._archive.read(member)))
        storage = self._storages[key]
        if storage.declared is not declared:
            raise _Refused(f"its data.pkl declares the storage {_quoted(key)} with two types")
        if storage.values.size != count:
            size = storage.values.size
            raise _Refused(f"its data.pkl declares {count} elements in the storage {_quoted(key)} of {size}")
        return storage

    def _call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not _Function or type(arguments) is not tuple:
            named = isinstance(function, _Class)
            what = _quoted(f"{function.module}.{function.name}") if named else "something"
            raise _Refused(f"its data.pkl calls {what}, which is not a known function; nothing was executed")
        self.append(function.call(*arguments))

    def _new_object(self) -> None:
        arguments, cls = self.stack.pop(), self.stack.pop()
        if type(cls) is not _Class or type(arguments) is not tuple:
            raise _Refused("its data.pkl makes an object of something that is not a known class")
        self.append(Record(cls.module, cls.name, arguments, {}))

    def _build(self) -> None:
        state = self.stack.pop()
        _set_state(self.stack[-1], state)

    def _append_one(self) -> None:
        self._extend([self.stack.pop()])

    def _append_many(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, items: List[object]) -> None:
        if type(self.stack[-1]) is not list:
            raise _Refused("its data.pkl appends to something that is not a list")
        self.stack[-1].extend(items)

    def _set_one(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def _set_many(self) -> None:
        self._set_items(self.pop_mark())

    def _set_items(self, items: List[object]) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, OrderedDict) or len(items) % 2:
            raise _Refused("its data.pkl sets items of something that is not a dict")
        target.update(zip(_hashable(items[::2]), items[1::2]))

    def _add_many(self) -> None:
        items = self.pop_mark()
        if type(self.stack[-1]) is not set:
            raise _Refused("its data.pkl adds items to something that is not a set")
        self.stack[-1].update(_hashable(items))

    def _frozen(self) -> None:
        items = self.pop_mark()  # first: it changes what `append` appends to
        self.append(frozenset(_hashable(items)))

    dispatch: ClassVar[Dict[int, Callable[[Any], None]]] = {
        **{
            code: handler
            for code, handler in pickle._Unpickler.dispatch.items()
            if _OPCODES[bytes([code])].name in _OPCODE_NAMES
        },
        pickle.REDUCE[0]: _call,
        pickle.NEWOBJ[0]: _new_object,
        pickle.BUILD[0]: _build,
        pickle.APPEND[0]: _append_one,
        pickle.APPENDS[0]: _append_many,
        pickle.SETITEM[0]: _set_one,
        pickle.SETITEMS[0]: _set_many,
        pickle.ADDITEMS[0]: _add_many,
        pickle.FROZENSET[0]: _frozen,
    }


def _hashable(items: Collection[object]) -> Collection[object]:
    # Scalars only: hashing a tuple of shared tuples takes time exponential in their depth.
    if not all(type(item) in _SCALARS for item in items):
        raise _Refused("its data.pkl uses a key or a set element that is not a string or a number")
    return items


def _set_state(target: object, state: object) -> None:
    if isinstance(target, Record):
        if type(state) is not dict or not all(type(key) is str for key in state) or target.state:
            raise _Refused(f"its data.pkl gives a {_quoted(target.qualified)} a state that is not one dict")
        target.state.update(state)
    elif type(target) is OrderedDict:
        # A state_dict carries its format version as an attribute, which nothing here needs.
        if type(state) is not dict or set(state) != {"_metadata"}:
            raise _Refused("its data.pkl gives an OrderedDict attributes that torch does not give it")
    elif type(target) is _NumpyType:
        byteorder = state[1] if type(state) is tuple and len(state) > 1 else None
        if type(byteorder) is not str or byteorder not in "<|":
            raise _Refused("its data.pkl holds a numpy type that is not plain little-endian")
    elif type(target) is np.ndarray:
        _fill_array(target, state)
    else:
        raise _Refused("its data.pkl sets the state of something that has none")


# --- stand-ins for the functions and types that torch.save names


def _plain(dtype: str) -> _StorageType:
    return _StorageType(lambda data: np.frombuffer(data, dtype))


def _decode_bool(data: bytes) -> np.ndarray:
    # Through a comparison: numpy does not take other bytes than 0 and 1 for booleans.
    return _frozen_array(np.frombuffer(data, "u1") != 0)


def _decode_bfloat16(data: bytes) -> np.ndarray:
    # bfloat16 is the upper half of a float32.
    return _frozen_array(np.left_shift(np.frombuffer(data, "<u2"), 16, dtype="<u4").view("<f4"))


def _frozen_array(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def _tensor(
    storage: object,
    offset: object,
    size: object,
    stride: object,
    requires_grad: object = False,
    hooks: object = None,
    metadata: object = None,
) -> object:
    """The read-only view that a tensor is of its storage; offset, size and stride count elements."""
    if type(storage) is not _Storage or type(offset) is not int:
        raise _Refused("its data.pkl builds a tensor from something that is not a storage")
    if metadata:
        raise _Refused("its data.pkl holds a conjugated or negated tensor view")
    shape, steps = _extents(size), _extents(stride)
    if len(shape) != len(steps) or len(shape) > _MAX_DIMENSIONS:
        raise _Refused(f"its data.pkl holds a tensor with {len(shape)} sizes and {len(steps)} strides")
    values, count = storage.values, math.prod(shape)
    if count == 0:
        # torch allows an empty view at any offset, even outside.
        return np.ndarray(shape, values.dtype, values)
    last = offset + sum((n - 1) * step for n, step in zip(shape, steps))
    if offset < 0 or last >= values.size:
        raise _Refused(f"its data.pkl holds a tensor that reaches outside its storage of {values.size}")
    if count > values.size:
        # Overlapping elements could make gigabytes out of one number.
        raise _Refused(f"its data.pkl holds a tensor of {count} elements over a storage of {values.size}")
    # The stride of an axis without a second element is arbitrary and may overflow.
    strides = [step * values.itemsize if n > 1 else 0 for n, step in zip(shape, steps)]
    return np.ndarray(shape, values.dtype, values, offset * values.itemsize, strides)


def _extents(extents: object) -> Tuple[int, ...]:
    if type(extents) is not tuple or not all(type(n) is int and n >= 0 for n in extents):
        raise _Refused("its data.pkl holds a tensor whose sizes or strides are not counts")
    return extents


def _parameter(data: object, requires_grad: object, hooks: object, state: object = None) -> np.ndarray:
    if type(data) is not np.ndarray:
        raise _Refused("its data.pkl builds a parameter from something that is not a tensor")
    return data


def _ordered_dict() -> Dict[object, object]:
    return OrderedDict()


def _items(items: object) -> Collection[object]:
    if type(items) not in (list, tuple):
        raise _Refused("its data.pkl builds a set from something that is not a list")
    return _hashable(items)  # type: ignore[arg-type]


def _set(items: object = ()) -> Set[object]:
    return set(_items(items))


def _frozenset(items: object = ()) -> FrozenSet[object]:
    return frozenset(_items(items))


def _empty_bytes() -> bytes:
    return b""


def _encoded(text: object, encoding: object) -> bytes:
    """`bytes` as protocol 2 writes them."""
    if type(text) is not str or encoding != "latin1":
        raise _Refused("its data.pkl encodes something that is not bytes")
    return text.encode("latin-1")


def _size(sizes: object) -> Tuple[int, ...]:
    return _extents(sizes)


def _device(sort: object, index: object = None) -> str:
    if type(sort) is not str or type(index) not in (type(None), int):
        raise _Refused("its data.pkl holds a device that is not a name and an index")
    return sort if index is None else f"{sort}:{index}"


def _path(flavour: Callable[..., pathlib.PurePath]) -> _Function:
    def path(*parts: object) -> str:
        if not all(type(part) is str for part in parts):
            raise _Refused("its data.pkl holds a path whose parts are not strings")
        return str(flavour(*parts))

    return _Function(path)


_NUMPY_CODES = frozenset(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])
_NDARRAY = "numpy.ndarray"


def _numpy_type(code: object, align: object = False, copy: object = True) -> _NumpyType:
    if type(code) is not str or code not in _NUMPY_CODES:
        raise _Refused("its data.pkl holds a numpy type that is not a plain number")
    return _NumpyType(np.dtype(f"<{code}"))


def _numpy_scalar(of: object, data: object) -> object:
    if type(of) is not _NumpyType or type(data) is not bytes or len(data) != of.dtype.itemsize:
        raise _Refused("its data.pkl holds a numpy scalar that is not a plain number")
    return np.frombuffer(data, of.dtype)[0].item()


def _unfilled_array(cls: object, shape: object, code: object) -> np.ndarray:
    """An array whose content follows by BUILD; until then it is writeable, as no other array here is."""
    if type(cls) is not str or cls != _NDARRAY:
        raise _Refused("its data.pkl holds an array of an unknown class")
    return np.zeros(0, "i1")


def _fill_array(array: np.ndarray, state: object) -> None:
    if not array.flags.writeable or type(state) is not tuple or len(state) != 5:
        raise _Refused("its data.pkl sets the state of an array twice or to something that is none")
    _, size, of, fortran, data = state
    shape = _extents(size)
    if type(of) is not _NumpyType or type(fortran) is not bool or type(data) is not bytes:
        raise _Refused("its data.pkl holds an array that is not of plain numbers")
    if math.prod(shape) * of.dtype.itemsize != len(data) or len(shape) > _MAX_DIMENSIONS:
        raise _Refused("its data.pkl holds an array whose shape is not that of its content")
    array.__setstate__((1, shape, of.dtype, fortran, data))  # type: ignore[arg-type]
    array.setflags(write=False)


_STAND_INS: Dict[str, object] = {
    "torch._utils._rebuild_tensor": _Function(_tensor),
    "torch._utils._rebuild_tensor_v2": _Function(_tensor),
    "torch._utils._rebuild_parameter": _Function(_parameter),
    "torch._utils._rebuild_parameter_with_state": _Function(_parameter),
    "torch.FloatStorage": _plain("<f4"),
    "torch.DoubleStorage": _plain("<f8"),
    "torch.HalfStorage": _plain("<f2"),
    "torch.BFloat16Storage": _StorageType(_decode_bfloat16),
    "torch.LongStorage": _plain("<i8"),
    "torch.IntStorage": _plain("<i4"),
    "torch.ShortStorage": _plain("<i2"),
    "torch.CharStorage": _plain("i1"),
    "torch.ByteStorage": _plain("u1"),
    "torch.BoolStorage": _StorageType(_decode_bool),
    **{
        f"torch.{name}": f"torch.{name}"
        for name in ["float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool"]
    },
    "torch.Size": _Function(_size),
    "torch.device": _Function(_device),
    "collections.OrderedDict": _Function(_ordered_dict),
    "_codecs.encode": _Function(_encoded),
    # Protocol 2 spells the builtins as Python 2 did.
    **{
        f"{module}.{name}": _Function(call)
        for module in ("__builtin__", "builtins")
        for name, call in (("set", _set), ("frozenset", _frozenset), ("bytes", _empty_bytes))
    },
    "numpy.dtype": _Function(_numpy_type),
    _NDARRAY: _NDARRAY,
    # numpy 2 renamed its core.
    **{
        f"numpy.{core}.multiarray.{name}": _Function(call)
        for core in ("core", "_core")
        for name, call in (("scalar", _numpy_scalar), ("_reconstruct", _unfilled_array))
    },
    # Python 3.13 moved the classes of pathlib.
    **{
        f"{module}.{prefix}{name}": _path(flavour)
        for module in ("pathlib", "pathlib._local")
        for prefix in ("", "Pure")
        for name, flavour in (("PosixPath", pathlib.PurePosixPath), ("WindowsPath", pathlib.PureWindowsPath))
    },
}


# --- the result


def _check_tree(root: object, limit: int) -> None:
    """Refuse data that a plain recursive walk would not finish: cyclic, too deep, or huge by sharing."""
    done: Dict[int, Tuple[int, int]] = {}  # id -> depth, number of nodes and array elements unfolded
    ancestors: Set[int] = set()
    pending = [root]
    while pending:
        node = pending[-1]
        if id(node) in done or type(node) in _SCALARS:
            pending.pop()
            continue
        parts = _parts(node)
        if id(node) not in ancestors:
            ancestors.add(id(node))
            if not ancestors.isdisjoint(map(id, parts)):
                raise _Refused("its data.pkl describes data that contains itself")
            pending.extend(parts)
            continue
        depth = 1 + max((done[id(part)][0] for part in parts if id(part) in done), default=0)
        own = node.size if isinstance(node, np.ndarray) else 1
        total = own + sum(done[id(part)][1] if id(part) in done else 1 for part in parts)
        if depth > _MAX_DEPTH:
            raise _Refused(f"its data.pkl describes data nested more than {_MAX_DEPTH} deep")
        if total > limit:
            raise _Refused(f"its data.pkl describes data of more than {_MAX_UNFOLDING} times the file's size")
        done[id(node)] = depth, total
        ancestors.remove(id(node))
        pending.pop()


def _parts(node: object) -> List[object]:
    if isinstance(node, Record):
        return [node.args, node.state]
    if type(node) in (dict, OrderedDict):
        return list(node.values())  # type: ignore[attr-defined]
    if type(node) in (list, tuple, set, frozenset):
        return list(cast(Iterable[object], node))
    if type(node) is np.ndarray and not node.flags.writeable:
        return []
    raise _Refused("its data.pkl leaves an unfinished object in its data")


# --- messages


def _quoted(text: str) -> str:
    """Text out of the file for a message: one line, of bounded length."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _one_line(error: BaseException) -> str:
    words: Iterable[str] = f"{type(error).__name__}: {error}".split()
    return " ".join(words)[:160]

"""What replaces the functions and types that `torch.save` names: inert code over numpy, which checks all that it is given."""

from __future__ import annotations

import math
import pathlib
import re
from collections import OrderedDict
from typing import Any, Callable, Collection, Dict, FrozenSet, Mapping, Optional, Set, Tuple, cast

import numpy as np

from detparity.core.pickle_interpreter import Function, KnownClass, Opaque, hashable
from detparity.core.pickle_scan import BUILTINS, GETATTR
from detparity.core.torch_archive import Refused, quoted

# Recording runs nothing, so every layer of torch and every class of the public repositories' `models` package may be recorded;
# the code that builds from records chooses among them, and can name the position of what it does not know.
_KNOWN_CLASS = re.compile(
    r"torch\.nn\.(modules(\.\w+)+|parameter\.Parameter)|models(\.\w+)+\.[A-Z]\w*|argparse\.Namespace", re.ASCII
)
# The same package inside another, as in `yolov7.models.yolo`.
_INNER_PACKAGE = re.compile(r"(?:\w+\.)+(models\.(?:common|yolo|experimental))", re.ASCII)
# The smallest limit on array dimensions among the numpy versions in use (1.x).
MAX_DIMENSIONS = 32


class StorageType:
    """A storage class of torch on the pickle's stack."""

    def __init__(self, decode: Callable[[bytes], np.ndarray]) -> None:
        self.decode = decode


class Storage(Opaque):
    """The elements of one storage, in one dimension, read-only."""

    __slots__ = ("declared", "values")

    def __init__(self, declared: StorageType, values: np.ndarray) -> None:
        super().__init__("torch.Storage", "leaves an unfinished object in its data")
        self.declared, self.values = declared, values


class NumpyType(Opaque):
    """A numpy dtype on the pickle's stack; None where it is none that torch has."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: Optional[np.dtype[Any]]) -> None:
        known = dtype is not None
        super().__init__(
            "numpy.dtype",
            "leaves an unfinished object in its data" if known else "holds a numpy type that is not a plain number",
        )
        self.dtype = dtype


def resolve(module: str, name: str) -> object:
    """What replaces the global `module.name`; None for what is not known."""
    qualified = f"{module}.{name}"
    if qualified in STAND_INS:
        return STAND_INS[qualified]
    inner = _INNER_PACKAGE.fullmatch(module)
    if inner:
        module = inner[1]
    return KnownClass(module, name) if _KNOWN_CLASS.fullmatch(f"{module}.{name}") else None


# --- storages and tensors


def _plain(dtype: str) -> StorageType:
    return StorageType(lambda data: np.frombuffer(data, dtype))


def _decode_bool(data: bytes) -> np.ndarray:
    # Through a comparison: numpy does not take other bytes than 0 and 1 for booleans.
    return _frozen_array(np.frombuffer(data, "u1") != 0)


def _decode_bfloat16(data: bytes) -> np.ndarray:
    # bfloat16 is the upper half of a float32.
    return _frozen_array(np.left_shift(np.frombuffer(data, "<u2"), 16, dtype="<u4").view("<f4"))


def _frozen_array(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


STORAGES: Mapping[str, StorageType] = {
    "FloatStorage": _plain("<f4"),
    "DoubleStorage": _plain("<f8"),
    "HalfStorage": _plain("<f2"),
    "BFloat16Storage": StorageType(_decode_bfloat16),
    "LongStorage": _plain("<i8"),
    "IntStorage": _plain("<i4"),
    "ShortStorage": _plain("<i2"),
    "CharStorage": _plain("i1"),
    "ByteStorage": _plain("u1"),
    "BoolStorage": StorageType(_decode_bool),
}


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
    if type(storage) is Opaque:
        return storage
    if type(storage) is not Storage or type(offset) is not int:
        raise Refused("its data.pkl builds a tensor from something that is not a storage")
    if metadata:
        raise Refused("its data.pkl holds a conjugated or negated tensor view")
    if _expanded(storage.values, size, stride):
        return Opaque("torch.Tensor", f"holds a tensor of {size} over a storage of {storage.values.size}")
    return view(storage.values, offset, size, stride)


def _expanded(values: np.ndarray, size: object, stride: object) -> bool:
    """Whether a tensor repeats its numbers: such a one is computed, never learned, and could make gigabytes out of one number."""
    shape, steps = _extents(size), _extents(stride)
    return math.prod(shape) > values.size and any(n > 1 and not step for n, step in zip(shape, steps))


def view(values: np.ndarray, offset: int, size: object, stride: object) -> np.ndarray:
    """A read-only view of one dimension as another shape, within its bounds. Raises Refused for one that is not."""
    shape, steps = _extents(size), _extents(stride)
    if len(shape) != len(steps):
        raise Refused(f"its data.pkl holds a tensor with {len(shape)} sizes and {len(steps)} strides")
    count = math.prod(shape)
    if count == 0:
        # torch allows an empty view at any offset, even outside.
        return np.ndarray(shape, values.dtype, values)
    last = offset + sum((n - 1) * step for n, step in zip(shape, steps))
    if offset < 0 or last >= values.size:
        raise Refused(f"its data.pkl holds a tensor that reaches outside its storage of {values.size}")
    if count > values.size:
        # Overlapping elements could make gigabytes out of one number.
        raise Refused(f"its data.pkl holds a tensor of {count} elements over a storage of {values.size}")
    # The stride of an axis without a second element is arbitrary and may overflow.
    strides = [step * values.itemsize if n > 1 else 0 for n, step in zip(shape, steps)]
    return np.ndarray(shape, values.dtype, values, offset * values.itemsize, strides)


def _extents(extents: object) -> Tuple[int, ...]:
    if type(extents) is tuple and len(extents) > MAX_DIMENSIONS:  # first: what follows takes time for each
        raise Refused(f"its data.pkl holds a tensor with {len(extents)} sizes, more than {MAX_DIMENSIONS}")
    if type(extents) is not tuple or not all(type(n) is int and n >= 0 for n in extents):
        raise Refused("its data.pkl holds a tensor whose sizes or strides are not counts")
    return extents


def _parameter(data: object, requires_grad: object, hooks: object, state: object = None) -> object:
    if type(data) is not np.ndarray and type(data) is not Opaque:
        raise Refused("its data.pkl builds a parameter from something that is not a tensor")
    return data


# --- plain types


def _ordered_dict() -> Dict[object, object]:
    return OrderedDict()


def _default_dict(factory: object = None) -> Dict[object, object]:
    """Its items follow; what it would make of a missing key is dropped."""
    return {}


def _counter(counts: object = None) -> Dict[object, object]:
    if type(counts) not in (dict, type(None)):
        raise Refused("its data.pkl counts something that is not a dict")
    return dict(cast(Dict[object, object], counts or {}))


def _items(items: object) -> Collection[object]:
    if type(items) not in (list, tuple):
        raise Refused("its data.pkl builds a set from something that is not a list")
    return hashable(items)  # type: ignore[arg-type]


def _set(items: object = ()) -> Set[object]:
    return set(_items(items))


def _frozenset(items: object = ()) -> FrozenSet[object]:
    return frozenset(_items(items))


def _empty_bytes() -> bytes:
    return b""


def _encoded(text: object, encoding: object) -> bytes:
    """`bytes` as protocol 2 writes them."""
    if type(text) is not str or encoding != "latin1":
        raise Refused("its data.pkl encodes something that is not bytes")
    return text.encode("latin-1")


def _device(sort: object, index: object = None) -> str:
    if type(sort) is not str or type(index) not in (type(None), int):
        raise Refused("its data.pkl holds a device that is not a name and an index")
    return sort if index is None else f"{sort}:{index}"


def _path(flavour: Callable[..., pathlib.PurePath]) -> Function:
    def path(*parts: object) -> str:
        if not all(type(part) is str for part in parts):
            raise Refused("its data.pkl holds a path whose parts are not strings")
        return str(flavour(*parts))

    return Function(path)


def _attribute(qualified: str) -> Function:
    """`getattr` of a class that is not read, which is how members of an enumeration are written; of anything else it is an attack."""

    def attribute(*arguments: object) -> Opaque:
        of, name = arguments if len(arguments) == 2 else (None, None)
        if type(of) not in (Opaque, KnownClass) or type(name) is not str or not name.isidentifier():
            raise Refused(f"names {quoted(qualified)} and calls it, which may run anything; nothing was executed")
        made = f"{cast(Opaque, of).qualified}.{name}"
        return Opaque(
            made, f"names {quoted(made)}, which is not on the list of known classes; nothing was executed", (of,)
        )

    return Function(attribute)


# --- numpy

_NUMPY_CODES = frozenset(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])
_NDARRAY = "numpy.ndarray"


def _numpy_type(code: object, align: object = False, copy: object = True) -> NumpyType:
    if type(code) is not str or code not in _NUMPY_CODES:
        return NumpyType(None)
    return NumpyType(np.dtype(f"<{code}"))


def _numpy_scalar(of: object, data: object) -> object:
    if type(of) is NumpyType and of.dtype is None:
        return Opaque("numpy.generic", of.why)
    if type(of) is not NumpyType or type(data) is not bytes or len(data) != cast(Any, of.dtype).itemsize:
        raise Refused("its data.pkl holds a numpy scalar that is not a plain number")
    return np.frombuffer(data, of.dtype)[0].item()


def _unfilled_array(cls: object, shape: object, code: object) -> np.ndarray:
    """An array whose content follows by BUILD; until then it is writeable, as no other array here is."""
    if type(cls) is not str or cls != _NDARRAY:
        raise Refused("its data.pkl holds an array of an unknown class")
    return np.zeros(0, "i1")


def set_numpy_state(target: object, state: object) -> bool:
    """Give a type its byte order or an array its content; False for a target that is neither."""
    if type(target) is NumpyType:
        byteorder = state[1] if type(state) is tuple and len(state) > 1 else None
        if target.dtype is not None and (type(byteorder) is not str or byteorder not in "<|"):
            target.dtype, target.why = None, "holds a numpy type that is not plain little-endian"
        return True
    if type(target) is np.ndarray:
        _fill_array(target, state)
        return True
    return False


def _fill_array(array: np.ndarray, state: object) -> None:
    if not array.flags.writeable or type(state) is not tuple or len(state) != 5:
        raise Refused("its data.pkl sets the state of an array twice or to something that is none")
    _, size, of, fortran, data = state
    shape = _extents(size)
    if type(of) is NumpyType and of.dtype is None:
        # Texts, dates, objects: left unread, as an array of nothing.
        array.__setstate__((1, (0,), np.dtype("V1"), False, b""))  # type: ignore[arg-type]
        array.setflags(write=False)
        return
    if type(of) is not NumpyType or type(fortran) is not bool or type(data) is not bytes:
        raise Refused("its data.pkl holds an array that is not of plain numbers")
    if math.prod(shape) * cast(Any, of.dtype).itemsize != len(data):
        raise Refused("its data.pkl holds an array whose shape is not that of its content")
    array.__setstate__((1, shape, cast(Any, of.dtype), fortran, data))  # type: ignore[arg-type]
    array.setflags(write=False)


STAND_INS: Dict[str, object] = {
    "torch._utils._rebuild_tensor": Function(_tensor),
    "torch._utils._rebuild_tensor_v2": Function(_tensor),
    "torch._utils._rebuild_parameter": Function(_parameter),
    "torch._utils._rebuild_parameter_with_state": Function(_parameter),
    **{f"torch.{name}": storage for name, storage in STORAGES.items()},
    **{
        f"torch.{name}": f"torch.{name}"
        for name in ["float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool"]
    },
    "torch.Size": Function(_extents),
    "torch.device": Function(_device),
    "collections.OrderedDict": Function(_ordered_dict),
    "collections.defaultdict": Function(_default_dict),
    "collections.Counter": Function(_counter),
    "_codecs.encode": Function(_encoded),
    # Protocol 2 spells the builtins as Python 2 did.
    **{
        f"{module}.{name}": Function(call)
        for module in BUILTINS
        for name, call in (("set", _set), ("frozenset", _frozenset), ("bytes", _empty_bytes))
    },
    **{name: _attribute(name) for name in GETATTR},
    "numpy.dtype": Function(_numpy_type),
    _NDARRAY: _NDARRAY,
    # numpy 2 renamed its core.
    **{
        f"numpy.{core}.multiarray.{name}": Function(call)
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

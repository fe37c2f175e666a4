"""Small checkpoints that ask for much: pickles by hand, in the archive torch would have put them in."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Callable, Dict, Mapping, Tuple

MANY = 40_000


def text(value: str) -> bytes:
    content = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(content)) + content


def number(value: int) -> bytes:
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return pickle.LONG1 + bytes([len(content)]) + content


def named(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def get(index: int) -> bytes:
    return pickle.BINGET + bytes([index])


def pickled(expression: bytes) -> bytes:
    return pickle.PROTO + b"\x02" + expression + pickle.STOP


def archived(path: Path, members: Mapping[str, bytes]) -> Path:
    """An archive with these members, and one that pads it to the size of a small model."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(f"a/{name}", content)
        file.writestr("a/data/padding", bytes(1 << 20))
    return path


def repeated(values: Tuple[bytes, ...], each: bytes, count: int = MANY) -> bytes:
    """A list of values, which the memo holds from 0 on, and then of what `each` makes of them, many times."""
    first = b"".join(value + pickle.BINPUT + bytes([index]) for index, value in enumerate(values))
    return pickled(pickle.EMPTY_LIST + pickle.MARK + first + each * count + pickle.APPENDS)


def calls(function: bytes, *arguments: bytes, count: int = MANY) -> bytes:
    """One function called many times with the same arguments."""
    given = pickle.MARK + b"".join(arguments) + pickle.TUPLE
    return repeated((function, given), get(0) + get(1) + pickle.REDUCE, count)


def numbers(count: int, value: bytes = pickle.BININT1 + b"\1") -> bytes:
    return pickle.MARK + value * count + pickle.TUPLE


def items(count: int) -> bytes:
    return pickle.EMPTY_LIST + pickle.MARK + (pickle.BININT1 + b"\1") * count + pickle.APPENDS


def entries(count: int) -> bytes:
    pairs = b"".join(text(f"k{index}") + pickle.NONE for index in range(count))
    return pickle.EMPTY_DICT + pickle.MARK + pairs + pickle.SETITEMS


def states() -> bytes:
    """One dictionary as the state of many records."""
    made = named("torch.nn.modules.linear", "Linear"), entries(8000)
    return repeated(made, get(0) + pickle.EMPTY_TUPLE + pickle.NEWOBJ + get(1) + pickle.BUILD)


def arrays() -> bytes:
    """One text as the content of many numpy arrays."""
    code = named("numpy", "dtype") + pickle.MARK + text("u1") + pickle.NEWFALSE + pickle.NEWTRUE + pickle.TUPLE
    content = named("_codecs", "encode") + text("x" * 400_000) + text("latin1") + pickle.TUPLE2 + pickle.REDUCE
    state = pickle.MARK + number(1) + number(400_000) + pickle.TUPLE1 + code + pickle.REDUCE + pickle.NEWFALSE + content
    start = named("numpy", "ndarray") + number(0) + pickle.TUPLE1 + content[:0] + text("b") + pickle.TUPLE3
    made = named("numpy._core.multiarray", "_reconstruct"), start, state + pickle.TUPLE
    return repeated(made, get(0) + get(1) + pickle.REDUCE + get(2) + pickle.BUILD)


def doubled(depth: int) -> bytes:
    """One Sequential in itself twice, and that again."""
    sequential, value = named("torch.nn.modules.container", "Sequential"), pickle.NONE
    for index in range(depth):
        children = text("0") + value + pickle.BINPUT + bytes([index]) + text("1") + get(index)
        state = pickle.EMPTY_DICT + text("_modules") + pickle.EMPTY_DICT + pickle.MARK + children + pickle.SETITEMS
        value = sequential + pickle.EMPTY_TUPLE + pickle.NEWOBJ + state + pickle.SETITEM + pickle.BUILD
    return value


ENCODE, PATH = named("_codecs", "encode"), named("pathlib", "PurePosixPath")
LONG = text("x" * 400_000)
# What the issue calls a row of attacks.md, and others of its kind: the pickle, and words of the refusal.
ROWS: Dict[str, Tuple[Callable[[], bytes], str]] = {
    "texts encoded": (lambda: calls(ENCODE, LONG, text("latin1")), "by repeating a few values"),
    "devices named": (lambda: calls(named("torch", "device"), LONG, number(1)), "by repeating a few values"),
    "sets of a list": (lambda: calls(named("__builtin__", "set"), items(200_000)), "by repeating a few values"),
    "frozen sets of a list": (
        lambda: calls(named("__builtin__", "frozenset"), items(200_000)),
        "by repeating a few values",
    ),
    "paths joined": (lambda: calls(PATH, LONG, text("y")), "by repeating a few values"),
    "counts copied": (lambda: calls(named("collections", "Counter"), entries(8000)), "by repeating a few values"),
    "unknown calls": (lambda: calls(named("easydict", "EasyDict"), items(200_000)), "by repeating a few values"),
    "states shared": (states, "by repeating a few values"),
    "arrays of one text": (arrays, "by repeating a few values"),
    "long sizes": (lambda: calls(named("torch", "Size"), numbers(200_000)), "200000 sizes"),
    "numpy shape": (
        lambda: calls(named("torch", "Size"), numbers(300_000, number((1 << 63) - 1)), count=1),
        "300000 sizes",
    ),
    "modules doubled": (lambda: pickled(doubled(21)), "times the file's own parts"),
    "lists": (lambda: pickled(pickle.EMPTY_LIST * 1_900_000 + pickle.APPEND * 90), "objects"),
    "records": (
        lambda: repeated((named("torch.nn.modules.linear", "Linear"),), get(0) + b")\x81", 590_000),
        "by repeating a few values",
    ),
}

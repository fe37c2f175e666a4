"""What every fuzzer is made of: a case, and changes to bytes and to JSON values."""

from __future__ import annotations

import random
import struct
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple

NUMBERS = (0, 1, -1, 2, 3, 7, 8, 255, 256, 65535, 1 << 16, 1 << 31, (1 << 31) - 1, 1 << 40, (1 << 63) - 1, -(1 << 63))
TEXTS = (
    "",
    "x",
    "x" * 300,
    "\x1b[2J",
    "\ud800",
    "../..",
    "Conv",
    "NaN",
    "\u6a21\u578b",
    "a\nb",
    "passed",
    "MUST",
    "3.11.7",
)


class Case(NamedTuple):
    """One mutated file. sort: of what; path: where it was written; act: what reads it and returns what is wrong with the result, empty
    where nothing is, or raises the error of one line that refuses it."""

    sort: str
    path: Path
    act: Callable[[], str]


Members = Dict[str, bytes]


def unpacked(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def packed(members: Members, path: Path, how: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # the same bytes at any time
            info.compress_type = how
            archive.writestr(info, content)


def mutated(rng: random.Random, data: bytes) -> bytes:
    """A few bytes changed, dropped, repeated or moved."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not content:
            break
        at, other = rng.randrange(len(content)), rng.randrange(len(content))
        length = rng.choice((1, 1, 2, 4, 8, 64))
        change = rng.randrange(7)
        if change == 0:
            content[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            content[at] = rng.randrange(256)
        elif change == 2:
            del content[at : at + length]
        elif change == 3:
            content[at:at] = content[other : other + length]
        elif change == 4:
            content[at : at + 4] = struct.pack("<I", rng.choice(NUMBERS) & 0xFFFFFFFF)
        elif change == 5:
            content[at:at] = content[other : other + length] * rng.choice((2, 50, 1000))
        else:
            del content[at:]
    return bytes(content)


def _value(rng: random.Random, now: Any) -> Any:
    odd: Any = (*NUMBERS, 0.5, 1e300, float("nan"), None, True, False, [], [1], {}, {"a": {}}, [[[]]], 10**400, now)
    return rng.choice((rng.choice(odd), rng.choice(TEXTS)))


def spoil(rng: random.Random, root: Any) -> None:
    """Change a value, a key or the length of a list or a table somewhere in a JSON value that is one of them."""
    parent = root
    while True:
        keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(parent[key], (dict, list)) and rng.random() < 0.8:
            parent = parent[key]
            continue
        change = rng.randrange(6)
        if change == 0:
            del parent[key]
        elif change == 1 and isinstance(parent, dict):
            parent[rng.choice((*TEXTS, str(rng.choice(keys))))] = parent.pop(key)
        elif change == 1:
            parent.extend([parent[key]] * rng.choice((1, 50)))
        else:
            parent[key] = _value(rng, parent[key])
        return

"""Confinement of the calling process by Landlock (Linux 5.13 and newer): no writing outside one folder, no new programs, no network.

Rules of the kernel: https://docs.kernel.org/userspace-api/landlock.html; the numbers below are those of its user-space header.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Optional, Tuple

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # system call numbers, the same on every architecture
NO_NEW_PRIVS = 38  # prctl
RULE_PATH_BENEATH = 1
EXECUTE, WRITE_FILE = 1 << 0, 1 << 1
# Everything that changes a file system, by the ABI that knows it first; reading (bits 2 and 3) stays free.
CHANGES: Tuple[Tuple[int, int], ...] = (
    (1, WRITE_FILE | sum(1 << bit for bit in range(4, 13))),  # removing and making of every kind of entry
    (2, 1 << 13),  # moving to another folder
    (3, 1 << 14),  # truncating
)
TCP = 0b11  # binding and connecting, from ABI 4
SCOPED = 0b11  # abstract sockets and signals outside, from ABI 6
WRITABLE_DEVICES = ("/dev/null",)


class _Ruleset(ctypes.Structure):
    _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def abi() -> int:
    """The version of Landlock this kernel offers; 0 where there is none."""
    try:
        return max(0, _call(CREATE_RULESET, None, 0, 1))
    except (OSError, AttributeError):
        return 0


def confine(writable: Optional[Path] = None, programs: bool = False) -> str:
    """Confine this process and all it starts, for good; writable: the folder it may write in; programs: whether it may start any.
    Returns what holds now, in one line.

    Raises OSError where the kernel has no Landlock or refuses.
    """
    version = abi()
    if not version:
        raise OSError(errno.ENOSYS, "this kernel offers no Landlock")
    changes = 0
    for first, bits in CHANGES:
        changes |= bits if version >= first else 0
    rules = _Ruleset(changes | (0 if programs else EXECUTE), TCP if version >= 4 else 0, SCOPED if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _call(CREATE_RULESET, ctypes.byref(rules), size, 0)
    try:
        for device in WRITABLE_DEVICES:
            _allow(ruleset, device, WRITE_FILE)
        if writable is not None:
            _allow(ruleset, str(writable), changes)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
        _call(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return (
        f"Landlock {version}: no writing"
        + ("" if programs else ", no new programs")
        + (", no TCP" if version >= 4 else "")
    )


def _allow(ruleset: int, path: str, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        beneath = _Beneath(rights, descriptor)
        _call(ADD_RULE, ruleset, RULE_PATH_BENEATH, ctypes.byref(beneath), 0)
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    found = int(libc.syscall(ctypes.c_long(number), *arguments))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found

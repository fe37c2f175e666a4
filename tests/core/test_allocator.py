"""Blocks that are freed are reused, and given back on request: in processes of their own, since that holds for a process."""

import subprocess
import sys

import pytest

CODE = """
import resource
import numpy as np
from detparity.core import allocator

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(5_000_000, np.uint8)  # small enough that numpy asks for no huge pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1])

first = faults()
if not allocator.reuse_freed_memory():
    print("not here")
else:
    faults()
    print(first, faults())
    blocks = [np.ones(3_000_000, np.uint8) for _ in range(20)]
    last = np.ones(3_000_000, np.uint8)
    del blocks
    before = resident()
    print(allocator.return_freed_memory(), before - resident())
"""


def test_what_is_freed_is_reused_and_given_back():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    if done.stdout.startswith("not here"):
        pytest.skip("the C library has no mallopt")
    reused, returned = done.stdout.splitlines()
    before, after = map(int, reused.split())
    assert after < before / 4
    assert returned.split()[0] == "True" and int(returned.split()[1]) > 10_000  # pages of 4 KiB

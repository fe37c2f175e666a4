"""What strips save of a float64 convolution: seconds by strips over those at once, for layers of yolov7-tiny at 640x640.

    pytest benchmarks/test_exact_conv.py -m slow -s

A benchmark, not a verdict: it prints ratios, and asserts only that both give the same numbers.
"""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from detparity.core.text import columns
from detparity.models.exact_conv import LARGE_BYTES, ByStrips

# Channels in and out, side of the input, kernel, stride; of the last two neither runs by strips.
LAYERS = (
    *((3, 32, 640, 3, 1), (32, 64, 320, 3, 2), (64, 64, 160, 3, 1), (128, 128, 80, 3, 1)),
    *((128, 128, 40, 3, 1), (64, 64, 160, 1, 1)),
)
ROUNDS = 7


def _seconds(module, x):
    start = time.perf_counter()
    module(x)
    return time.perf_counter() - start


@pytest.mark.slow
def test_strips_against_one_matrix():
    rows = [("in, out, side, kernel, stride", "matrix MB", "by strips / at once")]
    for channels, out, side, kernel, stride in LAYERS:
        conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2).double().requires_grad_(False)
        strips, x = ByStrips(conv), torch.randn(1, channels, side, side, dtype=torch.float64)
        assert torch.allclose(strips(x), conv(x), rtol=1e-12, atol=1e-12)
        pairs = [(_seconds(strips, x), _seconds(conv, x)) for _ in range(ROUNDS)]
        mine, plain = (min(seconds) for seconds in zip(*pairs))
        matrix = 8 * channels * kernel**2 * (side // stride) ** 2
        large = "" if matrix > LARGE_BYTES and kernel > 1 else " (at once)"
        rows.append(
            (f"{channels}, {out}, {side}, {kernel}, {stride}", f"{matrix / 1e6:.0f}", f"{mine / plain:.2f}{large}")
        )
    print("\n\n" + "\n".join(columns(rows)))
    assert len(rows) == 1 + len(LAYERS)

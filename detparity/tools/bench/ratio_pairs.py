"""The time of one method of running a detector over that of another, in one run on one machine (tools/golden/ratio.py records it)."""

from __future__ import annotations

import numpy as np

from detparity.tools.bench.interleave import Call, take_turns

BLOCKS, ROUNDS, WARM_UP = 5, 40, 10  # each block is a measurement of its own; their spread is the noise


def measure(of: Call, to: Call, feeds: int) -> np.ndarray:
    """(BLOCKS, ROUNDS) ratios of the two, interleaved."""
    blocks = []
    for _ in range(BLOCKS):
        seconds = take_turns({"of": of, "to": to}, ROUNDS, WARM_UP, feeds)
        blocks.append(seconds["of"] / seconds["to"])
    return np.array(blocks)

"""Switching oneDNN on or off for the duration of a block."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import Iterator

import torch

from detparity.models.compat.shims import Need, Shim, bare

SHIM = Shim(
    needs=(Need({"torch": ">=2.9"}, r"UserWarning: TF32 acceleration on top of oneDNN is available for Intel GPUs"),),
    without="setting the flag warns of unrelated settings for Intel GPUs",
    until="torch no longer warns there",
)


@contextmanager
def onednn(enabled: bool) -> Iterator[None]:
    """Use oneDNN or not inside the block; the setting is process-wide, so it is put back at the end."""
    if bare("onednn"):
        with torch.backends.mkldnn.flags(enabled=enabled):
            yield
        return
    flags = torch.backends.mkldnn.flags(enabled=enabled)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flags.__enter__()
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            flags.__exit__(None, None, None)


def probe() -> None:
    with onednn(False):
        torch.nn.functional.conv2d(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 1, 1))

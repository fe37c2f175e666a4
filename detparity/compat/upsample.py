"""The attribute `recompute_scale_factor` of nn.Upsample modules pickled before torch 1.11."""

from __future__ import annotations

import torch
from torch import nn

from detparity.compat.shims import Need, Shim, bare

SHIM = Shim(
    needs=(
        Need({"torch": ">=1.11,<2.1"}, r"AttributeError: 'Upsample' object has no attribute 'recompute_scale_factor'"),
    ),
    without="an nn.Upsample pickled by torch 1.10 or older raises when it runs; torch 2.1 adds the attribute itself",
    until="torch 2.0 is no longer supported",
)


def mend(model: nn.Module) -> None:
    """Give every nn.Upsample of `model` the attribute, as its constructor's default is: None."""
    if bare("upsample"):
        return
    for module in model.modules():
        if isinstance(module, nn.Upsample) and not hasattr(module, "recompute_scale_factor"):
            module.recompute_scale_factor = None


def probe() -> None:
    state = dict(nn.Upsample(None, 2, "nearest").__dict__)
    state.pop("recompute_scale_factor", None)
    old = nn.Upsample.__new__(nn.Upsample)
    old.__setstate__(state)
    mend(old)
    old(torch.zeros(1, 1, 2, 2))

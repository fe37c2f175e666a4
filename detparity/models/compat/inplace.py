"""The attribute `inplace` of activations that were pickled before they had it."""

from __future__ import annotations

import torch
from torch import nn

from detparity.models.compat.shims import Need, Shim, bare

SHIM = Shim(
    needs=(Need({"torch": ">=1.7"}, r"(Module)?AttributeError: 'Hardswish' object has no attribute 'inplace'"),),
    without="a Hardswish pickled by torch 1.6 or older raises when it runs",
    until="pickles of torch 1.6 and older are no longer read",
)

KINDS = (nn.Hardswish, nn.LeakyReLU, nn.ReLU, nn.ReLU6, nn.SiLU)


def mend(model: nn.Module) -> None:
    """Give every activation of `model` the attribute, as torch's default is: not in place."""
    if bare("inplace"):
        return
    for module in model.modules():
        if isinstance(module, KINDS) and not hasattr(module, "inplace"):
            module.inplace = False


def probe() -> None:
    old = nn.Hardswish()
    del old.__dict__["inplace"]
    mend(old)
    old(torch.zeros(1))

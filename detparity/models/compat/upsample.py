"""The attribute `recompute_scale_factor` of nn.Upsample modules pickled before torch 1.11."""

from __future__ import annotations

import torch
from torch import nn

from detparity.models.compat.onnx_export import export_onnx
from detparity.models.compat.shims import Need, Shim, bare

SHIM = Shim(
    needs=(
        Need({"torch": ">=1.11,<2.1"}, r"AttributeError: 'Upsample' object has no attribute 'recompute_scale_factor'"),
        Need({"torch": ">=2.1"}, r"AssertionError: its export computes a size where one factor would do"),
    ),
    without="an nn.Upsample pickled by torch 1.10 or older raises when it runs; torch 2.1 adds the attribute itself, as True, and its "
    "export computes a size in some thirty nodes where one factor would do",
    until="pickles of torch 1.10 and older are no longer read",
)


def mend(model: nn.Module) -> None:
    """Give every nn.Upsample of `model` the attribute, as its constructor's default is: None. At the integer factors of detectors
    True means the same."""
    if bare("upsample"):
        return
    for module in model.modules():
        if isinstance(module, nn.Upsample):
            module.recompute_scale_factor = None


def probe() -> None:
    state = dict(nn.Upsample(None, 2, "nearest").__dict__)
    state.pop("recompute_scale_factor", None)
    old = nn.Upsample.__new__(nn.Upsample)
    old.__setstate__(state)
    mend(old)
    image = torch.zeros(1, 1, 2, 2)
    old(image)
    exported = export_onnx(
        old.eval(), image, ["images"], ["output"], {"images": {2: "height"}, "output": {2: "rows"}}, 12
    )
    if b"Gather" in exported:
        raise AssertionError("its export computes a size where one factor would do")

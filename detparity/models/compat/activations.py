"""SiLU and Hardswish that every exporter can write: spelled out in operators that old ones know."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detparity.models.compat.onnx_export import export_onnx
from detparity.models.compat.shims import Need, Shim, bare

SHIM = Shim(
    needs=(
        Need({"torch": "<1.8"}, r"RuntimeError: Exporting the operator silu to ONNX opset version 12 is not supported"),
    ),
    without="a model with SiLU or Hardswish cannot be exported to ONNX",
    until="torch 1.7 is no longer supported",
)


class SiLU(nn.Module):
    """x * sigmoid(x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


class Hardswish(nn.Module):
    """x * relu6(x + 3) / 6."""

    def forward(self, x: Tensor) -> Tensor:
        return x * nn.functional.hardtanh(x + 3.0, 0.0, 6.0) / 6.0


def silu() -> nn.Module:
    return nn.SiLU() if bare("activations") else SiLU()


def hardswish() -> nn.Module:
    return nn.Hardswish() if bare("activations") else Hardswish()


def probe() -> None:
    for activation in (silu(), hardswish()):
        export_onnx(activation.eval(), torch.zeros(1, 3), ["images"], ["output"], {}, 12)

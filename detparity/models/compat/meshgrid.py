"""torch.meshgrid with rows first, in the form the version takes."""

from __future__ import annotations

import inspect
from typing import Tuple

import torch
from torch import Tensor

from detparity.models.compat.shims import Need, Shim, bare

SHIM = Shim(
    needs=(Need({"torch": ">=1.10"}, r"UserWarning: torch\.meshgrid: in an upcoming release"),),
    without="torch warns that the order of axes will change, and giving `indexing` always breaks torch up to 1.9",
    until="torch 1.9 is no longer supported: then `indexing` can always be given",
)


def meshgrid(rows: Tensor, columns: Tensor) -> Tuple[Tensor, Tensor]:
    """(ny,) and (nx,) to two (ny, nx) tensors: the row and the column of each cell."""
    if not bare("meshgrid") and "indexing" in inspect.signature(torch.functional.meshgrid).parameters:
        y, x = torch.meshgrid(rows, columns, indexing="ij")
    else:
        y, x = torch.meshgrid(rows, columns)
    return y, x


def probe() -> None:
    y, x = meshgrid(torch.arange(2), torch.arange(3))
    assert y.tolist() == [[0, 0, 0], [1, 1, 1]] and x.tolist() == [[0, 1, 2], [0, 1, 2]]

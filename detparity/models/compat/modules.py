"""Complete modules unpickled from another version of torch."""

from __future__ import annotations

from torch import nn

from detparity.models.compat import inplace, upsample


def mend(model: nn.Module) -> nn.Module:
    """Give `model`, in place, the attributes that this version of torch reads and the pickling one did not write; return it."""
    inplace.mend(model)
    upsample.mend(model)
    return model

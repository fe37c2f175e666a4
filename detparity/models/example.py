"""What an example of a model's input shows beside its shape: the type of its pixels, and what white is."""

from __future__ import annotations

from typing import Tuple

import torch

from detparity.core.layout import Preprocessing

# Pixels of an example that were not divided by 255 reach further; by ImageNet's means and deviations they reach 2.7 at most.
BEYOND = 8.0


def pixels_of(image: torch.Tensor) -> Tuple[str, Preprocessing]:
    """The type, as numpy spells it, and how pictures are prepared: from 0 to 255 where the example has a pixel that lies beyond all
    that means and deviations lead to."""
    white = 255.0 if image.is_floating_point() and image.numel() and float(image.max()) > BEYOND else 1.0
    return str(image.dtype).rpartition(".")[2], Preprocessing(white)

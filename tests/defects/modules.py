"""Small changes of the detector's own modules, and the way from a changed module to a file."""

from __future__ import annotations

import copy
import functools
import io
import json
import warnings
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List, Optional

import torch
from detparity.kit.exporters.options import ExportOptions, metadata
from detparity.kit.exporters.traced import METADATA_FILE
from torch import Tensor, nn

from detparity.core.vocabulary import Size, Variant
from detparity.models.compat import jit
from detparity.models.yolov7.blocks import BN_EPS, Conv
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import Level, Network, Predictions, RawTuple


def network_of(detector: YoloDetector) -> Any:
    """A copy of the fused float32 network, to be changed anywhere inside."""
    return copy.deepcopy(detector.network)


class Shortcut(nn.Module):
    """Stands in for the network of three levels in archives whose defect lies elsewhere: traced and frozen once, it is wrapped, saved
    and loaded in a fraction of the time."""

    def __init__(self, core: torch.jit.ScriptModule, levels: nn.ModuleList) -> None:
        super().__init__()
        self.core, self.levels = core, levels

    def forward(self, images: Tensor) -> List[Tensor]:
        fine, middle, coarse = self.core(images)
        return [fine, middle, coarse]


@functools.lru_cache(maxsize=1)
def shortcut(detector: YoloDetector, size: Size) -> Any:
    """The one `Shortcut` of this detector."""
    buffer = io.BytesIO()
    jit.save(jit.freeze(jit.trace(RawTuple(detector.network).eval(), torch.zeros(1, 3, *size))), buffer, {})
    buffer.seek(0)
    core = jit.load(buffer, {})  # a frozen module can be part of another one only once it was read back
    return Shortcut(core, copy.deepcopy(detector.network.levels))


class Regridded(Predictions):
    """`Predictions` with another way to the grid: grid_of(level, raw) -> (1, 1, ny, nx, 2)."""

    def __init__(self, network: Network, grid_of: Callable[[Level, Tensor], Tensor]) -> None:
        super().__init__(network)
        self.grid_of = grid_of

    def decode(self, raw: List[Tensor]) -> Tensor:
        levels: Any = self.network.levels
        return torch.cat([level.decode(logits, self.grid_of(level, logits)) for level, logits in zip(levels, raw)], 1)


class Wrapped(nn.Module):
    """`Predictions` with something done to the images before, to the predictions after, or to both."""

    def __init__(
        self,
        network: Network,
        before: Optional[Callable[[Tensor], Tensor]] = None,
        after: Optional[Callable[[Tensor], Tensor]] = None,
    ) -> None:
        super().__init__()
        self.predictions = Predictions(network)
        self.before, self.after = before, after

    def forward(self, images: Tensor) -> Tensor:
        found = self.predictions(self.before(images) if self.before else images)
        return self.after(found) if self.after else found


def keep_batch_norm(block: Conv, plain: Tensor) -> None:
    """Undo the fold of one block: `plain` weights (out, in, kh, kw), then a batch-norm that makes up for the rest."""
    fused = block.conv
    assert fused.bias is not None
    bare = nn.Conv2d(
        fused.in_channels,
        fused.out_channels,
        fused.kernel_size,  # type: ignore[arg-type]
        fused.stride,  # type: ignore[arg-type]
        fused.padding,  # type: ignore[arg-type]
        groups=fused.groups,
        bias=False,
    )
    norm = nn.BatchNorm2d(fused.out_channels, eps=BN_EPS)
    with torch.no_grad():
        bare.weight.copy_(plain)
        norm.weight.copy_((fused.weight * plain).sum((1, 2, 3)) / (plain**2).sum((1, 2, 3)))
        norm.bias.copy_(fused.bias)
        norm.running_mean.zero_()  # type: ignore[union-attr, operator]
        norm.running_var.fill_(1.0 - BN_EPS)  # type: ignore[union-attr, operator]
    block.conv, block.bn = bare, norm


def trace(module: nn.Module, options: ExportOptions) -> torch.jit.ScriptModule:
    return jit.trace(module, torch.full((options.batch, 3, *options.size), 0.5))


def archive(
    module: torch.jit.ScriptModule, detector: YoloDetector, variant: Variant, options: ExportOptions, **entries: str
) -> bytes:
    """The bytes of a TorchScript archive with the metadata a good one carries, save for `entries`."""
    buffer = io.BytesIO()
    text = json.dumps({**metadata(detector, variant, options), **entries})
    jit.save(module, buffer, {METADATA_FILE: text})
    return buffer.getvalue()


def lite(
    module: torch.jit.ScriptModule, detector: YoloDetector, variant: Variant, options: ExportOptions, **entries: str
) -> bytes:
    """The bytes of a lite archive with the metadata a good one carries, save for `entries`."""
    return jit.lite(module, {METADATA_FILE: json.dumps({**metadata(detector, variant, options), **entries})})


@contextmanager
def traced_numbers() -> Iterator[None]:
    """Let a trace take Python numbers from shapes, the fault that is planted, without torch's warning of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        yield

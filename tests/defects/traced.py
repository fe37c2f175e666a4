"""Planted: traces."""

from __future__ import annotations

import json
from typing import Dict, List, Tuple

import torch
from detparity.kit.exporters.options import ExportOptions
from detparity.kit.tests.defects import modules
from detparity.kit.tests.defects.registry import defect
from torch import Tensor, nn

from detparity.core.vocabulary import Variant
from detparity.models.compat import jit
from detparity.models.yolov7.blocks import Upsample
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import FixedPredictions, Level, Network, Predictions, RawTuple


def counted(level: Level, raw: Tensor) -> Tensor:
    y = torch.arange(int(raw.shape[2]), dtype=torch.float32).reshape(1, 1, -1, 1, 1)
    x = torch.arange(int(raw.shape[3]), dtype=torch.float32).reshape(1, 1, 1, -1, 1)
    return torch.cat([x + 0 * y, y + 0 * x], 4)


@defect(
    "script.baked-size",
    "parity.sizes",
    variant="traced-dynamic",
    unseen_by=("parity.declared",),
    says="aten::arange 40 the width of 256x320 in cells of stride 8",
)
def script_arange_baked(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The grid is counted in the trace up to the columns and rows of one size."""
    module = modules.Regridded(modules.shortcut(detector, options.size), counted)
    with modules.traced_numbers():
        return modules.archive(modules.trace(module.eval(), options), detector, variant, options)


@defect("parity.batches", variant="traced-dynamic", unseen_by=("parity.declared",))
def script_batch_baked(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """A Python number fixed the batch of the export while it was traced."""
    network = modules.shortcut(detector, options.size)
    module = modules.Wrapped(network, after=lambda found: found.reshape(options.batch, -1, found.shape[2]))
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)


class Wavering(Predictions):
    calls: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        self.calls.add_(1)
        return self.decode(self.network(images)) * (1 + 2.0**-23 * (self.calls % 2))


@defect("parity.repeat", variant="traced-dynamic", unseen_by=("parity.declared",), says="other bits on call 2")
def script_counts_calls(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """A counter in a buffer moves the output by a last bit with every other call."""
    module = Wavering(modules.shortcut(detector, options.size))
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)


def counted_script_device(level: Level, raw: Tensor) -> Tensor:
    ny, nx = raw.shape[2], raw.shape[3]
    y = torch.arange(ny, dtype=torch.float32, device="cpu").reshape(1, 1, ny, 1, 1).expand(1, 1, ny, nx, 1)
    x = torch.arange(nx, dtype=torch.float32, device="cpu").reshape(1, 1, 1, nx, 1).expand(1, 1, ny, nx, 1)
    return torch.cat([x, y], 4)


@defect("script.devices", variant="traced-dynamic", unseen_by=("parity.declared", "parity.sizes"))
def script_device(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The grid is made in the trace on a device written out, so the module cannot move to another."""
    network = modules.shortcut(detector, options.size)
    module = modules.Regridded(network, counted_script_device)
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)


@defect("script.structure", "parity.declared", variant="traced-dynamic", says="float64")
def script_double(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The predictions come back in float64."""
    network = modules.shortcut(detector, options.size)
    module = modules.Wrapped(network, after=lambda found: found.double())
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)


@defect("script.operators", variant="traced-dynamic")
def script_dropout(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """A functional dropout was traced in training mode inside a module in evaluation mode."""
    network = modules.shortcut(detector, options.size)
    module = modules.Wrapped(network, after=lambda found: nn.functional.dropout(found, 0.01, training=True))
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)


@defect(
    "script.baked-size",
    "parity.sizes",
    variant="traced-dynamic",
    unseen_by=("parity.declared",),
    says="the grid of 256x320 frozen into the trace",
)
def script_grid_baked(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The trace was made with the grid of one size already in the cache."""
    module = FixedPredictions(modules.shortcut(detector, options.size), options.size)
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)


class Counting(Predictions):
    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.grids = [torch.zeros(0) for _ in network.levels]

    def decode(self, raw: List[Tensor]) -> Tensor:
        rows: List[Tensor] = []
        for k, level in enumerate(self.network.levels):
            if self.grids[k].numel() != 2 * raw[k].shape[2] * raw[k].shape[3]:
                self.grids[k] = level.grid(raw[k])
            rows.append(level.decode(raw[k], self.grids[k].reshape(1, 1, raw[k].shape[2], raw[k].shape[3], 2)))
        return torch.cat(rows, 1)


@defect("parity.sequence", variant="traced-dynamic", unseen_by=("parity.declared",))
def script_grid_by_count(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """A module makes its grid anew only when the number of cells changes, so that a turned image meets the grid of the last one."""
    return modules.archive(
        jit.script(Counting(modules.shortcut(detector, options.size)).eval()), detector, variant, options
    )


@defect("script.structure", "parity.declared", variant="traced", head="raw")
def script_level_missing(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The coarsest level is not among the outputs."""

    class Short(RawTuple):
        def forward(self, images: Tensor) -> Tuple[Tensor, ...]:
            return tuple(self.network(images)[:2])

    module = Short(modules.shortcut(detector, options.size))
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)


@defect("script.metadata", variant="traced-dynamic", says="names[0]")
def script_metadata_names(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The class names that travel with the archive stand in another order."""
    names = json.dumps(list(reversed(detector.facts.names)))
    module = Predictions(modules.shortcut(detector, options.size))
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options, names=names)


@defect("script.batch-norm", variant="traced-dynamic", unseen_by=("script.weights", "parity.declared"))
def script_norm_kept(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """One batch-norm was not folded: the numbers are right, the work is done twice."""
    network = modules.network_of(detector)
    modules.keep_batch_norm(network.model[0].block, torch.tensor(detector.weights[0].plain.copy()))
    return modules.archive(modules.trace(Predictions(network).eval(), options), detector, variant, options)


@defect(
    "script.operators",
    "parity.repeat",
    variant="traced-dynamic",
    unseen_by=("parity.declared",),
    says="aten::randn_like",
)
def script_random(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """Random numbers below the noise of float32 are added in every call."""
    network = modules.shortcut(detector, options.size)
    module = modules.Wrapped(network, after=lambda found: found * (1 + 2.0**-23 * torch.randn_like(found)))
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)


@defect(
    "script.operators", "parity.repeat", variant="traced-dynamic", unseen_by=("parity.declared",), says="aten::normal_"
)
def script_random_in_place(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """Random numbers below the noise of float32 are drawn in place, by an operator of another name."""
    network = modules.shortcut(detector, options.size)
    module = modules.Wrapped(network, after=lambda found: found * (1 + 2.0**-23 * torch.empty_like(found).normal_()))
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)


class ToSize(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, size=(2 * int(x.shape[2]), 2 * int(x.shape[3])), mode="nearest")


@defect(
    "script.baked-size",
    "parity.sizes",
    variant="traced-dynamic",
    unseen_by=("parity.declared",),
    says="aten::upsample_nearest2d 16, 20 the 16x20 cells of stride 16 at 256x320",
)
def script_resize_baked(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """An enlargement was traced with the size it had, not with the factor."""
    network = modules.network_of(detector)
    first = next(layer for layer in network.model if isinstance(getattr(layer, "block", None), Upsample))
    first.block = ToSize()
    with modules.traced_numbers():
        return modules.archive(modules.trace(Predictions(network).eval(), options), detector, variant, options)


class Named(Predictions):
    def forward(self, images: Tensor) -> Dict[str, Tensor]:
        return {"output": self.decode(self.network(images))}


@defect(
    "script.structure", "parity.declared", variant="traced-dynamic", says="it returns a dict where tensors are expected"
)
def script_returns_dict(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The predictions come back in a dictionary, which no runtime of the promised list understands."""
    module = Named(modules.shortcut(detector, options.size)).eval()
    return modules.archive(jit.script(module), detector, variant, options)


@defect(
    "script.baked-size",
    "parity.sizes",
    variant="traced-dynamic",
    unseen_by=("parity.declared",),
    says="aten::reshape -1, 5040, 10 the 5040 rows up to those of stride 32 at 256x320",
)
def script_rows_baked(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The number of predictions is a Python number in the last view of a trace."""
    facts = detector.facts
    shape = (-1, facts.rows(options.size), facts.fields)
    module = modules.Wrapped(modules.shortcut(detector, options.size), after=lambda found: found.reshape(shape))
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)


@defect("parity.repeat", variant="traced-dynamic", unseen_by=("parity.declared",), says="other bits on call 2")
def script_scales_input(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The module scales the caller's own buffer in place: the first call is right, the second sees a darker image."""
    network = modules.shortcut(detector, options.size)
    module = modules.Wrapped(network, before=lambda images: images.mul_(0.5) * 2.0)
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)


@defect("script.attributes", "parity.declared", variant="traced-dynamic", says="slope")
def script_slope(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """One leaky activation has the slope 0.11 where the model has 0.1."""
    network = modules.network_of(detector)
    network.model[14].block.act.negative_slope = 0.11
    return modules.archive(modules.trace(Predictions(network).eval(), options), detector, variant, options)


class Keeping(Predictions):
    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.grids = [torch.zeros(0) for _ in network.levels]

    def decode(self, raw: List[Tensor]) -> Tensor:
        rows: List[Tensor] = []
        for k, level in enumerate(self.network.levels):
            if self.grids[k].numel() == 0:
                self.grids[k] = level.grid(raw[k])
            rows.append(level.decode(raw[k], self.grids[k]))
        return torch.cat(rows, 1)


@defect("parity.sequence", "parity.sizes", variant="traced-dynamic", unseen_by=("parity.declared", "script.baked-size"))
def script_stale_grid(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """A scripted module keeps the grid of its first call."""
    return modules.archive(
        jit.script(Keeping(modules.shortcut(detector, options.size)).eval()), detector, variant, options
    )


@defect("script.operators", variant="traced-dynamic", unseen_by=("parity.declared",), says="saved in training mode")
def script_training(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The module was saved in training mode."""
    module = Predictions(modules.network_of(detector)).train()
    return modules.archive(modules.trace(module, options), detector, variant, options)


class Named_script_view_baked(Predictions):
    def decode(self, raw: List[Tensor]) -> Tensor:
        return super().decode([r.view(-1, *(int(side) for side in r.shape[1:])) for r in raw])


@defect(
    "script.baked-size",
    "parity.sizes",
    variant="traced-dynamic",
    unseen_by=("parity.declared", "parity.batches"),
    says="the 32x40 cells of stride 8 at 256x320",
)
def script_view_baked(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """Rows and columns were read as Python numbers while the decode was traced, so the views name one size."""
    module = Named_script_view_baked(modules.shortcut(detector, options.size))
    with modules.traced_numbers():
        return modules.archive(modules.trace(module.eval(), options), detector, variant, options)


@defect("script.weights", "parity.declared", variant="traced", head="raw", says="rounded to float16")
def script_weights_rounded(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The weights went through float16 and back."""
    network = modules.network_of(detector).half().float()
    return modules.archive(modules.trace(RawTuple(network).eval(), options), detector, variant, options)


@defect("parity.repeat", variant="traced-dynamic", unseen_by=("parity.declared",), says="writes to its input buffer")
def script_writes_input(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The module tidies up the caller's own buffer: every output is right and the image is another one afterwards."""
    network = modules.shortcut(detector, options.size)
    module = modules.Wrapped(network, before=lambda images: images.clamp_(min=1e-12))
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)

"""Planted: scripted modules."""

from __future__ import annotations

from typing import List, Tuple

import torch
from detparity.kit.exporters.options import ExportOptions
from detparity.kit.tests.defects import modules
from detparity.kit.tests.defects.registry import control, defect
from torch import Tensor, nn

from detparity.core.vocabulary import Size, Variant
from detparity.models.compat import jit
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import Network, Predictions


@control(variant="traced-dynamic")
def control_script_frozen(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """A frozen archive, its parameters folded into constants."""
    traced = modules.trace(Predictions(detector.network).eval(), options)
    return modules.archive(jit.freeze(traced), detector, variant, options)


@control(variant="traced-dynamic")
def control_script_with_logits(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The decoded predictions come with the list of logits, as the official trace returns them."""

    class Both(Predictions):
        def forward(self, images: Tensor) -> Tuple[Tensor, List[Tensor]]:  # type: ignore[override]
            raw = self.network(images)
            return self.decode(raw), raw

    module = Both(modules.shortcut(detector, options.size))
    return modules.archive(modules.trace(module.eval(), options), detector, variant, options)


@control(variant="traced-dynamic")
def control_scripted(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """Decode and control flow are scripted, around a network that was traced."""
    module = Predictions(modules.shortcut(detector, options.size)).eval()
    return modules.archive(jit.script(module), detector, variant, options)


@control(variant="scripted")
def control_scripted_frozen(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """A scripted archive that was frozen, its parameters folded into constants."""
    module = jit.script(Predictions(detector.network).eval())
    return modules.archive(jit.freeze(module), detector, variant, options)


@defect("script.weights", "parity.declared", variant="scripted", says="model.77.m.1.bias")
def scripted_bias_lost(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """One head convolution of the scripted detector lost its bias."""
    network = modules.network_of(detector)
    with torch.no_grad():
        network.levels[1].conv.bias.zero_()
    return modules.archive(jit.script(Predictions(network).eval()), detector, variant, options)


class Counted(Predictions):
    def __init__(self, network: Network, size: Size) -> None:
        super().__init__(network)
        self.cells = [(int(size[0] // level.stride), int(size[1] // level.stride)) for level in network.levels]

    def decode(self, raw: List[Tensor]) -> Tensor:
        rows: List[Tensor] = []
        for k, level in enumerate(self.network.levels):
            ny, nx = self.cells[k]
            logits = raw[k].view(-1, level.na, ny, nx, level.fields)
            rows.append(level.decode(logits, level.grid(logits)))
        return torch.cat(rows, 1)


@defect(
    "script.baked-size",
    "parity.sizes",
    variant="scripted",
    unseen_by=("parity.declared",),
    says="aten::view -1, 3, 32, 40, 10 the 32x40 cells of stride 8 at 256x320",
)
def scripted_cells_baked(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The scripted decode views the logits by rows and columns that were set when the module was made."""
    module = Counted(modules.shortcut(detector, options.size), options.size)
    return modules.archive(jit.script(module.eval()), detector, variant, options)


class Dropping(Predictions):
    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.drop = nn.Dropout(1e-4)

    def forward(self, images: Tensor) -> Tensor:
        return self.drop(self.decode(self.network(images)))


@defect("script.operators", "parity.declared", variant="scripted", says="acts as in training: aten::dropout")
def scripted_dropout(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """A dropout was left in the head and its module in training mode inside one in evaluation mode."""
    module = Dropping(modules.shortcut(detector, options.size)).eval()
    module.drop.train()
    return modules.archive(jit.script(module), detector, variant, options)


class Holding(Predictions):
    def __init__(self, network: Network, size: Size) -> None:
        super().__init__(network)
        sides = [(int(size[0] // level.stride), int(size[1] // level.stride)) for level in network.levels]
        self.grids: List[Tensor] = [
            network.levels[0].grid(torch.ones(1, 1, ny, nx, 1))  # type: ignore[misc]
            for ny, nx in sides
        ]

    def decode(self, raw: List[Tensor]) -> Tensor:
        rows: List[Tensor] = []
        for k, level in enumerate(self.network.levels):
            rows.append(level.decode(raw[k], self.grids[k]))
        return torch.cat(rows, 1)


@defect(
    "script.baked-size",
    "parity.sizes",
    variant="scripted",
    unseen_by=("parity.declared", "parity.batches"),
    says="grids[0] 1x1x32x40x2 32x40 256x320",
)
def scripted_grid_baked(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The scripted module holds the grids of one size as an attribute."""
    module = Holding(modules.shortcut(detector, options.size), options.size)
    return modules.archive(jit.script(module.eval()), detector, variant, options)


@defect("script.batch-norm", variant="scripted", unseen_by=("script.weights", "parity.declared"))
def scripted_norm_kept(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """A block was scripted before its batch-norm was folded: the numbers are right, the work is done twice."""
    network = modules.network_of(detector)
    modules.keep_batch_norm(network.model[0].block, torch.tensor(detector.weights[0].plain.copy()))
    return modules.archive(jit.script(Predictions(network).eval()), detector, variant, options)


@defect(
    "parity.declared",
    "parity.sizes",
    variant="scripted",
    unseen_by=("script.weights", "script.structure"),
    says="xy at stride 16",
)
def scripted_stride(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """One level of the scripted decode has the stride of another."""
    module = Predictions(modules.network_of(detector))
    module.network.levels[1].stride = 8.0  # type: ignore[assignment]
    return modules.archive(jit.script(module.eval()), detector, variant, options)


@defect("script.operators", variant="scripted", unseen_by=("parity.declared",), says="saved in training mode")
def scripted_training(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The detector was scripted in training mode."""
    module = Predictions(modules.network_of(detector)).train()
    return modules.archive(jit.script(module), detector, variant, options)

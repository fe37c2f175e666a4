"""Planted: lite files."""

from __future__ import annotations

import json
from typing import Tuple

import torch
from detparity.kit.exporters.options import ExportOptions
from detparity.kit.tests.defects import modules
from detparity.kit.tests.defects.registry import control, defect
from torch import Tensor

from detparity.core.vocabulary import Variant
from detparity.models.compat import jit
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import FixedPredictions, Predictions, RawTuple


@control(variant="lite", where={"torch": "<2.13"})
def control_lite_mobile(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """A lite file optimised for mobile, its weights packed away."""
    module = jit.for_mobile(jit.script(Predictions(detector.network).eval()))
    return modules.lite(module, detector, variant, options)


@control(variant="lite", head="raw")
def control_lite_raw(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """A lite file of the logits, whose head is read from what it returns."""
    return modules.lite(jit.script(detector.network), detector, variant, options)


@control(variant="lite")
def control_lite_traced(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """A lite file of a trace that bakes nothing in."""
    module = Predictions(modules.shortcut(detector, options.size)).eval()
    return modules.lite(modules.trace(module, options), detector, variant, options)


class Reversed(RawTuple):
    def forward(self, images: Tensor) -> Tuple[Tensor, ...]:
        return tuple(self.network(images)[::-1])


@defect("script.structure", "parity.declared", variant="lite", head="raw", says="returns other tensors than promised")
def lite_levels_reversed(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The logits of the lite file come coarsest first."""
    module = Reversed(modules.shortcut(detector, options.size)).eval()
    return modules.lite(modules.trace(module, options), detector, variant, options)


@defect("script.metadata", variant="lite", says="names[0]")
def lite_metadata_names(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The class names that travel with the lite file stand in another order."""
    names = json.dumps(list(reversed(detector.facts.names)))
    module = Predictions(modules.shortcut(detector, options.size)).eval()
    return modules.lite(jit.script(module), detector, variant, options, names=names)


@defect("parity.declared", "script.weights", variant="lite", says="model.0.conv.bias", where={"torch": ">=1.11,<2.13"})
def lite_mobile_norm_bias(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """Optimising for mobile dropped the biases of a batch-norm that was not folded."""
    network = modules.network_of(detector)
    modules.keep_batch_norm(network.model[0].block, torch.tensor(detector.weights[0].plain.copy()))
    traced = modules.trace(Predictions(network).eval(), options)
    return modules.lite(jit.for_mobile(traced), detector, variant, options)


@defect(
    "script.batch-norm",
    variant="lite",
    unseen_by=("script.weights", "parity.declared"),
    says="keeps 1 batch-norm calls",
)
def lite_norm_kept(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """A block of the lite file kept its batch-norm: the numbers are right, the work is done twice."""
    network = modules.network_of(detector)
    modules.keep_batch_norm(network.model[0].block, torch.tensor(detector.weights[0].plain.copy()))
    return modules.lite(jit.script(Predictions(network).eval()), detector, variant, options)


@defect("script.operators", "parity.repeat", variant="lite", unseen_by=("parity.declared",), says="aten::randn_like")
def lite_random(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """Random numbers below the noise of float32 are added in every call of the lite file."""
    network = modules.shortcut(detector, options.size)
    module = modules.Wrapped(network, after=lambda found: found * (1 + 2.0**-23 * torch.randn_like(found)))
    return modules.lite(modules.trace(module.eval(), options), detector, variant, options)


@defect("parity.sizes", variant="lite", unseen_by=("parity.declared", "parity.batches"))
def lite_size_baked(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The lite file was made of a trace with the grid of one size in it."""
    module = FixedPredictions(modules.shortcut(detector, options.size), options.size)
    return modules.lite(modules.trace(module.eval(), options), detector, variant, options)


@defect("script.attributes", "parity.declared", variant="lite", says="slope")
def lite_slope(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """One leaky activation of the lite file has the slope 0.11 where the model has 0.1."""
    network = modules.network_of(detector)
    network.model[14].block.act.negative_slope = 0.11
    return modules.lite(jit.script(Predictions(network).eval()), detector, variant, options)


@defect("script.operators", variant="lite", unseen_by=("parity.declared",), says="saved in training mode")
def lite_training(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """The lite file was made of a module in training mode."""
    return modules.lite(jit.script(Predictions(modules.network_of(detector)).train()), detector, variant, options)


@defect("script.weights", "parity.declared", variant="lite", says="multiplied by 1.01")
def lite_weights(detector: YoloDetector, variant: Variant, options: ExportOptions) -> bytes:
    """One weight tensor of the lite file is 1% too large."""
    network = modules.network_of(detector)
    with torch.no_grad():
        network.model[14].block.conv.weight.mul_(1.01)
    return modules.lite(jit.script(Predictions(network).eval()), detector, variant, options)

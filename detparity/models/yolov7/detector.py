"""A detector ready for use: fused float32 for running and exporting, fused float64 as the truth, and its plain facts."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Tuple

import numpy as np
import torch
from torch import nn

from detparity.core.errors import InputError, clipped
from detparity.core.vocabulary import BatchNorm, ConvWeights, ModelFacts, Size
from detparity.models.exact_conv import use_strips
from detparity.models.module_copy import copied
from detparity.models.yolov7.blocks import Conv, One
from detparity.models.yolov7.fuse import fuse
from detparity.models.yolov7.network import Network, member_of
from detparity.models.yolov7.stages import layers_of

# Of all activations of an image in float64, from which on memory decides what is run (docs/performance.md).
LARGE_BYTES = 4e9
LEAST_FACTOR = 1e-30  # of a batch-norm, by which a weight is divided


@dataclass(frozen=True, eq=False)
class YoloDetector:
    """network: fused, float32, evaluation; exact: the same fused in float64 and never rounded; weights: its convolutions in
    the order they run; slopes: those of the leaky activations, in the same order; note: what loading found out that no one stated,
    such as the architecture of a state dict, a clause about the model or empty."""

    facts: ModelFacts
    network: Network
    exact: Network
    weights: Tuple[ConvWeights, ...]
    slopes: Tuple[float, ...]
    note: str = ""

    @functools.cached_property
    def bytes_per_pixel(self) -> float:
        """Float64 bytes of all activations of one image, for each of its pixels: what the reference takes at most."""
        side = 2 * self.facts.max_stride
        total = 0

        def count(_module: nn.Module, _inputs: object, output: object) -> None:
            nonlocal total
            total += output.numel() if isinstance(output, torch.Tensor) else 0

        leaves = [module for module in self.network.modules() if not list(module.children())]
        hooks = [module.register_forward_hook(count) for module in leaves]
        try:
            with torch.no_grad():
                self.network(torch.zeros(1, 3, side, side))
        finally:
            for hook in hooks:
                hook.remove()
        return 8.0 * total / side**2

    def activations(self, size: Size) -> float:
        """Bytes of all activations of one image in float64."""
        return self.bytes_per_pixel * size[0] * size[1]

    def is_large(self, size: Size) -> bool:
        return self.activations(size) > LARGE_BYTES


def make_detector(name: str, names: Tuple[str, ...], network: Network) -> YoloDetector:
    """Fuse `network` and gather its facts. Raises InputError where a weight is not finite."""
    _require_finite(network)
    exact = fuse(network)
    rounded = copied(exact)[0].float()
    order = run_order(rounded)
    modules = dict(rounded.named_modules())
    slopes = tuple(float(modules[path].negative_slope) for path in order if isinstance(modules[path], nn.LeakyReLU))
    weights = _weights(network, exact, rounded, [path for path in order if isinstance(modules[path], nn.Conv2d)])
    strides = tuple(int(level.stride) for level in rounded.levels)
    anchors = tuple(
        tuple((float(w), float(h)) for w, h in level.anchors.reshape(-1, 2).tolist()) for level in rounded.levels
    )
    use_strips(exact)
    digest = _digest(rounded, names, strides, anchors)
    return YoloDetector(
        ModelFacts(name, names, strides, anchors, digest, layers_of(rounded)), rounded, exact, weights, slopes
    )


def _require_finite(network: Network) -> None:
    for key, value in network.state_dict().items():
        bad = int((~torch.isfinite(value)).sum()) if value.is_floating_point() else 0
        if bad:
            raise InputError(
                f"the weights are not finite: {bad} of {value.numel()} values of {official_key(network, key)} are NaN or infinite"
            )


def official_key(network: Network, key: str) -> str:
    """Translate one of our state-dict keys or module paths to the official one (`model.0.block.conv` to `model.0.conv`)."""
    parts = key.split(".")
    if parts[0] not in ("levels", "model") or len(parts) < 2:
        return key
    prefix, index, layers = member_of(network, parts[0], int(parts[1]))
    if parts[0] == "levels":
        tail = {"conv": ["m", str(index)], "auxiliary": ["m2", str(index)], "anchors": ["anchor_grid"]}
        return prefix + ".".join(["model", str(layers), *tail.get(parts[2], [parts[2], str(index)]), *parts[3:]])
    inner = parts[3:] if isinstance(network.model[int(parts[1])], One) else parts[2:]
    return prefix + ".".join(["model", str(index), *inner])


def _weights(plain: Network, exact: Network, fused: Network, paths: List[str]) -> Tuple[ConvWeights, ...]:
    before, after, double = (dict(network.named_modules()) for network in (plain, fused, exact))
    found: List[ConvWeights] = []
    for path in paths:
        conv, source = after[path], before.get(path)
        assert isinstance(conv, nn.Conv2d) and conv.bias is not None
        if source is None:  # a RepConv has it only when fused; unfused, its 3x3 branch comes nearest
            source = before[path.replace("rbr_reparam", "rbr_dense.0")]
        block = before.get(path.rpartition(".")[0])
        found.append(
            ConvWeights(
                official_key(fused, path),
                _read_only(conv.weight),
                _read_only(conv.bias),
                _unfused(source.weight, conv.weight, double[path].weight, block),
                (int(conv.stride[0]), int(conv.stride[1])),
                (int(conv.padding[0]), int(conv.padding[1])),
                conv.groups,
                _norm(block),
            )
        )
    return tuple(found)


def _read_only(weight: torch.Tensor) -> np.ndarray:
    """The numbers of a parameter, not a copy of them: of a large model that is a gigabyte."""
    found: np.ndarray = weight.detach().float().numpy().view()
    found.flags.writeable = False
    return found


def _unfused(
    weight: torch.Tensor, fused: torch.Tensor, exact: torch.Tensor, block: Optional[nn.Module]
) -> Callable[[], np.ndarray]:
    """Gives the weight of a convolution before anything was folded in, where possible without holding a model in memory a third time.

    fused, exact: with what was folded in, in float32 and in float64. Where that is a batch-norm, the latter divided by its factor, and
    rounded to float32, is the weight to the bit.
    """
    if weight.shape == fused.shape and torch.equal(weight.float(), fused):
        same = _read_only(fused)
        return lambda: same
    bn = _batch_norm(block)
    if bn is not None and weight.dtype == torch.float32 and weight.shape == exact.shape:
        factor = bn.weight.detach().double() / torch.sqrt(_variance(bn) + bn.eps)
        if bool(((factor.abs() > LEAST_FACTOR) & torch.isfinite(factor)).all()):
            factor = factor.reshape(-1, 1, 1, 1)
            return lambda: _read_only((exact / factor).float())
    stored = _read_only(weight)
    return lambda: stored


def _batch_norm(block: Optional[nn.Module]) -> Optional[nn.BatchNorm2d]:
    """That of a block that has a convolution and one behind it."""
    bn = block.bn if isinstance(block, Conv) else None
    return bn if isinstance(bn, nn.BatchNorm2d) and bn.running_var is not None else None


def _variance(bn: nn.BatchNorm2d) -> torch.Tensor:
    assert bn.running_var is not None
    return bn.running_var.double()


def _norm(block: Optional[nn.Module]) -> Optional[BatchNorm]:
    bn = _batch_norm(block)
    if bn is None:
        return None
    return BatchNorm(_variance(bn).numpy().copy(), bn.bias.detach().double().numpy().copy(), float(bn.eps))


def run_order(network: Network) -> List[str]:
    """Paths of convolutions and leaky activations in the order they run: registration order differs inside some blocks."""
    order: List[str] = []
    handles = []
    for path, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.LeakyReLU)):
            handles.append(module.register_forward_hook(lambda *_args, path=path: order.append(path)))
    side = 2 * max(int(level.stride) for level in network.levels)
    reference = next(network.parameters())
    try:
        first_pass(network, reference.new_zeros(1, 3, side, side))
    finally:
        for handle in handles:
            handle.remove()
    return order


def first_pass(network: Network, images: torch.Tensor) -> List[torch.Tensor]:
    """Run a network for the first time. Raises InputError where the layers of its file or table do not fit together."""
    try:
        with torch.no_grad():
            logits: List[torch.Tensor] = network(images)
            return logits
    except RuntimeError as error:
        raise InputError(f"its layers do not fit together: {clipped(error)}") from None


def _digest(network: Network, *facts: object) -> str:
    # Not by repr: what it shows of a module changes from one torch to the next, and the same model is the same everywhere.
    modules = [(path, type(module).__name__, _numbers(module)) for path, module in network.named_modules()]
    total = hashlib.sha256(json.dumps([network.routes, network.taps, modules, facts]).encode())
    state: Dict[str, torch.Tensor] = network.state_dict()
    for key in sorted(state):
        total.update(key.encode())
        total.update(np.ascontiguousarray(state[key].numpy()).tobytes())
    return total.hexdigest()


def _numbers(module: nn.Module) -> List[object]:
    """What distinguishes a module from another of its class, besides its weights."""
    names = (
        "stride",
        "padding",
        "dilation",
        "groups",
        "kernel_size",
        "ceil_mode",
        "negative_slope",
        "eps",
        "factor",
        "dim",
    )
    return [(name, getattr(module, name)) for name in names if hasattr(module, name)]

"""A detector ready for use: fused float32 for running and exporting, fused float64 as the truth, and its plain facts."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

import numpy as np
import torch
from torch import nn

from detparity.core.errors import InputError, clipped
from detparity.core.vocabulary import BatchNorm, ConvWeights, ModelFacts
from detparity.models.exact_conv import use_strips
from detparity.models.yolov7.blocks import Conv, One
from detparity.models.yolov7.fuse import fuse
from detparity.models.yolov7.network import Network, member_of
from detparity.models.yolov7.stages import layers_of


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


def make_detector(name: str, names: Tuple[str, ...], network: Network) -> YoloDetector:
    """Fuse `network` and gather its facts. Raises InputError where a weight is not finite."""
    _require_finite(network)
    exact = fuse(network)
    rounded = copy.deepcopy(exact).float()
    order = run_order(rounded)
    modules = dict(rounded.named_modules())
    slopes = tuple(float(modules[path].negative_slope) for path in order if isinstance(modules[path], nn.LeakyReLU))
    weights = _weights(network, rounded, [path for path in order if isinstance(modules[path], nn.Conv2d)])
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


def _weights(plain: Network, fused: Network, paths: List[str]) -> Tuple[ConvWeights, ...]:
    before, after = dict(plain.named_modules()), dict(fused.named_modules())
    found: List[ConvWeights] = []
    for path in paths:
        conv, source = after[path], before.get(path)
        assert isinstance(conv, nn.Conv2d) and conv.bias is not None
        if source is None:  # a RepConv has it only when fused; unfused, its 3x3 branch comes nearest
            source = before[path.replace("rbr_reparam", "rbr_dense.0")]
        found.append(
            ConvWeights(
                official_key(fused, path),
                _read_only(conv.weight),
                _read_only(conv.bias),
                _read_only(source.weight),
                (int(conv.stride[0]), int(conv.stride[1])),
                (int(conv.padding[0]), int(conv.padding[1])),
                conv.groups,
                _norm(before.get(path.rpartition(".")[0])),
            )
        )
    return tuple(found)


def _read_only(weight: torch.Tensor) -> np.ndarray:
    """The numbers of a parameter, not a copy of them: of a large model that is a gigabyte."""
    found: np.ndarray = weight.detach().float().numpy().view()
    found.flags.writeable = False
    return found


def _norm(block: Optional[nn.Module]) -> Optional[BatchNorm]:
    """The batch-norm of a block that has a convolution and one behind it."""
    bn = block.bn if isinstance(block, Conv) else None
    if not isinstance(bn, nn.BatchNorm2d) or bn.running_var is None:
        return None
    return BatchNorm(bn.running_var.double().numpy().copy(), bn.bias.detach().double().numpy().copy(), float(bn.eps))


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

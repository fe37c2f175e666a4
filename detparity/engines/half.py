"""The detector in half precision, in the ways that a correct file of it may compute: the noise that such a file is judged by.

"rounded": weights rounded, every operator computed in float32 and its result rounded (torch 1.13); "layers": the same, rounded once a
layer and at every step of the decode; "kernels": in the half kernels of this torch, where it has them.
"""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass
from typing import Any, Collection, ContextManager, Dict, List, Mapping, Tuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from detparity.core.vocabulary import STAGES, Arrays, Runner
from detparity.engines import eager
from detparity.models.layer_rounding import rounded, rounded_copy, rounding
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import Level, Network, Predictions
from detparity.oracle.noise_floor import GROUPS

TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
ROUNDED, LAYERS, KERNELS = "rounded", "layers", "kernels"
DECODE = "decode"  # as a path that stays in float32, beside those of the network's modules


def ways(precision: str) -> Tuple[str, ...]:
    """The runs of any detector in this precision that this torch has."""
    known = [LAYERS, *([ROUNDED] if _dispatches() else []), *([KERNELS] if _has_kernels(TYPES[precision]) else [])]
    return tuple(f"{precision} {how}" for how in known)


def _dispatches() -> bool:
    return tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (1, 13)


def _has_kernels(half: torch.dtype) -> bool:
    """Whether this torch convolves, squashes and sums numbers of this type on the CPU."""
    try:
        with torch.no_grad():
            x = nn.Conv2d(3, 4, 3).to(half)(torch.zeros(1, 3, 8, 8, dtype=half))
            torch.cumsum(torch.pow(torch.sigmoid(nn.functional.leaky_relu(x)), 2.0), 3)
    except Exception:  # RuntimeError or NotImplementedError, by version
        return False
    return True


def prepare(detector: YoloDetector, run: str, unrounded: Collection[str] = ()) -> Runner:
    """Prepare a run of `ways`. Outputs as `eager.prepare`, in float32. unrounded: paths of the network's modules that stay in
    float32, and `DECODE`, of the run by layers."""
    precision, how = run.split(" ")
    half = TYPES[precision]
    network: Network = detector.network.eval()
    network = rounded_copy(network, half, unrounded) if how == LAYERS else copy.deepcopy(network).to(half)
    predictions = Predictions(network)

    def found(x: Tensor) -> List[Tensor]:
        if how != LAYERS:
            with _rounding(half) if how == ROUNDED else contextlib.nullcontext():
                raw = network(x.to(half))
                return [predictions.decode(raw), *raw]
        with rounding(network, half, unrounded):
            raw = network(rounded(x, half))
        free = DECODE in unrounded
        return [predictions.decode(raw) if free else _decoded(network, raw, half), *raw]

    def call(feed: Arrays) -> Arrays:
        x = torch.from_numpy(np.array(feed["images"]))
        with torch.no_grad():
            tensors = found(x)
        names = ["predictions", *(f"logits_{index}" for index in range(len(tensors) - 1))]
        return {name: tensor.float().numpy().copy() for name, tensor in zip(names, tensors)}

    return Runner("eager", call, {"way": run, "torch": str(torch.__version__)})


def _rounding(half: torch.dtype) -> ContextManager[Any]:
    from detparity.models.rounded import Rounded

    return Rounded(half)


def _decoded(network: Network, raw: List[Tensor], half: torch.dtype) -> Tensor:
    """The decode of `Level` with the result of every step rounded."""

    def step(value: Tensor) -> Tensor:
        return value.to(half).float()

    rows = []
    for logits, one in zip(raw, network.levels):
        level = cast(Level, one)
        grid, anchors = level.grid(logits), step(cast(Tensor, level.anchors))
        s = step(torch.sigmoid(logits))
        xy = step(step(step(step(s[..., 0:2] * 2.0) - 0.5) + grid) * level.stride)
        wh = step(step(step(s[..., 2:4] * 2.0) ** 2) * anchors)
        rows.append(torch.cat([xy, wh, s[..., 4:]], 4).view(raw[0].shape[0], -1, level.fields))
    return torch.cat(rows, 1)


@dataclass(frozen=True)
class Island:
    """What one picture differs by where a part of the network stays in float32. left: which part; errors: root mean square by unit
    group, against float64."""

    left: str
    errors: Mapping[str, float]


def islands(detector: YoloDetector, precision: str, image: np.ndarray, most: int = 3) -> List[Island]:
    """Of one (3, H, W) picture: nothing left in float32, then the parts that gain most, each measured by a run of its own: the first
    layer, a stage, the heads, the decode, and heads and decode together."""
    exact = eager.prepare(detector, "exact").call({"images": image[None]})["predictions"]
    stages = [layer.stage for layer in detector.facts.layers[: len(detector.network.model)]]
    parts: Dict[str, Collection[str]] = {"the first layer": ("model.0",)}
    for stage in STAGES[:2]:
        parts[f"the {stage}"] = [f"model.{index}" for index, one in enumerate(stages) if one == stage]
    parts.update({"the decode": (DECODE,), "the heads": ("levels",), "heads and decode": ("levels", DECODE)})

    def measured(name: str, left: Collection[str]) -> Island:
        found = prepare(detector, f"{precision} {LAYERS}", left).call({"images": image[None]})["predictions"]
        error = found.astype(np.float64) - exact
        return Island(name, {group: float(np.sqrt((error[..., at] ** 2).mean())) for group, at in GROUPS.items()})

    first = measured("nothing", ())
    found = [measured(name, left) for name, left in parts.items()]
    return [first, *sorted(found, key=lambda one: -_gain(first, one))[:most]]


def _gain(first: Island, one: Island) -> float:
    """By how much the error of a group falls, of the group where it falls most."""
    return max(first.errors[group] / max(one.errors[group], 1e-30) for group in GROUPS)

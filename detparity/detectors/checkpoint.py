"""From an official-format checkpoint to our modules. Nothing in the file is executed: `archive` yields records, and each known
class has one maker here that reads its record. A new block is one more entry in `MAKERS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple, cast

import numpy as np
import torch
from torch import nn

from detparity.compat import activations
from detparity.detectors import archive, blocks
from detparity.detectors.archive import Record
from detparity.detectors.detector import YoloDetector, make_detector
from detparity.detectors.network import Level, Network
from detparity.errors import InputError


def load(path: Path) -> YoloDetector:
    """Load an official-format checkpoint: `ema` if present, else `model`; fused, float32, evaluation.

    Raises InputError, in one line that names the file, for anything that cannot be used.
    """
    root = archive.read(path)
    try:
        return _from_root(root, path.stem)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _from_root(root: Any, name: str) -> YoloDetector:
    if isinstance(root, (list, tuple)):
        raise InputError(f"holds a list of {len(root)} checkpoints; ensembles are not supported yet")
    if not isinstance(root, Mapping):
        raise InputError(f"holds a {_title(root)} where a checkpoint dictionary with 'model' or 'ema' is wanted")
    if "model" not in root and "ema" not in root:
        tensors = sum(isinstance(value, np.ndarray) for value in root.values())
        what = (
            f"a state dict of {tensors} tensors"
            if tensors
            else f"a dictionary with the keys {sorted(map(str, root))[:8]}"
        )
        raise InputError(
            f"holds {what}, not a checkpoint with 'model' or 'ema'; a state dict alone does not say its architecture"
        )
    chosen = root.get("ema") if root.get("ema") is not None else root.get("model")
    if not (isinstance(chosen, Record) and chosen.qualified == "models.yolo.Model"):
        raise InputError(f"its model is a {_title(chosen)} where models.yolo.Model is wanted")
    return make_detector(name, *_from_model(chosen))


def _title(value: Any) -> str:
    return value.qualified if isinstance(value, Record) else type(value).__name__


def _state(record: Record) -> Dict[str, Any]:
    return cast(Dict[str, Any], record.state)


def _children(record: Record) -> Dict[str, Record]:
    modules = _state(record).get("_modules", {})
    return {key: child for key, child in modules.items() if child is not None}


def _arrays(record: Record, prefix: str = "") -> Dict[str, np.ndarray]:
    """Every parameter and buffer under a module record, by its dotted path."""
    found: Dict[str, np.ndarray] = {}
    for kind in ("_parameters", "_buffers"):
        for key, value in _state(record).get(kind, {}).items():
            if value is not None:
                found[prefix + key] = value
    for key, child in _children(record).items():
        found.update(_arrays(child, f"{prefix}{key}."))
    return found


def _from_model(model: Record) -> Tuple[Tuple[str, ...], Network]:
    sequence = _children(model).get("model")
    if sequence is None:
        raise InputError("its models.yolo.Model holds no layers")
    layers = list(_children(sequence).values())
    head = layers[-1]
    made = [_make(i, layer) for i, layer in enumerate(layers[:-1])]
    routes = [_route(i, layer) for i, layer in enumerate(layers[:-1])]
    levels = _levels(head, len(layers) - 1)
    taps = _route(len(layers) - 1, head)[: len(levels)]
    network = Network(made, routes, taps, levels, implicit=head.name == "IDetect")
    _load(network, layers)
    return _names(model, levels[0].fields - 5), network


def _route(index: int, layer: Record) -> List[int]:
    """What layer `index` reads, absolute: 0 is the image, k the output of layer k - 1."""
    source = _state(layer).get("f")
    sources = source if isinstance(source, (list, tuple)) else [source]
    route = []
    for j in sources:
        if not isinstance(j, int) or isinstance(j, bool) or not -index - 1 <= j < index:
            raise InputError(f"layer {index} ({layer.qualified}) reads from {source!r}, which is no earlier layer")
        route.append(index + j + 1 if j < 0 else j + 1)
    return route


def _names(model: Record, classes: int) -> Tuple[str, ...]:
    names = _state(model).get("names")
    if isinstance(names, Mapping):
        names = [names[key] for key in sorted(names)]
    if names is None:
        names = [str(index) for index in range(classes)]
    if len(names) != classes:
        raise InputError(f"it names {len(names)} classes but its head scores {classes}")
    return tuple(str(name) for name in names)


def _number(record: Record, key: str) -> int:
    """A square option such as kernel_size, stored as a number or a pair of equal ones."""
    value = _state(record)[key]
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    if len(set(pair)) != 1:
        raise InputError(f"{record.qualified} has an uneven {key} {tuple(pair)}")
    return int(pair[0])


def _activation(record: Record) -> nn.Module:
    makers: Dict[str, Callable[[], nn.Module]] = {
        "SiLU": activations.silu,
        "Hardswish": activations.hardswish,
        "LeakyReLU": lambda: nn.LeakyReLU(float(_state(record)["negative_slope"])),
        "ReLU": nn.ReLU,
        "Identity": nn.Identity,
    }
    if record.name not in makers:
        raise InputError(f"the activation {record.qualified} is not known")
    return makers[record.name]()


def _conv(record: Record) -> nn.Module:
    child = _children(record)
    conv = child["conv"]
    if _number(conv, "dilation") != 1:
        raise InputError(f"{record.qualified} has a dilation of {_state(conv)['dilation']}")
    made = blocks.Conv(
        int(_state(conv)["in_channels"]),
        int(_state(conv)["out_channels"]),
        _number(conv, "kernel_size"),
        _number(conv, "stride"),
        _number(conv, "padding"),
        int(_state(conv)["groups"]),
        _activation(child["act"]),
    )
    if _state(conv)["_parameters"].get("bias") is not None:
        made.conv.bias = nn.Parameter(torch.zeros(made.conv.out_channels))
    if "bn" in child:
        cast(nn.BatchNorm2d, made.bn).eps = float(_state(child["bn"])["eps"])
    else:
        made.bn = nn.Identity()
    return made


def _pool(record: Record) -> nn.Module:
    pool = _children(record)["m"]
    made = blocks.MaxPool(_number(pool, "kernel_size"), _number(pool, "stride"))
    if _state(pool).get("ceil_mode") or _number(pool, "padding") != made.m.padding:
        raise InputError(
            f"{record.qualified} pools with padding {_state(pool)['padding']}, ceil_mode {_state(pool).get('ceil_mode')}"
        )
    return made


def _upsample(record: Record) -> nn.Module:
    factor, mode = _state(record).get("scale_factor"), _state(record).get("mode")
    if mode != "nearest" or factor is None or float(factor) != int(factor):
        raise InputError(f"an upsampling layer with mode {mode!r} and factor {factor} is not known")
    return blocks.Upsample(int(factor))


MAKERS: Mapping[str, Callable[[Record], nn.Module]] = {
    "models.common.Conv": _conv,
    "models.common.MP": _pool,
    "models.common.SP": _pool,
    "models.common.Concat": lambda record: blocks.Concat(int(_state(record)["d"])),
    "torch.nn.modules.upsampling.Upsample": _upsample,
}
HEADS = ("Detect", "IDetect")


def _make(index: int, record: Record) -> nn.Module:
    maker = MAKERS.get(record.qualified)
    if maker is None:
        raise InputError(f"layer {index} is a {record.qualified}, a block this version does not know")
    try:
        return maker(record)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"layer {index} ({record.qualified}) is damaged: {type(error).__name__} {error}") from None


def _levels(head: Record, index: int) -> List[Level]:
    if head.module != "models.yolo" or head.name not in HEADS:
        raise InputError(f"layer {index} is a {head.qualified} where a detection head ({', '.join(HEADS)}) is wanted")
    try:
        anchors = np.asarray(_state(head)["_buffers"]["anchor_grid"], np.float32)
        strides = np.asarray(_state(head)["stride"], np.float64).reshape(-1)
        convs = list(_children(_children(head)["m"]).values())
        fields = int(_state(head)["nc"]) + 5
        channels = [int(_state(conv)["in_channels"]) for conv in convs]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the head ({head.qualified}) is damaged: {type(error).__name__} {error}") from None
    if not len(anchors) == len(strides) == len(convs) or (strides < 1).any() or (strides != strides.round()).any():
        raise InputError(
            f"the head has {len(convs)} convolutions, {len(anchors)} anchor sets and strides {strides.tolist()}"
        )
    return [
        Level(width, fields, torch.from_numpy(a.reshape(-1, 2).copy()), int(stride))
        for width, a, stride in zip(channels, anchors, strides)
    ]


def _load(network: Network, layers: Sequence[Record]) -> None:
    """Copy every parameter and buffer of the records into `network`; nothing may be left over or missing."""
    from detparity.detectors.detector import official_key

    stored: Dict[str, np.ndarray] = {}
    for index, layer in enumerate(layers):
        stored.update(_arrays(layer, f"model.{index}."))
    head = f"model.{len(layers) - 1}."
    with torch.no_grad():
        for key, target in network.state_dict().items():
            official = official_key(network, key)
            if official == head + "anchor_grid":
                continue  # read with the levels
            value = stored.pop(official, None)
            if value is None or tuple(value.shape) != tuple(target.shape):
                shape = "missing" if value is None else f"of shape {tuple(value.shape)}"
                raise InputError(f"{official} is {shape} where {tuple(target.shape)} is wanted")
            target.copy_(torch.from_numpy(np.array(value)))
    left = sorted(set(stored) - {head + "anchors", head + "anchor_grid"})
    if left:
        raise InputError(f"{len(left)} stored tensors have no place in the model, the first is {left[0]}")

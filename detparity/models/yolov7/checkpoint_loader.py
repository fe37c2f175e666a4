"""From official-format checkpoints to our modules. Nothing in a file is executed: `pickle_reader` yields records, and each known class
has one maker here that reads its record. A new block is one more entry in `MAKERS`.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, cast

import numpy as np
import torch
from torch import nn

from detparity.artifacts.metadata import class_names
from detparity.core import pickle_reader
from detparity.core.errors import InputError, clipped
from detparity.core.pickle_reader import Record
from detparity.models.yolov7 import blocks
from detparity.models.yolov7.block_builders import ACTIVATIONS, HEADS
from detparity.models.yolov7.detector import YoloDetector, make_detector, official_key
from detparity.models.yolov7.fuse import fuse
from detparity.models.yolov7.network import Level, Network, joined
from detparity.models.yolov7.plan import Plan, build
from detparity.models.yolov7.size_limits import MAX_KERNEL, MAX_POOLS, require_bounded, require_shape

MODEL, ENSEMBLE = "models.yolo.Model", "models.experimental.Ensemble"
# What reading a record can meet where the file does not hold what its classes hold.
DAMAGE = (AttributeError, KeyError, TypeError, ValueError, ArithmeticError, IndexError, RuntimeError)
Member = Tuple[Tuple[str, ...], Network]  # class names, and the network as stored


def load(*paths: Path, plan: Optional[Plan] = None) -> YoloDetector:
    """Load official-format checkpoints: `ema` if present, else `model`; fused, float32, evaluation.

    Several files, or a file that holds several, make an ensemble: the members' predictions one after the other, names from the
    last. plan: what a file's architecture is where it holds a state dict alone; its own channels and anchors decide where it has
    them.

    Raises InputError, in one line that names the file, for anything that cannot be used.
    """
    members: List[Member] = []
    for path in paths:
        root = pickle_reader.read(path)
        try:
            members += _members(root, plan)
        except InputError as error:
            raise InputError(f"{path}: {clipped(error)}") from None
        except DAMAGE as error:
            raise InputError(f"{path} is damaged: {type(error).__name__} {clipped(error)}") from None
    try:
        names, network = _ensemble(members) if len(members) > 1 else members[0]
        return make_detector("+".join(path.stem for path in paths), names, network)
    except InputError as error:
        raise InputError(f"{' and '.join(map(str, paths))}: {error}") from None


def _ensemble(members: Sequence[Member]) -> Member:
    kinds = [(f"{level.fields - 5} classes", f"{level.na} anchors") for _, n in members for level in _all_levels(n)]
    if len(set(kinds)) > 1:
        shown = "; ".join(dict.fromkeys(" and ".join(kind) for kind in kinds))
        raise InputError(f"its members do not make one ensemble: they have {shown}")
    return members[-1][0], joined([network for _, network in members])


def _all_levels(network: Network) -> List[Level]:
    return [cast(Level, level) for level in network.levels]


def _members(root: Any, plan: Optional[Plan]) -> List[Member]:
    """What one file holds: usually one model."""
    if isinstance(root, (list, tuple)):
        if not root:
            raise InputError("holds an empty list where a checkpoint is expected")
        return [member for item in root for member in _members(item, plan)]
    chosen = root
    if isinstance(root, Mapping) and not _is_state(root):
        found = [root[key] for key in ("ema", "model", "state_dict") if root.get(key) is not None]
        if not found:
            keys = sorted(map(str, root))[:8]
            raise InputError(f"holds a dictionary with the keys {keys} and neither a 'model' nor an 'ema'")
        chosen = found[0]
    if _is_state(chosen):
        return [_from_state(chosen, plan)]
    ensemble = isinstance(chosen, Record) and chosen.qualified == ENSEMBLE
    models = list(_children(chosen).values()) if ensemble else [chosen]
    for model in models:
        if not (isinstance(model, Record) and model.qualified == MODEL):
            raise InputError(f"its model is a {_title(model)} where {MODEL} is expected")
    if not models:
        raise InputError(f"its {ENSEMBLE} holds no models")
    if plan is not None:
        raise InputError("holds a complete model, which says its architecture itself; --cfg is for a state dict")
    return [_from_model(model) for model in models]


def _title(value: Any) -> str:
    return value.qualified if isinstance(value, Record) else type(value).__name__


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(item, np.ndarray) for item in value.values())


# --- a state dict, which holds numbers alone


def _from_state(state: Mapping[str, np.ndarray], plan: Optional[Plan]) -> Member:
    if plan is None:
        raise InputError(
            f"holds a state dict of {len(state)} tensors, which does not say its architecture; name it with --cfg"
        )
    # Training on several devices puts one more module around the model.
    wrapped = all(key.startswith("module.") for key in state)
    stored = {key[len("module.") :] if wrapped else key: value for key, value in state.items()}
    head = f"model.{len(plan.steps)}"
    last = stored.get(f"{head}.m.0.weight")
    anchors = len(plan.anchors[0])
    if last is None or last.ndim != 4 or len(last) % anchors or len(last) // anchors < 6:
        there = "missing" if last is None else f"of shape {tuple(last.shape)}"
        raise InputError(f"{head}.m.0.weight, the first convolution of the head, is {there}: another architecture?")
    network = build(plan, len(last) // anchors - 5)
    if not any(".bn." in key for key in stored):  # saved after fusing
        network = fuse(network).float()
    for k, level in enumerate(_all_levels(network)):
        _take_anchors(level, k, head, stored)
    _fill(network, stored)
    return tuple(f"class{index}" for index in range(len(last) // anchors - 5)), network


def _take_anchors(level: Level, k: int, head: str, stored: Mapping[str, np.ndarray]) -> None:
    """The stored anchors, which training may have fitted to its data: in pixels, or in cells."""
    pixels, cells = stored.get(f"{head}.anchor_grid"), stored.get(f"{head}.anchors")
    found = pixels[k] if pixels is not None else cells[k] * level.stride if cells is not None else None
    if found is not None:
        anchors = cast(torch.Tensor, level.anchors)
        anchors.copy_(torch.from_numpy(np.array(found, np.float32)).reshape(anchors.shape))


# --- a pickled model


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


def _from_model(model: Record) -> Member:
    sequence = _children(model).get("model")
    if sequence is None:
        raise InputError(f"its {MODEL} holds no layers")
    layers = list(_children(sequence).values())
    if not layers:
        raise InputError(f"its {MODEL} holds no layers")
    head = layers[-1]
    made = [_layer(i, layer) for i, layer in enumerate(layers[:-1])]
    routes = [_route(i, layer) for i, layer in enumerate(layers[:-1])]
    levels = _levels(head, len(layers) - 1)
    taps = _route(len(layers) - 1, head)
    if len(taps) < len(levels):
        raise InputError(f"the head reads {len(taps)} layers for {len(levels)} levels")
    network = Network(made, routes, taps[: len(levels)], levels)
    require_bounded(network)
    stored: Dict[str, np.ndarray] = {}
    for index, layer in enumerate(layers):
        stored.update(_arrays(layer, f"model.{index}."))
    _fill(network, stored)
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
    """The class names, by class number. Raises InputError where they are not those of `classes` classes: none is made up or moved."""
    try:
        names = class_names(_state(model).get("names"))
    except ValueError as error:
        raise InputError(f"it {error}; its head scores {classes} classes") from None
    if len(names) != classes:
        raise InputError(f"it names {len(names) or 'no'} classes but its head scores {classes}")
    return names


def _number(record: Record, key: str) -> int:
    """A square option such as kernel_size, stored as a number or a pair of equal ones."""
    value = _state(record)[key]
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    if len(set(pair)) != 1:
        raise InputError(f"{record.qualified} has an uneven {key} {tuple(pair)}")
    return int(pair[0])


def _activation(record: Record) -> nn.Module:
    if record.name not in ACTIVATIONS:
        raise InputError(f"the activation {record.qualified} is not known")
    return ACTIVATIONS[record.name](*([float(_state(record)["negative_slope"])] if record.name == "LeakyReLU" else []))


def _conv2d(record: Record) -> nn.Conv2d:
    state = _state(record)
    if _number(record, "dilation") != 1 or state.get("padding_mode", "zeros") != "zeros":
        raise InputError(
            f"{record.qualified} has a dilation of {state['dilation']} and pads with {state.get('padding_mode')}"
        )
    inputs, outputs, groups = int(state["in_channels"]), int(state["out_channels"]), int(state["groups"])
    kernel, stride, padding = (_number(record, key) for key in ("kernel_size", "stride", "padding"))
    require_shape(record.qualified, state["_parameters"]["weight"], (outputs, inputs // groups, kernel, kernel))
    if stride < 1 or not 0 <= padding <= kernel:
        raise InputError(f"{record.qualified} has a stride of {stride} and a padding of {padding}")
    bias = state["_parameters"].get("bias") is not None
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=bias)


def _batch_norm(record: Record) -> nn.BatchNorm2d:
    features = int(_state(record)["num_features"])
    require_shape(record.qualified, _state(record)["_parameters"]["weight"], (features,))
    return nn.BatchNorm2d(features, eps=float(_state(record)["eps"]))


def _conv(record: Record) -> nn.Module:
    child = _children(record)
    conv = _conv2d(child["conv"])
    made = blocks.Conv(1, 1, act=_activation(child["act"]))
    made.conv = conv
    made.bn = _batch_norm(child["bn"]) if "bn" in child else nn.Identity()
    return made


def _rep_conv(record: Record) -> nn.Module:
    child = _children(record)
    act = _activation(child["act"])
    if "rbr_reparam" in child:
        return blocks.FusedRepConv(_conv2d(child["rbr_reparam"]), act)
    identity = child.get("rbr_identity")
    branches = [
        nn.Sequential(_conv2d(pair["0"]), _batch_norm(pair["1"]))
        for pair in map(_children, (child["rbr_dense"], child["rbr_1x1"]))
    ]
    kernels = [cast(nn.Conv2d, branch[0]).kernel_size[0] for branch in branches]
    if kernels != [3, 1]:
        raise InputError(f"{record.qualified} has branches of kernels {kernels} where 3 and 1 are expected")
    return blocks.RepConv(branches[0], branches[1], None if identity is None else _batch_norm(identity), act)


def _max_pool(record: Record) -> nn.MaxPool2d:
    kernel, stride, padding = (_number(record, key) for key in ("kernel_size", "stride", "padding"))
    if (
        not 0 < kernel <= MAX_KERNEL
        or _state(record).get("ceil_mode")
        or (stride, padding) not in ((kernel, 0), (1, kernel // 2))
    ):
        raise InputError(
            f"{record.qualified} pools {kernel} with stride {stride}, padding {padding}, "
            f"ceil_mode {_state(record).get('ceil_mode')}"
        )
    return nn.MaxPool2d(kernel, stride, padding)


def _pool(record: Record) -> nn.Module:
    pool = _max_pool(_children(record)["m"])
    return blocks.MaxPool(cast(int, pool.kernel_size), cast(int, pool.stride))


def _upsample(record: Record) -> nn.Module:
    factor, mode = _state(record).get("scale_factor"), _state(record).get("mode")
    if mode != "nearest" or factor is None or float(factor) != int(factor):
        raise InputError(f"an upsampling layer with mode {mode!r} and factor {factor} is not known")
    return blocks.Upsample(int(factor))


def _concat(record: Record) -> nn.Module:
    if _state(record)["d"] != 1:
        raise InputError(f"{record.qualified} joins along axis {_state(record)['d']} where 1 is expected")
    return blocks.Concat(1)


def _module_list(record: Record) -> nn.Module:
    """The pools of a pyramid."""
    children = _children(record).values()
    if len(children) > MAX_POOLS:
        raise InputError(f"{record.qualified} holds {len(children)} modules, more than {MAX_POOLS}")
    return nn.ModuleList(map(_module, children))


def _composite(cls: Callable[..., nn.Module]) -> Callable[[Record], nn.Module]:
    """A maker for a block that is given its parts: each by its name in the record, and `add` where it takes one."""

    def make(record: Record) -> nn.Module:
        parts: Dict[str, Any] = {key: _module(child) for key, child in _children(record).items()}
        if "add" in inspect.signature(cls).parameters:
            parts["add"] = bool(_state(record)["add"])
        return cls(**parts)

    return make


MAKERS: Mapping[str, Callable[[Record], nn.Module]] = {
    "models.common.Conv": _conv,
    "models.common.RepConv": _rep_conv,
    "models.common.MP": _pool,
    "models.common.SP": _pool,
    "models.common.Concat": _concat,
    "models.common.Shortcut": lambda record: blocks.Shortcut(),
    "models.common.ReOrg": lambda record: blocks.ReOrg(),
    "models.common.Stem": _composite(blocks.Stem),
    "models.common.DownC": _composite(blocks.DownC),
    "models.common.SPP": _composite(blocks.SPP),
    "models.common.SPPCSPC": _composite(blocks.SPPCSPC),
    "models.common.Bottleneck": _composite(blocks.Bottleneck),
    **{f"models.common.{name}": _composite(blocks.Res) for name in ("Res", "ResX")},
    **{
        f"models.common.{kind}CSP{form}": _composite(getattr(blocks, f"CSP{form}"))
        for kind in ("Bottleneck", "Res", "ResX")
        for form in "ABC"
    },
    "torch.nn.modules.upsampling.Upsample": _upsample,
    "torch.nn.modules.pooling.MaxPool2d": _max_pool,
    "torch.nn.modules.container.Sequential": lambda record: nn.Sequential(*map(_module, _children(record).values())),
    "torch.nn.modules.container.ModuleList": _module_list,
}


class _Unknown(Exception):
    """A block without a maker: its class, and its path below the one that was being made."""

    def __init__(self, record: Record) -> None:
        super().__init__(record.qualified)
        self.record = record


def _module(record: Record) -> nn.Module:
    maker = MAKERS.get(record.qualified)
    if maker is None:
        raise _Unknown(record)
    return maker(record)


def _layer(index: int, record: Record) -> nn.Module:
    try:
        return _module(record)
    except _Unknown as unknown:
        path = _path(record, unknown.record, f"model.{index}")
        raise InputError(
            f"layer {index} ({path}) is a {unknown.record.qualified}, a block this version does not know"
        ) from None
    except InputError as error:
        raise InputError(f"layer {index}: {error}") from None
    except DAMAGE as error:
        raise InputError(f"layer {index} ({record.qualified}) is damaged: {type(error).__name__} {error}") from None


def _path(top: Record, sought: Record, prefix: str) -> str:
    """The path of a record below another."""
    for key, child in _children(top).items():
        found = _path(child, sought, f"{prefix}.{key}")
        if found:
            return found
    return prefix if top is sought else ""


def _levels(head: Record, index: int) -> List[Level]:
    if head.module != "models.yolo" or head.name not in HEADS:
        raise InputError(f"layer {index} is a {head.qualified} where a detection head ({', '.join(HEADS)}) is expected")
    try:
        anchors = np.asarray(_state(head)["_buffers"]["anchor_grid"], np.float32)
        strides = np.asarray(_state(head)["stride"], np.float64).reshape(-1)
        convs = [_conv2d(conv) for conv in _children(_children(head)["m"]).values()]
        fields = int(_state(head)["nc"]) + 5
        extra = _children(_children(head)["m2"]).values() if head.name == "IAuxDetect" else []
        auxiliary = [_conv2d(conv).in_channels for conv in extra]
        kernels = {conv.kernel_size for conv in convs}
        # Folded into the convolutions, the vectors may still be stored: then the file's head is a plain one.
        implicit = "ia" in _children(head)
    except DAMAGE as error:
        raise InputError(f"the head ({head.qualified}) is damaged: {type(error).__name__} {error}") from None
    if not len(anchors) == len(strides) == len(convs) or (strides < 1).any() or (strides != strides.round()).any():
        raise InputError(
            f"the head has {len(convs)} convolutions, {len(anchors)} anchor sets and strides {strides.tolist()}"
        )
    if any(conv.out_channels != a.reshape(-1, 2).shape[0] * fields for conv, a in zip(convs, anchors)):
        raise InputError(f"the head scores {fields - 5} classes, which its convolutions do not")
    if kernels != {(1, 1)} or len(auxiliary) not in (0, len(convs)):
        raise InputError(f"the head ({head.qualified}) has convolutions of other kinds than 1x1, one for each level")
    return [
        Level(
            conv.in_channels,
            fields,
            torch.from_numpy(a.reshape(-1, 2).copy()),
            int(stride),
            implicit,
            auxiliary[k] if auxiliary else 0,
        )
        for k, (conv, a, stride) in enumerate(zip(convs, anchors, strides))
    ]


def _fill(network: Network, stored: Dict[str, np.ndarray]) -> None:
    """Copy every stored parameter and buffer into `network`; nothing may be left over or missing."""
    head = f"model.{len(network.model)}."
    with torch.no_grad():
        for key, target in network.state_dict().items():
            official = official_key(network, key)
            if official == head + "anchor_grid":
                continue  # read with the levels
            value = stored.pop(official, None)
            if value is None and official.endswith(".num_batches_tracked"):
                continue  # absent before torch 0.4.1, and without effect in evaluation
            if value is None or tuple(value.shape) != tuple(target.shape):
                shape = "missing" if value is None else f"of shape {tuple(value.shape)}"
                raise InputError(f"{official} is {shape} where {tuple(target.shape)} is expected")
            target.copy_(torch.from_numpy(np.array(value)))
    left = sorted(set(stored) - {head + "anchors", head + "anchor_grid"})
    if left:
        raise InputError(f"{len(left)} stored tensors do not belong to the model, the first is {left[0]}")

"""From the records of an official checkpoint to our modules: each known class has one maker here that reads its record. A new block is
one more entry in `MAKERS`.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, List, Mapping, Tuple, cast

import numpy as np
import torch
from torch import nn

from detparity.core.errors import InputError
from detparity.core.pickle_interpreter import Opaque, Record
from detparity.models.yolov7 import blocks
from detparity.models.yolov7.block_builders import ACTIVATIONS, HEADS
from detparity.models.yolov7.checkpoint_contents import MODEL, children, state_of, unmasked
from detparity.models.yolov7.network import Level, Network
from detparity.models.yolov7.size_limits import MAX_KERNEL, MAX_POOLS, MAX_READS, require_countable, require_shape

# What reading a record can meet where the file does not hold what its classes hold.
DAMAGE = (AttributeError, KeyError, TypeError, ValueError, ArithmeticError, IndexError, RuntimeError)
_PRUNING = "torch.nn.utils.prune."


def network_of(model: Record) -> Tuple[Network, Dict[str, np.ndarray]]:
    """The network a pickled model describes, without its weights, and its tensors by their official keys. Raises InputError."""
    sequence = children(model).get("model")
    layers = list(children(sequence).values()) if sequence is not None else []
    if not layers:
        raise InputError(f"its {MODEL} holds no layers")
    require_countable(layers)
    for layer in layers:
        _require_unhooked(layer)
    made = [_layer(i, layer) for i, layer in enumerate(layers[:-1])]
    reads = [_route(i, layer) for i, layer in enumerate(layers)]
    if sum(map(len, reads)) > MAX_READS:
        raise InputError(f"its layers read {sum(map(len, reads))} others, more than {MAX_READS}")
    levels = _levels(layers[-1], len(layers) - 1)
    if len(reads[-1]) < len(levels):
        raise InputError(f"the head reads {len(reads[-1])} layers for {len(levels)} levels")
    stored: Dict[str, np.ndarray] = {}
    for index, layer in enumerate(layers):
        stored.update(_arrays(layer, f"model.{index}."))
    return Network(made, reads[:-1], reads[-1][: len(levels)], levels), stored


def _tensors(record: Record) -> Dict[str, np.ndarray]:
    """Parameters and buffers of one module, what pruning split put together."""
    found = {}
    for kind in ("_parameters", "_buffers"):
        found.update({key: value for key, value in state_of(record).get(kind, {}).items() if value is not None})
    return unmasked(found)


def _arrays(record: Record, prefix: str = "") -> Dict[str, np.ndarray]:
    """Every parameter and buffer under a module record, by its dotted path."""
    found = {prefix + key: value for key, value in _tensors(record).items()}
    for key, child in children(record).items():
        found.update(_arrays(child, f"{prefix}{key}."))
    return found


def _require_unhooked(record: Record) -> None:
    """Raise InputError where a module calls something that is not read whenever it runs: its numbers would not be the model's."""
    pending = [record]
    while pending:
        module = pending.pop()
        pending.extend(child for child in children(module).values() if isinstance(child, Record))
        for key in ("_forward_hooks", "_forward_pre_hooks"):
            hooks = state_of(module).get(key)
            for hook in hooks.values() if isinstance(hooks, Mapping) else ():
                name = hook.qualified if isinstance(hook, (Record, Opaque)) else type(hook).__name__
                if not name.startswith(_PRUNING):
                    raise InputError(
                        f"a {module.qualified} calls {name} whenever it runs (a forward hook), which is not read; "
                        "remove the hook and save the model again"
                    )


def _route(index: int, layer: Record) -> List[int]:
    """What layer `index` reads, absolute: 0 is the image, k the output of layer k - 1."""
    source = state_of(layer).get("f")
    sources = source if isinstance(source, (list, tuple)) else [source]
    route = []
    for j in sources:
        if not isinstance(j, int) or isinstance(j, bool) or not -index - 1 <= j < index:
            raise InputError(f"layer {index} ({layer.qualified}) reads from {j!r:.80}, which is no earlier layer")
        route.append(index + j + 1 if j < 0 else j + 1)
    return route


def _number(record: Record, key: str) -> int:
    """A square option such as kernel_size, stored as a number or a pair of equal ones."""
    value = state_of(record)[key]
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    if len(set(pair)) != 1:
        raise InputError(f"{record.qualified} has an uneven {key} {tuple(pair)}")
    return int(pair[0])


def _activation(record: Record) -> nn.Module:
    if record.name not in ACTIVATIONS:
        raise InputError(f"the activation {record.qualified} is not known")
    return ACTIVATIONS[record.name](
        *([float(state_of(record)["negative_slope"])] if record.name == "LeakyReLU" else [])
    )


def _conv2d(record: Record) -> nn.Conv2d:
    state = state_of(record)
    if _number(record, "dilation") != 1 or state.get("padding_mode", "zeros") != "zeros":
        raise InputError(
            f"{record.qualified} has a dilation of {state['dilation']} and pads with {state.get('padding_mode')}"
        )
    inputs, outputs, groups = int(state["in_channels"]), int(state["out_channels"]), int(state["groups"])
    kernel, stride, padding = (_number(record, key) for key in ("kernel_size", "stride", "padding"))
    tensors = _tensors(record)
    bias = tensors.get("bias")
    require_shape(record.qualified, tensors["weight"], (outputs, inputs // groups, kernel, kernel))
    if bias is not None:
        require_shape(record.qualified, bias, (outputs,))
    if stride < 1 or not 0 <= padding <= kernel:
        raise InputError(f"{record.qualified} has a stride of {stride} and a padding of {padding}")
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=bias is not None)


def _batch_norm(record: Record) -> nn.BatchNorm2d:
    features = int(state_of(record)["num_features"])
    require_shape(record.qualified, _tensors(record)["weight"], (features,))
    return nn.BatchNorm2d(features, eps=float(state_of(record)["eps"]))


def _conv(record: Record) -> nn.Module:
    child = children(record)
    conv = _conv2d(child["conv"])
    made = blocks.Conv(1, 1, act=_activation(child["act"]))
    made.conv = conv
    made.bn = _batch_norm(child["bn"]) if "bn" in child else nn.Identity()
    if conv.bias is None and "bn" not in child:
        raise InputError(f"{record.qualified} has neither a batch-norm nor a bias")
    return made


def _rep_conv(record: Record) -> nn.Module:
    child = children(record)
    act = _activation(child["act"])
    if "rbr_reparam" in child:
        return blocks.FusedRepConv(_conv2d(child["rbr_reparam"]), act)
    identity = child.get("rbr_identity")
    branches = [
        nn.Sequential(_conv2d(pair["0"]), _batch_norm(pair["1"]))
        for pair in map(children, (child["rbr_dense"], child["rbr_1x1"]))
    ]
    kernels = [cast(nn.Conv2d, branch[0]).kernel_size[0] for branch in branches]
    if kernels != [3, 1]:
        raise InputError(f"{record.qualified} has branches of kernels {kernels} where 3 and 1 are expected")
    return blocks.RepConv(branches[0], branches[1], None if identity is None else _batch_norm(identity), act)


def _bottleneck_csp(record: Record) -> nn.Module:
    child = children(record)
    made = blocks.BottleneckCSP(
        cv1=_module(child["cv1"]),
        cv2=_conv2d(child["cv2"]),
        cv3=_conv2d(child["cv3"]),
        cv4=_module(child["cv4"]),
        bn=_batch_norm(child["bn"]),
        act=_activation(child["act"]),
        m=_module(child["m"]),
    )
    joined = cast(nn.Conv2d, made.cv2).out_channels + cast(nn.Conv2d, made.cv3).out_channels
    require_shape(f"the norm of {record.qualified}", _tensors(child["bn"])["weight"], (joined,))
    return made


def _max_pool(record: Record) -> nn.MaxPool2d:
    kernel, stride, padding = (_number(record, key) for key in ("kernel_size", "stride", "padding"))
    if (
        not 0 < kernel <= MAX_KERNEL
        or state_of(record).get("ceil_mode")
        or (stride, padding) not in ((kernel, 0), (1, kernel // 2))
    ):
        raise InputError(
            f"{record.qualified} pools {kernel} with stride {stride}, padding {padding}, "
            f"ceil_mode {state_of(record).get('ceil_mode')}"
        )
    return nn.MaxPool2d(kernel, stride, padding)


def _pool(record: Record) -> nn.Module:
    pool = _max_pool(children(record)["m"])
    return blocks.MaxPool(cast(int, pool.kernel_size), cast(int, pool.stride))


def _upsample(record: Record) -> nn.Module:
    factor, mode = state_of(record).get("scale_factor"), state_of(record).get("mode")
    if mode != "nearest" or factor is None or float(factor) != int(factor):
        raise InputError(f"an upsampling layer with mode {mode!r} and factor {factor} is not known")
    return blocks.Upsample(int(factor))


def _concat(record: Record) -> nn.Module:
    if state_of(record)["d"] != 1:
        raise InputError(f"{record.qualified} joins along axis {state_of(record)['d']} where 1 is expected")
    return blocks.Concat(1)


def _module_list(record: Record) -> nn.Module:
    """The pools of a pyramid."""
    pools = children(record).values()
    if len(pools) > MAX_POOLS:
        raise InputError(f"{record.qualified} holds {len(pools)} modules, more than {MAX_POOLS}")
    return nn.ModuleList(map(_module, pools))


def _composite(cls: Callable[..., nn.Module]) -> Callable[[Record], nn.Module]:
    """A maker for a block that is given its parts: each by its name in the record, and `add` where it takes one."""

    def make(record: Record) -> nn.Module:
        parts: Dict[str, Any] = {key: _module(child) for key, child in children(record).items()}
        if "add" in inspect.signature(cls).parameters:
            parts["add"] = bool(state_of(record)["add"])
        return cls(**parts)

    return make


MAKERS: Mapping[str, Callable[[Record], nn.Module]] = {
    **{f"models.common.{name}": _conv for name in ("Conv", "DWConv")},
    "models.common.RepConv": _rep_conv,
    "models.common.MP": _pool,
    "models.common.SP": _pool,
    "models.common.Concat": _concat,
    "models.common.Shortcut": lambda record: blocks.Shortcut(),
    "models.common.ReOrg": lambda record: blocks.ReOrg(),
    "models.common.Stem": _composite(blocks.Stem),
    "models.common.DownC": _composite(blocks.DownC),
    "models.common.SPP": _composite(blocks.SPP),
    "models.common.SPPF": _composite(blocks.SPPF),
    "models.common.SPPCSPC": _composite(blocks.SPPCSPC),
    "models.common.Focus": _composite(blocks.Focus),
    "models.common.GhostConv": _composite(blocks.GhostConv),
    "models.common.GhostBottleneck": _composite(blocks.GhostBottleneck),
    "models.common.BottleneckCSP": _bottleneck_csp,
    **{f"models.common.{name}": _composite(blocks.C3) for name in ("C3", "C3SPP", "C3Ghost")},
    "models.common.Bottleneck": _composite(blocks.Bottleneck),
    **{f"models.common.{name}": _composite(blocks.Res) for name in ("Res", "ResX")},
    **{
        f"models.common.{kind}CSP{form}": _composite(getattr(blocks, f"CSP{form}"))
        for kind in ("Bottleneck", "Res", "ResX")
        for form in "ABC"
    },
    "torch.nn.modules.linear.Identity": lambda record: nn.Identity(),
    "torch.nn.modules.upsampling.Upsample": _upsample,
    "torch.nn.modules.pooling.MaxPool2d": _max_pool,
    "torch.nn.modules.container.Sequential": lambda record: nn.Sequential(*map(_module, children(record).values())),
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
    for key, child in children(top).items():
        found = _path(child, sought, f"{prefix}.{key}")
        if found:
            return found
    return prefix if top is sought else ""


def _anchors(head: Record, strides: np.ndarray) -> np.ndarray:
    """Widths and heights in pixels, level by level. YOLOv5 since its version 6 stores them in cells alone."""
    buffers = state_of(head)["_buffers"]
    if buffers.get("anchor_grid") is not None:
        return np.asarray(buffers["anchor_grid"], np.float32)
    cells = np.asarray(buffers["anchors"], np.float32)
    return cells * strides.astype(np.float32).reshape(-1, *[1] * (cells.ndim - 1))


def _levels(head: Record, index: int) -> List[Level]:
    if head.module != "models.yolo" or head.name not in HEADS:
        raise InputError(f"layer {index} is a {head.qualified} where a detection head ({', '.join(HEADS)}) is expected")
    try:
        strides = np.asarray(state_of(head)["stride"], np.float64).reshape(-1)
        anchors = _anchors(head, strides)
        convs = [_conv2d(conv) for conv in children(children(head)["m"]).values()]
        fields = int(state_of(head)["nc"]) + 5
        extra = children(children(head)["m2"]).values() if head.name == "IAuxDetect" else []
        auxiliary = [_conv2d(conv).in_channels for conv in extra]
        kernels = {conv.kernel_size for conv in convs}
        # Folded into the convolutions, the vectors may still be stored: then the file's head is a plain one.
        implicit = "ia" in children(head)
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

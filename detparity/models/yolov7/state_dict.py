"""A state dict and the architecture it fits: structure from a plan, every width from the shapes of its tensors.

A state dict holds numbers by name. Which convolutions there are, and their kernels, tells an architecture from the others;
channel counts are read from the tensors, so a model of any width, or one with channels removed, is read as it is.
"""

from __future__ import annotations

import copy
import math
from functools import cache
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, cast

import numpy as np
import torch
from torch import nn

from detparity.core.errors import InputError, clipped
from detparity.core.text import listed
from detparity.models.yolov7 import architectures, blocks
from detparity.models.yolov7.block_builders import KINDS
from detparity.models.yolov7.detector import first_pass
from detparity.models.yolov7.network import Level, Network
from detparity.models.yolov7.plan import Plan, Step
from detparity.models.yolov7.size_limits import MAX_LAYERS, require_bounded

SKELETON_CHANNELS = 64  # divisible by the groups of every block
IMPLICIT = ("ia", "im")
Kernels = Mapping[str, int]  # of the convolutions of one layer by their path in it
State = Mapping[str, np.ndarray]


class Fitted(NamedTuple):
    """network: as the state dict has it, without its numbers; plan: of the architecture; note: which it is, a clause."""

    network: Network
    plan: Plan
    note: str


def fitted(state: State, given: Optional[Plan], count: int) -> Fitted:
    """The network of a state dict by the official names.

    given: its architecture where that is known, else it is found among the known ones; count: of tensors in the file. Raises
    InputError where none fits, or where several do that compute different things.
    """
    shape = _shape(state)
    unstated = f"holds a state dict of {count} tensors, which does not say its architecture; name it with --cfg"
    if not shape:
        raise InputError(unstated)
    if given is not None:
        problem = _difference(given, shape)
        if not problem:
            return Fitted(_network(given, state), given, "")
        raise InputError(_other(state, shape, given, problem))
    found = _matching(state, shape)
    if not found:
        raise InputError(f"{unstated}: {_nearest(shape)}")
    if len(found) > 1:
        titles = [_short(one.plan) for one in found]
        raise InputError(
            f"holds a state dict whose shapes fit {' and '.join(titles)}, which differ in what no shape shows "
            f"(activations); name one with --cfg, as in --cfg {titles[0]}"
        )
    return found[0]


def _other(state: State, shape: Sequence[Kernels], given: Plan, problem: str) -> str:
    """Why a state dict is not of the given architecture, and of which it is."""
    title = _short(given) or "the given table"
    found = [_short(one.plan) for one in _matching(state, shape)]
    if found:
        return f"holds weights that fit {' or '.join(found)}, not {title}; give --cfg {found[0]}"
    return f"holds weights that do not fit {title}: {problem}; {_nearest(shape)}"


def _short(plan: Plan) -> str:
    return plan.title[len("deploy-") :] if plan.title.startswith("deploy-") else plan.title


# --- structure


def _shape(state: State) -> List[Kernels]:
    """The convolutions of each layer, the head last; none where a state dict holds those of no layer, or of too many."""
    found: Dict[int, Dict[str, int]] = {}
    for key, value in state.items():
        parts = key.split(".")
        if len(parts) < 4 or parts[0] != "model" or not parts[1].isdigit() or len(parts[1]) > 4:
            continue
        if parts[-1] == "weight" and value.ndim == 4:
            found.setdefault(int(parts[1]), {})[".".join(parts[2:-1])] = int(value.shape[2])
    if not found or max(found) > MAX_LAYERS:
        return []
    return [found.get(index, {}) for index in range(max(found) + 1)]


@cache
def _kernels(kind: str, args: Tuple[Any, ...], repeat: int) -> Tuple[Tuple[str, int], ...]:
    block = _skeleton(Step(kind, (0,), args, repeat))
    return tuple(
        (path, module.kernel_size[0]) for path, module in block.named_modules() if isinstance(module, nn.Conv2d)
    )


def _skeleton(step: Step) -> nn.Module:
    """The modules of a layer, small whatever its channels are."""
    args = (SKELETON_CHANNELS, SKELETON_CHANNELS, *step.args[2:]) if KINDS[step.kind].widened else step.args
    made = [KINDS[step.kind].make(*args) for _ in range(step.repeat)]
    return made[0] if step.repeat == 1 else nn.Sequential(*made)


def _expected(step: Step, stored: Kernels) -> Kernels:
    """The convolutions a layer has by its plan, in the form in which they are stored: a RepConv in branches or fused."""
    args = (0, 0, *step.args[2:]) if KINDS[step.kind].widened else step.args
    found = dict(_kernels(step.kind, args, step.repeat))
    for path in [path for path in found if path.endswith("rbr_dense.0")]:
        fused = path[: -len("rbr_dense.0")] + "rbr_reparam"
        if fused in stored:
            found[fused] = found.pop(path)
            found.pop(path[: -len("rbr_dense.0")] + "rbr_1x1.0", None)
    return found


def _difference(plan: Plan, shape: Sequence[Kernels]) -> str:
    """The first difference between a plan and the convolutions of a state dict, or an empty text."""
    head = len(plan.steps)
    if len(shape) - 1 != head:
        return f"model.{head}.m.0.weight, the first convolution of the head, is missing: it has {len(shape)} layers and not {head + 1}"
    for index, step in enumerate(plan.steps):
        expected = _expected(step, shape[index])
        if expected != shape[index]:
            return f"layer {index} has the convolutions {_listed(shape[index])} where {_listed(expected)} is expected"
    levels = {f"m.{k}": 1 for k in range(len(plan.taps))}
    found = {path: kernel for path, kernel in shape[-1].items() if not path.startswith("m2.")}
    return "" if found == levels else f"its head has {_listed(found)} where {_listed(levels)} is expected"


def _listed(kernels: Kernels) -> str:
    return listed([f"{path} ({size}x{size})" for path, size in kernels.items()], 4) or "none"


def _nearest(shape: Sequence[Kernels]) -> str:
    scores = {}
    for name in architectures.ARCHITECTURES:
        plan = architectures.plan(name)
        same = sum(_expected(step, stored) == stored for step, stored in zip(plan.steps, shape))
        scores[name] = same / max(len(plan.steps), len(shape) - 1)
    best = max(scores, key=lambda name: scores[name])
    return f"it fits none of the {len(scores)} known ones, the nearest is {best} with {100 * scores[best]:.0f} % of its layers"


# --- which of the known ones


def _matching(state: State, shape: Sequence[Kernels]) -> List[Fitted]:
    """The known architectures that a state dict fits, one for each that computes something of its own."""
    implicit = any(f".{part}.0.implicit" in key for key in state for part in IMPLICIT)
    plans = [plan for plan in map(architectures.plan, architectures.ARCHITECTURES) if not _difference(plan, shape)]
    same_head = [plan for plan in plans if plan.head.startswith("I") == implicit]
    found: Dict[Tuple[Any, ...], Fitted] = {}
    for plan in same_head or plans:
        try:
            network = _network(plan, state)
            side = 2 * max(plan.strides)
            first_pass(network.eval(), torch.zeros(1, 3, side, side))
        except InputError:
            continue
        found.setdefault(_identity(plan, state), Fitted(network, plan, f"fits {_short(plan)} {_width(plan, network)}"))
    return list(found.values())


def _identity(plan: Plan, state: State) -> Tuple[Any, ...]:
    """What a plan says besides widths: two that say the same make one network of one state dict."""
    steps = tuple(
        (step.kind, step.reads, step.args[2:] if KINDS[step.kind].widened else step.args, step.repeat)
        for step in plan.steps
    )
    anchors = None if any(key.endswith(("anchors", "anchor_grid")) for key in state) else plan.anchors
    return steps, plan.taps, anchors


def _width(plan: Plan, network: Network) -> str:
    """The width at which a plan gives the channels of a network, as a clause."""
    low, high, pruned = 0.0, math.inf, False
    for step, layer in zip(plan.steps, network.model):
        if step.kind in ("Conv", "RepConv"):
            conv = next(module for module in layer.modules() if isinstance(module, nn.Conv2d))
            base, found = step.args[1] / plan.width, conv.out_channels
            low, high = max(low, (found - 8) / base), min(high, found / base)
            pruned = pruned or found % 8 > 0
    if pruned or not low < high:
        return "with channel counts of its own, as after pruning"
    for parts in (1, 2, 4, 8, 16, 20, 100):
        if math.floor(high * parts) / parts > low:
            return f"at width {math.floor(high * parts) / parts:g}"
    return f"at width {high:.3g}"


# --- the network, with the widths of the state dict


def _network(plan: Plan, state: State) -> Network:
    """The network of a plan with every channel count as stored, still without its numbers. Raises InputError."""
    made = []
    for index, step in enumerate(plan.steps):
        try:
            made.append(_sized(copy.deepcopy(_skeleton(step)), f"model.{index}.", state))
        except (ValueError, TypeError, ArithmeticError, RuntimeError, IndexError) as error:
            raise InputError(f"layer {index} ({step.kind}): {clipped(error)}") from None
    head = f"model.{len(plan.steps)}."
    levels = [_level(plan, k, head, state) for k in range(len(plan.taps))]
    network = Network(made, [step.reads for step in plan.steps], plan.taps, levels)
    require_bounded(network)
    return network


def _sized(module: nn.Module, prefix: str, state: State) -> nn.Module:
    """A skeleton with the widths of its stored tensors, and fused where they are."""
    if isinstance(module, blocks.RepConv) and prefix + "rbr_reparam.weight" in state:
        skeleton = cast(nn.Conv2d, cast(nn.Sequential, module.rbr_dense)[0])
        return blocks.FusedRepConv(_conv(skeleton, prefix + "rbr_reparam.", state), module.act)
    if isinstance(module, blocks.RepConv) and prefix + "rbr_identity.weight" not in state:
        module.rbr_identity = None
    if isinstance(module, blocks.Conv) and prefix + "bn.weight" not in state:
        module.bn = nn.Identity()
        if prefix + "conv.bias" not in state:
            raise InputError(f"{prefix}conv has neither a batch-norm nor a bias")
    for name, child in list(module.named_children()):
        path = f"{prefix}{name}."
        if isinstance(child, nn.Conv2d):
            setattr(module, name, _conv(child, path, state))
        elif isinstance(child, nn.BatchNorm2d):
            features = _stored(path + "weight", state, 1).shape[0]
            setattr(module, name, nn.BatchNorm2d(features, eps=child.eps, momentum=child.momentum))
        else:
            setattr(module, name, _sized(child, path, state))
    if isinstance(module, (blocks.Bottleneck, blocks.Res)):
        last = module.cv3 if isinstance(module, blocks.Res) else module.cv2
        inputs, outputs = cast(blocks.Conv, module.cv1).conv.in_channels, cast(blocks.Conv, last).conv.out_channels
        module.add = bool(module.add) and inputs == outputs
    return module


def _conv(skeleton: nn.Conv2d, path: str, state: State) -> nn.Conv2d:
    weight = _stored(path + "weight", state, 4)
    depthwise = skeleton.groups == skeleton.in_channels == skeleton.out_channels and weight.shape[1] == 1
    groups = weight.shape[0] if depthwise else skeleton.groups
    outputs, inputs = weight.shape[0], weight.shape[1] * groups
    if tuple(weight.shape[2:]) != tuple(skeleton.kernel_size) or outputs % groups:
        raise InputError(f"{path}weight is of shape {tuple(weight.shape)}, which its layer does not take")
    return nn.Conv2d(
        inputs,
        outputs,
        cast(Any, skeleton.kernel_size),
        cast(Any, skeleton.stride),
        cast(Any, skeleton.padding),
        groups=groups,
        bias=path + "bias" in state and _stored(path + "bias", state, 1).shape == (outputs,),
    )


def _stored(key: str, state: State, rank: int) -> np.ndarray:
    value = state.get(key)
    if value is None or value.ndim != rank or 0 in value.shape:
        shown = "missing" if value is None else f"of shape {tuple(value.shape)}"
        raise InputError(f"{key} is {shown} where a tensor of {rank} dimensions is expected")
    return value


def _level(plan: Plan, k: int, head: str, state: State) -> Level:
    weight = _stored(f"{head}m.{k}.weight", state, 4)
    anchors = plan.anchors[k]
    fields, left = divmod(weight.shape[0], len(anchors))
    if left or fields < 6 or tuple(weight.shape[2:]) != (1, 1):
        raise InputError(
            f"{head}m.{k}.weight, a convolution of the head, is of shape {tuple(weight.shape)}: another architecture?"
        )
    auxiliary = state.get(f"{head}m2.{k}.weight")
    stride = plan.strides[plan.taps[k]]
    level = Level(
        weight.shape[1],
        fields,
        torch.tensor(anchors, dtype=torch.float32, device="cpu"),
        stride,
        f"{head}ia.{k}.implicit" in state,
        0 if auxiliary is None else _stored(f"{head}m2.{k}.weight", state, 4).shape[1],
    )
    _take_anchors(level, k, head, state)
    return level


def _take_anchors(level: Level, k: int, head: str, state: State) -> None:
    """The stored anchors, which training may have fitted to its data: in pixels, or in cells."""
    pixels, cells = state.get(f"{head}anchor_grid"), state.get(f"{head}anchors")
    found = pixels[k] if pixels is not None else cells[k] * level.stride if cells is not None else None
    if found is not None:
        anchors = cast(torch.Tensor, level.anchors)
        anchors.copy_(torch.from_numpy(np.array(found, np.float32)).reshape(anchors.shape))

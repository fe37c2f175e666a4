"""From official-format checkpoints to detectors. Nothing in a file is executed: `pickle_reader` yields records,
`checkpoint_contents` finds the model among them, `record_modules` and `state_dict` make our modules, and the stored numbers are
copied in here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, cast

import numpy as np
import torch

from detparity.core import pickle_reader
from detparity.core.errors import InputError, clipped
from detparity.models.yolov7.checkpoint_contents import Found, bare, members, names
from detparity.models.yolov7.detector import YoloDetector, make_detector, official_key
from detparity.models.yolov7.network import Level, Network, joined
from detparity.models.yolov7.plan import Plan
from detparity.models.yolov7.record_modules import DAMAGE, network_of
from detparity.models.yolov7.size_limits import require_bounded
from detparity.models.yolov7.state_dict import fitted


class Member(NamedTuple):
    """One model of a checkpoint: its class names, its network as stored, and what was found out about it, a clause or empty."""

    names: Tuple[str, ...]
    network: Network
    note: str = ""


def load(*paths: Path, plan: Optional[Plan] = None) -> YoloDetector:
    """Load official-format checkpoints: `ema` if present, else `model`; fused, float32, evaluation.

    Several files, or a file that holds several, make an ensemble: the members' predictions one after the other, names from the
    last. plan: what a file's architecture is where it holds a state dict alone, else it is found among the known ones; channels and
    anchors are the file's own.

    Raises InputError, in one line that names the file, for anything that cannot be used.
    """
    found: List[Member] = []
    for path in paths:
        root = pickle_reader.read(path)
        try:
            found += [_member(one, plan) for one in members(root)]
        except InputError as error:
            raise InputError(f"{path}: {clipped(error)}") from None
        except (*DAMAGE, MemoryError, RecursionError) as error:
            raise InputError(f"{path} is damaged: {type(error).__name__} {clipped(error)}") from None
    try:
        one = _ensemble(found) if len(found) > 1 else found[0]
        detector = make_detector("+".join(path.stem for path in paths), one.names, one.network)
        return replace(detector, note=one.note)
    except InputError as error:
        raise InputError(f"{' and '.join(map(str, paths))}: {error}") from None


def _member(found: Found, plan: Optional[Plan]) -> Member:
    if isinstance(found, dict):
        stored = bare(found)
        fit = fitted(stored, plan, len(found))
        _fill(fit.network, dict(stored))
        classes = _all_levels(fit.network)[0].fields - 5
        return Member(tuple(f"class{index}" for index in range(classes)), fit.network, fit.note)
    if plan is not None:
        raise InputError("holds a complete model, which says its architecture itself; --cfg is for a state dict")
    network, stored = network_of(found)
    require_bounded(network)
    _fill(network, stored)
    return Member(names(found, _all_levels(network)[0].fields - 5), network)


def _ensemble(found: Sequence[Member]) -> Member:
    kinds = [
        (f"{level.fields - 5} classes", f"{level.na} anchors") for one in found for level in _all_levels(one.network)
    ]
    if len(set(kinds)) > 1:
        shown = "; ".join(dict.fromkeys(" and ".join(kind) for kind in kinds))
        raise InputError(f"its members do not make one ensemble: they have {shown}")
    return Member(found[-1].names, joined([one.network for one in found]), found[-1].note)


def _all_levels(network: Network) -> List[Level]:
    return [cast(Level, level) for level in network.levels]


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

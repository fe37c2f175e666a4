"""TorchScript archives as plain facts."""

from __future__ import annotations

from collections import Counter
from typing import Any, List, Tuple

import torch

from detparity.artifacts import torchscript_suppression
from detparity.artifacts.torchscript_facts import ScriptFile
from detparity.artifacts.torchscript_graph import Known, source, tensors, type_of, written

HALVES = (torch.float16, torch.bfloat16)
CONVERTING = {"aten::to", "aten::half", "aten::type_as", "aten::float", "prim::dtype"}
# Operators that act otherwise in training, and which of their inputs says so.
TRAINING_FLAG = {"aten::dropout": 2, "aten::feature_dropout": 2, "aten::alpha_dropout": 2, "aten::batch_norm": 5}


def describe(known: Known, metadata: str) -> ScriptFile:
    """The facts of a loaded archive. metadata: the text of its extra file METADATA_FILE."""
    module = known.module
    ops: Counter = Counter()
    devices: List[Tuple[str, str]] = []
    slopes: List[float] = []
    training_ops: List[str] = []
    for node in known.nodes:
        kind = node.kind()
        ops[kind] += 1
        if kind == "prim::Constant":
            devices += _device(node)
        if kind in ("aten::leaky_relu", "aten::leaky_relu_"):
            slope = known.value(node.inputsAt(1))
            slopes += [float(slope)] if isinstance(slope, (int, float)) else []
        flag = TRAINING_FLAG.get(kind.rstrip("_"))
        if flag is not None and known.value(node.inputsAt(flag)) is True:
            training_ops.append(f"{kind} ({source(node)})")
    return ScriptFile(
        dict(ops),
        tuple(devices),
        tuple(tensors(known, dict(module.named_parameters()))),
        tuple(slopes),
        tuple(training_ops),
        {key: value.detach().float().numpy() for key, value in module.state_dict().items()},
        bool(getattr(module, "training", False)),
        metadata,
        tuple(written(known)),
        {key: type_of(value) for key, value in module.state_dict().items() if value.dtype != torch.float32},
        image_type(known),
        torchscript_suppression.numbers(known),
    )


def image_type(known: Known) -> str:
    """The type in which a module takes its image: that of its weights, where it does not convert what it is given."""
    weights = (one.dtype for one in known.module.parameters() if one.is_floating_point() and one.dim() > 1)
    first = next(weights, torch.float32)
    if first not in HALVES:
        return "float32"
    given = list(known.graph.inputs())
    readers = {use.user.kind() for use in given[1].uses()} if len(given) > 1 else set()
    return "float32" if readers & CONVERTING else str(first).rpartition(".")[2]


def _device(node: Any) -> List[Tuple[str, str]]:
    output = node.outputsAt(0)
    value = output.toIValue() if str(output.type()) in ("Device", "Device?") else None
    return [] if value is None else [(str(value), source(node))]

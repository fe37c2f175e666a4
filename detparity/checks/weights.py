"""Whether the numbers stored in the file are the checkpoint's, tensor by tensor, after our own fuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator, List, Mapping, Sequence, Tuple

import numpy as np

from detparity.artifacts.conv_weights import Stored, _distance, by_content, by_name, match, onnx_convs
from detparity.checks.context import Context
from detparity.core.contract import MUST, Contract
from detparity.core.findings import Check, Finding, Row
from detparity.core.text import number
from detparity.core.vocabulary import ConvWeights

if TYPE_CHECKING:
    from detparity.artifacts.torchscript_facts import ScriptFile

TOLERANCE = 1e-5  # of the tensor's largest value: fusing in float32 moves a weight by about 1e-7


def _script_convs(file: ScriptFile) -> List[Stored]:
    state, found = file.state, []
    unfolded = bool({"aten::batch_norm", "aten::_batch_norm_impl_index"} & set(file.ops))
    for name, value in state.items():
        if name.endswith(".weight") and value.ndim == 4:
            found.append(Stored(name, value, state.get(name[: -len("weight")] + "bias"), unfolded=unfolded))
    return found


def _only_reordered(context: Context, expected: Sequence[ConvWeights], stored: Sequence[Stored]) -> bool:
    """Whether a file without names holds exactly the model's tensors in another order, and computes the model with them.

    Independent nodes may stand in any order, so order alone proves nothing; swapped tensors give other numbers.
    """
    if by_name(expected, stored) or len(stored) != len(expected):
        return False
    pairs = by_content(expected, range(len(expected)), stored)
    exact = all(_distance(found.weight, expected[index].weight) <= TOLERANCE for index, found in pairs.items())
    if len(pairs) != len(expected) or not exact:
        return False
    deciding = "nms.detections" if context.contract.variant.end2end else "parity.declared"
    return context.outcome(deciding).outcome == "passed"


def _how(found: np.ndarray, wanted: np.ndarray, others: Mapping[str, np.ndarray]) -> str:
    """What happened to a tensor, where it can be told."""
    for key, other in others.items():
        if other is not wanted and other.shape == found.shape and _distance(found, other) <= TOLERANCE:
            return f"it is the tensor of {key}"
    if np.array_equal(found, wanted.astype(np.float16).astype(found.dtype)):
        return "rounded to float16"
    differs = found != wanted
    zeros = differs & (found == 0)
    if zeros.any() and _distance(np.where(zeros, wanted, found), wanted) <= TOLERANCE:
        return f"{int(zeros.sum())} of {found.size} values set to zero"
    ratio = float((found.astype(np.float64) * wanted).sum() / max(float((wanted.astype(np.float64) ** 2).sum()), 1e-30))
    if _distance(found / ratio if ratio else found, wanted) <= TOLERANCE:
        return f"multiplied by {ratio:.6g}"
    far = np.abs(found.astype(np.float64) - wanted) > TOLERANCE * np.abs(wanted).max()
    return f"{int(far.sum())} of {found.size} values differ"


def compare(expected: Sequence[ConvWeights], stored: Sequence[Stored]) -> Iterator[Finding]:
    pairs = match(expected, stored)
    weights = {conv.key + ".weight": conv.weight for conv in expected}
    biases = {conv.key + ".bias": conv.bias for conv in expected}
    rows: List[Row] = [("tensor", "largest difference", "what happened")]
    for index, found in sorted(pairs.items()):
        conv = expected[index]
        unfused = found.unfolded and _distance(found.weight, conv.plain) <= TOLERANCE
        if _distance(found.weight, conv.weight) > TOLERANCE and not unfused:
            worst = _distance(found.weight, conv.weight)
            rows.append((conv.key + ".weight", _share(worst), _how(found.weight, conv.weight, weights)))
        if found.bias is not None and not unfused and _distance(found.bias, conv.bias) > TOLERANCE:
            rows.append(
                (conv.key + ".bias", _share(_distance(found.bias, conv.bias)), _how(found.bias, conv.bias, biases))
            )
    if len(rows) > 1:
        what = "1 tensor that differs" if len(rows) == 2 else f"{len(rows) - 1} tensors that differ"
        yield Finding(
            f"stores {what} from the fused checkpoint, first {rows[1][0]}.",
            tuple(rows[:13]),
            headed=True,
            notes=(f"Allowed: {number(TOLERANCE)} of the tensor's largest value.",),
            evidence={"tensors": [row[0] for row in rows[1:]], "how": [row[2] for row in rows[1:]]},
        )


def _share(distance: float) -> str:
    return f"{number(distance)} of its largest value" if np.isfinite(distance) else "another shape or not finite"


def onnx_weights(context: Context) -> Iterator[Finding]:
    stored = onnx_convs(context.onnx.graph)
    found = list(compare(context.weights, stored))
    if found and not _only_reordered(context, context.weights, stored):
        yield from found


def script_weights(context: Context) -> Iterator[Finding]:
    yield from compare(context.weights, _script_convs(context.script))


def onnx_attributes(context: Context) -> Iterator[Finding]:
    """Strides, padding and groups of matched convolutions; slopes of leaky activations in order."""
    rows: List[Row] = [("node", "attribute", "model", "file")]
    for index, found in sorted(match(context.weights, onnx_convs(context.onnx.graph)).items()):
        conv, node = context.weights[index], found.node
        assert node is not None
        wanted = {"strides": list(conv.stride), "dilations": [1, 1], "group": conv.groups}
        default = {"strides": [1, 1], "dilations": [1, 1], "group": 1}
        if node.get("auto_pad", "NOTSET") == "NOTSET":
            wanted["pads"], default["pads"] = [*conv.padding, *conv.padding], [0, 0, 0, 0]
        for key, value in wanted.items():
            if node.get(key, default[key]) != value:
                rows.append((node.title, key, str(value), str(node.get(key, default[key]))))
    alphas = [
        (node.title, float(node.get("alpha", 0.01))) for node in context.onnx.graph.nodes if node.op == "LeakyRelu"
    ]
    rows += _slopes(context.slopes, alphas)
    yield from _attributes_finding(rows)


def script_attributes(context: Context) -> Iterator[Finding]:
    found = [(f"leaky_relu {index}", slope) for index, slope in enumerate(context.script.slopes)]
    yield from _attributes_finding([("node", "attribute", "model", "file"), *_slopes(context.slopes, found)])


def _slopes(expected: Sequence[float], found: Sequence[Tuple[str, float]]) -> List[Row]:
    """Where counts differ the file expresses activations otherwise, and the numbers decide."""
    if len(expected) != len(found):
        return []
    return [
        (title, "slope", number(wanted), number(value))
        for wanted, (title, value) in zip(expected, found)
        if abs(value - wanted) > 1e-6 * max(abs(wanted), 1e-6)
    ]


def _attributes_finding(rows: Sequence[Row]) -> Iterator[Finding]:
    if len(rows) > 1:
        yield Finding(
            f"has {len(rows) - 1} attributes that are not the model's.",
            tuple(rows[:13]),
            headed=True,
            evidence={"attributes": [list(row) for row in rows[1:]]},
        )


def coverage(context: Context) -> Tuple[int, List[str]]:
    """How many of the model's convolutions were compared, and the keys of those that were not comparable."""
    found = onnx_convs(context.onnx.graph) if context.artifact.kind == "onnx" else _script_convs(context.script)
    pairs = match(context.weights, found)
    return len(pairs), [conv.key for index, conv in enumerate(context.weights) if index not in pairs]


def _on_onnx(contract: Contract) -> bool:
    return contract.variant.onnx


def _on_script(contract: Contract) -> bool:
    return not contract.variant.onnx


CHECKS: Tuple[Check, ...] = (
    Check("structure.weights", MUST, "Stored weights and biases are the fused checkpoint's.", onnx_weights, _on_onnx),
    Check(
        "structure.attributes",
        MUST,
        "Convolution attributes and activation slopes are the model's.",
        onnx_attributes,
        _on_onnx,
    ),
    Check("script.weights", MUST, "Stored weights and biases are the fused checkpoint's.", script_weights, _on_script),
    Check("script.attributes", MUST, "Activation slopes are the model's.", script_attributes, _on_script),
)

"""Whether the numbers stored in the file are the checkpoint's, tensor by tensor, after our own fuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from detparity.artifacts.conv_weights import STORED_AS, Stored, _distance, by_content, by_name, match, onnx_convs
from detparity.artifacts.other_model import other_model, other_weights
from detparity.checks.context import Context
from detparity.core.contract import MUST, SHOULD, Contract
from detparity.core.findings import Check, Finding, Row
from detparity.core.precision import EPSILON, HALVES
from detparity.core.text import listed, number
from detparity.core.vocabulary import ConvWeights

if TYPE_CHECKING:
    from detparity.artifacts.torchscript_facts import Constant, ScriptFile

CONVOLUTION = frozenset(("aten::_convolution", "aten::conv2d", "aten::convolution"))
EPSILONS = (1e-5, 1e-3, 1e-4, 1e-6)  # of batch-norm: torch's default, the family's, and others in use
HALF_STEP = 0.51  # of a quantised tensor: the nearest of its values
# What converters leave of smaller numbers: half a spacing, and onnxconverter-common writes 1e-7 for anything smaller.
SUBNORMAL = {"float16": 1.1e-7, "bfloat16": 1e-38}
TOLERANCE = 1e-5  # of the tensor's largest value: fusing in float32 moves a weight by about 1e-7


def script_convs(file: ScriptFile) -> List[Stored]:
    """The convolutions of a module: its parameters, or the constants of its graph where it was frozen."""
    state, found = file.state, []
    unfolded = bool({"aten::batch_norm", "aten::_batch_norm_impl_index"} & set(file.ops))
    for name, value in state.items():
        if name.endswith(".weight") and value.ndim == 4:
            rounded = STORED_AS.get(file.types.get(name, ""), "")
            bias = state.get(name[: -len("weight")] + "bias")
            found.append(Stored(name, value, bias, unfolded=unfolded, rounded=rounded))
    frozen = [one for one in file.constants if one.value.ndim == 4 and CONVOLUTION.intersection(one.readers)]
    return found or [
        Stored(one.path or f"constant {k}", _float32(one), None, rounded=STORED_AS.get(one.kind, ""))
        for k, one in enumerate(frozen)
    ]


def _float32(one: Constant) -> np.ndarray:
    return one.value.astype(np.float32) if one.kind in HALVES else one.value


def stored_convs(context: Context) -> List[Stored]:
    """The convolutions of the file, worked out once."""
    if "convolutions" not in context.notes:
        onnx = context.artifact.kind == "onnx"
        context.notes["convolutions"] = onnx_convs(context.onnx.graph) if onnx else script_convs(context.script)
    found: List[Stored] = context.notes["convolutions"]
    return found


def model_problem(context: Context) -> Optional[str]:
    """How the file shows that it is an export of another model; only where its numbers are not the model's that is true."""
    if "other model" not in context.notes:
        context.notes["other model"] = other_model(context.weights, stored_convs(context), context.facts)
    found: Optional[str] = context.notes["other model"]
    return found


def deciding(context: Context) -> str:
    """The check of numbers that decides where stored weights cannot be compared."""
    return "nms.detections" if context.contract.variant.end2end else "parity.declared"


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
    return context.outcome(deciding(context)).outcome == "passed"


def _how(found: np.ndarray, expected: np.ndarray, others: Mapping[str, np.ndarray]) -> str:
    """What happened to a tensor, where that shows."""
    for key, other in others.items():
        if other is not expected and other.shape == found.shape and _distance(found, other) <= TOLERANCE:
            return f"it is the tensor of {key}"
    if found.shape != expected.shape:
        return f"is {'x'.join(map(str, found.shape))} where the model has {'x'.join(map(str, expected.shape))}"
    if np.array_equal(found, expected.astype(np.float16).astype(found.dtype)):
        return "rounded to float16"
    differs = found != expected
    zeros = differs & (found == 0)
    if zeros.any() and _distance(np.where(zeros, expected, found), expected) <= TOLERANCE:
        return f"{int(zeros.sum())} of {found.size} values set to zero"
    squares = float((expected.astype(np.float64) ** 2).sum())
    ratio = float((found.astype(np.float64) * expected).sum() / max(squares, 1e-30))
    if _distance(found / ratio if ratio else found, expected) <= TOLERANCE:
        return f"multiplied by {ratio:.6g}"
    far = np.abs(found.astype(np.float64) - expected) > TOLERANCE * np.abs(expected).max()
    return f"{int(far.sum())} of {found.size} values differ"


def _as_stored(value: np.ndarray, expected: np.ndarray, rounded: str, step: Optional[np.ndarray]) -> bool:
    """Whether a tensor is the model's, rounded once to what the file stores it in."""
    if value.shape != expected.shape or not np.isfinite(value).all():
        return False
    if step is not None:
        allowed = HALF_STEP * step
    elif rounded in HALVES:
        allowed = np.maximum(EPSILON[rounded] / 2 * np.abs(expected), SUBNORMAL[rounded])
    else:
        return False
    slack = TOLERANCE * float(np.abs(expected).max())
    return bool((np.abs(value.astype(np.float64) - expected) <= allowed + slack).all())


def compare(expected: Sequence[ConvWeights], stored: Sequence[Stored]) -> Iterator[Finding]:
    """Findings about the tensors that differ, those of one precision in one. Pairs have equal shapes."""
    pairs = match(expected, stored)
    weights = {conv.key + ".weight": conv.weight for conv in expected}
    biases = {conv.key + ".bias": conv.bias for conv in expected}
    rows: List[Row] = [("tensor", "largest difference", "what happened")]
    for index, found in sorted(pairs.items()):
        conv = expected[index]
        kind = (found.rounded, found.step)
        unfused = found.unfolded and (
            _distance(found.weight, conv.plain) <= TOLERANCE or _as_stored(found.weight, conv.plain, *kind)
        )
        right = unfused or _as_stored(found.weight, conv.weight, *kind)
        if _distance(found.weight, conv.weight) > TOLERANCE and not right:
            worst = _distance(found.weight, conv.weight)
            rows.append((conv.key + ".weight", _share(worst), _how(found.weight, conv.weight, weights)))
        if found.bias is None or unfused or _as_stored(found.bias, conv.bias, found.rounded, found.bias_step):
            continue
        if _distance(found.bias, conv.bias) > TOLERANCE:
            bias = _distance(found.bias, conv.bias)
            rows.append((conv.key + ".bias", _share(bias), _how(found.bias, conv.bias, biases)))
    if len(rows) > 1:
        epsilon = _epsilon(expected, pairs)
        message = _differing(rows, pairs, epsilon is None and other_weights(expected, stored))
        lower = sorted({found.rounded for found in pairs.values() if found.rounded})
        notes = [f"Allowed: {number(TOLERANCE)} of the tensor's largest value{_once(lower)}."]
        evidence = {"tensors": [row[0] for row in rows[1:]], "how": [row[2] for row in rows[1:]]}
        if epsilon is not None:
            own = sorted({conv.norm.epsilon for conv in expected if conv.norm is not None})
            cause = f"batch-norm was folded with eps {epsilon:g}, the model's is {listed([f'{one:g}' for one in own])}"
            message, evidence["cause"] = f"{message[:-1]}: {cause}.", [cause]
            notes.insert(
                0, "Every weight and bias is what that gives. Set the epsilon of the model's batch-norms before export."
            )
        yield Finding(message, tuple(rows[:13]), headed=True, notes=tuple(notes), evidence=evidence)


def _epsilon(expected: Sequence[ConvWeights], pairs: Mapping[int, Stored]) -> Optional[float]:
    """The epsilon by which batch-norm was folded in place of the model's, where that explains every number that differs."""
    for epsilon in EPSILONS:
        if all(_folded_by(epsilon, expected[index], found) for index, found in pairs.items()):
            return epsilon
    return None


def _folded_by(epsilon: float, conv: ConvWeights, found: Stored) -> bool:
    weight, bias = conv.weight.astype(np.float64), conv.bias.astype(np.float64)
    if conv.norm is not None:
        factor = np.sqrt((conv.norm.variance + conv.norm.epsilon) / (conv.norm.variance + epsilon))
        weight = weight * factor.reshape(-1, 1, 1, 1)
        bias = conv.norm.added + (bias - conv.norm.added) * factor
    right = found.bias is None or _distance(found.bias, bias) <= TOLERANCE
    return right and _distance(found.weight, weight) <= TOLERANCE


def _once(lower: Sequence[str]) -> str:
    return f", and one rounding to {' and '.join(lower)}, in which the file stores them" if lower else ""


def _differing(rows: Sequence[Row], pairs: Mapping[int, Stored], other: bool) -> str:
    """The sentence of `compare`."""
    if other:
        return f"stores the weights of another checkpoint: none of its {len(pairs)} convolutions is the model's."
    what = "1 tensor that differs" if len(rows) == 2 else f"{len(rows) - 1} tensors that differ"
    return f"stores {what} from the fused checkpoint, first {rows[1][0]}."


def _share(distance: float) -> str:
    return f"{number(distance)} of its largest value" if np.isfinite(distance) else "another shape or not finite"


def onnx_weights(context: Context) -> Iterator[Finding]:
    stored = stored_convs(context)
    found = list(compare(context.weights, stored))
    if found and _only_reordered(context, context.weights, stored):
        found = []
    yield from _about_the_model(context, found)


def script_weights(context: Context) -> Iterator[Finding]:
    yield from _about_the_model(context, list(compare(context.weights, stored_convs(context))))


def _about_the_model(context: Context, found: List[Finding]) -> Iterator[Finding]:
    """One finding where the file is an export of another model, or where no weight could be compared; else these."""
    problem = model_problem(context)
    if problem and context.outcome(deciding(context)).outcome != "passed":
        yield Finding(
            f"{problem}.",
            notes=("Give the checkpoint that the file was exported from, or export this one.",),
            evidence={"model": problem},
        )
        return
    stored = stored_convs(context)
    if not match(context.weights, stored):
        what = (
            f"holds {len(stored)} convolutions with constant weights, none the model's"
            if stored
            else "holds no constant weights"
        )
        yield Finding(
            f"{what}: none of the {len(context.weights)} convolutions could be compared, only the numbers are.",
            evidence={"stored": len(stored), "expected": len(context.weights)},
            level=SHOULD,
            fix="",
        )
    yield from found


def onnx_attributes(context: Context) -> Iterator[Finding]:
    """Strides, padding and groups of matched convolutions; slopes of leaky activations in order."""
    rows: List[Row] = [("node", "attribute", "model", "file")]
    for index, found in sorted(match(context.weights, stored_convs(context)).items()):
        conv, node = context.weights[index], found.node
        assert node is not None
        expected = {"strides": list(conv.stride), "dilations": [1, 1], "group": conv.groups}
        default = {"strides": [1, 1], "dilations": [1, 1], "group": 1}
        if node.get("auto_pad", "NOTSET") == "NOTSET":
            expected["pads"], default["pads"] = [*conv.padding, *conv.padding], [0, 0, 0, 0]
        for key, value in expected.items():
            if node.get(key, default[key]) != value:
                rows.append((node.title, key, str(value), str(node.get(key, default[key]))))
    alphas = [(node.title, node.number("alpha", 0.01)) for node in context.onnx.graph.nodes if node.op == "LeakyRelu"]
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
        (title, "slope", number(slope), number(value))
        for slope, (title, value) in zip(expected, found)
        if not abs(value - slope) <= 1e-6 * max(abs(slope), 1e-6)
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
    pairs = match(context.weights, stored_convs(context))
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

"""Whether the numbers stored in the file are the checkpoint's, tensor by tensor, after our own fuse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from detparity.contract import MUST, Contract
from detparity.failures import number
from detparity.findings import Check, Finding, Row
from detparity.graph import Graph, Node, plain_name
from detparity.subject import ConvWeights
from detparity.trial import Trial

if TYPE_CHECKING:
    from detparity.engines.torchscript import ScriptFile

UNFOLDED = frozenset(("BatchNormalization", "Mul", "Add"))
TOLERANCE = 1e-5  # of the tensor's largest value: fusing in float32 moves a weight by about 1e-7


@dataclass(frozen=True)
class Stored:
    """A convolution as the file has it; bias None where it has none; node None for TorchScript; unfolded: whether something
    after it could be the batch-norm or the implicit factor that was not folded in."""

    name: str
    weight: np.ndarray
    bias: Optional[np.ndarray]
    node: Optional[Node] = None
    unfolded: bool = False


def onnx_convs(graph: Graph) -> List[Stored]:
    """The convolutions of a graph whose weights are constants, in its order."""
    producers, consumers = graph.producers(), graph.consumers()

    def constant(name: str) -> Optional[np.ndarray]:
        while name not in graph.constants and name in producers and producers[name].op == "Identity":
            name = producers[name].inputs[0]
        return graph.constants.get(name)

    found = []
    for node in graph.nodes:
        if node.op == "Conv":
            weight = constant(node.inputs[1])
            bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
            if weight is not None:
                after = {reader.op for reader in consumers.get(node.outputs[0], [])}
                found.append(Stored(node.inputs[1], weight, bias, node, bool(after & UNFOLDED)))
    return found


def _script_convs(file: ScriptFile) -> List[Stored]:
    state, found = file.state, []
    unfolded = bool({"aten::batch_norm", "aten::_batch_norm_impl_index"} & set(file.ops))
    for name, value in state.items():
        if name.endswith(".weight") and value.ndim == 4:
            found.append(Stored(name, value, state.get(name[: -len("weight")] + "bias"), unfolded=unfolded))
    return found


def match(expected: Sequence[ConvWeights], stored: Sequence[Stored]) -> Dict[int, Stored]:
    """Pair the model's convolutions with the file's: by official name, what is left by order, else by nearest content."""
    named = by_name(expected, stored)
    taken = {id(found) for found in named.values()}
    rest = [index for index in range(len(expected)) if index not in named]
    left = [found for found in stored if id(found) not in taken]
    if len(left) == len(rest) and all(expected[i].weight.shape == s.weight.shape for i, s in zip(rest, left)):
        return {**named, **dict(zip(rest, left))}
    return {**named, **by_content(expected, rest, left)}


def by_name(expected: Sequence[ConvWeights], stored: Sequence[Stored]) -> Dict[int, Stored]:
    """The file's convolutions by the index of the model's whose official name they bear."""
    found: Dict[int, Stored] = {}
    plain = {plain_name(s.name): s for s in stored}
    for index, conv in enumerate(expected):
        wanted = f"{conv.key}.weight"
        hits = [s for name, s in plain.items() if name == wanted or name.endswith("." + wanted)]
        if len(hits) == 1:
            found[index] = hits[0]
    return found


def by_content(expected: Sequence[ConvWeights], indices: Sequence[int], stored: Sequence[Stored]) -> Dict[int, Stored]:
    """Those of the model at `indices` with the nearest of the same shape, where any is near."""
    found: Dict[int, Stored] = {}
    left = list(stored)
    for index in indices:
        conv = expected[index]
        same = [s for s in left if s.weight.shape == conv.weight.shape]
        if same:
            best = min(same, key=lambda s: _distance(s.weight, conv.weight))
            if _distance(best.weight, conv.weight) < 0.1:
                found[index] = best
                left.remove(best)
    return found


def _only_reordered(trial: Trial, expected: Sequence[ConvWeights], stored: Sequence[Stored]) -> bool:
    """Whether a file without names holds exactly the model's tensors in another order, and computes the model with them.

    Independent nodes may stand in any order, so order alone proves nothing; swapped tensors give other numbers.
    """
    if by_name(expected, stored) or len(stored) != len(expected):
        return False
    pairs = by_content(expected, range(len(expected)), stored)
    exact = all(_distance(found.weight, expected[index].weight) <= TOLERANCE for index, found in pairs.items())
    if len(pairs) != len(expected) or not exact:
        return False
    deciding = "nms.detections" if trial.contract.variant.end2end else "parity.declared"
    return trial.outcome(deciding).outcome == "passed"


def _distance(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference as a share of the largest wanted value; infinite where shapes differ or a value is NaN."""
    if found.shape != wanted.shape:
        return float("inf")
    scale = max(float(np.abs(wanted).max()), 1e-30)
    worst = float(np.abs(found.astype(np.float64) - wanted).max()) / scale
    return worst if np.isfinite(worst) else float("inf")


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


def onnx_weights(trial: Trial) -> Iterator[Finding]:
    stored = onnx_convs(trial.onnx.graph)
    found = list(compare(trial.weights, stored))
    if found and not _only_reordered(trial, trial.weights, stored):
        yield from found


def script_weights(trial: Trial) -> Iterator[Finding]:
    yield from compare(trial.weights, _script_convs(trial.script))


def onnx_attributes(trial: Trial) -> Iterator[Finding]:
    """Strides, padding and groups of matched convolutions; slopes of leaky activations in order."""
    rows: List[Row] = [("node", "attribute", "model", "file")]
    for index, found in sorted(match(trial.weights, onnx_convs(trial.onnx.graph)).items()):
        conv, node = trial.weights[index], found.node
        assert node is not None
        wanted = {"strides": list(conv.stride), "dilations": [1, 1], "group": conv.groups}
        default = {"strides": [1, 1], "dilations": [1, 1], "group": 1}
        if node.get("auto_pad", "NOTSET") == "NOTSET":
            wanted["pads"], default["pads"] = [*conv.padding, *conv.padding], [0, 0, 0, 0]
        for key, value in wanted.items():
            if node.get(key, default[key]) != value:
                rows.append((node.title, key, str(value), str(node.get(key, default[key]))))
    alphas = [(node.title, float(node.get("alpha", 0.01))) for node in trial.onnx.graph.nodes if node.op == "LeakyRelu"]
    rows += _slopes(trial.slopes, alphas)
    yield from _attributes_finding(rows)


def script_attributes(trial: Trial) -> Iterator[Finding]:
    found = [(f"leaky_relu {index}", slope) for index, slope in enumerate(trial.script.slopes)]
    yield from _attributes_finding([("node", "attribute", "model", "file"), *_slopes(trial.slopes, found)])


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


def coverage(trial: Trial) -> Tuple[int, List[str]]:
    """How many of the model's convolutions were compared, and the keys of those that were not comparable."""
    found = onnx_convs(trial.onnx.graph) if trial.artifact.kind == "onnx" else _script_convs(trial.script)
    pairs = match(trial.weights, found)
    return len(pairs), [conv.key for index, conv in enumerate(trial.weights) if index not in pairs]


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

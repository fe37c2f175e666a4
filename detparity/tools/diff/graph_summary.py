"""The facts of an ONNX file that a golden records: small, canonical, independent of names of inner values and of order."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from detparity.artifacts.onnx_graph import OnnxFile, Value, plain_name
from detparity.tools.diff.canonical_text import FEW, array_text, digest, shape_text
from detparity.tools.diff.fingerprint import Digests, Order, hashed, neighbourhoods
from detparity.tools.diff.ssa import MOVED, Constant, Op, Wiring, resolve
from detparity.tools.diff.tensor_sketch import PRODUCTS, packed, sketch

FORMAT = 1  # of the facts; a reader refuses another
MANY = 300  # tensors, from which on a file's sketches are half as long: the largest architecture stays under 50 KB

# What these read here is a weight however few numbers it has.
WEIGHT_SLOTS: Mapping[str, FrozenSet[int]] = {
    **dict.fromkeys(
        ("Conv", "ConvTranspose", "Gemm", "InstanceNormalization", "LayerNormalization"), frozenset((1, 2))
    ),
    "BatchNormalization": frozenset((1, 2, 3, 4)),
    "PRelu": frozenset((1,)),
}
# Metadata about the making of a file, not about the file: any of these words in a key.
VOLATILE = frozenset(
    (
        "date",
        "time",
        "timestamp",
        "created",
        "version",
        "commit",
        "revision",
        "host",
        "hostname",
        "user",
        "path",
        "file",
    )
)
OFFICIAL = re.compile(r"[A-Za-z_]\w*(\.\w+)*\.[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True)
class Weight:
    """A stored tensor that is a weight. name: its parameter path in official terms, or None where its name does not look like
    one; title: what the file calls it."""

    name: Optional[str]
    title: str
    value: np.ndarray
    sha256: str


@dataclass(frozen=True)
class Step:
    """An operator of the main graph. title: what the file calls it; leads: digests of all that leads up to it, with weights by
    shape and by name."""

    title: str
    leads: Tuple[str, str]


@dataclass(frozen=True)
class Read:
    """A file that was read: its facts, the tensors behind their `weights` in the same order, and its operators in the order of
    execution."""

    facts: Dict[str, Any]
    weights: Tuple[Weight, ...]
    steps: Tuple[Step, ...]


def graph_facts(file: OnnxFile) -> Dict[str, Any]:
    """The facts of a file as plain data for JSON. Equal `digests.content` means: the same graph with the same numbers.

    Raises InputError, in one line without the file's name, where the graph makes no sense (`ssa.resolve`).
    """
    return read_graph(file).facts


def read_graph(file: OnnxFile) -> Read:
    """The facts and what is too large for them. Raises InputError as `graph_facts` does."""
    wiring = resolve(file)
    heavy = _weights(wiring)
    names = _official_names(heavy)
    sums = {constant: digest(constant.value) for constant in heavy}

    def by_value(constant: Constant) -> str:
        value = constant.value
        sha256 = sums[constant] if constant in sums else digest(value)
        return f"{value.dtype} {shape_text(value.shape)} {sha256}"

    def by_shape(constant: Constant) -> str:
        value = constant.value
        return f"weight {value.dtype} {shape_text(value.shape)}" if constant in heavy else array_text(value)

    def by_name(constant: Constant) -> str:
        return f"weight {names[constant]}" if constant in names else by_shape(constant)

    bare, topology = Digests(lambda constant: "constant", settings=False), Digests(by_shape)
    named, content = Digests(by_name), Digests(by_value, unused=True)
    digests = {
        "wiring": bare.operators(wiring.main),
        "topology": topology.operators(wiring.main),
        "named": named.operators(wiring.main),
        "content": hashed(content.operators(wiring.main), [content.source(item) for item in wiring.main.outputs]),
    }
    order = Order(topology, content)
    ordered = [item for item in order.constants(wiring) if item in heavy]
    weights = tuple(Weight(names.get(item), item.name, item.value, sums[item]) for item in ordered)
    overridable = {value.name for value in file.graph.inputs} & set(file.graph.initializers)
    facts = {
        "format": FORMAT,
        "ir_version": file.ir_version,
        "opsets": {domain or "ai.onnx": version for domain, version in file.opsets.items()},
        "inputs": [_value(value) for value in file.graph.inputs if value.name not in overridable],
        "overridable": len(overridable),
        "outputs": [
            {**_value(value), "from": hashed(named.source(source))[:8]}
            for value, source in zip(file.graph.outputs, wiring.main.outputs)
        ],
        "metadata": {key: value for key, value in sorted(file.metadata.items()) if not _volatile(key)},
        "operators": _operators(wiring),
        "attributes": _attributes(wiring),
        "constants": _constants(wiring, heavy),
        "digests": digests,
        "neighbourhoods": "".join(neighbourhoods(wiring.main, named, names)),
        "weights": _rows(weights),
    }
    steps = [Step(op.node.title, (topology.before[op], named.before[op])) for op in order.operators(wiring.main)]
    return Read(facts, weights, tuple(steps))


def _volatile(key: str) -> bool:
    return bool(VOLATILE & set(re.split(r"[^a-z]+", key.lower())))


def _value(value: Value) -> Dict[str, Any]:
    return {"name": value.name, "dtype": value.dtype, "axes": None if value.shape is None else list(value.shape)}


def _weights(wiring: Wiring) -> Set[Constant]:
    """Float and quantised constants of more than `FEW` numbers, and those in the `WEIGHT_SLOTS` of an operator."""
    found: Set[Constant] = set()
    for _, scope in wiring.scopes():
        for op in scope.ops:
            for slot, source in enumerate(op.sources):
                if isinstance(source, Constant) and (_is_long(source) or slot in WEIGHT_SLOTS.get(op.kind, ())):
                    found.add(source)
        found.update(item for item in (*scope.outputs, *scope.unused) if isinstance(item, Constant) and _is_long(item))
    return found


def _is_long(constant: Constant) -> bool:
    """Numbers of a fraction, or of the eight bits and less that quantisation stores, and more than a few of them."""
    kind = constant.value.dtype
    numbers = kind.kind == "f" or kind.kind == "V" or (kind.kind in "iu" and kind.itemsize == 1)
    return numbers and constant.value.size > FEW


def _official_names(weights: Iterable[Constant]) -> Dict[Constant, str]:
    """Parameter paths in official terms: without the prefix of a wrapper and without our own blocks. Where that makes two equal, both
    have their full names, and where these are equal as well, as in the bodies of two nodes, neither has one."""
    there = [item for item in weights if OFFICIAL.fullmatch(item.name)]
    plain = {item: official_name(item.name) for item in there}
    short, full = Counter(plain.values()), Counter(item.name for item in there)
    found = {item: plain[item] if short[plain[item]] == 1 else item.name for item in there if full[item.name] == 1}
    again = Counter(found.values())
    return {item: name for item, name in found.items() if again[name] == 1}


def official_name(name: str) -> str:
    """`model.0.conv.weight` of `network.model.0.block.conv.weight` and of `model.model.0.conv.weight`."""
    return re.sub(r"^.*\.(?=model\.\d+\.)", "", plain_name(name))


def _operators(wiring: Wiring) -> Dict[str, Dict[str, int]]:
    """How many operators of each kind there are, by title of the scope."""
    found: Dict[str, Counter[str]] = {}
    for title, scope in wiring.scopes():
        found.setdefault(title, Counter()).update(op.kind for op in scope.ops)
    return {title: dict(counts) for title, counts in found.items()}


def _attributes(wiring: Wiring) -> Dict[str, Dict[str, int]]:
    """How many operators have each value of each attribute. An attribute that has its default everywhere is left out."""
    found: Dict[str, Counter[str]] = {}
    recorded: Set[str] = set()
    for op in (op for _, scope in wiring.scopes() for op in scope.ops):
        for key, text in op.settings.items():
            name = f"{op.kind}.{key}"
            found.setdefault(name, Counter())[text] += 1
            if key in op.explicit or key == "kernel_shape":
                recorded.add(name)
    return {name: dict(counts) for name, counts in found.items() if name in recorded}


def _constants(wiring: Wiring, weights: Set[Constant]) -> Dict[str, Dict[str, int]]:
    """How many operators read each value of a constant that is no weight, by operator and the standard's name of its input."""
    found: Dict[str, Counter[str]] = {}

    def add(reader: str, source: Any) -> None:
        if isinstance(source, Constant) and source not in weights:
            found.setdefault(reader, Counter())[array_text(source.value)] += 1

    for _, scope in wiring.scopes():
        for op in scope.ops:
            for slot, source in enumerate(op.sources):
                add(f"{op.kind}.{_input_name(op, slot)}", source)
        for source in scope.outputs:
            add("returned.constant", source)
        for source in scope.unused:
            add("unused.constant", source)
    return {name: dict(counts) for name, counts in found.items()}


def _input_name(op: Op, slot: int) -> str:
    if op.commutative:
        return "constant"
    if MOVED.get(op.kind, ("", 0))[1] == slot > 0:
        return MOVED[op.kind][0]
    return op.inputs[min(slot, len(op.inputs) - 1)] if op.inputs else f"input {slot}"


def _rows(weights: Sequence[Weight]) -> List[str]:
    """One line for each tensor: name (`-` for none, `.bias` after `model.0.conv.weight` for `model.0.conv.bias`), type unless it
    is float32, shape, sha256, rms, sketch."""
    rows: List[str] = []
    products = PRODUCTS if len(weights) <= MANY else PRODUCTS // 2
    stem = None
    for weight in weights:
        name = weight.name or "-"
        before, stem = stem, name.rpartition(".")[0]
        kind = "" if str(weight.value.dtype) == "float32" else f"{weight.value.dtype}:"
        made = sketch(weight.value)
        rows.append(
            f"{name[len(stem) :] if stem and stem == before else name} {kind}{shape_text(weight.value.shape)} "
            f"{weight.sha256[:12]} {made.rms:.9g} {packed(made.shares[:products])}"
        )
    return rows

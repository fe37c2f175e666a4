"""The precision of a file: what it stores and computes in, as it was read, and what a user may promise of it (docs/precision.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Mapping, Optional, Sequence, Tuple

FLOAT32, FLOAT16, BFLOAT16, INT8, MIXED = "float32", "float16", "bfloat16", "int8", "mixed"
PRECISIONS = (FLOAT32, FLOAT16, BFLOAT16, INT8, MIXED)
HALVES = (FLOAT16, BFLOAT16)
LARGEST: Mapping[str, float] = {FLOAT16: 65504.0, BFLOAT16: 3.3895314e38}
SMALLEST: Mapping[str, float] = {FLOAT16: 2.0**-24, BFLOAT16: 2.0**-133}  # positive numbers, subnormal ones included
# Distance from 1 to the next number.
EPSILON: Mapping[str, float] = {FLOAT32: 2.0**-23, FLOAT16: 2.0**-10, BFLOAT16: 2.0**-7}
# The least error of a number, in parts of it, that a floor allows for. Of float32 a spacing: its floor is that of many sums. Of halves
# what one rounding leaves (a spacing by the root of 12), since there the last rounding is most of the noise.
LEAST_ERROR: Mapping[str, float] = {FLOAT32: 2.0**-23, FLOAT16: 2.0**-12, BFLOAT16: 2.0**-9}
KINDS: Mapping[str, str] = {"float64": FLOAT32, "int8": INT8, "uint8": INT8, **{name: name for name in PRECISIONS}}
MOST = 0.5  # share of the weights, from which on a mixed file is judged by the noise of their type
FEW = 0.02  # share of the weights, up to which another type is no other precision of the file


@dataclass(frozen=True)
class Precision:
    """name: one of PRECISIONS; weights: numbers of the weights by type; inputs, outputs: (name, type); operators: of quantisation, and
    casts between types of numbers, by how many there are."""

    name: str = FLOAT32
    weights: Mapping[str, int] = field(default_factory=dict)
    inputs: Tuple[Tuple[str, str], ...] = ()
    outputs: Tuple[Tuple[str, str], ...] = ()
    operators: Mapping[str, int] = field(default_factory=dict)

    @property
    def floor(self) -> str:
        """The precision whose rounding is the noise that numbers are judged by; `INT8` where a budget judges them."""
        if self.name != MIXED:
            return self.name
        first, share = next(iter(_shares(self.weights).items()))
        return first if first in HALVES and share >= MOST else FLOAT32

    @property
    def text(self) -> str:
        """One clause for a report, empty for plain float32."""
        types = {kind for _, kind in (*self.inputs, *self.outputs) if kind.startswith(("float", "bfloat"))}
        if self.name == FLOAT32 and types <= {FLOAT32} and not self.operators:
            return ""
        parts = [f"{self.name} by its weights"]
        if self.name == MIXED:
            parts.append(" and ".join(f"{share:.0%} {kind}" for kind, share in _shares(self.weights).items()))
        for what, values in (("in", self.inputs), ("out", self.outputs)):
            parts += [f"{'/'.join(dict.fromkeys(kind for _, kind in values))} {what}"] if values else []
        parts += [f"{count} {name}" for name, count in sorted(self.operators.items())[:4]]
        return ", ".join(parts)

    def record(self) -> Dict[str, object]:
        """As JSON has it."""
        values = {"inputs": dict(self.inputs), "outputs": dict(self.outputs)}
        return {"name": self.name, "weights": dict(self.weights), **values, "operators": dict(self.operators)}


PLAIN = Precision()


def _shares(weights: Mapping[str, int]) -> Dict[str, float]:
    total = max(sum(weights.values()), 1)
    return {kind: count / total for kind, count in sorted(weights.items(), key=lambda item: -item[1])}


def named(weights: Mapping[str, int], quantises: bool = False) -> str:
    """The precision of a file whose weights are of these types: the one of all but a few of them, `MIXED` for several. quantises:
    whether the features are in 8 bits as well."""
    kinds: Dict[str, int] = {}
    for kind, count in weights.items():
        kinds[KINDS.get(kind, kind)] = kinds.get(KINDS.get(kind, kind), 0) + count
    shares = _shares(kinds)
    if shares.get(INT8, 0.0) >= MOST or (quantises and INT8 in shares):
        return INT8
    first = next(iter(shares), FLOAT32)
    if shares.get(first, 1.0) >= 1 - FEW and first in PRECISIONS:
        return first
    return MIXED if any(kind in shares for kind in (*HALVES, INT8)) else FLOAT32


def of_types(types: Sequence[Tuple[str, int]], quantises: bool = False) -> Precision:
    """From (type, numbers) of each weight; quantises: see `named`."""
    weights: Dict[str, int] = {}
    for kind, count in types:
        weights[kind] = weights.get(kind, 0) + count
    return Precision(named(weights, quantises), weights)


def floor_of(found: Precision, promised: Optional[str]) -> str:
    """The precision a file is judged in: as promised, else its own."""
    if promised is None:
        return found.floor
    if promised == MIXED:
        lower = [kind for kind in HALVES if found.weights.get(kind)]
        return INT8 if found.name == INT8 else lower[-1] if lower else FLOAT16
    return promised

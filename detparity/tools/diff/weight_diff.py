"""Differences between the weights of two ONNX files: which tensor is which, and what changed in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from detparity.core.text import listed, number
from detparity.tools.diff.tensor_sketch import RESOLUTION, Change, Sketch, change, unpacked

FORMAT = 1  # of the facts that are read here


# Kinds of difference, the most important first.
KINDS = (
    "outputs",
    "inputs",
    "versions",
    "operators",
    "attributes",
    "constants",
    "weights",
    "wiring",
    "metadata",
)


ALIGNED = 250_000  # pairs of weights, beyond which finding the best alignment could take minutes


ROUNDED = 1e-5  # what another order of folding may leave of a weight, relative to it; checks/weights.py allows as much


# The relative rounding of a type, within which a multiplied tensor keeps its proportions.
PRECISION: Mapping[str, float] = {"float64": 1e-7, "float32": 1e-6, "float16": 2e-3, "bfloat16": 2e-2}


@dataclass(frozen=True)
class Difference:
    """kind: one of KINDS; words: what changed, in one line; rank: the smaller the more important; trace: equal in two files with the
    same change."""

    kind: str
    words: str
    rank: int
    trace: str


@dataclass(frozen=True)
class Tensor:
    """A weight as the facts have it. name: its official parameter path, or None; position: among the weights in the order of
    execution; sha256: the first digits."""

    name: Optional[str]
    position: int
    dtype: str
    shape: str
    sha256: str
    sketch: Sketch

    @property
    def title(self) -> str:
        return self.name or f"tensor {self.position + 1} ({self.shape}, no official name)"


def difference(kind: str, words: str, trace: str) -> Difference:
    return Difference(kind, words, KINDS.index(kind), f"{kind}: {trace}")


def tensors(facts: Mapping[str, Any]) -> Tuple[Tensor, ...]:
    """The weights that facts hold, in the order of execution."""
    found: List[Tensor] = []
    stem = ""
    for position, row in enumerate(facts["weights"]):
        name, shape, sha256, rms, shares = row.split(" ")
        if name.startswith("."):
            name = stem + name
        stem = name.rpartition(".")[0]
        dtype, _, plain = shape.rpartition(":")
        made = Sketch(float(rms), unpacked(shares))
        found.append(Tensor(None if name == "-" else name, position, dtype or "float32", plain, sha256, made))
    return tuple(found)


@dataclass(frozen=True)
class Matching:
    """Which weights of two files belong together; then those of the old file alone and those of the new file alone."""

    pairs: Tuple[Tuple[Tensor, Tensor], ...]
    removed: Tuple[Tensor, ...]
    added: Tuple[Tensor, ...]


def match(old: Mapping[str, Any], new: Mapping[str, Any]) -> Matching:
    """Pair weights by official name; those left over by their position, where the topology is the same; else by content; else by
    their position among weights of the same shapes."""
    was, now = list(tensors(old)), list(tensors(new))
    pairs: List[Tuple[Tensor, Tensor]] = []

    def take(found: Sequence[Tuple[Tensor, Tensor]]) -> None:
        pairs.extend(found)
        for side, taken in zip((was, now), zip(*found)):
            positions = {tensor.position for tensor in taken}
            side[:] = [tensor for tensor in side if tensor.position not in positions]

    names = {tensor.name: tensor for tensor in now if tensor.name}
    take([(tensor, names[tensor.name]) for tensor in was if tensor.name in names])
    same = old["digests"]["topology"] == new["digests"]["topology"]
    if same:
        by = {tensor.position: tensor for tensor in now}
        take([(t, by[t.position]) for t in was if t.position in by and t.sha256 == by[t.position].sha256])
    take(_equal_pairs(was, now, lambda tensor: (tensor.shape, tensor.dtype, tensor.sha256)))
    if same:
        by = {tensor.position: tensor for tensor in now}
        take([(t, by[t.position]) for t in was if t.position in by and t.shape == by[t.position].shape])
    take(_aligned(was, now))
    pairs.sort(key=lambda pair: pair[1].position)
    return Matching(tuple(pairs), tuple(was), tuple(now))


def _equal_pairs(
    was: Sequence[Tensor], now: Sequence[Tensor], key: Callable[[Tensor], Any]
) -> List[Tuple[Tensor, Tensor]]:
    waiting: Dict[Any, List[Tensor]] = {}
    for tensor in now:
        waiting.setdefault(key(tensor), []).append(tensor)
    return [(tensor, waiting[key(tensor)].pop(0)) for tensor in was if waiting.get(key(tensor))]


def _aligned(was: Sequence[Tensor], now: Sequence[Tensor]) -> List[Tuple[Tensor, Tensor]]:
    """Equal shapes in equal order. Two that have official names are two parameters, not two names of one."""
    if len(was) * len(now) > ALIGNED:
        pairs = _equal_pairs(was, now, lambda tensor: tensor.shape)
        return [(before, after) for before, after in pairs if not (before.name and after.name)]
    matcher = SequenceMatcher(None, [tensor.shape for tensor in was], [tensor.shape for tensor in now], autojunk=False)
    blocks = matcher.get_matching_blocks()
    pairs = [(was[block.a + k], now[block.b + k]) for block in blocks for k in range(block.size)]
    return [(before, after) for before, after in pairs if not (before.name and after.name)]


def rounded(before: Tensor, after: Tensor) -> bool:
    """Whether two tensors of one shape and type differ by no more than another order of folding makes them."""
    if (before.shape, before.dtype) != (after.shape, after.dtype):
        return False
    found = change(before.sketch, after.sketch, PRECISION.get(after.dtype, 1e-6))
    return found.relative is not None and found.relative <= ROUNDED


def value_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Tuple[Difference, ...]:
    """The differences in the values of weights of one shape."""
    return tuple(changed_values(match(old, new)))


def missing(found: Sequence[Tensor], what: str) -> Iterator[Difference]:
    if found:
        words = f"{_subject(found)} {'is' if len(found) == 1 else 'are'} {what}"
        yield difference("weights", words, f"{what} {sorted((t.name or '-', t.shape) for t in found)}")


def reshaped(matching: Matching) -> Iterator[Difference]:
    for before, after in matching.pairs:
        if before.shape != after.shape:
            words = f"{before.title}: shape {before.shape} -> {after.shape}"
            yield difference("weights", words, f"shape {before.name} {before.shape} {after.shape}")


def retyped(matching: Matching) -> Iterator[Difference]:
    groups: Dict[Tuple[str, str], List[Tensor]] = {}
    for before, after in matching.pairs:
        if before.dtype != after.dtype:
            groups.setdefault((before.dtype, after.dtype), []).append(before)
    for (was, now), found in groups.items():
        trace = f"type {was} {now} {sorted(tensor.name or tensor.shape for tensor in found)}"
        yield difference("weights", f"{_subject(found)}: {was} -> {now}", trace)


def changed_values(matching: Matching) -> Iterator[Difference]:
    """Tensors of the same shape and other numbers, grouped by the kind of change."""
    groups: Dict[str, List[_Changed]] = {}
    for before, after in matching.pairs:
        if before.shape == after.shape and before.sha256 != after.sha256:
            precision = max(PRECISION.get(tensor.dtype, 1e-6) for tensor in (before, after))
            found = change(before.sketch, after.sketch, precision)
            if before.dtype == after.dtype or found.relative is None or found.relative > precision:
                groups.setdefault(_what(after.sketch, found), []).append(_Changed(before, after, found))
    for what, group in groups.items():
        tensors = sorted((*_trace(item),) for item in group)
        yield difference(
            "weights", f"{_subject([item.before for item in group])} {_words(what, group)}", f"{what} {tensors}"
        )


@dataclass(frozen=True)
class _Changed:
    before: Tensor
    after: Tensor
    change: Change


def _what(new: Sketch, found: Change) -> str:
    if not math.isfinite(new.rms):
        return "not finite"
    if found.factor is not None:
        return f"multiplied by {found.factor:.6g}"
    return "set to zero" if not new.rms else "changed"


def _trace(item: _Changed) -> Tuple[str, ...]:
    """An exact change by its kind; an estimated one by the digests before and after."""
    exact = item.change.factor is not None or not item.after.sketch.rms
    name = item.before.name or item.after.name or item.before.shape
    return (name,) if exact else (name, item.before.sha256, item.after.sha256)


def _subject(found: Sequence[Tensor]) -> str:
    return found[0].title if len(found) == 1 else f"{len(found)} tensors ({listed([t.title for t in found], 3)})"


def _words(what: str, group: Sequence[_Changed]) -> str:
    one = len(group) == 1
    if what == "not finite":
        return f"{'holds' if one else 'hold'} values that are not finite"
    if what == "set to zero":
        return f"{'is' if one else 'are'} all zeros now"
    known = [item for item in group if item.change.relative is not None]
    if not known:
        return "changed, from values that were all zeros or not finite"
    worst = max(known, key=lambda item: item.change.relative or 0.0)
    size = worst.change.relative or 0.0
    if what != "changed":
        return f"changed by {number(size)} of {'its' if one else 'their'} rms: {what}"
    least = f"less than {number(RESOLUTION)}" if size < RESOLUTION else f"about {size:.2g}"
    most = "" if one else f", {worst.before.title} the most"
    return f"changed by {'' if one else 'up to '}{least} (relative, estimated from a sketch){most}"

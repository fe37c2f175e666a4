"""Causes that the numbers of one fault show by themselves: what is done to the file's tensor to make it the model's, or the reverse.

Each is tried on all numbers, and named only where what is left is within the noise of that fault.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Callable, Iterator, Mapping, Optional, Tuple

import numpy as np

from detparity.checks.locating.matching import Noise

Function = Callable[[np.ndarray], np.ndarray]
LINEAR = 1e-3  # of a slope of 1: an activation that changes nothing
MOST_ERF = 300_000
FEW = 8  # positions of a channel, for each number that is fitted to it


@dataclass(frozen=True)
class Evidence:
    """One fault: what it reads, what the file makes of it and what the model does, as the file has them; noise: there."""

    inputs: Tuple[np.ndarray, ...]
    found: np.ndarray
    expected: np.ndarray
    noise: Noise

    def same(self, one: np.ndarray, other: Optional[np.ndarray] = None, gain: float = 1.0) -> bool:
        """Whether two arrays are one within noise; gain: by which noise was multiplied."""
        target = self.expected if other is None else other
        if one.shape != target.shape or not np.isfinite(one).all():
            return False
        factor = max(1.0, abs(gain))
        return Noise(self.noise.rms * factor, self.noise.largest * factor).allows(one, target)


@dataclass(frozen=True)
class Cause:
    """kind: of the defect; sentence: a clause about the file; fix: what to do; left: root mean square error once it is undone."""

    kind: str
    sentence: str
    fix: str
    left: float = 0.0


Candidate = Tuple[Cause, np.ndarray, Optional[np.ndarray], float]  # one and the other that must be equal, and the gain


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    power = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(power / power.sum(axis, keepdims=True))


def erf(x: np.ndarray) -> np.ndarray:
    """Not a number for more than `MOST_ERF` numbers: numpy has no such function, and Python's takes one at a time."""
    if x.size > MOST_ERF:
        return np.full(x.shape, np.nan)
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))


FUNCTIONS: Mapping[str, Function] = {
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "exp": np.exp,
    "SiLU": lambda x: x * sigmoid(x),
    "ReLU": lambda x: np.maximum(x, 0),
    "ReLU6": lambda x: np.clip(x, 0, 6),
    "LeakyReLU of slope 0.1": lambda x: np.where(x < 0, 0.1 * x, x),
    "LeakyReLU of slope 0.01": lambda x: np.where(x < 0, 0.01 * x, x),
    "hard sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "erf": erf,
    "GELU": lambda x: x * (1 + erf(x / 2**0.5)) / 2,
    "GELU by tanh": lambda x: 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "softplus": lambda x: np.logaddexp(x, 0),
    "Mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "softmax": softmax,
    "square": np.square,
}


def relations(at: Evidence) -> Iterator[Candidate]:
    """Everything that is tried, the simplest first."""
    with np.errstate(all="ignore"):
        for rule in (
            _order,
            _batch,
            _scale,
            _activation,
            _functions,
            _rounding,
            _boxes,
            _moved,
            _left_in,
            _channels,
            _weights_permuted,
        ):
            yield from rule(at)


def _cause(kind: str, sentence: str, fix: str) -> Cause:
    return Cause(kind, sentence, fix)


def _order(at: Evidence) -> Iterator[Candidate]:
    found, axes = at.found, at.found.ndim
    fix = "Export the order of axes or channels that the model has."
    for axis in range(1, axes):
        if found.shape[axis] > 1:
            kind = "image channels reversed" if axis == 1 and found.shape[1] == 3 else "order along an axis reversed"
            what = "its channels are reversed (BGR for RGB)" if kind.startswith("image") else f"axis {axis} is reversed"
            yield _cause(kind, what, fix), np.flip(found, axis), None, 1.0
    for one, other in itertools.combinations(range(axes), 2):
        moved = np.swapaxes(found, one, other)
        if found.shape[one] > 1 and found.shape[other] > 1:
            yield (
                _cause("axes exchanged", f"axes {one} and {other} are exchanged", fix),
                moved.reshape(at.expected.shape),
                None,
                1.0,
            )
    if axes > 1:
        yield from _permuted(at, fix)


def _permuted(at: Evidence, fix: str) -> Iterator[Candidate]:
    """Channels, or rows, in another order, each found again by its numbers."""
    for axis in range(1, at.found.ndim):
        count = at.found.shape[axis]
        if not 1 < count <= 512:
            continue
        mine, theirs = (np.moveaxis(one, axis, 0).reshape(count, -1) for one in (at.found, at.expected))
        if mine.shape[1] < 2:
            continue
        wrong = [k for k in range(count) if not at.same(mine[k], theirs[k])]
        if not 1 < len(wrong) <= 64:
            continue
        order = np.arange(count)
        left = set(wrong)
        for k in wrong:
            match = next((j for j in sorted(left) if at.same(mine[j], theirs[k])), None)
            if match is None:
                break
            order[k] = match
            left.discard(match)
        else:
            what = f"{len(wrong)} of {count} along axis {axis} are in another order ({', '.join(map(str, wrong[:4]))})"
            yield _cause("channels permuted", what, fix), np.take(at.found, order, axis), None, 1.0


def _batch(at: Evidence) -> Iterator[Candidate]:
    if len(at.found) > 1:
        fix = "Export the batch axis as one that varies, and reduce or index no other image's numbers."
        first = np.broadcast_to(at.expected[:1], at.expected.shape)
        yield _cause("image repeated", "every image has the numbers of image 0", fix), at.found, first, 1.0
        yield (
            _cause("batch reversed", "the images of the batch are in the opposite order", fix),
            at.found[::-1],
            None,
            1.0,
        )


def _scale(at: Evidence) -> Iterator[Candidate]:
    """One factor, or one added number, for all."""
    found, expected = at.found.reshape(-1), at.expected.reshape(-1)
    if found.std() == 0 or expected.std() == 0:
        return
    factor = float(found @ expected) / max(float(found @ found), 1e-300)
    fix = "Export the constant that the model has."
    known = {
        255.0: "it divides by 255",
        1 / 255: "it multiplies by 255, or does not divide by 255",
        -1.0: "its sign is changed",
    }
    named = next((text for value, text in known.items() if abs(factor / value - 1) < 1e-4), None)
    text = named or f"it is multiplied by {1 / factor:.6g}" if factor else ""
    if factor:
        kind = "scaled by 255" if named and "255" in named else "sign changed" if named else "scaled"
        yield _cause(kind, text, fix), at.found * factor, None, factor
    shift = float((expected - found).mean())
    yield _cause("shifted", f"{-shift:.6g} is added to it", fix), at.found + shift, None, 1.0
    centred = found - found.mean()
    slope = float(centred @ (expected - expected.mean())) / max(float(centred @ centred), 1e-300)
    offset = float(expected.mean() - slope * found.mean())
    text = (
        "it is taken from -1 to 1"
        if abs(slope - 0.5) < 1e-4 and abs(offset - 0.5) < 1e-4
        else "another factor and term"
    )
    kind = "image from -1 to 1" if "-1" in text else "scaled and shifted"
    yield _cause(kind, f"{text}: it is {slope:.6g} of it and {offset:.6g}", fix), slope * at.found + offset, None, slope


def _functions(at: Evidence) -> Iterator[Candidate]:
    for name, function in FUNCTIONS.items():
        fix = f"Export the {name} as often as the model has it."
        yield _cause("function left out", f"it leaves out {name}", fix), function(at.found), None, 1.0
        yield _cause("function doubled", f"it applies {name} once more", fix), at.found, function(at.expected), 1.0


def _activation(at: Evidence) -> Iterator[Candidate]:
    """The model's output as a function of what is read."""
    for given in at.inputs:
        if given.shape != at.expected.shape:
            continue
        fix = "Export the activation that the model has."
        negative = given < 0
        if negative.any() and not negative.all():
            slope = float((at.expected[negative] / given[negative]).mean())
            if abs(slope - 1) > LINEAR:
                text = f"its activation is not LeakyReLU of slope {slope:.4g}, as the model's"
                yield _cause("activation slope", text, fix), np.where(negative, slope * given, given), None, 1.0
        for name, function in FUNCTIONS.items():
            made = function(given)
            if not np.allclose(made, given):  # one that changes nothing here explains nothing
                yield _cause("other activation", f"its activation is not {name}, as the model's", fix), made, None, 1.0


def _left_in(at: Evidence) -> Iterator[Candidate]:
    """What is read is what the model gives."""
    for given in at.inputs:
        yield _cause("operator left in", "the model does nothing here", "Leave that operator out."), given, None, 1.0


def _rounding(at: Evidence) -> Iterator[Candidate]:
    fix = "Export and convert at the precision of the model."
    half = at.expected.astype(np.float16).astype(np.float64)
    yield _cause("rounded to float16", "its numbers are rounded to float16", fix), at.found, half, 1.0
    yield _cause("rounded to integers", "its numbers are rounded to integers", fix), at.found, np.rint(at.expected), 1.0
    low, high = float(at.found.min()), float(at.found.max())
    clipped = np.clip(at.expected, low, high)
    if float(np.mean((at.expected < low) | (at.expected > high))) < 0.5:
        yield _cause("clipped", f"its numbers are limited to {low:.4g} to {high:.4g}", fix), at.found, clipped, 1.0


def _boxes(at: Evidence) -> Iterator[Candidate]:
    """Four numbers of a box along one axis."""
    fix = "Export the form of boxes that the model has, or read the file so."
    for axis in range(1, at.found.ndim):
        if at.found.shape[axis] != 4:
            continue
        found, expected = np.moveaxis(at.found, axis, -1), np.moveaxis(at.expected, axis, -1)
        one, two = found[..., :2], found[..., 2:]
        corners = np.concatenate([(one + two) / 2, two - one], -1)
        centres = np.concatenate([one - two / 2, one + two / 2], -1)
        yield (
            _cause("corners for centres", "its boxes are corners instead of centre and size", fix),
            corners,
            expected,
            1.0,
        )
        yield (
            _cause("centres for corners", "its boxes are centre and size instead of corners", fix),
            centres,
            expected,
            1.0,
        )
        yield _cause("y before x", "its boxes have y before x", fix), found[..., [1, 0, 3, 2]], expected, 1.0
        flat, right = found.reshape(-1, 4), expected.reshape(-1, 4)
        scale = (flat * right).sum(0) / np.maximum((flat**2).sum(0), 1e-300)
        text = "its boxes are divided by width and height" if scale.min() > 2 else "its boxes have another unit"
        yield _cause("boxes of another unit", text, fix), found * scale, expected, float(scale.max())


def _moved(at: Evidence) -> Iterator[Candidate]:
    """By one cell, the border apart."""
    if at.found.ndim != 4 or min(at.found.shape[2:]) < 4:
        return
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    for axis, step in itertools.product((2, 3), (1, -1)):
        where = "down" if axis == 2 else "right"
        text = f"everything is one cell further {where if step < 0 else {'down': 'up', 'right': 'left'}[where]}"
        fix = "Export the padding that the model has, begin and end."
        yield _cause("moved by a cell", text, fix), np.roll(at.found, step, axis)[inner], at.expected[inner], 1.0


def _channels(at: Evidence) -> Iterator[Candidate]:
    """Each channel by a factor and a term of its own, or with a part of what is read."""
    if at.found.ndim != 4 or at.found[:, 0].size < 2 * FEW:
        return
    found, expected = (np.moveaxis(one, 1, 0).reshape(one.shape[1], -1) for one in (at.found, at.expected))
    centred = found - found.mean(1, keepdims=True)
    spread = (centred**2).sum(1)
    slope = np.where(spread > 0, (centred * expected).sum(1) / np.maximum(spread, 1e-300), 1.0)
    wrong = [k for k in range(len(found)) if not at.same(found[k], expected[k])]
    shape = (1, -1, 1, 1)
    names = f"channel {', '.join(map(str, wrong[:4]))}" if len(wrong) <= 4 else f"{len(wrong)} of {len(found)} channels"
    fix = (
        "Compare how batch-norm (its eps and statistics), implicit layers and biases were folded into this convolution."
    )
    terms = (expected - found).mean(1)
    yield _cause("bias", f"{names}: another bias", fix), at.found + terms.reshape(shape), None, 1.0
    ratio = (found * expected).sum(1) / np.maximum((found**2).sum(1), 1e-300)
    yield (
        _cause("channels scaled", f"{names}: another factor", fix),
        at.found * ratio.reshape(shape),
        None,
        float(np.abs(ratio).max()),
    )
    offset = expected.mean(1) - slope * found.mean(1)
    made = at.found * slope.reshape(shape) + offset.reshape(shape)
    kind = "batch-norm folded otherwise" if 2 * len(wrong) > len(found) else "weights of channels scaled"
    yield _cause(kind, f"{names}: another factor and term", fix), made, None, float(np.abs(slope).max())
    for given in at.inputs:
        if given.shape == at.found.shape:
            yield _branch(at, given)


def _weights_permuted(at: Evidence) -> Iterator[Candidate]:
    """Channels whose weights, but not whose biases, are in another order."""
    if at.found.ndim != 4 or at.found[:, 0].size < 2 * FEW:
        return
    axes = (0, 2, 3)
    means = at.found.mean(axes, keepdims=True), at.expected.mean(axes, keepdims=True)
    centred = Evidence(at.inputs, at.found - means[0], at.expected - means[1], at.noise)
    for cause, made, _, _ in _permuted(centred, "Export the weights in the order of the model's channels."):
        if made.shape == at.expected.shape:
            yield replace(cause, kind="weights permuted"), made + means[1], None, 1.0


def _branch(at: Evidence, given: np.ndarray) -> Candidate:
    """What is read, each channel by a factor and a term of its own, added: an identity branch with batch-norm."""
    rest, x = (np.moveaxis(one, 1, 0).reshape(one.shape[1], -1) for one in (at.expected - at.found, given))
    centred = x - x.mean(1, keepdims=True)
    slope = (centred * rest).sum(1) / np.maximum((centred**2).sum(1), 1e-300)
    offset = rest.mean(1) - slope * x.mean(1)
    made = at.found + given * slope.reshape(1, -1, 1, 1) + offset.reshape(1, -1, 1, 1)
    fix = "Fold the identity branch of the block (RepConv, RepVGG) into its convolution as well."
    return _cause("identity branch lost", "it has lost the identity branch of its block", fix), made, None, 1.0


def explain(at: Evidence) -> Optional[Cause]:
    """The first cause that leaves nothing beyond the noise; None where none does, or where the numbers say too little."""
    if not np.isfinite(at.found).all() or np.unique(at.expected).size < FEW:
        return None
    for cause, one, other, gain in relations(at):
        if at.same(one, other, gain):
            target = at.expected if other is None else other
            return Cause(cause.kind, cause.sentence, cause.fix, float(np.sqrt(np.mean((one - target) ** 2))))
    return None

"""Whether the convolutions of a file can be those of a model at all: their shapes and the number of classes."""

from __future__ import annotations

from collections import Counter
from typing import List, Optional, Sequence, Tuple

from detparity.artifacts.conv_weights import Stored, by_content, match, named
from detparity.artifacts.onnx_graph import plain_name
from detparity.core.vocabulary import ConvWeights, ModelFacts

Shape = Tuple[int, ...]
SHARE = 5  # one convolution in so many that fits nowhere, and the file is another model's


def other_model(expected: Sequence[ConvWeights], stored: Sequence[Stored], facts: ModelFacts) -> Optional[str]:
    """A clause about the file that says how it shows that it is an export of another model; None where its convolutions may be the
    model's. Convolutions that a simplifier merged fit.

    The numbers decide whether the clause is true: a file that computes the model is an export of it, whatever it stores.
    """
    if not stored:
        return None
    classes = _classes(expected, stored, facts)
    if classes is not None:
        return f"is an export of another model: it scores {classes} classes where the model has {facts.classes}"
    extra, missing = _left_over([s.weight.shape for s in stored], [conv.weight.shape for conv in expected])
    misfits = [
        (found.name, found.weight.shape, expected[index].weight.shape)
        for index, found in sorted(named(expected, stored).items())
        if found.weight.shape != expected[index].weight.shape
    ]
    if not extra or not missing:
        return None
    first = next(found for found in stored if found.weight.shape in extra)
    own = {name: shape for name, _, shape in misfits}.get(first.name)
    count = sum(extra.values())
    text = f"{plain_name(first.name)} {_text(first)}" + (f" where the model has {_shape(own)}" if own else "")
    if SHARE * count < len(stored):
        return f"holds {count} of {len(stored)} convolutions that fit nowhere in the model, the first is {text}"
    return f"is an export of another model: {count} of its {len(stored)} convolutions fit nowhere in this one, the first is {text}"


def _text(found: Stored) -> str:
    return _shape(found.weight.shape)


def _shape(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _classes(expected: Sequence[ConvWeights], stored: Sequence[Stored], facts: ModelFacts) -> Optional[int]:
    """How many classes the file's head scores, where that is another number than the model's; None where that is not known."""
    anchors, count = facts.anchors_per_level, len(facts.strides)
    width = anchors * facts.fields
    if any(found.weight.shape[0] == width and found.weight.shape[2:] == (1, 1) for found in stored):
        return None
    heads = [conv for conv in expected if conv.weight.shape[0] == width and conv.weight.shape[2:] == (1, 1)][-count:]
    by_official = named(heads, stored)
    found = [by_official[k] for k in sorted(by_official)] or [s for s in stored if s.weight.shape[2:] == (1, 1)][
        -count:
    ]
    widths = {s.weight.shape[0] for s in found}
    if len(found) != count or len(widths) != 1:
        return None
    fields, rest = divmod(widths.pop(), anchors)
    return fields - 5 if not rest and fields > 5 else None


def _left_over(stored: Sequence[Shape], expected: Sequence[Shape]) -> Tuple[Counter[Shape], Counter[Shape]]:
    """Shapes of the file that the model has not, and the reverse, without those that add up: merged or split convolutions."""
    extra, missing = Counter(stored) - Counter(expected), Counter(expected) - Counter(stored)
    for rest in {shape[1:] for shape in (*extra, *missing)}:
        ours, theirs = ([shape for shape in side if shape[1:] == rest] for side in (extra, missing))
        if sum(shape[0] * extra[shape] for shape in ours) == sum(shape[0] * missing[shape] for shape in theirs):
            for side, shapes in ((extra, ours), (missing, theirs)):
                for shape in shapes:
                    del side[shape]
    return extra, missing


def other_weights(expected: Sequence[ConvWeights], stored: Sequence[Stored]) -> bool:
    """Whether the file's convolutions have the model's shapes and none of them is near one of the model's."""
    pairs = match(expected, stored)
    far: List[int] = [index for index, found in pairs.items() if not _near(found, expected[index])]
    return len(far) > 1 and len(far) == len(pairs) and not by_content(expected, range(len(expected)), stored)


def _near(found: Stored, conv: ConvWeights) -> bool:
    return bool(by_content([conv], [0], [found]))

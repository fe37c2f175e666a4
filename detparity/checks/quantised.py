"""Files of 8 bits: a budget on detections, and what in the file explains a loss: scales, calibration, and the output's own steps."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from detparity.artifacts import quantised as tensors
from detparity.artifacts.onnx_edit import expose
from detparity.artifacts.onnx_unrounded import OF_INTEGERS, PRODUCTS
from detparity.checks.foreign.context import OutputsDiffer
from detparity.checks.foreign.truth import Refuses
from detparity.checks.mean_ap import knows_scenes, scene_objects
from detparity.checks.pictures import NotShown, Seen
from detparity.checks.precision import _is_onnx, _lower, _scores_of, feed_of, quantised
from detparity.core.budget import ABOUT, Budget
from detparity.core.contract import MUST, SHOULD
from detparity.core.errors import EngineError
from detparity.core.findings import CannotRun, Check, Finding, Row
from detparity.core.text import listed, number
from detparity.core.vocabulary import Load, Size
from detparity.engines.remote import client
from detparity.oracle.average_precision import Detected, Objects
from detparity.oracle.detection_budget import Losses, losses

SCENES = 24  # on which a budget is measured where there are no pictures of the user's
MORE = 96  # where those leave it open
ELSEWHERE = 8  # pictures at another size, where sizes vary
FEWEST = 20  # detections of the model, under which a budget says little
INTEGER = frozenset((*OF_INTEGERS, *PRODUCTS))  # of ONNX's own, what computes in 8 bits however a graph is optimised
STEPS = 1 / 50  # of a score: a coarser one moves detections over the usual thresholds
HALF = 0.5  # share beyond its range that is too much whatever is detected
SATURATED = 0.10  # share of a tensor's numbers beyond its range, from which on the range is another picture's
AT_ONCE = 24
DIFFERENT = 5  # pictures, on more than half of which a range has to be too narrow: of any picture some numbers are larger than before


def budget(context: Any) -> Iterator[Finding]:
    """What the file's detections lose against the model's, against the limits of --budget; where sizes vary, at another size too."""
    try:
        found = measured(context)
    except OutputsDiffer as differ:
        yield Finding(
            f"{differ}.", notes=("Nothing can be compared: it is another model's file, or another form of it.",)
        )
        return
    limits: Budget = context.budget
    over, open_ = _beyond(found, limits)
    if open_ and not over and not context.photos:
        found = context.notes["losses"] = _losses(context, _seen(context, MORE))
        over, open_ = _beyond(found, limits)
    context.notes["budget"] = record(found, limits)
    cause = _by_kernels(context, found, limits, over or open_)
    if over:
        yield _finding(found, limits, over, "", [*_costliest(context), *([f"{cause}."] if cause else [])])
        return
    size = _another_size(context)
    elsewhere = None if size is None else _measured_at(context, size)
    wrong = _beyond(elsewhere, limits)[0] if elsewhere is not None else []
    if size is not None and elsewhere is not None and wrong:
        yield _finding(elsewhere, limits, wrong, f" at {size[0]}x{size[1]}", [])
        return
    _require_decided(found, limits, open_, cause)


def _by_kernels(context: Any, found: Losses, limits: Budget, wrong: Sequence[str]) -> str:
    """A clause where a file that is not within its budget is so where nothing is computed in 8 bits: without graph optimisations ONNX
    Runtime computes what pairs of QuantizeLinear and DequantizeLinear surround in float32. Else empty."""
    if not wrong or context.artifact.kind != "onnx" or context.elsewhere or context.endpoint is not None:
        return ""
    if any(node.domain or node.op in INTEGER for node in context.onnx.graph.nodes):
        return ""
    try:
        plain = _losses(context, _seen(context, found.pictures, optimisation="disabled"))
    except (EngineError, CannotRun):  # the verdict stands without a cause
        return ""
    finally:
        context.forget(optimisation="disabled")
    if any(_beyond(plain, limits)):
        return ""
    name = wrong[0]
    return (
        "Without graph optimisations, where nothing is computed in 8 bits, the same file is within its budget: "
        f"{ABOUT[name]} is {plain.losses[name].value:.4f}. The rest is what the kernels of this processor add: on those without VNNI "
        "sums of two products of uint8 by int8 saturate. Weights by reduce_range=True, or features in int8, avoid that"
    )


def _beyond(found: Losses, limits: Budget) -> Tuple[List[str], List[str]]:
    """Limits that are exceeded, and those of which too few pictures leave it open."""
    over: List[str] = []
    open_: List[str] = []
    for name, loss in found.losses.items():
        if loss.value > limits.limits[name]:
            (over if loss.known and loss.low > limits.limits[name] else open_).append(name)
    return over, open_


def _finding(found: Losses, limits: Budget, over: Sequence[str], where: str, notes: Sequence[str]) -> Finding:
    rows: List[Row] = [("", "loss", "95 in 100", "budget", "")]
    for name, loss in found.losses.items():
        span = f"{loss.low:.4f} to {loss.high:.4f}" if loss.known else "too few pictures"
        mark = "<- over" if loss.value > limits.limits[name] else ""
        rows.append((ABOUT[name], f"{loss.value:.4f}", span, f"{limits.limits[name]:g}", mark))
    return Finding(
        f"is over its budget{where} in {listed([ABOUT[name] for name in over], 3)}: {found.losses[over[0]].value:.4f} where "
        f"{limits.limits[over[0]]:g} is allowed, on {found.pictures} pictures with {found.model} detections of the model.",
        tuple(rows),
        headed=True,
        notes=tuple(notes),
        evidence={name: loss.value for name, loss in found.losses.items()},
    )


def _require_decided(found: Losses, limits: Budget, undecided: Sequence[str], cause: str) -> None:
    if undecided:
        name = undecided[0]
        loss = found.losses[name]
        span = f"leave {loss.low:.4f} to {loss.high:.4f} open" if loss.known else "are too few to tell"
        raise CannotRun(
            f"{ABOUT[name]} is {loss.value:.4f} where {limits.limits[name]:g} is allowed, and {found.pictures} pictures {span}: "
            f"give more by --images{'. ' if cause else ''}{cause}"
        )
    missing = [name for name in limits.asked if name not in found.losses]
    if missing:
        raise CannotRun(
            f"--budget limits the {ABOUT[missing[0]]}, and no true objects are known: give them by --labels"
        )


def record(found: Losses, limits: Budget) -> Dict[str, Any]:
    rows = {
        name: {
            "loss": loss.value,
            "budget": limits.limits[name],
            **({"low": loss.low, "high": loss.high} if loss.known else {}),
        }
        for name, loss in found.losses.items()
    }
    return {"pictures": found.pictures, "model": found.model, "file": found.file, "losses": rows}


def measured(context: Any) -> Losses:
    """Losses on the user's pictures, else on scenes that the model knows. Raises CannotRun where there are neither."""
    if "losses" not in context.notes:
        context.notes["losses"] = _measured(context)
    found: Losses = context.notes["losses"]
    return found


def _measured(context: Any) -> Losses:
    foreign = not hasattr(context.contract, "variant")
    if not context.photos and (foreign or not knows_scenes(context.contract)):
        raise CannotRun(
            "a file of 8 bits is judged by what it detects, and no pictures are given (--images) that show objects"
        )
    found = _losses(context, _seen(context, SCENES))
    if found.model < FEWEST:
        raise CannotRun(f"the model detects {found.model} objects on {found.pictures} pictures, too few for a budget")
    return found


def _losses(context: Any, seen: Sequence[Seen], labelled: bool = True) -> Losses:
    model, file = [one.model for one in seen], [one.file for one in seen]
    objects = [_objects(context, one) if labelled else None for one in seen]
    return losses(model, file, objects, least=_least(context, file))


def _another_size(context: Any) -> Optional[Size]:
    """A size beside the declared one, where the file takes any."""
    contract = context.contract
    varies = contract.variant.dynamic_size if hasattr(contract, "variant") else contract.varies_size
    if not varies:
        return None
    height, width = (max(64, side // 64 * 64) for side in contract.size)
    return height + 64, width


def _measured_at(context: Any, size: Size) -> Optional[Losses]:
    """The same at another size, on fewer pictures; None where the model does not run at it, or detects too little."""
    try:
        found = _losses(context, _seen(context, ELSEWHERE, size), labelled=False)
    except (Refuses, CannotRun):
        return None
    return found if found.model >= FEWEST else None


def _seen(context: Any, count: int, size: Optional[Size] = None, **engine: Any) -> List[Seen]:
    from detparity.checks import pictures
    from detparity.checks.foreign import pictures as foreign_pictures

    seen_by: Any = pictures.seen_by if hasattr(context.contract, "variant") else foreign_pictures.seen_by
    try:
        return list(seen_by(context, count, size, **engine))
    except NotShown as error:
        raise CannotRun(str(error)) from None


def _least(context: Any, found: Sequence[Detected]) -> float:
    """The least score that a file gives which suppresses; 0 where it gives all."""
    scores = [float(one.scores.min()) for one in found if len(one.scores)]
    return min(scores) if scores and _selects(context) else 0.0


def _objects(context: Any, seen: Seen) -> Optional[Objects]:
    """The true objects of a picture: of the user's by their labels, of a scene as they were drawn."""
    if seen.picture in context.objects:
        found: Objects = context.objects[seen.picture]
        return found
    return None if context.photos else scene_objects(seen.picture, context.contract)


def scales(context: Any) -> Iterator[Finding]:
    """A quantised tensor is read by the scale and zero point it was made by, and every scale is a positive number."""
    graph = context.onnx.graph
    wrong = list(tensors.mismatches(graph))
    if wrong:
        node, _, made, read = wrong[0]
        yield Finding(
            f"reads {len(wrong)} quantised tensors by another scale than they were made by, first in {node.title}: {made.text} "
            f"when it is made, {read.text} when it is read.",
            tuple((node.title, made.text, read.text) for node, _, made, read in wrong[:8]),
            evidence={"nodes": [node.title for node, *_ in wrong]},
        )
    biases = list(tensors.biases(graph))
    if biases:
        node, count, channels = biases[0]
        yield Finding(
            f"stores biases of {len(biases)} convolutions by another scale than features and weights have together, first of "
            f"{node.title}, in {count} of {channels} channels.",
            tuple((one.title, f"{wrong} of {every} channels") for one, wrong, every in biases[:8]),
            evidence={"nodes": [one.title for one, *_ in biases]},
        )
    for first, other, ratio in tensors.shared_biases(graph):
        yield Finding(
            f"stores one bias for {first.title} and {other.title}, which read it by scales {number(ratio)} times each other.",
            fix="Give each its own bias before the file is quantised: a tool merged those that were equal in float32.",
            evidence={"nodes": [first.title, other.title]},
        )
        break
    empty = [one for one in tensors.tensors(graph) if not (_usual(one.scale.scale)).all()]
    if empty:
        yield Finding(
            f"has {len(empty)} tensors whose scale is zero, no number or too small for one: {listed([e.title for e in empty], 3)}.",
            tuple((one.title, one.scale.text) for one in empty[:8]),
            notes=("Calibration saw nothing but one value there: its minimum and maximum are the same.",),
            evidence={"tensors": [one.title for one in empty]},
        )


def _usual(scale: np.ndarray) -> np.ndarray:
    return np.isfinite(scale) & (scale > 1e-10)


def calibration(context: Any) -> Iterator[Finding]:
    """On pictures, no quantised tensor is cut off at the ends of its range, and none holds one value alone."""
    shown = _codes(context)
    cut = [(one, share) for one, share, _, _ in shown if share > SATURATED]
    dead = [one for one, _, levels, varied in shown if levels <= 1 and varied]
    if cut or dead:
        first = cut[0][0] if cut else dead[0]
        what = f"cut off in {cut[0][1]:.0%} of its numbers" if cut else "one value alone, whatever the picture"
        rows: List[Row] = [(one.title, one.scale.text, f"{share:.0%} at the ends") for one, share in cut[:8]]
        rows += [(one.title, one.scale.text, "one value") for one in dead[:4]]
        yield Finding(
            f"was calibrated on other pictures: {len(cut) + len(dead)} of {len(shown)} quantised tensors do not hold what "
            f"pictures give, first {first.title}, {what}.",
            tuple(rows),
            notes=("Calibrate on pictures like those that are deployed, preprocessed in the same manner.",),
            evidence={"cut": [one.title for one, _ in cut], "dead": [one.title for one in dead]},
            # Of what is computed in 8 bits only codes are there: an operator that clips leaves many at an end as well. Of a good file
            # that few pictures calibrated some tensor is cut off too: what that costs, detections say.
            level=MUST
            if first.real and (dead or max(share for _, share in cut) > HALF or _over_budget(context))
            else SHOULD,
        )


def _over_budget(context: Any) -> bool:
    """Whether detections lose more than is allowed, as far as that is known."""
    try:
        return bool(_beyond(measured(context), context.budget)[0])
    except (CannotRun, OutputsDiffer):
        return False


Code = Tuple[tensors.Quantised, float, int, bool]


def _codes(context: Any) -> List[Code]:
    """Of each quantised tensor: the share of its numbers beyond its range on the picture in the middle, number of levels used, and
    whether what it is made from varies."""
    made = tensors.tensors(context.onnx.graph)
    found: List[Code] = []
    for start in range(0, len(made), AT_ONCE):
        some = made[start : start + AT_ONCE]
        names = [one.name for one in some] + [one.real for one in some if one.real]
        shown = _shown(context, names, _pictures(context))
        for one in some:
            cut = float(np.median([_cut(one, each[one.name], each.get(one.real)) for each in shown]))
            levels = max(len(np.unique(each[one.name])) for each in shown)
            varied = one.real not in shown[0] or any(float(np.ptp(each[one.real])) > 0 for each in shown)
            found.append((one, cut, levels, varied))
    return found


def _cut(one: tensors.Quantised, codes: np.ndarray, real: Optional[np.ndarray]) -> float:
    """The share of numbers that lie more than a step beyond the range or, where only codes are there, that lie at an end of it which
    is not zero."""
    info, zero = np.iinfo(codes.dtype), int(one.scale.zero.ravel()[0])
    if real is None:
        ends = [end for end in (info.min, info.max) if end != zero]
        return max(float((codes == end).mean()) for end in ends)
    scale = float(one.scale.scale.ravel()[0])
    low, high = scale * (info.min - zero - 1), scale * (info.max - zero + 1)
    return float(((real < low) | (real > high)).mean())


def _shown(context: Any, names: Sequence[str], cases: Sequence[Any]) -> List[Dict[str, np.ndarray]]:
    """Inner tensors on each of these pictures."""
    own = {value.name for value in context.onnx.graph.inputs}
    inner = [name for name in dict.fromkeys(names) if name not in own]
    found = []
    try:
        runner = client().prepare("onnxruntime", expose(context.artifact.path, inner), Load("disabled"))
        for case in cases:
            feed = feed_of(context, case)
            found.append({**feed, **runner.call(feed)})
    except EngineError as error:
        raise CannotRun(f"its inner tensors cannot be shown ({str(error)[:120]})", hides=False) from None
    return found


def _picture(context: Any) -> Any:
    return _pictures(context, 1)[0]


def _pictures(context: Any, most: int = DIFFERENT) -> List[Any]:
    """The user's own pictures, else scenes, a batch of them in each case."""
    from detparity.core.case import Case

    size, batch = context.contract.size, context.contract.batch
    photos = context.photos or tuple(("scene", slot) for slot in range(most * batch))
    count = min(most, -(-len(photos) // batch))
    return [Case(size, tuple(photos[(k * batch + slot) % len(photos)] for slot in range(batch))) for k in range(count)]


def resolution(context: Any) -> Iterator[Finding]:
    """The scores of a file have steps fine enough to be distinguished."""
    for name, values in _scores_of(context, _picture(context)):
        if _selects(context):
            values = values[values > 0]  # rows that are not used hold zeros
            if values.size <= 1 / STEPS:  # so few are as far apart by chance
                continue
        levels = np.unique(values)
        step = float(np.diff(levels).min()) if len(levels) > 1 else float("inf")
        if step <= STEPS:
            continue
        last = [(node, scale) for output, node, scale in tensors.last_scales(context.onnx.graph) if output == name]
        cause = f": {last[0][0].title} gives all of {name!r} by one {last[0][1].text}" if last else ""
        yield Finding(
            f"cannot resolve a score in {name!r}: {len(levels)} different values, at least {number(step)} apart{cause}.",
            notes=("Boxes in pixels and scores share a scale: give each its own, or leave the decode in float.",),
            evidence={"output": name, "levels": len(levels), "step": step if np.isfinite(step) else -1.0},
        )


def _selects(context: Any) -> bool:
    variant = getattr(context.contract, "variant", None)
    return bool(context.layout.selected if variant is None else variant.end2end)


def _costliest(context: Any, most: int = 3) -> List[str]:
    """The tensors whose rounding to 8 bits costs most, by signal to noise on one picture."""
    rows = signal_to_noise(context)[:most]
    if not rows:
        return []
    texts = ", ".join(f"{title} {decibels:.0f} dB" for title, decibels in rows)
    return [f"Costliest tensors, by the signal over the noise that 8 bits add to each on one picture: {texts}."]


def signal_to_noise(context: Any) -> List[Tuple[str, float]]:
    """(tensor, decibels) of each quantised tensor against the numbers it is made from, the worst first; none where the file computes
    in 8 bits."""
    if not _is_onnx(context.contract):
        return []
    made = [one for one in tensors.tensors(context.onnx.graph) if one.real]
    found = []
    for start in range(0, len(made), AT_ONCE):
        some = made[start : start + AT_ONCE]
        try:
            shown = _shown(context, [name for one in some for name in (one.name, one.real)], [_picture(context)])[0]
        except CannotRun:
            return []
        for one in some:
            real = shown[one.real].astype(np.float64)
            scale, zero = float(one.scale.scale.ravel()[0]), float(one.scale.zero.ravel()[0])
            noise = float((((shown[one.name].astype(np.float64) - zero) * scale - real) ** 2).sum())
            found.append((one.title, 10 * float(np.log10(max((real**2).sum(), 1e-30) / max(noise, 1e-30)))))
    return sorted(found, key=lambda item: item[1])


def _quantised_onnx(contract: Any) -> bool:
    return quantised(contract) and _is_onnx(contract)


def _scored(contract: Any) -> bool:
    return _quantised_onnx(contract) and _lower(contract)


LOADED = ("structure.load", "script.load")
CHECKS: Tuple[Check, ...] = (
    Check("precision.scales", MUST, "Scales are numbers, and each tensor is read by its own.", scales, _quantised_onnx),
    Check(
        "precision.calibration", MUST, "Ranges of 8 bits hold what pictures give.", calibration, _quantised_onnx, LOADED
    ),
    Check("precision.resolution", MUST, "The steps of scores are fine enough.", resolution, _scored, LOADED),
    Check("precision.budget", MUST, "Detections of 8 bits stay within --budget.", budget, quantised, LOADED),
)

"""What changed between a golden and the present content, as sentences. Numbers are compared within the recorded tolerance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from detparity.core.text import number
from detparity.tools.diff.graph_diff import differences, portable, signature
from detparity.tools.golden.ratio import allowed, moved

# A recorded number and the one of today are each within the limit of the truth, so they are within twice the limit of each other.
BOTH = 2.0
WORST = 6  # probes reported one by one; the rest are counted


@dataclass(frozen=True)
class Changed:
    """words: one sentence a change, the most important first; same: equal for two goldens with the same change."""

    words: Tuple[str, ...]
    same: str


UNCHANGED = Changed((), "")


def compare(kind: str, old: Mapping[str, Any], new: Mapping[str, Any], exact: bool) -> Changed:
    """Compare two contents of one kind. exact: whether the versions that shape a file are those that recorded the golden; with others
    the number and wiring of operators may differ, and only what a variant promises and the weights are compared."""
    if kind == "graph":
        found = (differences if exact else portable)(old, new)
        return Changed(tuple(one.words for one in found), signature(found)) if found else UNCHANGED
    compared = {"values": _values, "detections": _detections, "runtime": _runtime}[kind](old, new)
    words, keys = [word for word, _ in compared], sorted({key for _, key in compared})
    return Changed(tuple(words), f"{kind}: {'; '.join(keys)}") if words else UNCHANGED


def _settings(old: Mapping[str, Any], new: Mapping[str, Any], keys: Sequence[str]) -> Iterator[Tuple[str, str]]:
    for key in keys:
        if old.get(key) != new.get(key):
            yield f"{key}: {old.get(key)} -> {new.get(key)}", f"{key} {old.get(key)} -> {new.get(key)}"


# --- values ---------------------------------------------------------------------------------------------------------


def _values(old: Mapping[str, Any], new: Mapping[str, Any]) -> List[Tuple[str, str]]:
    found = list(_settings(old, new, ("picture", "size", "batch")))
    before, after = ({one["name"]: one for one in content["outputs"]} for content in (old, new))
    if list(before) != list(after):
        found.append((f"outputs {list(before)} -> {list(after)}", f"outputs {list(before)} -> {list(after)}"))
    allowed = {
        key: max(float(old["tolerance"].get(key, 0.0)), float(new["tolerance"].get(key, 0.0)))
        for key in {*old["tolerance"], *new["tolerance"]}
    }
    for name in before:
        if name in after:
            found += _output(name, before[name], after[name], allowed)
    return found


def _output(
    name: str, old: Mapping[str, Any], new: Mapping[str, Any], allowed: Mapping[str, float]
) -> Iterator[Tuple[str, str]]:
    if old["dtype"] != new["dtype"]:
        yield f"{name} is {old['dtype']} -> {new['dtype']}", f"dtype {old['dtype']} -> {new['dtype']}"
    if old["shape"] != new["shape"]:
        yield f"{name} has shape {old['shape']} -> {new['shape']}", "shape"
        return
    widest = max(allowed.values(), default=0.0)
    far: List[Tuple[float, str, str]] = []
    for (position, group, was), (_, _, now) in zip(old["probes"], new["probes"]):
        times = _times(was, now, allowed.get(group, 0.0))
        if times > 1:
            shown = f"{name}[{position}] ({group}) {_shown(was)} -> {_shown(now)}: {number(times)} times what noise explains"
            far.append((times, shown, f"{group.split()[0]} out of tolerance"))
    for side, was, now in zip(("smallest", "largest"), old["range"], new["range"]):
        if _times(was, now, widest) > 1:
            yield f"{name}: {side} value {_shown(was)} -> {_shown(now)}", "range"
    worst = sorted(far, key=lambda item: -item[0])
    for _, words, key in worst[:WORST]:
        yield words, key
    if len(worst) > WORST:
        yield f"{name}: {len(worst) - WORST} more of {len(old['probes'])} probes out of tolerance", worst[-1][2]


def _shown(value: Any) -> str:
    return f"{value:.7g}" if isinstance(value, (int, float)) else str(value)


def _times(was: Any, now: Any, allowed: float) -> float:
    """The difference of two numbers in units of the allowed one; a number against none (NaN, infinite) is infinitely far."""
    if was == now:
        return 0.0
    if not all(isinstance(value, (int, float)) for value in (was, now)) or allowed <= 0:
        return float("inf")
    return abs(float(now) - float(was)) / allowed


# --- ratios of run times --------------------------------------------------------------------------------------------


def _runtime(old: Mapping[str, Any], new: Mapping[str, Any]) -> List[Tuple[str, str]]:
    found = list(_settings(old, new, ("of", "to", "batch", "size")))
    if not found and moved(old, new):
        now, was = float(new["ratio"]), float(old["ratio"])
        low, high = new["interval"]
        words = (
            f"{new['of']} takes {now:g} times {new['to']} ({low:g} to {high:g}), and took {was:g}: "
            f"{abs(now / was - 1):.1%} {'more' if now > was else 'less'}, where noise explains {allowed(old, new):.1%}"
        )
        found.append((words, f"{'slower' if now > was else 'faster'} beside {new['to']}"))
    return found


# --- detections -----------------------------------------------------------------------------------------------------


def _detections(old: Mapping[str, Any], new: Mapping[str, Any]) -> List[Tuple[str, str]]:
    found = list(_settings(old, new, ("pictures", "size", "rule")))
    if found and found[-1][0].startswith(("pictures", "size")):
        return found
    allowed = {key: max(old["tolerance"][key], new["tolerance"][key]) for key in ("box", "score")}
    for picture, seen in enumerate(old["pictures"]):
        before, after = ([one for one in content["detections"] if one[0] == picture] for content in (old, new))
        title = " ".join(map(str, seen))
        lost, new_ones, pairs = paired(before, after)
        found += [(f"{title}: {_detection(one)} is missing", "detections missing") for one in lost]
        found += [(f"{title}: {_detection(one)} is new", "detections new") for one in new_ones]
        for was, now in pairs:
            found += _moved(title, was, now, allowed)
    return found


def paired(before: Sequence[Any], after: Sequence[Any]) -> Tuple[List[Any], List[Any], List[Tuple[Any, Any]]]:
    """Pair detections [picture, class, score, x1, y1, x2, y2] of one picture: of a class the nearest boxes first, while they overlap
    by half. Returns those left before, those left after, and the pairs."""
    candidates = sorted(
        (
            (-_iou(was[3:], now[3:]), abs(was[2] - now[2]), i, j)
            for i, was in enumerate(before)
            for j, now in enumerate(after)
            if was[1] == now[1]
        ),
    )
    taken_i: Dict[int, int] = {}
    taken_j: Dict[int, int] = {}
    for overlap, _, i, j in candidates:
        if -overlap >= 0.5 and i not in taken_i and j not in taken_j:
            taken_i[i], taken_j[j] = j, i
    lost = [one for i, one in enumerate(before) if i not in taken_i]
    new = [one for j, one in enumerate(after) if j not in taken_j]
    return lost, new, [(before[i], after[j]) for i, j in sorted(taken_i.items())]


def _iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inside = max(width, 0.0) * max(height, 0.0)
    total = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside
    return inside / total if total > 0 else float(list(a) == list(b))


def _moved(title: str, was: Any, now: Any, allowed: Mapping[str, float]) -> Iterator[Tuple[str, str]]:
    shift = max(abs(x - y) for x, y in zip(was[3:], now[3:]))
    if shift > allowed["box"]:
        times = number(shift / allowed["box"])
        yield (
            f"{title}: {_detection(was)} moved by {number(shift)} px, {times} times what noise explains",
            "boxes moved",
        )
    if abs(now[2] - was[2]) > allowed["score"]:
        times = number(abs(now[2] - was[2]) / allowed["score"])
        yield f"{title}: {_detection(was)} scores {now[2]:.4f}, {times} times what noise explains", "scores changed"


def _detection(one: Sequence[Any]) -> str:
    return f"{one[1]} {one[2]:.3f} at {', '.join(f'{value:.0f}' for value in one[3:])}"

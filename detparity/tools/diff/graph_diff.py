"""What changed between two ONNX files, as sentences, from their facts (`graph_summary.graph_facts`) alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from detparity.core.errors import InputError
from detparity.core.text import listed
from detparity.tools.diff.weight_diff import (
    FORMAT,
    Difference,
    Matching,
    changed_values,
    difference,
    match,
    missing,
    reshaped,
    retyped,
    rounded,
    tensors,
)

SUPPRESSION = ("NonMaxSuppression", "TRT:EfficientNMS_TRT")


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Tuple[Difference, ...]:
    """Everything that changed from `old` to `new`, the most important first; nothing where names of inner values, the order of
    nodes, Identity nodes or how constants are stored are all that differs.

    Raises InputError where either was recorded in another format.
    """
    found = _interface(old, new)
    if old["digests"]["content"] != new["digests"]["content"]:
        found += _graph(old, new)
    return _ranked(found)


def portable(old: Mapping[str, Any], new: Mapping[str, Any]) -> Tuple[Difference, ...]:
    """Differences in what two versions of an exporter must agree on, whatever the number and wiring of operators: inputs, outputs,
    opsets, metadata, the numbers of the suppression, and the weights that have official names in both, within `ROUNDED`. Each version
    of torch has its own IR version for an opset.

    Raises InputError where either was recorded in another format.
    """
    found = _interface(old, {**new, "ir_version": old["ir_version"]})
    for kind in ("attributes", "constants"):
        found += _settings(old, new, kind, SUPPRESSION)
    names = {tensor.name: tensor for tensor in tensors(new) if tensor.name}
    pairs = [(tensor, names[tensor.name]) for tensor in tensors(old) if tensor.name in names]
    there = Matching(tuple(pair for pair in pairs if not rounded(*pair)), (), ())
    return _ranked([*found, *reshaped(there), *retyped(there), *changed_values(there)])


def _interface(old: Mapping[str, Any], new: Mapping[str, Any]) -> List[Difference]:
    for facts in (old, new):
        if facts.get("format") != FORMAT:
            version = facts.get("format")
            raise InputError(f"graph facts of format {version!r} cannot be read; this version reads {FORMAT}")
    return [*_values(old, new, "output"), *_values(old, new, "input"), *_versions(old, new), *_metadata(old, new)]


def _ranked(found: Iterable[Difference]) -> Tuple[Difference, ...]:
    return tuple(sorted(found, key=lambda difference: difference.rank))


def signature(found: Iterable[Difference]) -> str:
    """A digest of how a file changed: two files of one model with the same signature have the same change, in counts, values, tensors
    and positions, whatever else differs between them. Empty where nothing changed."""
    traces = sorted(difference.trace for difference in found)
    return hashlib.sha256("\n".join(traces).encode(errors="backslashreplace")).hexdigest()[:16] if traces else ""


# --- versions, inputs, outputs, metadata -----------------------------------------------------------------------------


def _versions(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    for domain in sorted({*old["opsets"], *new["opsets"]}):
        was, now = old["opsets"].get(domain), new["opsets"].get(domain)
        name = "opset" if domain == "ai.onnx" else f"opset of {domain}"
        if was != now:
            words = f"{name} {_or_none(was)} -> {_or_none(now)}"
            yield difference("versions", words, words)
    if old["ir_version"] != new["ir_version"]:
        words = f"IR version {old['ir_version']} -> {new['ir_version']}"
        yield difference("versions", words, words)


def _or_none(value: Any) -> str:
    return "none" if value is None else str(value)


def _values(old: Mapping[str, Any], new: Mapping[str, Any], what: str) -> Iterator[Difference]:
    """Inputs or outputs: removed, new, renamed, in another order, of another type or shape."""
    kind = f"{what}s"
    was, now = old[kind], new[kind]
    pairs, removed, added = paired(was, now)
    for index in removed:
        yield difference(kind, f"{what} {was[index]['name']!r} is removed", f"{was[index]['name']} removed")
    for index in added:
        text = f"{what} {now[index]['name']!r} is new: {now[index]['dtype']} {_axes(now[index])}"
        yield difference(kind, text, text)
    renamed = [(was[i]["name"], now[j]["name"]) for i, j in pairs if was[i]["name"] != now[j]["name"]]
    for before, after in renamed:
        yield difference(kind, f"{what} {before!r} is now called {after!r}", f"{before} called {after}")
    order = [j for _, j in pairs]
    if order != sorted(order):
        names = [", ".join(item["name"] for item in items) for items in (was, now)]
        yield difference(kind, f"{kind} in another order: {names[0]} -> {names[1]}", f"order {names}")
    for i, j in pairs:
        title = what if len(was) == len(now) == 1 else f"{what} {now[j]['name']!r}"
        for words in _value_words(was[i], now[j]):
            yield difference(kind, f"{title} {words}", f"{now[j]['name']} {words}")
    if what == "input" and old["overridable"] != new["overridable"]:
        words = f"initializers that can be fed as inputs: {old['overridable']} -> {new['overridable']}"
        yield difference(kind, words, words)


def paired(
    old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
) -> Tuple[List[Tuple[int, int]], List[int], List[int]]:
    """Which of two lists of inputs or outputs belong together: by name, and in lists of one length by position where both are
    left over and of one type and rank. Then the positions of the others in either list."""
    names = {item["name"]: index for index, item in enumerate(new)}
    pairs = {index: names[item["name"]] for index, item in enumerate(old) if item["name"] in names}
    taken = set(pairs.values())
    for index in range(len(old) if len(old) == len(new) else 0):
        if index not in pairs and index not in taken and _kind(old[index]) == _kind(new[index]):
            pairs[index] = index
    taken = set(pairs.values())
    removed = [index for index in range(len(old)) if index not in pairs]
    return sorted(pairs.items()), removed, [index for index in range(len(new)) if index not in taken]


def _kind(value: Mapping[str, Any]) -> Tuple[Any, Any]:
    return value["dtype"], None if value["axes"] is None else len(value["axes"])


def _value_words(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if was["dtype"] != now["dtype"]:
        yield f"type: {was['dtype']} -> {now['dtype']}"
    if was["axes"] is None or now["axes"] is None or len(was["axes"]) != len(now["axes"]):
        if was["axes"] != now["axes"]:
            yield f"shape: {_axes(was)} -> {_axes(now)}"
        return
    for axis, (before, after) in enumerate(zip(was["axes"], now["axes"])):
        if before != after:
            yield f"axis {axis}: {_axis(before)} -> {_axis(after)}"


def _axis(value: Any) -> str:
    """A symbol that looks like a number is put in quotes."""
    if isinstance(value, str):
        return value if value.isidentifier() else repr(value)
    return "free" if value is None else str(value)


def _axes(value: Mapping[str, Any]) -> str:
    if value["axes"] is None:
        return "any shape"
    return f"({', '.join(map(_axis, value['axes']))})"


def _metadata(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    for key in sorted({*old["metadata"], *new["metadata"]}):
        was, now = old["metadata"].get(key), new["metadata"].get(key)
        if was == now:
            continue
        if was is None:
            words = f"metadata {key!r} is new: {_clip(now)}"
        elif now is None:
            words = f"metadata {key!r} is removed"
        else:
            words = f"metadata {key!r}: {' -> '.join(_around(was, now))}"
        yield difference("metadata", words, repr((key, was, now)))


def _clip(text: str, most: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 3] + "..."


def _around(was: str, now: str) -> Tuple[str, str]:
    """Two texts from shortly before the position where they begin to differ."""
    same = next((k for k, (a, b) in enumerate(zip(was, now)) if a != b), min(len(was), len(now)))
    start = max(0, same - 20) if max(len(was), len(now)) > 60 else 0
    lead = "..." if start else ""
    first, second = (lead + _clip(text[start:]) for text in (was, now))
    if first == second:  # what differs is white space
        return repr(was[start : start + 60]), repr(now[start : start + 60])
    return first, second


# --- the graph -------------------------------------------------------------------------------------------------------


def _graph(old: Mapping[str, Any], new: Mapping[str, Any]) -> List[Difference]:
    operators = list(_operators(old, new))
    settings = [*_settings(old, new, "attributes"), *_settings(old, new, "constants")]
    matching = match(old, new)
    weights = [*missing(matching.removed, "removed"), *missing(matching.added, "new")]
    weights += [*reshaped(matching), *retyped(matching)]
    wiring = list(_wiring(old, new, bool(operators), bool(settings or weights)))
    found = [*operators, *settings, *weights, *changed_values(matching), *wiring]
    if not found and _returned(old) == _returned(new):
        found = [difference("wiring", "the same operators and the same tensors, but in other positions", "positions")]
    # Where the change is, so that the same change at another position is not taken for the same.
    trace = f" at {_where(old, new)}"
    return [
        Difference(item.kind, item.words, item.rank, item.trace + (trace if item.kind != "weights" else ""))
        for item in found
    ]


def _returned(facts: Mapping[str, Any]) -> List[Tuple[str, str]]:
    return [(item["name"], item["from"]) for item in facts["outputs"]]


def _where(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The neighbourhoods of operators that a change removed and added. Where they do not show it, or there are no names of weights to
    distinguish positions by, the digests of both graphs: then no other file counts as having the same change."""
    was, now = (Counter(_fours(facts["neighbourhoods"])) for facts in (old, new))
    names = _names(old)
    if was != now and names and names == _names(new):
        return f"{sorted((was - now).elements())} {sorted((now - was).elements())}"
    same = all(old["digests"][key] == new["digests"][key] for key in ("topology", "named"))
    return "" if same else f"{old['digests']['named']} {new['digests']['named']}"


def _fours(text: str) -> List[str]:
    return [text[start : start + 4] for start in range(0, len(text), 4)]


def _count(facts: Mapping[str, Any], kind: str) -> int:
    """How many operators of a kind there are in all scopes together."""
    return sum(counts.get(kind, 0) for counts in facts["operators"].values())


def _operators(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    for scope in sorted({*old["operators"], *new["operators"]}, key=lambda scope: (scope != "main", scope)):
        was, now = old["operators"].get(scope, {}), new["operators"].get(scope, {})
        at = {"main": ""}.get(scope, f" in {scope}" if scope.startswith("function") else f" at {scope}")
        for kind in sorted({*was, *now}, key=str.lower):
            before, after = was.get(kind, 0), now.get(kind, 0)
            if before != after:
                yield difference("operators", f"{kind}{at} {before} -> {after}", f"{kind}{at} {after - before:+d}")


def _settings(
    old: Mapping[str, Any], new: Mapping[str, Any], kind: str, only: Optional[Sequence[str]] = None
) -> Iterator[Difference]:
    """Attributes or constants (of `only` these operators): which values, and in how many operators.

    Where an operator is removed, new or has another count, only values that appear or disappear are reported, since more or fewer of
    the others follow from the count.
    """
    for key in sorted({*old[kind], *new[kind]}):
        op, _, name = key.rpartition(".")
        if only is not None and op not in only:
            continue
        totals = _count(old, op), _count(new, op)
        values = [facts[kind].get(key, {}) for facts in (old, new)]
        was, now = (_counts(value, total, kind, ":" in op) for value, total in zip(values, totals))
        if was == now:
            continue
        steps = {text: now.get(text, 0) - was.get(text, 0) for text in {*was, *now}}
        trace = f"{key} {sorted((text, step) for text, step in steps.items() if step)}"
        if totals[0] != totals[1] and (not min(totals) or set(was) == set(now)):
            continue
        yield difference(kind, f"{_title(op, name)}{_counted(was, now)}", trace)


def _counts(values: Mapping[str, int], total: int, kind: str, own: bool) -> Dict[str, int]:
    """Facts leave out an attribute that has its default everywhere; one without a default may be missing in some operators, and so may
    any of an operator of the file's `own` or a runtime's domain."""
    missing = total - sum(values.values())
    if kind == "constants" or missing < 1:
        return dict(values)
    return {**values, "not given" if values or own else "default": missing}


def _title(op: str, name: str) -> str:
    return {"returned": "a returned ", "unused": "an unused "}.get(op, f"{op} ") + name


def _counted(was: Mapping[str, int], now: Mapping[str, int]) -> str:
    """`: 0.1 in 57 nodes -> 0.1 in 56, 0.2 in 1`; of one node ` 0.45 -> 0.5`; of many values those that changed."""
    if sum(was.values()) == sum(now.values()) == 1:
        return f" {next(iter(was))} -> {next(iter(now))}"
    keys = [text for text in _by_count(was, now) if was.get(text, 0) != now.get(text, 0)]
    if max(len(was), len(now)) > 3:
        changed = [f"{text} in {was.get(text, 0)} -> {now.get(text, 0)}" for text in keys]
        return f": {listed(changed, 4)} nodes"
    sides = [", ".join(f"{text} in {side[text]}" for text in _by_count(side, {})) or "none" for side in (was, now)]
    return f": {sides[0]} nodes -> {sides[1]}" if was else f": none -> {sides[1]}"


def _by_count(was: Mapping[str, int], now: Mapping[str, int]) -> List[str]:
    return sorted({*was, *now}, key=lambda text: (-was.get(text, 0), -now.get(text, 0), text))


def _wiring(old: Mapping[str, Any], new: Mapping[str, Any], operators: bool, settings: bool) -> Iterator[Difference]:
    """What the digests show beyond counts of `operators`, and beyond `settings`, that is attributes, constants, shapes and types of
    weights. A change of these changes the digests as well, so it hides what they would add."""

    def same(digest: str) -> bool:
        return bool(old["digests"][digest] == new["digests"][digest])

    if not same("wiring"):
        if not operators:
            yield difference("wiring", "the same operators, wired differently", "wired")
    elif not same("topology"):
        if not settings:
            yield difference(
                "wiring", "the same operators, attributes, constants and weights, in other positions", "elsewhere"
            )
    elif not same("named"):
        if _names(old) == _names(new):
            yield difference("wiring", "the same operators, reading other tensors than before", "other tensors")
    else:
        for i, j in paired(old["outputs"], new["outputs"])[0]:
            if old["outputs"][i]["from"] != new["outputs"][j]["from"]:
                name = new["outputs"][j]["name"]
                yield difference("outputs", f"output {name!r} is what another operator makes", f"{name} from elsewhere")


def _names(facts: Mapping[str, Any]) -> List[str]:
    return sorted(tensor.name for tensor in tensors(facts) if tensor.name)


# --- weights ---------------------------------------------------------------------------------------------------------

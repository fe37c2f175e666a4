"""Every check by name, in the order reports show them."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional

from detparity.core.errors import InputError
from detparity.core.findings import Check


def registry() -> Dict[str, Check]:
    """All checks, by id."""
    from detparity.checks import (
        baked_size,
        endpoint,
        engine,
        export,
        mean_ap,
        metadata,
        nms,
        parity,
        precision,
        quantised,
        script,
        structure,
        target,
        unrounded,
        weights,
    )

    found: Dict[str, Check] = {}
    for module in (
        *(export, structure, script, baked_size, weights, metadata, precision, unrounded, quantised),
        *(parity, mean_ap, nms),
        *(endpoint, engine, target),
    ):
        for check in module.CHECKS:
            assert check.id not in found, check.id
            found[check.id] = check
    return found


# What a quick run leaves out: each costs several runs, and what it alone sees is rare (tests/defects/test_defects.py counts).
NOT_QUICK = ("parity.map", "parity.threads", "parity.evaluator", "nms.tensorrt")

# What applies only where the user gives pictures.
ON_IMAGES = ("parity.images", "nms.images")

# What applies only where a server runs the file, and what of the rest applies there: what its answers show.
ON_ENDPOINT = ("endpoint.names", "endpoint.tensors", "endpoint.concurrency", "endpoint.batching")
OVER_THE_WIRE = (
    *(f"parity.{name}" for name in ("declared", "values", "images", "sizes", "batches", "isolation", "repeat", "map")),
    "parity.sequence",
    *(f"nms.{name}" for name in ("detections", "images", "sizes", "batches", "repeat")),
)


# What applies only on an engine that is asked for, or to a runtime's own file.
ON_ENGINES = ("engine.load", "engine.default")
# What does not apply there: checks that ask for an engine of their own, and what a file's first engine has shown.
NOT_ON_ENGINES = ("parity.evaluator", "parity.optimisation", "parity.map", "nms.optimisation", "nms.tensorrt")


# What applies only where a target is given.
ON_TARGET = ("structure.target",)


def by_default(known: Mapping[str, Check]) -> Dict[str, Check]:
    """The checks of a file that the engine for its kind judges."""
    return {name: one for name, one in known.items() if name not in ON_ENGINES}


def on_engines(known: Mapping[str, Check]) -> Dict[str, Check]:
    """The checks of a file on an engine that is asked for: numbers, suppression, the engine, the promised precision, by which numbers
    are judged, the budget of 8 bits, and the target."""
    groups = ("parity.", "nms.", "engine.", "precision.budget", "precision.promised", *ON_TARGET)
    return {name: one for name, one in known.items() if name.startswith(groups) and name not in NOT_ON_ENGINES}


def select(names: str, known: Optional[Mapping[str, Check]] = None) -> List[str]:
    """The ids that a list of ids and groups, separated by commas, chooses among `known` (default: those of the home family); raises
    InputError for an unknown name."""
    known = registry() if known is None else known
    found: List[str] = []
    for name in filter(None, (part.strip() for part in names.split(","))):
        hits = [check for check in known if check == name or check.startswith(name + ".")]
        if not hits:
            raise InputError(f"unknown check {name!r}: `detparity checks` lists them")
        found += [check for check in hits if check not in found]
    return found

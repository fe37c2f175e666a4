"""Every check by name, in the order reports show them."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional

from detparity.core.errors import InputError
from detparity.core.findings import Check


def registry() -> Dict[str, Check]:
    """All checks, by id."""
    from detparity.checks import (
        baked_size,
        export,
        mean_ap,
        metadata,
        nms,
        parity,
        precision,
        quantised,
        script,
        structure,
        weights,
    )

    found: Dict[str, Check] = {}
    for module in (
        export,
        structure,
        script,
        baked_size,
        weights,
        metadata,
        precision,
        quantised,
        parity,
        mean_ap,
        nms,
    ):
        for check in module.CHECKS:
            assert check.id not in found, check.id
            found[check.id] = check
    return found


# What a quick run leaves out: each costs several runs, and what it alone sees is rare (tests/defects/test_defects.py counts).
NOT_QUICK = ("parity.map", "parity.threads", "parity.evaluator", "nms.tensorrt")

# What applies only where the user gives pictures.
ON_IMAGES = ("parity.images", "nms.images")


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

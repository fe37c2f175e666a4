"""Every check by name, in the order reports show them."""

from __future__ import annotations

from typing import Dict

from detparity.findings import Check


def registry() -> Dict[str, Check]:
    """All checks, by id."""
    from detparity.checks import baked, metadata, parity, script, structure, weights

    found: Dict[str, Check] = {}
    for module in (structure, script, baked, weights, metadata, parity):
        for check in module.CHECKS:
            assert check.id not in found, check.id
            found[check.id] = check
    return found

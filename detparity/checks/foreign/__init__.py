"""Checks of files of any detector, against any reference: the same words as the home family's, with what a layout knows."""

from __future__ import annotations

from typing import Dict

from detparity.core.findings import Check


def registry() -> Dict[str, Check]:
    """All checks, by id, in the order reports show them."""
    from detparity.checks import endpoint, engine, precision, quantised, target, unrounded
    from detparity.checks.foreign import parity, stored_weights, structure, suppression

    modules = (
        structure,
        target,
        precision,
        stored_weights,
        unrounded,
        quantised,
        parity,
        suppression,
        endpoint,
        engine,
    )
    return {check.id: check for module in modules for check in module.CHECKS}

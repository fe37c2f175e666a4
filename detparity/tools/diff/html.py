"""`detparity diff` as one HTML page."""

from __future__ import annotations

from detparity.reports.html import rendered
from detparity.tools.diff.report import Diff, beside_tensors, head_of, heading, record


def page(found: Diff) -> str:
    """Raises InputError where jinja2 is not installed."""
    heads = [head_of(name, side) for name, side in zip("AB", found.sides)]
    shown = {**record(found), "differences": beside_tensors(found)}
    return rendered("diff.html", found=shown, heads=heads, heading=heading(found))

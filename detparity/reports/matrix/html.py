"""The matrix as one HTML page: no script, no outside file, readable in print and without colour."""

from __future__ import annotations

from detparity.reports import html
from detparity.reports.matrix import advice, view
from detparity.reports.matrix.model import Matrix


def page(matrix: Matrix) -> str:
    """Return the page. Raises InputError where jinja2 is not installed."""
    shown = view.view(matrix)
    found = (
        html.templates()
        .get_template("matrix.html")
        .render(
            shown=shown,
            strict=" ".join(filter(None, (view.strict_text(shown.lanes), view.quick_text(shown.lanes)))),
            legend=view.LEGEND,
            legend_end=view.LEGEND_END,
            nothing=advice.NOTHING,
            sections=view.by_section(shown.findings),
            sentence=view.sentence,
            safe_link=view.safe_link,
            lanes_text=advice.lanes_text,
        )
    )
    return str(found)

"""The report as one HTML page without any outside file, from the templates beside this module; it needs no script to be read."""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Mapping

from detparity.core.errors import InputError
from detparity.core.text import printable
from detparity.reports.page_view import scale, view


def templates() -> Any:
    """What makes pages of templates (a jinja2 environment). Raises InputError where jinja2 is not installed."""
    try:
        import jinja2
    except ImportError:
        raise InputError("--html needs jinja2, which is not installed: pip install 'detparity[html]'") from None
    return jinja2.Environment(
        loader=jinja2.PackageLoader("detparity.reports"),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_without_control_characters,
    )


def _without_control_characters(value: Any) -> Any:
    """What a template shows of a value: names in a file may hold control characters, which are spelled out."""
    return "\n".join(map(printable, value.split("\n"))) if type(value) is str else value


def rendered(template: str, **shown: Any) -> str:
    """A page of one of the templates. Raises InputError where jinja2 is not installed."""
    made = templates()
    script = made.get_template("page.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return str(made.get_template(template).render(scale=scale, script=script, script_hash=f"sha256-{digest}", **shown))


def page(report: Mapping[str, Any]) -> str:
    """The page of a report. Raises InputError where jinja2 is not installed."""
    return rendered("page.html", report=report, page=view(report))

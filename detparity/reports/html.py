"""The report as one HTML page: no script, no outside file, readable in print and without colour."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Sequence

from detparity.core.errors import InputError
from detparity.core.text import printable
from detparity.reports.findings import fails, followers, in_order, mark, roots, unconfined

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>detparity: {{ report.verdict }}</title>
<style>
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #c62828; --soft: #9a6700; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2.5rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; margin: .8rem 0; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap; }
pre { overflow-x: auto; padding: .8rem; border: 1px solid var(--line); font-size: 13px; }
.tag { font-weight: 600; } .conforms, .consistent, .passed { color: var(--good); }
.violates, .failed, .unusable, .error { color: var(--bad); } .incomplete, .skipped, .known, .should { color: var(--soft); }
details > summary { cursor: pointer; } .quiet { opacity: .75; }
</style>
</head>
<body>
<h1>detparity: <span class="tag {{ report.verdict }}">{{ report.verdict }}</span></h1>
<p>Model {{ report.subject.name }}{% if report.subject.note is defined %} {{ report.subject.note }}{% endif %}
{%- if report.subject.classes %}, {{ report.subject.classes }} classes{% endif %}
{%- if report.subject.strides %}, strides {{ report.subject.strides|join(', ') }}{% endif %}
{%- if report.subject.code is defined and report.subject.code %}; code of the model's own was run{% endif %}
{%- if report.strict %}; SHOULD findings violate as well (--strict){% endif %}.
{{ '%.1f'|format(report.timings.total_seconds) }} s, {{ '%.1f'|format(report.timings.engine_seconds) }} s of them in engines.</p>
{% if report.isolation %}<p{% if report.unconfined %} class="should"{% endif %}>Isolation: {{ report.isolation }}</p>{% endif %}
<table>
<tr><th>File</th><th>Variant</th><th>Verdict</th><th>Failed</th></tr>
{% for a in report.artifacts %}
<tr><td><a href="#a{{ loop.index }}">{{ a.path }}</a></td><td>{{ a.variant or '' }}</td>
<td><span class="tag {{ a.verdict }}">{{ a.verdict }}</span></td>
<td>{{ a.failed|join(', ') }}</td></tr>
{% endfor %}
</table>
{% for a in report.artifacts %}
<h2 id="a{{ loop.index }}">{{ a.path }}: <span class="tag {{ a.verdict }}">{{ a.verdict }}</span></h2>
{% if a.reason %}<p>{{ a.reason }}</p>{% elif a.verdict == 'not made' %}<p>{{ a.checks[0].reason }}</p>{% endif %}
{% if a.how %}<p class="quiet">{{ a.how }}{% if a.against is defined %}; against {{ a.against }}
{%- if not a.model|default(true) %} (no model was compared){% endif %}{% endif %}</p>{% endif %}
{% if a.low_power is defined %}<p class="incomplete">low power: {{ a.low_power|join('; ') }}</p>{% endif %}
{% for root, names in a.followers %}<p class="quiet">{{ names|join(', ') }}: as {{ root }} shows</p>{% endfor %}
{% for c in a.ordered %}{% if c.known_failure is defined %}<p class="known">{{ c.id }} is a known failure: {{ c.known_failure.reason }}
{%- if c.known_failure.link %} (<a href="{{ c.known_failure.link }}">{{ c.known_failure.link }}</a>){% endif %}</p>{% endif %}
{% if c.id not in a.roots %}{% for f in c.findings %}<pre>{{ f.text }}</pre>{% endfor %}{% endif %}
{% if c.outcome == 'error' %}<pre>{{ c.id }} could not be judged: {{ c.reason }}</pre>{% endif %}{% endfor %}
{% if a.noise %}
<table>
<tr><th>Group</th><th>Floor (rms)</th><th>Error (rms)</th><th>Floors</th><th>Worst at</th></tr>
{% for group, row in a.noise.items() %}
<tr><td>{{ group }}</td><td class="n">{{ '%.3g'|format(row.floor) }}</td><td class="n">{{ '%.3g'|format(row.error) }}</td>
<td class="n">{{ '%.2f'|format(row.floors) }}</td><td>{% if row.stride %}stride {{ '%.0f'|format(row.stride) }}{% endif %}</td></tr>
{% endfor %}
</table>
{% endif %}
{% if a.checks %}
<details{% if a.verdict not in ('conforms', 'consistent', 'not made') %} open{% endif %}>
<summary>{{ a.checks|length }} checks</summary>
<table>
<tr><th>Check</th><th>Level</th><th>Outcome</th><th>Seconds</th><th></th></tr>
{% for c in a.checks %}
<tr><td>{{ c.id }}</td><td>{{ c.level }}</td><td><span class="tag {{ a.marks[c.id]|lower }}">{{ a.marks[c.id] }}</span></td>
<td class="n">{{ '%.2f'|format(c.seconds) }}</td>
<td>{{ c.reason or ('follows from ' + a.roots[c.id] if c.id in a.roots else '') }}</td></tr>
{% endfor %}
</table></details>
{% endif %}
{% endfor %}
<h2>Environment</h2>
<table>{% for key, value in report.environment.items() %}<tr><td>{{ key }}</td><td>{{ value }}</td></tr>{% endfor %}</table>
</body>
</html>
"""


def templates() -> Any:
    """What makes pages of templates (a jinja2 environment). Raises InputError where jinja2 is not installed."""
    try:
        import jinja2
    except ImportError:
        raise InputError("--html needs jinja2, which is not installed: pip install 'detparity[html]'") from None
    return jinja2.Environment(
        autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined, finalize=_without_control_characters
    )


def _without_control_characters(value: Any) -> Any:
    """What a template shows of a value: names in a file may hold control characters, which are spelled out."""
    return "\n".join(map(printable, value.split("\n"))) if type(value) is str else value


def _shown(checks: Sequence[Mapping[str, Any]], strict: bool) -> Dict[str, Any]:
    """What a page shows of an artifact's checks: what failed, what follows from what, and the word for each outcome."""
    folded = roots(checks)
    return {
        "failed": [check["id"] for check in checks if fails(check, strict) and check["id"] not in folded],
        "roots": folded,
        "followers": followers(checks),
        "ordered": in_order(checks),
        "marks": {check["id"]: mark(check, strict) for check in checks},
    }


def page(report: Mapping[str, Any]) -> str:
    """Return the page. Raises InputError where jinja2 is not installed."""
    more = {"isolation": "", "unconfined": unconfined(report)}
    artifacts = [
        {
            "variant": None,
            "how": None,
            "reason": None,
            "noise": None,
            **entry,
            **_shown(entry["checks"], report["strict"]),
        }
        for entry in report["artifacts"]
    ]
    return str(templates().from_string(PAGE).render(report={**more, **report, "artifacts": artifacts}))

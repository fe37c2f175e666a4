"""The matrix as one HTML page: no script, no outside file, readable in print and without colour."""

from __future__ import annotations

from detparity.reports import html
from detparity.reports.matrix import advice, view
from detparity.reports.matrix.model import Matrix

# The report's own style, and what a wide table needs: it scrolls, and its first column stays.
STYLE = html.PAGE.partition("<style>")[2].partition("</style>")[0]
MORE = """
:root { --page: #fff; --NO: #c628281a; --open: #9a67001f; --known: #8881; }
@media (prefers-color-scheme: dark) {
  :root { --page: #121212; --good: #57ab5a; --bad: #f47067; --soft: #d4a72c; --NO: #f4706726; --open: #d4a72c1f; }
  body { background: var(--page); } a { color: #6cb6ff; }
}
body { max-width: 96rem; } h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; } ol { padding-left: 2.5rem; }
.wide { overflow-x: auto; margin: .8rem 0; } .wide table { width: auto; margin: 0; }
.wide th, .wide td { padding: .25rem .7rem .25rem 0; white-space: nowrap; }
.wide th:first-child { position: sticky; left: 0; background: var(--page); font-weight: 400; padding-right: 1.2rem; }
.wide thead th { vertical-align: bottom; line-height: 1.3; } .wide tr.group th { font-weight: 600; padding-top: .55rem; }
.wide td { padding: .25rem .45rem; } .wide thead th + th { padding: .25rem .45rem; }
td.NO, td.open { font-weight: 600; } td.NO { background: var(--NO); } td.open { background: var(--open); }
td.known { background: var(--known); }
.yes { color: var(--good); } .NO { color: var(--bad); } .open, .known, .part { color: var(--soft); } .none { opacity: .7; }
td a, .refs a { font-weight: 400; font-size: .85em; } li { margin: .35rem 0; overflow-wrap: anywhere; }
li:target { outline: 2px solid var(--soft); outline-offset: 3px; } .legend div { display: inline-block; margin-right: 1.6rem; }
.legend dt, .legend dd { display: inline; margin: 0; } .legend dt { font-weight: 600; margin-right: .4rem; }
.alert { font-weight: 600; }
@media print { .wide { overflow: visible; } .wide table { font-size: 8px; } .wide th:first-child { position: static; }
  body { max-width: none; margin: 0; } details:not([open]) { display: none; } }
"""
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>detparity: compatibility, {{ shown.verdict }}</title>
<style>{{ style }}</style>
</head>
<body>
{% macro refs(numbers) %}{% for n in numbers[:4] %} <a href="#finding-{{ n }}">{{ n }}</a>{% endfor %}
{%- if numbers|length > 4 %} +{{ numbers|length - 4 }}{% endif %}{% endmacro %}
{% macro cell(mark) %}<td class="{{ 'none' if mark.word == nothing else mark.word }}"
{%- if mark.title %} title="{{ mark.title }}"{% endif %}>{{ mark.word }}{{ refs(mark.numbers) }}</td>{% endmacro %}
{% macro lanes() %}{% for lane in shown.lanes %}<th scope="col" title="{{ lane.name }}">{{ lane.torch }}<br>
<span class="quiet">py {{ lane.python }}</span>{% if not lane.reported %}<br><span class="open">no report</span>{% endif %}</th>
{% endfor %}{% endmacro %}
<h1>detparity: compatibility, <span class="tag {{ shown.verdict }}">{{ shown.verdict }}</span></h1>
<p>Made by <code>detparity matrix</code> {{ shown.made }}. Model: {{ shown.model }}. {{ shown.counts }}.
{%- if strict %} {{ strict }}{% endif %}</p>
{% if shown.alerts %}<ul class="refs">
{% for alert in shown.alerts %}<li><span class="alert">{{ alert.lane }}</span>: {{ alert.text }}{{ refs(alert.numbers) }}</li>
{% endfor %}</ul>{% endif %}
<h2>Variants</h2>
<dl class="legend">{% for word, meaning in legend %}<div><dt class="{{ 'none' if word == nothing else word }}">{{ word }}</dt><dd>
{{- meaning }}</dd></div>{% endfor %}</dl>
<p class="quiet">{{ legend_end }}</p>
<div class="wide"><table>
<thead><tr><th scope="col">torch<br><span class="quiet">Python</span></th>{{ lanes() }}</tr></thead>
{% for block in shown.summary %}<tbody>
<tr class="group"><th scope="rowgroup">{{ block.title }}</th><td colspan="{{ shown.lanes|length }}"></td></tr>
{% for line in block.lines %}<tr><th scope="row">{{ line.label }}{% if line.note %} {{ line.note }}{% endif %}</th>
{% for mark in line.marks %}{{ cell(mark) }}{% endfor %}</tr>
{% endfor %}</tbody>
{% endfor %}</table></div>
{% if shown.absent %}<p><strong>part</strong>: {{ shown.absent|join(' ') }}</p>{% endif %}
<h2>What goes together</h2>
<p>Versions as they ran. The last columns are opset / IR version: of the lane's exports, what its onnx package writes by default,
and the newest its onnxruntime reads.</p>
<div class="wide"><table>
<thead><tr>{% for head in shown.together[0] %}<th scope="col">{{ head }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in shown.together[1:] %}<tr><th scope="row">{{ row[0] }}</th>
{% for text in row[1:-1] %}<td class="n">{{ text }}</td>{% endfor %}<td class="tag {{ row[-1] }}">{{ row[-1] }}</td></tr>
{% endfor %}</tbody></table></div>
<ul>{% for text in shown.advice %}<li>{{ text }}</li>
{% endfor %}</ul>
<h2>Findings</h2>
{% for title, entries in sections.items() %}<h3>{{ title }}</h3>
<ol start="{{ entries[0].number }}">
{% for f in entries %}<li id="finding-{{ f.number }}"><code>{{ f.check }}</code>
{%- if f.detail.level %} ({{ f.detail.level }}){% endif %}
 of {{ f.artifacts|join(', ') }}: {{ sentence(f.detail.message or f.detail.reason) }}
{%- if f.detail.message and f.detail.reason %} Reason: {{ sentence(f.detail.reason) }}{% endif %}
{%- if f.detail.link %} {% if safe_link(f.detail.link) %}<a href="{{ f.detail.link }}">{{ f.detail.link }}</a>
{%- else %}{{ f.detail.link }}{% endif %}{% endif %}
 <span class="quiet">In {{ lanes_text(f.lanes, shown.lanes) }}.</span></li>
{% endfor %}</ol>
{% else %}<p>None.</p>
{% endfor %}
<h2>Every check</h2>
{% for block in shown.tables %}<details><summary>{{ block.title }}: {{ block.lines|length }} checks</summary>
<div class="wide"><table>
<thead><tr><th scope="col">check</th><th scope="col">level</th>{{ lanes() }}</tr></thead>
<tbody>{% for line in block.lines %}<tr><th scope="row">{{ line.label }}</th><td>{{ line.note }}</td>
{% for mark in line.marks %}{{ cell(mark) }}{% endfor %}</tr>
{% endfor %}</tbody></table></div></details>
{% endfor %}
</body>
</html>
"""


def page(matrix: Matrix) -> str:
    """Return the page. Raises InputError where jinja2 is not installed."""
    shown = view.view(matrix)
    found = (
        html.templates()
        .from_string(PAGE.replace("{{ style }}", STYLE + MORE))
        .render(
            shown=shown,
            strict=view.strict_text(shown.lanes),
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

"""A measured run as one HTML page: tables, distributions and where the time goes; no script, no outside file."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from detparity.reports.html import templates
from detparity.tools.bench import svg

PAGE = """{% extends 'base.html' %}
{% block title %}detparity bench: {{ run.model }}{% endblock %}
{% block style %}svg { width: 100%; min-width: 40rem; height: auto; }{% endblock %}
{% block body %}
<main>
<h1>{{ run.model }} at {{ run.batch }}x3x{{ run.size|join('x') }}, {{ run.threads }} threads</h1>
<p class="quiet">{{ run.machine.processor|default(run.environment.machine) }}, {{ run.machine.cores }} cores
{%- if run.machine.memory is defined %}, {{ run.machine.memory }}{% endif %};
{% for name in ('python', 'torch', 'onnxruntime', 'numpy') if name in run.environment %}{{ name }} {{ run.environment[name] }}
{%- if not loop.last %}, {% endif %}{% endfor %}.
{{ run.rounds }} interleaved rounds; every contender was compared with the float64 model first, on one picture.</p>
{% if run.busy %}<p><strong>The machine was busy before the run: intervals are wide, times long.</strong></p>{% endif %}
<h2>Against {{ run.baseline }}</h2>
<p>Ratio of times, round by round: median and {{ '%.0f'|format(100 * run.confidence) }} % interval.
A difference is seen where all of the interval is more than {{ '%.0f'|format(100 * run.resolution) }} % from 1, as far as copies
of one file may be.</p>
<div class="wide"><table>
<tr><th>Contender</th><th>Engine</th><th></th><th class="n">Ratio</th><th class="n">Interval</th><th></th></tr>
{% for c in run.contenders if c.ratio %}
<tr><td>{{ c.title }}{% if c.note %}<br><span class="quiet">{{ c.note }}</span>{% endif %}</td>
<td>{{ c.engine }}</td><td>{{ c.nms }}</td>
<td class="n">{{ '%.3f'|format(c.ratio.median) }}</td>
<td class="n">{{ '%.3f'|format(c.ratio.low) }} to {{ '%.3f'|format(c.ratio.high) }}</td>
<td>{% if not c.ratio.differs %}no difference seen{% elif c.ratio.median < 1 %}faster{% else %}slower{% endif %}</td></tr>
{% endfor %}
</table></div>
<h2>Latency</h2>
<div class="wide">{{ times|safe }}</div>
<div class="wide"><table>
<tr><th>Contender</th><th></th><th class="n">min ms</th><th class="n">median</th><th class="n">p90</th><th class="n">p99</th>
<th class="n">images/s</th>
<th class="n">load s</th><th class="n">first call s</th>
<th class="n">peak MB</th><th class="n">file MB</th></tr>
{% for c in run.contenders %}
<tr><td>{{ c.title }}</td><td>{{ c.nms }}</td>
{% for key in ('min', 'median', 'p90', 'p99') %}<td class="n">{{ '%.3g'|format(1000 * c.latency_seconds[key]) }}</td>{% endfor %}
<td class="n">{{ '%.1f'|format(c.images_per_second) }}</td>
<td class="n">{{ '%.3f'|format(c.load_seconds) }}</td><td class="n">{{ '%.3f'|format(c.first_call_seconds) }}</td>
<td class="n">{% if c.peak_bytes is none %}unknown{% else %}{{ '%.0f'|format(c.peak_bytes / 1e6) }}{% endif %}</td>
<td class="n">{% if c.file_bytes %}{{ '%.1f'|format(c.file_bytes / 1e6) }}{% endif %}</td></tr>
{% endfor %}
</table></div>
{% if ratios %}<h2>Ratios, every round</h2>
<div class="wide">{{ ratios|safe }}</div>{% endif %}
{% for profile in run.profiles %}
<h2>Where the time goes in {{ profile.title }}</h2>
{% if profile.note %}<p>{{ profile.note }}</p>{% endif %}
<div class="wide"><table>
<tr><th>Stage</th><th class="n">Share</th><th class="n">ms</th></tr>
{% for part in profile.stages %}
<tr><td>{{ part.stage }}</td><td class="n">{{ '%.1f'|format(100 * part.seconds / profile.total_seconds) }} %</td>
<td class="n">{{ '%.3f'|format(1000 * part.seconds) }}</td></tr>
{% endfor %}
<tr><td>overhead</td><td class="n">{{ '%.1f'|format(100 * profile.overhead_seconds / profile.total_seconds) }} %</td>
<td class="n">{{ '%.3f'|format(1000 * profile.overhead_seconds) }}</td></tr>
</table></div>
<details><summary>{{ profile.modules|length }} modules</summary><div class="wide"><table>
<tr><th>Module</th><th>Stage</th><th class="n">Share</th><th class="n">ms</th></tr>
{% for part in profile.modules %}
<tr><td>{{ part.module }}</td><td>{{ part.stage }}</td>
<td class="n">{{ '%.1f'|format(100 * part.seconds / profile.total_seconds) }} %</td>
<td class="n">{{ '%.3f'|format(1000 * part.seconds) }}</td></tr>
{% endfor %}
</table></div></details>
{% endfor %}
<p class="quiet">Repeat: {{ run.repeat }}</p>
</main>
{% endblock %}
"""


def page(run: Mapping[str, Any]) -> str:
    """The page of a run as `report.record` gives it. Raises InputError where jinja2 is not installed."""
    series: Dict[str, List[float]] = {one["title"]: [1e3 * s for s in one["seconds"]] for one in run["contenders"]}
    base = series[run["baseline"]]
    ratios = {
        title: [a / b for a, b in zip(values, base)] for title, values in series.items() if title != run["baseline"]
    }
    times = svg.distributions(series, "milliseconds a call")
    against = svg.distributions(ratios, f"times {run['baseline']}") if ratios else ""
    return str(templates().from_string(PAGE).render(run=run, times=times, ratios=against))

"""A measured run as one HTML page: tables, distributions and where the time goes; no outside file."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from detparity.reports.html import rendered
from detparity.tools.bench import svg


def page(run: Mapping[str, Any]) -> str:
    """The page of a run as `report.record` gives it. Raises InputError where jinja2 is not installed."""
    series: Dict[str, List[float]] = {one["title"]: [1e3 * s for s in one["seconds"]] for one in run["contenders"]}
    base = series[run["baseline"]]
    ratios = {
        title: [a / b for a, b in zip(values, base)] for title, values in series.items() if title != run["baseline"]
    }
    times = svg.distributions(series, "milliseconds a call")
    against = svg.distributions(ratios, f"times {run['baseline']}") if ratios else ""
    return rendered("bench.html", run=run, times=times, ratios=against, headline=headline(run))


def headline(run: Mapping[str, Any]) -> str:
    """Which contender is fastest, if any is seen to be faster than the baseline."""
    seen = [one for one in run["contenders"] if one["ratio"] and one["ratio"]["differs"] and one["ratio"]["median"] < 1]
    if not seen:
        return f"Nothing is seen to be faster than {run['baseline']}."
    best = min(seen, key=lambda one: float(one["ratio"]["median"]))
    return f"Fastest: {best['title']}, {1 / best['ratio']['median']:.2f} times as fast as {run['baseline']}."

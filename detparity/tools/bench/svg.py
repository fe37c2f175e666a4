"""Charts as SVG text: distributions side by side, and curves on logarithmic axes. Readable without colour, no script inside."""

from __future__ import annotations

import math
from html import escape
from typing import List, Mapping, Sequence, Tuple

import numpy as np

WIDTH, LEFT, RIGHT, TOP, LINE = 900, 290, 30, 14, 30
HEIGHT, FOOT = 340, 46
INK = "currentColor"
MARKS = ("circle", "square", "triangle", "diamond", "cross")


def _svg(height: float, body: Sequence[str], label: str) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}" '
            f'font-family="system-ui, sans-serif" font-size="13" fill="{INK}" stroke="none">',
            *body,
            "</svg>",
        ]
    )


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, width: float = 1.0, opacity: float = 1.0, dash: str = "") -> str:
    more = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{INK}" stroke-width="{width:g}" '
        f'stroke-opacity="{opacity:g}"{more}/>'
    )


def ticks(low: float, high: float) -> List[float]:
    """Round numbers (1, 2 or 5 times a power of ten) from `low` to `high`, both above zero; the ends when there are too few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [step * 10.0**power for power in powers for step in (1, 2, 5) if low <= step * 10.0**power <= high]
    return found if len(found) > 1 else [low, high]


def distributions(series: Mapping[str, Sequence[float]], unit: str) -> str:
    """A row a name: every value a dot, the box from quartile to quartile, the median a thick mark. Values above zero, on a logarithmic
    axis, so that equal distances are equal ratios."""
    values = np.concatenate([np.asarray(one, np.float64) for one in series.values()])
    low, high = float(values.min()) * 0.95, float(values.max()) * 1.05
    scale = (WIDTH - LEFT - RIGHT) / math.log(high / low)

    def x(value: float) -> float:
        return LEFT + math.log(value / low) * scale

    bottom = TOP + LINE * len(series)
    body = []
    for tick in ticks(low, high):
        body += [_line(x(tick), TOP, x(tick), bottom, 1, 0.2), _text(x(tick), bottom + 18, f"{tick:g}", "middle")]
    body.append(_text(WIDTH - RIGHT, bottom + 36, unit, "end"))
    for index, (name, one) in enumerate(series.items()):
        body += _distribution(name, np.asarray(one, np.float64), TOP + LINE * (index + 0.5), x)
    return _svg(bottom + FOOT, body, f"distributions of {', '.join(series)}, in {unit}")


def _distribution(name: str, values: np.ndarray, y: float, x: object) -> List[str]:
    assert callable(x)
    shown = name if len(name) <= 32 else f"{name[:15]}…{name[-16:]}"
    found = [_text(LEFT - 12, y + 4, shown, "end")]
    for index, value in enumerate(values):
        offset = ((index * 0.618034) % 1.0 - 0.5) * LINE * 0.5  # spread evenly, the same each time
        found.append(f'<circle cx="{x(value):.1f}" cy="{y + offset:.1f}" r="2" fill-opacity="0.35"/>')
    first, middle, third = (float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))
    wide = max(x(third) - x(first), 0.5)
    found.append(
        f'<rect x="{x(first):.1f}" y="{y - 8:.1f}" width="{wide:.1f}" height="16" fill="none" stroke="{INK}"/>'
    )
    found.append(_line(x(middle), y - 10, x(middle), y + 10, 3))
    return found


def curves(lines: Mapping[str, Sequence[Tuple[float, float]]], across: str, up: str) -> str:
    """Lines of (x, y) points, all above zero, on two logarithmic axes: a power law is straight, and its order is its slope."""
    points = np.array([point for one in lines.values() for point in one], np.float64)
    (x_low, y_low), (x_high, y_high) = points.min(0) * 0.9, points.max(0) * 1.1
    left, right = 70, 210

    def pixels(x: float, y: float) -> Tuple[float, float]:
        return (
            left + math.log(x / x_low) / math.log(x_high / x_low) * (WIDTH - left - right),
            HEIGHT - FOOT - math.log(y / y_low) / math.log(y_high / y_low) * (HEIGHT - FOOT - TOP),
        )

    # These are files of their own, and the background of the page is unknown.
    body = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', '<g color="black" fill="black">']
    for tick in ticks(x_low, x_high):
        x, _ = pixels(tick, y_low)
        body += [_line(x, TOP, x, HEIGHT - FOOT, 1, 0.15), _text(x, HEIGHT - FOOT + 18, f"{tick:g}", "middle")]
    for tick in ticks(y_low, y_high):
        _, y = pixels(x_low, tick)
        body += [_line(left, y, WIDTH - right, y, 1, 0.15), _text(left - 8, y + 4, f"{tick:g}", "end")]
    body += [_text((left + WIDTH - right) / 2, HEIGHT - 8, across, "middle"), _text(8, 12, up)]
    taken: List[float] = []
    for index, (name, one) in enumerate(lines.items()):
        placed = [pixels(*point) for point in one]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        dash = ("", "6 3", "2 3", "8 3 2 3")[index % 4]
        more = f' stroke-dasharray="{dash}"' if dash else ""
        body.append(f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.5"{more}/>')
        body += [_mark(MARKS[index % len(MARKS)], x, y) for x, y in placed]
        body.append(_text(placed[-1][0] + 10, _free(placed[-1][1] + 4, taken), name))
    return _svg(HEIGHT, [*body, "</g>"], f"{up} against {across}: {', '.join(lines)}")


def _free(y: float, taken: List[float]) -> float:
    """A height for a label that no other label has; `taken` grows by it."""
    while any(abs(y - other) < 15 for other in taken):
        y += 3
    taken.append(y)
    return y


def _mark(kind: str, x: float, y: float) -> str:
    if kind == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
    if kind == "square":
        return f'<rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6"/>'
    if kind == "cross":
        return _line(x - 4, y - 4, x + 4, y + 4, 2) + _line(x - 4, y + 4, x + 4, y - 4, 2)
    corners = {"triangle": ((0, -4), (4, 4), (-4, 4)), "diamond": ((0, -5), (5, 0), (0, 5), (-5, 0))}[kind]
    return f'<polygon points="{" ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners)}"/>'

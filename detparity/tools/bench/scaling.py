"""How cost grows: measured curves against image size, batch, candidates before suppression, classes and threads.

Reported of a curve is its order, the slope on logarithmic axes over its last three points, beside the order expected from the
computation. Points of a curve are timed interleaved, so that load on the machine affects them equally.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, Iterator, Mapping, Tuple

import numpy as np

from detparity.checks.context import Context
from detparity.checks.nms_tail import feed, find_cut
from detparity.checks.opening import make_context, open_file
from detparity.checks.session import Options, Session
from detparity.core import environment as facts
from detparity.core.errors import EngineError, InputError, NotMade, clipped
from detparity.core.statistics import median_interval
from detparity.core.vocabulary import Runner, Size
from detparity.models.choice import ModelChoice
from detparity.tools.bench import svg
from detparity.tools.bench.candidates import EAGER, Recipe, make_feeds, numbered_call, of_file, of_model, prepare
from detparity.tools.bench.interleave import Call, take_turns
from detparity.tools.export_cache import attempt, promised

ROUNDS, WARM_UP = 25, 3
LAST = 3  # points an order is read from: of two, a few per cent of noise make a tenth
SIDES = (4, 6, 8, 12, 16, 20)  # in strides
BATCHES = (1, 2, 4, 8)
CANDIDATES = (10, 30, 100, 300, 1000, 3000, 10000)
CLASSES = (1, 5, 20, 80, 365)
SIZE: Size = (256, 320)
TAIL_SIZE: Size = (640, 640)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Point:
    """x: what was varied; seconds: median of a call; low, high: interval of the median."""

    x: float
    seconds: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """title: what was run; points: by ascending x; expected: the order expected from the computation, as text."""

    title: str
    points: Tuple[Point, ...]
    expected: str

    @property
    def order(self) -> float:
        """Slope on logarithmic axes over the last `LAST` points, by least squares: 1 is linear."""
        xs, seconds = zip(*((point.x, point.seconds) for point in self.points[-LAST:]))
        return float(np.polyfit(np.log(xs), np.log(seconds), 1)[0])


@dataclass(frozen=True)
class Figure:
    """Curves against one thing. key: part of file names; axis: what was varied, with its unit; about: what was run, in a sentence."""

    key: str
    title: str
    axis: str
    about: str
    curves: Tuple[Curve, ...]


@dataclass(frozen=True)
class Scaling:
    figures: Tuple[Figure, ...]
    model: str
    environment: Mapping[str, str] = field(default_factory=facts.environment)
    machine: Mapping[str, str] = field(default_factory=facts.machine)


def run(choice: ModelChoice, scratch: Path, say: Say) -> Scaling:
    """Measure every figure; that over threads takes two cores. scratch: a folder for exports. Raises InputError for a model that
    cannot be used."""
    session = Session(Options(choice))
    figures = {
        "sizes": _sizes,
        "batches": _batches,
        "candidates": _candidates,
        "classes": _classes,
        "threads": _threads,
    }
    if facts.usable_cores() < 2:
        say("threads are left out: there is one core")
        del figures["threads"]
    found = []
    for name, measured in figures.items():
        say(f"measuring {name}")
        try:
            found.append(measured(session, scratch))
        except (NotMade, EngineError) as problem:
            raise InputError(f"{name} cannot be measured: {clipped(problem)}") from None
    return Scaling(tuple(found), session.detector.facts.name)


def _curves(calls: Mapping[str, Mapping[float, Call]], feeds: int, expected: Mapping[str, str]) -> Tuple[Curve, ...]:
    """Time every point of every curve, interleaved."""
    flat = {f"{title} {x}": call for title, points in calls.items() for x, call in points.items()}
    seconds = take_turns(flat, ROUNDS, WARM_UP, feeds)

    def point(title: str, x: float) -> Point:
        times = seconds[f"{title} {x}"]
        return Point(x, float(np.median(times)), *median_interval(times))

    return tuple(
        Curve(title, tuple(point(title, x) for x in sorted(points)), expected[title]) for title, points in calls.items()
    )


def _context(session: Session, name: str, scratch: Path, size: Size = SIZE) -> Context:
    path = attempt(session.detector, name, size, scratch)
    found = open_file(path, session.detector.facts, promised(name), None, name)
    return make_context(session.detector, found, session.oracle, session.clock)


def _runners(session: Session, scratch: Path, threads: int) -> Dict[str, Runner]:
    """What takes any size and batch: the model, and a file of each sort."""
    found = {EAGER: prepare(of_model(session.choice, "grid", threads).recipe, session.detector)}
    for name in ("raw-dynamic", "grid-dynamic", "end2end-ort-dynamic", "scripted"):
        context = _context(session, name, scratch)
        one = of_file(context, threads)[0]
        found[f"{name} ({one.nms})"] = prepare(one.recipe)
    return found


def _sizes(session: Session, scratch: Path) -> Figure:
    stride = session.detector.facts.max_stride
    sides = [count * stride for count in SIDES]
    feeds = {side: make_feeds(1, (side, side)) for side in sides}
    runners = _runners(session, scratch, facts.usable_cores())
    calls = {
        title: {float(side**2): numbered_call(runner, feeds[side]) for side in sides}
        for title, runner in runners.items()
    }
    expected = {title: "1, less while fixed costs weigh: convolutions are linear in pixels" for title in calls}
    curves = _curves(calls, len(feeds[sides[0]]), expected)
    squares = ", ".join(f"{side}x{side}" for side in sides)
    return Figure("size", "Image size", "pixels", f"Batch 1, squares of {squares}.", curves)


def _batches(session: Session, scratch: Path) -> Figure:
    feeds = {batch: make_feeds(batch, SIZE) for batch in BATCHES}
    runners = _runners(session, scratch, facts.usable_cores())
    calls = {title: {float(b): numbered_call(runner, feeds[b]) for b in BATCHES} for title, runner in runners.items()}
    expected = {title: "1, or less while one image leaves cores idle" for title in calls}
    return Figure("batch", "Batch", "images", f"At {SIZE[0]}x{SIZE[1]}.", _curves(calls, len(feeds[1]), expected))


def _threads(session: Session, scratch: Path) -> Figure:
    counts = sorted({1, *(2**k for k in range(8) if 2**k <= facts.usable_cores()), facts.usable_cores()})
    feeds = make_feeds(1, TAIL_SIZE)
    sets = {count: _runners(session, scratch, count) for count in counts}
    calls = {title: {float(n): numbered_call(sets[n][title], feeds) for n in counts} for title in sets[counts[0]]}
    expected = {title: "-1 at best; what is not parallel keeps it above" for title in calls}
    where = f"Batch 1 at {TAIL_SIZE[0]}x{TAIL_SIZE[1]}."
    return Figure("threads", "Threads", "threads", where, _curves(calls, len(feeds), expected))


def _classes(session: Session, scratch: Path) -> Figure:
    """One seeded network with other heads: what grows is the last convolution and what reads its channels."""
    from detparity.models.yolov7.seeded import seeded

    calls: Dict[str, Dict[float, Call]] = {}
    feeds = make_feeds(1, SIZE)
    threads = facts.usable_cores()
    for count in CLASSES:
        detector = seeded("yolov7-tiny", 0.25, 0, count)
        for name in ("raw", "grid", "end2end-ort"):
            path = attempt(detector, name, SIZE, scratch)
            runner = prepare(Recipe("onnxruntime", threads, str(path)))
            calls.setdefault(name, {})[float(count)] = numbered_call(runner, feeds)
    expected = {title: "0, rising to 1 as the head outgrows the rest" for title in calls}
    about = f"yolov7-tiny at width 0.25 with seeded weights, batch 1 at {SIZE[0]}x{SIZE[1]}."
    return Figure("classes", "Classes", "classes", about, _curves(calls, len(feeds), expected))


def _candidates(session: Session, scratch: Path) -> Figure:
    """The tail alone, fed predictions over the score threshold, all over the image: small ones of all classes, which suppress few of
    each other, and large ones of one class, of which each selected one suppresses many."""
    context = _context(session, "end2end-ort", scratch, TAIL_SIZE)
    cut = find_cut(context)
    if cut is None:
        raise InputError(
            "candidates cannot be measured: no tensor separates the tail of this model's file from its body"
        )
    runner = context.tail_runner(cut.names)
    counts = [count for count in CANDIDATES if 3 * count <= context.facts.rows(TAIL_SIZE)]
    calls: Dict[str, Dict[float, Call]] = {}
    for title, sides, classes in (
        ("small, all classes", (8, 16), context.facts.classes),
        ("large, one class", (90, 120), 1),
    ):
        for count in counts:
            given, predictions = feed(context, cut, _predictions(context, count, sides, classes))
            there = int((predictions[0, :, 4] > 0.5).sum())  # some boxes find no free anchor near them
            calls.setdefault(title, {})[float(there)] = _given(runner, given)
    nothing, _ = feed(context, cut, _predictions(context, 0, (8, 16), 1))
    expected = {
        title: "1 at most: a candidate is compared with the selected ones alone, which the cap bounds"
        for title in calls
    }
    curves = _curves(calls, 1, expected)
    seconds = take_turns({"none": _given(runner, nothing)}, ROUNDS, WARM_UP, 1)["none"]
    cap = context.contract.nms.cap if context.contract.nms else 0
    about = (
        f"The tail of end2end-ort at {TAIL_SIZE[0]}x{TAIL_SIZE[1]}, {context.facts.rows(TAIL_SIZE)} rows, cap {cap}, "
        f"from the logits on. Without a candidate it takes {1e3 * float(np.median(seconds)):.3f} ms."
    )
    return Figure("candidates", "Candidates before suppression", "candidates", about, curves)


def _given(runner: Runner, arrays: Mapping[str, np.ndarray]) -> Call:
    def call(_: int) -> None:
        runner.call(arrays)

    return call


def _predictions(context: Context, count: int, sides: Tuple[int, int], classes: int) -> np.ndarray:
    """(1, count, fields) predictions over the score threshold, all over the image. sides: pixels, from and to."""
    rng = np.random.default_rng([count, 3])
    made = np.zeros((1, count, context.facts.fields))
    made[0, :, 0:2] = rng.random((count, 2)) * (TAIL_SIZE[1], TAIL_SIZE[0])
    made[0, :, 2:4] = rng.uniform(*sides, (count, 2))
    made[0, :, 4] = rng.uniform(0.9, 0.99, count)
    made[0, np.arange(count), 5 + rng.integers(0, classes, count)] = rng.uniform(0.8, 0.99, count)
    return made


# --- the page -------------------------------------------------------------------------------------------------------


def page(found: Scaling, charts: str = "") -> str:
    """The figures as Markdown. charts: a folder, as the page sees it, that holds the charts `KEY.svg`; without it there are none."""
    return "\n".join(_page(found, charts)) + "\n"


def _page(found: Scaling, charts: str) -> Iterator[str]:
    yield "# How cost grows"
    yield ""
    yield (
        f"Measured by `detparity scaling` on {found.model}: {found.machine.get('processor', 'an unknown processor')}, "
        f"{found.machine['cores']} cores; "
        + ", ".join(f"{name} {found.environment[name]}" for name in ("python", "torch", "onnxruntime", "numpy"))
        + f". Medians of {ROUNDS} rounds in which all points of a figure are interleaved. The order is the slope over the last "
        f"{LAST} points on logarithmic axes (1 is linear, 0 constant)."
    )
    for figure in found.figures:
        yield from ("", f"## {figure.title}", "", figure.about, "")
        if charts:
            yield from (f"![{figure.title}: milliseconds against {figure.axis}]({charts}/{figure.key}.svg)", "")
        yield from _table(figure)


def _table(figure: Figure) -> Iterator[str]:
    """One row a curve; where curves were not measured at the same values of x, the cells state them."""
    axes = {tuple(point.x for point in curve.points) for curve in figure.curves}
    count = max(len(xs) for xs in axes)
    heads = [f"{x:,.0f}" for x in next(iter(axes))] if len(axes) == 1 else [""] * count
    yield f"| ms {'at' if len(axes) == 1 else '(at)'} {figure.axis} | " + " | ".join(heads) + " | order | expected |"
    yield "|---" * (count + 3) + "|"
    for curve in figure.curves:
        cells = [
            f"{1e3 * point.seconds:.3g}" + (f" ({point.x:,.0f})" if len(axes) > 1 else "") for point in curve.points
        ]
        cells += [""] * (count - len(cells))
        yield f"| {curve.title} | " + " | ".join(cells) + f" | {curve.order:.2f} | {curve.expected} |"


def drawings(found: Scaling) -> Dict[str, str]:
    """Charts as SVG text, by the key of their figure."""
    return {
        figure.key: svg.curves(
            {curve.title: [(point.x, 1e3 * point.seconds) for point in curve.points] for curve in figure.curves},
            figure.axis,
            "ms",
        )
        for figure in found.figures
    }

"""`detparity bench`: from the options to a measured run."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, TypeVar

import numpy as np

from detparity.artifacts import open
from detparity.checks import nms, parity
from detparity.checks.context import Context
from detparity.checks.nms_tail import as_rows
from detparity.checks.session import Options, Session
from detparity.core import environment as facts
from detparity.core.array_cache import default_cache
from detparity.core.case import Case
from detparity.core.errors import EngineError, InputError, NotMade, clipped
from detparity.core.text import render
from detparity.core.vocabulary import Runner, Size
from detparity.models.choice import ModelChoice
from detparity.tools.bench import cold_start
from detparity.tools.bench.candidates import (
    FEEDS,
    FROZEN,
    Contender,
    make_feeds,
    numbered_call,
    of_file,
    of_model,
    pictures_of,
    plugin_inputs,
    prepare,
)
from detparity.tools.bench.interleave import take_turns
from detparity.tools.bench.profile import Profile, profile
from detparity.tools.bench.statistics import Ratio, Summary, ratio, summary
from detparity.tools.export_cache import KitExports

WARM_UP = 5
PROFILED = 20  # rounds of a profile
LEAST_ROUNDS = 6  # fewer give no interval
BUSY = 0.75  # load a core from which on the machine is reported as busy
SHOWN = ("raw", "grid", "end2end-ort", "traced", "scripted", "lite")  # of the kit's exporters, where no file is given
Say = Callable[[str], None]
Answer = TypeVar("Answer")


class WrongFile(Exception):
    """A file whose numbers are wrong, so that it is not timed. The text is its finding."""


@dataclass(frozen=True)
class Asked:
    """The options of a run. batch, img_size: of files that leave them open, None means 1 and what the files state; threads: 0 means
    all cores this process may use; baseline: the file the others are compared with, None means the model itself; profile: whether to
    measure where the time goes."""

    choice: ModelChoice
    artifacts: Tuple[Path, ...]
    variant: Optional[str] = None
    img_size: Optional[Size] = None
    promise: open.Asked = field(default_factory=open.Asked)
    batch: Optional[int] = None
    threads: int = 0
    rounds: int = 50
    baseline: Optional[Path] = None
    profile: bool = True


@dataclass(frozen=True)
class Row:
    """One contender, measured. seconds: (rounds,) of one call; ratio: to the baseline, None of the baseline itself; size: bytes of the
    file."""

    contender: Contender
    seconds: np.ndarray
    summary: Summary
    cold: cold_start.ColdStart
    ratio: Optional[Ratio]
    size: Optional[int]
    engine: Mapping[str, str]


@dataclass(frozen=True)
class Measured:
    """A run. baseline: the title of the row the ratios are to; load: of the machine per core, before and after; profiles: where the
    time goes, by title of the row."""

    rows: Tuple[Row, ...]
    baseline: str
    batch: int
    size: Size
    threads: int
    rounds: int
    model: str
    environment: Mapping[str, str]
    machine: Mapping[str, str]
    load: Tuple[Optional[float], Optional[float]]
    profiles: Mapping[str, Profile] = field(default_factory=dict)

    @property
    def busy(self) -> bool:
        """Whether the machine was under load before the run began; its effect on the ratios is in the intervals."""
        return self.load[0] is not None and self.load[0] > BUSY


def run(asked: Asked, scratch: Path, say: Say) -> Measured:
    """Verify every contender once, then time them interleaved.

    scratch: where the kit's exports go, if no file is given. Raises InputError for files or options that cannot be used, WrongFile
    for a file that does not do what the model does.
    """
    before = _load()  # of the machine, not of what follows
    if asked.rounds < LEAST_ROUNDS:
        raise InputError(f"--rounds {asked.rounds}: an interval takes {LEAST_ROUNDS} at least")
    threads = asked.threads or facts.usable_cores()
    options = Options(
        asked.choice, asked.artifacts, asked.variant, asked.img_size, asked.promise, cache=default_cache()
    )
    session = Session(options, KitExports(scratch))
    contexts = _contexts(session, say)
    batch, size = _input(contexts, asked)
    head = "raw" if {context.contract.variant.head for context in contexts} == {"raw"} else "grid"
    contenders = [of_model(asked.choice, head, threads)]
    for context in contexts:
        contenders += of_file(context, threads)
    titled = _titled(contenders)
    base = _baseline(titled, asked.baseline)
    runners = _ready(titled, session, batch, size, say)
    titled = {title: one for title, one in titled.items() if title in runners}
    return _measure(titled, runners, base, session, asked, (batch, size), threads, before, say)


def _contexts(session: Session, say: Say) -> List[Context]:
    files = session.options.artifacts
    if files:
        once: Dict[Path, Path] = {}
        for path in files:
            once.setdefault(path.resolve(), path)
        return [session.context(path) for path in once.values()]
    found = []
    for name in SHOWN:
        try:
            found.append(session.context(session.made(name), name))
        except NotMade as problem:
            say(f"{name} is not made here: {problem}")
    if not found:
        raise InputError("none of the kit's exporters makes a file of this model here")
    return found


def _input(contexts: List[Context], asked: Asked) -> Tuple[int, Size]:
    """The batch and size all files run at. Raises InputError where they have none in common, or one does not take what was asked."""
    found: Dict[Tuple[int, Size], str] = {}
    for context in contexts:
        contract, title = context.contract, context.artifact.title
        free = contract.variant.dynamic_batch or context.artifact.kind != "onnx"
        if asked.batch is not None and not free and asked.batch != contract.batch:
            raise InputError(f"--batch-size {asked.batch}: {title} takes batches of {contract.batch} alone")
        if asked.img_size is not None and asked.img_size != contract.size:
            given, own = ("x".join(map(str, one)) for one in (asked.img_size, contract.size))
            raise InputError(f"--img-size {given}: {title} takes {own} alone")
        found.setdefault((asked.batch or 1 if free else contract.batch, contract.size), title)
    if len(found) > 1:
        takes = "; ".join(f"{title} takes {batch}x3x{size[0]}x{size[1]}" for (batch, size), title in found.items())
        raise InputError(f"one run compares files that take the same input: {takes}")
    return next(iter(found))


def _ready(
    contenders: Mapping[str, Contender], session: Session, batch: int, size: Size, say: Say
) -> Dict[str, Runner]:
    """Every contender prepared, and compared with the model on the first of the pictures. Raises WrongFile."""
    runners: Dict[str, Runner] = {}
    for title, one in contenders.items():
        say(f"verifying {title}" if one.context else f"loading {title}")
        try:
            runner = prepare(one.recipe, session.detector)
        except EngineError as error:
            if one.recipe.engine != FROZEN:
                raise WrongFile(f"{title} is not timed: {clipped(error)}") from None
            say(f"{title} is left out: {clipped(error)}")  # the file is right; this torch cannot rewrite it for speed
            continue
        require_right(one, runner, batch, size)
        runners[title] = runner
    return runners


def require_right(one: Contender, runner: Runner, batch: int, size: Size) -> None:
    """Raise WrongFile unless what is to be timed gives, for the first feed, what the model gives: the same runner that is timed, and
    for a file with the TensorRT plugin, which does not run here, the complete file by the plugin's semantics."""
    if one.context is None:
        return
    context, case = one.context, Case(size, pictures_of(0, batch))
    suppresses = context.contract.variant.end2end and one.cut is None
    check = "nms.detections" if suppresses else "parity.declared"
    images = context.batch(case)
    try:
        outputs = context.run(images) if plugin_inputs(context) else runner.call({runner.input_names[0]: images})
    except EngineError as error:
        raise WrongFile(f"{one.title} is not timed: it does not run. {clipped(error)}") from None
    if one.cut is not None:
        given = as_rows(one.cut, outputs, context.facts.fields)
        found = parity.judge_predictions(context, case, given, "raw" if one.cut.logits else "grid")
    else:
        found = (nms if suppresses else parity).judge_outputs(context, case, outputs)
    if found:
        text = render(one.title, check, found[0])
        raise WrongFile(f"{one.title} is not timed, since it does not do what the model does.\n\n{text}")


def _titled(contenders: List[Contender]) -> Dict[str, Contender]:
    """Contenders by title; files of one name get their paths as titles."""
    files = {(one.context.artifact.title, one.context.artifact.path) for one in contenders if one.context}
    names = [title for title, _ in files]
    twice = {title for title in names if names.count(title) > 1}
    found: Dict[str, Contender] = {}
    for one in contenders:
        if one.context is not None and one.context.artifact.title in twice:
            title = one.title.replace(one.context.artifact.title, str(one.context.artifact.path), 1)
            one = replace(one, title=title)
        found[one.title] = one
    return found


def _measure(
    contenders: Mapping[str, Contender],
    runners: Mapping[str, Runner],
    base: str,
    session: Session,
    asked: Asked,
    given: Tuple[int, Size],
    threads: int,
    before: Optional[float],
    say: Say,
) -> Measured:
    """Time contenders interleaved at `given` (batch, size), each in a new process first for its cold start."""
    batch, size = given
    cold: Dict[str, cold_start.ColdStart] = {}
    with cold_start.Processes() as processes:
        for title, one in contenders.items():
            say(f"loading {title} in a new process")
            cold[title] = _owned(title, processes.measure)(one.recipe, batch, size)
    feeds = make_feeds(batch, size)
    say(f"timing {len(contenders)} contenders, interleaved: {asked.rounds} rounds after {WARM_UP} to warm up")
    series = take_turns(
        {title: _owned(title, numbered_call(runner, feeds)) for title, runner in runners.items()},
        asked.rounds,
        WARM_UP,
        FEEDS,
        lambda done, of: say(f"  {done} of {of} rounds") if done % max(of // 5, 1) == 0 else None,
    )
    rows = tuple(
        Row(
            contender=one,
            seconds=series[title],
            summary=summary(series[title]),
            cold=cold[title],
            ratio=None if title == base else ratio(series[title], series[base]),
            size=one.context.artifact.path.stat().st_size if one.context else None,
            engine=runners[title].facts,
        )
        for title, one in contenders.items()
    )
    after = _load()
    return Measured(
        rows=rows,
        baseline=base,
        batch=batch,
        size=size,
        threads=threads,
        rounds=asked.rounds,
        model=session.detector.facts.name,
        environment=facts.environment(),
        machine=facts.machine(),
        load=(before, after),
        profiles=_profiles(contenders, feeds, threads, say) if asked.profile else {},
    )


def _owned(title: str, call: Callable[..., Answer]) -> Callable[..., Answer]:
    """The call, with an engine's error in it raised as WrongFile with the contender's title: right on the first picture, it failed on
    another."""

    def owned(*given: Any) -> Answer:
        try:
            return call(*given)
        except EngineError as error:
            raise WrongFile(f"{title} stopped while it was timed: {clipped(error)}") from None

    return owned


def _baseline(contenders: Mapping[str, Contender], asked: Optional[Path]) -> str:
    """The title of the row the ratios are to. Raises InputError for a file that is not among those timed."""
    if asked is None:
        return next(iter(contenders))
    for title, one in contenders.items():
        if one.context is not None and one.context.artifact.path.resolve() == asked.resolve():
            return title
    raise InputError(f"--baseline {asked} is not among the files that are timed")


def _load() -> Optional[float]:
    """Load of the machine a core, over the last minute; None where the system does not report it."""
    return os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else None


def _profiles(
    contenders: Mapping[str, Contender], feeds: List[np.ndarray], threads: int, say: Say
) -> Dict[str, Profile]:
    """Where the time goes in each ONNX file, by the title of its row; runs of their own, since the profiler slows a run down a
    little."""
    found: Dict[str, Profile] = {}
    for title, one in contenders.items():
        if one.context is not None and one.context.artifact.kind == "onnx" and one.cut is None:
            say(f"profiling {title}")
            try:
                found[title] = profile(one.context, feeds, PROFILED, threads)
            except EngineError as error:  # what was measured is not lost over it
                say(f"no profile of {title}: {clipped(error)}")
    return found


def repeat_command(asked: Asked) -> str:
    """The command that measures the same again."""
    words = ["detparity", "bench", *map(str, asked.artifacts), *asked.choice.arguments]
    words += ["--variant", asked.variant] if asked.variant else []
    words += ["--img-size", *map(str, asked.img_size)] if asked.img_size else []
    words += ["--batch-size", str(asked.batch)] if asked.batch is not None else []
    words += [*asked.promise.arguments, "--rounds", str(asked.rounds)]
    words += ["--threads", str(asked.threads)] if asked.threads else []
    words += ["--baseline", str(asked.baseline)] if asked.baseline else []
    words += [] if asked.profile else ["--no-profile"]
    return " ".join(map(shlex.quote, words))

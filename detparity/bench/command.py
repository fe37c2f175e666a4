"""`detparity bench`: from the options to a measured run."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from detparity import facts, intake
from detparity.bench import fresh
from detparity.bench.contenders import FEEDS, FROZEN, Contender, make_feeds, of_file, of_model, pictures_of, prepare
from detparity.bench.profile import Profile, profile
from detparity.bench.statistics import Ratio, Summary, ratio, summary
from detparity.bench.turns import Call, take_turns
from detparity.checks import nms, parity
from detparity.errors import InputError, clipped
from detparity.exported import BUNDLED_SIZE, NotMade, attempt
from detparity.failures import render
from detparity.session import ModelChoice, Session
from detparity.strategies.cases import explore
from detparity.subject import EngineError, Runner, Size
from detparity.trial import Case, Trial

WARM_UP = 5
PROFILED = 20  # rounds of a profile
LEAST_ROUNDS = 6  # fewer give no interval
BUSY = 0.75  # load a core from which on the times are said to come from a busy machine
SHOWN = ("raw", "grid", "end2end-ort", "traced", "scripted", "lite")  # of the kit's exporters, where no file is given
Say = Callable[[str], None]


class WrongFile(Exception):
    """A file whose numbers are wrong: how fast it is, is no question yet. The text is its finding."""


@dataclass(frozen=True)
class Asked:
    """What the user asked for. batch, img_size: of files that leave them open; threads: 0 means all cores this process may use;
    baseline: the file the others are compared with, None means the model itself; profile: whether to say where the time goes."""

    choice: ModelChoice
    artifacts: Tuple[Path, ...]
    variant: Optional[str] = None
    img_size: Optional[Size] = None
    promise: intake.Asked = field(default_factory=intake.Asked)
    batch: int = 1
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
    fresh: fresh.Fresh
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
        """Whether others were at work before the run began: what is left of them in the ratios is in the intervals."""
        return self.load[0] is not None and self.load[0] > BUSY


def run(asked: Asked, scratch: Path, say: Say) -> Measured:
    """Verify every file once, then time them in turns.

    scratch: where the kit's exports go, if no file is given. Raises InputError for files or options that cannot be used, WrongFile
    for a file that does not do what the model does.
    """
    if asked.rounds < LEAST_ROUNDS:
        raise InputError(f"--rounds {asked.rounds}: an interval takes {LEAST_ROUNDS} at least")
    threads = asked.threads or facts.usable_cores()
    session = Session(asked.choice, asked.artifacts, explore, asked.variant, asked.img_size, asked.promise)
    trials = _trials(session, scratch, say)
    batch, size = _input(trials, asked)
    for trial in trials:
        say(f"verifying {trial.artifact.title}")
        require_right(trial, batch, size)
    heads = {trial.contract.variant.head for trial in trials}
    head = "raw" if heads == {"raw"} else "grid"
    contenders = [of_model(asked.choice, head, threads)]
    for trial in trials:
        contenders += of_file(trial, threads)
    titled = _titled(contenders)
    base = _baseline(titled, asked.baseline)
    return measure(titled, base, session, asked, (batch, size), threads, say)


def _trials(session: Session, scratch: Path, say: Say) -> List[Trial]:
    if session.artifacts:
        return [session.trial(path) for path in dict.fromkeys(session.artifacts)]
    found = []
    for name in SHOWN:
        try:
            found.append(session.trial(attempt(session.detector, name, BUNDLED_SIZE, scratch), name))
        except NotMade as problem:
            say(f"{name} is not made here: {problem}")
    return found


def _input(trials: List[Trial], asked: Asked) -> Tuple[int, Size]:
    """The batch and size all files run at. Raises InputError where they have none in common."""
    found: Dict[Tuple[int, Size], str] = {}
    for trial in trials:
        contract, variant = trial.contract, trial.contract.variant
        batch = asked.batch if variant.dynamic_batch or trial.artifact.kind != "onnx" else contract.batch
        found.setdefault((batch, contract.size), trial.artifact.title)
    if len(found) > 1:
        told = "; ".join(f"{title} takes {batch}x3x{size[0]}x{size[1]}" for (batch, size), title in found.items())
        raise InputError(f"one run compares files that take the same input: {told}")
    return next(iter(found))


def require_right(trial: Trial, batch: int, size: Size) -> None:
    """Raise WrongFile unless the file gives, for one of the timed feeds, what the model gives."""
    case = Case(size, pictures_of(0, batch))
    judge = nms.compare if trial.contract.variant.end2end else parity.compare
    name = "nms.detections" if trial.contract.variant.end2end else "parity.declared"
    try:
        found = judge(trial, case)
    except EngineError as error:
        raise WrongFile(f"{trial.artifact.title} is not timed: it does not run. {clipped(error)}") from None
    if found:
        told = render(trial.artifact.title, name, found[0])
        raise WrongFile(f"{trial.artifact.title} is not timed, since it does not do what the model does.\n\n{told}")


def _titled(contenders: List[Contender]) -> Dict[str, Contender]:
    """Contenders by title; files of one name are told apart by their paths."""
    files = {(one.trial.artifact.title, one.trial.artifact.path) for one in contenders if one.trial}
    names = [title for title, _ in files]
    twice = {title for title in names if names.count(title) > 1}
    found: Dict[str, Contender] = {}
    for one in contenders:
        if one.trial is not None and one.trial.artifact.title in twice:
            title = one.title.replace(one.trial.artifact.title, str(one.trial.artifact.path), 1)
            one = replace(one, title=title)
        found[one.title] = one
    return found


def measure(
    contenders: Mapping[str, Contender],
    base: str,
    session: Session,
    asked: Asked,
    given: Tuple[int, Size],
    threads: int,
    say: Say,
) -> Measured:
    """Time contenders in turns at `given` (batch, size), each in a fresh process first for what only that can tell."""
    batch, size = given
    before = _load()
    cold: Dict[str, fresh.Fresh] = {}
    runners: Dict[str, Runner] = {}
    for title, one in contenders.items():
        say(f"loading {title}")
        try:
            cold[title] = fresh.measure(one.recipe, batch, size)
            runners[title] = prepare(one.recipe, session.detector)
        except EngineError as error:
            if one.recipe.engine != FROZEN:
                raise WrongFile(f"{title} is not timed: {clipped(error)}") from None
            say(f"{title} is left out: {clipped(error)}")  # the file is right; this torch cannot rewrite it for speed
    contenders = {title: one for title, one in contenders.items() if title in runners}
    feeds = make_feeds(batch, size)
    say(f"timing {len(contenders)} contenders in turns: {asked.rounds} rounds after {WARM_UP} to warm up")
    series = take_turns(
        {title: _call(runner, feeds) for title, runner in runners.items()},
        asked.rounds,
        WARM_UP,
        FEEDS,
        lambda done, of: say(f"  {done} of {of} rounds") if done % max(of // 5, 1) == 0 else None,
    )
    rows = tuple(
        Row(
            one,
            series[title],
            summary(series[title]),
            cold[title],
            None if title == base else ratio(series[title], series[base]),
            one.trial.artifact.path.stat().st_size if one.trial else None,
            runners[title].facts,
        )
        for title, one in contenders.items()
    )
    after = _load()
    profiles = _profiles(contenders, feeds, threads, say) if asked.profile else {}
    return Measured(
        rows,
        base,
        batch,
        size,
        threads,
        asked.rounds,
        session.detector.facts.name,
        facts.environment(),
        facts.machine(),
        (before, after),
        profiles,
    )


def _call(runner: Runner, feeds: List[np.ndarray]) -> Call:
    name = runner.input_names[0]

    def call(number: int) -> None:
        runner.call({name: feeds[number]})

    return call


def _baseline(contenders: Mapping[str, Contender], asked: Optional[Path]) -> str:
    """The title of the row the ratios are to. Raises InputError for a file that is not among those timed."""
    if asked is None:
        return next(iter(contenders))
    for title, one in contenders.items():
        if one.trial is not None and one.trial.artifact.path.resolve() == asked.resolve():
            return title
    raise InputError(f"--baseline {asked} is not among the files that are timed")


def _load() -> Optional[float]:
    """Load of the machine a core, over the last minute; None where the system does not tell."""
    return os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else None


def _profiles(
    contenders: Mapping[str, Contender], feeds: List[np.ndarray], threads: int, say: Say
) -> Dict[str, Profile]:
    """Where the time goes in each ONNX file, by its title; runs of their own, since the profiler slows a run down a little."""
    found: Dict[str, Profile] = {}
    for one in contenders.values():
        if one.trial is not None and one.trial.artifact.kind == "onnx" and one.trial.artifact.title not in found:
            say(f"profiling {one.trial.artifact.title}")
            found[one.trial.artifact.title] = profile(one.trial, feeds, PROFILED, threads)
    return found


def repeat_command(asked: Asked) -> str:
    """The command that measures the same again."""
    words = ["detparity", "bench", *map(str, asked.artifacts), *asked.choice.arguments]
    words += ["--variant", asked.variant] if asked.variant else []
    words += ["--img-size", *map(str, asked.img_size)] if asked.img_size else []
    words += ["--batch-size", str(asked.batch), "--rounds", str(asked.rounds)]
    words += ["--threads", str(asked.threads)] if asked.threads else []
    words += ["--baseline", str(asked.baseline)] if asked.baseline else []
    return " ".join(map(shlex.quote, words))

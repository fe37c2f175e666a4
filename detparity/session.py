"""A run over several artifacts: the detector, its oracle, and one trial per artifact, made when first asked for."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from detparity import checks, intake
from detparity.errors import InputError
from detparity.files import require_file
from detparity.oracle.truths import Oracle, Ways
from detparity.subject import Arrays, Size
from detparity.trial import Clock, Explorer, Trial

BUNDLED_ARCH, BUNDLED_WIDTH, BUNDLED_SEED = "yolov7-tiny", 0.25, 0


@dataclass(frozen=True)
class ModelChoice:
    """Which model is meant: a checkpoint, or an architecture with width and seed; neither means the bundled detector."""

    weights: Optional[Path] = None
    arch: Optional[str] = None
    width: float = BUNDLED_WIDTH
    seed: int = BUNDLED_SEED

    @property
    def arguments(self) -> List[str]:
        """The options that choose the same model again, for the `Repeat:` line of a failure."""
        if self.weights:
            return ["--weights", str(self.weights)]
        return ["--arch", self.arch, "--width", f"{self.width:g}", "--seed", str(self.seed)] if self.arch else []


def load_detector(choice: ModelChoice) -> Any:
    """Return the detector. Raises InputError for a file or a name that cannot be used."""
    if choice.weights is not None:
        if choice.arch is not None:
            raise InputError("--weights and --arch both choose the model; give one of them")
        require_file(choice.weights, "a checkpoint")
        return importlib.import_module("detparity.detectors.checkpoint").load(choice.weights)
    seeded = importlib.import_module("detparity.detectors.seeded").seeded
    return seeded(choice.arch or BUNDLED_ARCH, choice.width, choice.seed)


def make_oracle(detector: Any, clock: Clock, heads: Tuple[str, ...]) -> Oracle:
    """The oracle of a detector, its runs counted on `clock`."""
    eager = importlib.import_module("detparity.engines.eager")

    def timed(way: str) -> Callable[[Arrays], Arrays]:
        runner = eager.prepare(detector, way)

        def call(feed: Arrays) -> Arrays:
            with clock.running():
                return runner.call(feed)

        return call

    return Oracle(detector.facts, Ways(timed("exact"), {way: timed(way) for way in eager.WAYS}), heads)


def make_trial(detector: Any, found: intake.Intake, oracle: Oracle, clock: Clock, explore: Explorer) -> Trial:
    """Put an opened artifact on trial."""
    boxes = importlib.import_module("detparity.strategies.boxes")
    return Trial(
        found.artifact,
        found.file,
        found.contract,
        detector.facts,
        detector.weights,
        detector.slopes,
        oracle,
        explore,
        clock,
        checks.registry(),
        found.how,
        boxes.explore,
    )


@dataclass
class Session:
    """Trials by artifact path. variant and img_size: as the user told;"""

    choice: ModelChoice
    artifacts: Tuple[Path, ...]  # given by the user; none means what the kit's exporters make
    explore: Explorer
    variant: Optional[str] = None
    img_size: Optional[Size] = None
    nms: intake.NmsAsked = field(default_factory=intake.NmsAsked)
    clock: Clock = field(default_factory=Clock)
    heads: Tuple[str, ...] = ("grid", "raw")
    _opened: Dict[Path, intake.Intake] = field(default_factory=dict)
    _trials: Dict[Path, Trial] = field(default_factory=dict)

    @functools.cached_property
    def detector(self) -> Any:
        return load_detector(self.choice)

    @functools.cached_property
    def oracle(self) -> Oracle:
        return make_oracle(self.detector, self.clock, self.heads)

    def open(self, path: Path, name: Optional[str] = None) -> intake.Intake:
        """Read one artifact; name: its title where it is one of ours. Raises InputError where it cannot be used."""
        if path not in self._opened:
            variant = self.variant if name is None else name
            self._opened[path] = intake.open_artifact(path, self.detector.facts, variant, self.img_size, name, self.nms)
        return self._opened[path]

    def trial(self, path: Path, name: Optional[str] = None) -> Trial:
        if path not in self._trials:
            self._trials[path] = make_trial(self.detector, self.open(path, name), self.oracle, self.clock, self.explore)
        return self._trials[path]


def noise_of(trial: Trial) -> Mapping[str, Mapping[str, float]]:
    """Floor and error per unit group on the first case of parity.declared, the worst level of each, in its unit and in floors."""
    from detparity.checks.cases import first_case
    from detparity.oracle.noise import measure, split_levels

    case = first_case(trial)
    truth = trial.truth(case.pictures[0], case.size)
    found = measure(truth.levels, split_levels(truth.head, trial.facts, case.size, trial.run(trial.batch(case)), 0))
    table: Dict[str, Dict[str, float]] = {}
    for (level, group), stats in found.items():
        floor = truth.floor[level, group]
        row = {
            "stride": float(trial.facts.strides[level]),
            "floor": floor.rms,
            "error": stats.rms,
            "floors": stats.rms / floor.rms,
            "floors_max": stats.max / floor.max,
        }
        if row["floors"] >= table.get(group, {}).get("floors", -1.0):
            table[group] = row
    return table

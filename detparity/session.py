"""A run over several artifacts: the detector, its oracle, and one trial per artifact, made when first asked for."""

from __future__ import annotations

import fnmatch
import functools
import importlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from detparity import checks, facts, intake, kit
from detparity.contract import contract_for
from detparity.errors import InputError
from detparity.expectations import Ledger, ledger, read
from detparity.exported import BUNDLED_SIZE, missing, promised
from detparity.files import require_file
from detparity.findings import MADE
from detparity.oracle.truths import Oracle, Shelf, Ways
from detparity.subject import Arrays, Size, parse_variant
from detparity.trial import Clock, Explorer, Trial

ARCH_WIDTH, FIRST_SEED = 0.25, 0  # of a model that --arch builds, unless told


@dataclass(frozen=True)
class ModelChoice:
    """Which model is meant: checkpoints (several make an ensemble), or an architecture with width and seed; neither means the
    bundled detector (docs/bundled.md). cfg: a layer table or an architecture's name, for a state dict that does not say what it
    belongs to, or to build from. width: None stands for 0.25 of `arch` and for `cfg`'s own."""

    weights: Tuple[Path, ...] = ()
    arch: Optional[str] = None
    width: Optional[float] = None
    seed: int = FIRST_SEED
    cfg: Optional[str] = None

    @property
    def arguments(self) -> List[str]:
        """The options that choose the same model again, for the `Repeat:` line of a failure."""
        found = [argument for path in self.weights for argument in ("--weights", str(path))]
        found += ["--cfg", self.cfg] if self.cfg else []
        found += ["--arch", self.arch] if self.arch else []
        found += ["--width", f"{self.width:g}"] if found and self.width is not None else []
        return found if self.weights or not found else [*found, "--seed", str(self.seed)]

    @property
    def title(self) -> str:
        return " + ".join(map(str, self.weights)) or self.cfg or self.arch or "bundled"


def load_detector(choice: ModelChoice) -> Any:
    """Return the detector. Raises InputError for a file or a name that cannot be used."""
    if choice.arch is not None and (choice.weights or choice.cfg is not None):
        raise InputError("--weights or --cfg and --arch both choose the model; give one of them")
    chosen = choice.weights or choice.arch is not None or choice.cfg is not None
    if not chosen and choice != ModelChoice():
        raise InputError("--width and --seed are for a model that --arch or --cfg builds; the bundled one is trained")
    for path in choice.weights:
        require_file(path, "a checkpoint")
    detectors = "detparity.detectors"
    if not chosen:
        return bundled()
    drawn = None
    if choice.cfg is not None:
        drawn, classes, title = importlib.import_module(f"{detectors}.table").named(choice.cfg, choice.width)
    if choice.weights:
        return importlib.import_module(f"{detectors}.checkpoint").load(*choice.weights, plan=drawn)
    seeded = importlib.import_module(f"{detectors}.seeded")
    if drawn is not None:
        return seeded.conditioned(drawn, f"{title}-w{drawn.width:g}-s{choice.seed}", choice.seed, classes)
    return seeded.seeded(choice.arch, ARCH_WIDTH if choice.width is None else choice.width, choice.seed)


def bundled_weights() -> Path:
    """The checkpoint of the bundled detector, in the official format."""
    return kit.root() / "golden" / "detector" / "weights.pt"


def bundled() -> Any:
    """The detector meant where none is chosen: trained on drawn scenes, and read like any other checkpoint."""
    path = bundled_weights()
    require_file(path, "the checkpoint of the bundled detector")
    detector = importlib.import_module("detparity.detectors.checkpoint").load(path)
    return replace(detector, facts=replace(detector.facts, name="bundled"))


def make_oracle(detector: Any, clock: Clock, heads: Tuple[str, ...], shared: Optional[Path] = None) -> Oracle:
    """The oracle of a detector, its runs counted on `clock`. shared: a folder where other processes leave what they worked out."""
    eager = importlib.import_module("detparity.engines.eager")

    def timed(way: str) -> Callable[[Arrays], Arrays]:
        runner = eager.prepare(detector, way)

        def call(feed: Arrays) -> Arrays:
            with clock.running():
                return runner.call(feed)

        return call

    ways = Ways(timed("exact"), {way: timed(way) for way in eager.WAYS})
    return Oracle(detector.facts, ways, heads, Shelf(shared, detector.facts.digest) if shared else None)


def make_trial(
    detector: Any, found: intake.Intake, oracle: Oracle, clock: Clock, explore: Explorer, quick: bool = False
) -> Trial:
    """Put an opened artifact on trial. quick: try less of everything, to know sooner (docs/performance.md tells what that misses)."""
    boxes = importlib.import_module("detparity.strategies.boxes")
    if quick:
        explore = importlib.import_module("detparity.strategies.cases").glance
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
        quick,
    )


@dataclass(frozen=True)
class Subject:
    """What a suite judges: `path` of a user's file, or None and what our exporter called `variant` makes; the ids of its checks."""

    title: str
    path: Optional[Path]
    variant: str
    checks: Tuple[str, ...]


@dataclass
class Session:
    """Trials by artifact path. variant and img_size: as the user told; debts: known debts of the user's own exporters, for the
    kit's exporters they stand in `exporters/expectations.toml`; exporters: patterns that choose among the kit's; command: whether
    `detparity check` runs the suites; quick: whether less is tried, to know sooner; shared: a folder where the
    workers of one run leave truths for each other."""

    choice: ModelChoice
    artifacts: Tuple[Path, ...]  # given by the user; none means what the kit's exporters make
    explore: Explorer
    variant: Optional[str] = None
    img_size: Optional[Size] = None
    asked: intake.Asked = field(default_factory=intake.Asked)
    clock: Clock = field(default_factory=Clock)
    heads: Tuple[str, ...] = ("grid", "raw")
    debts: Optional[Path] = None
    exporters: Tuple[str, ...] = ()
    command: bool = False
    quick: bool = False
    shared: Optional[Path] = None
    _opened: Dict[Path, intake.Intake] = field(default_factory=dict)
    _trials: Dict[Path, Trial] = field(default_factory=dict)

    @functools.cached_property
    def detector(self) -> Any:
        return load_detector(self.choice)

    @functools.cached_property
    def ledger(self) -> Ledger:
        """The known debts of this run. Raises InputError for a file of debts that cannot be used."""
        path = self.debts or (None if self.artifacts else kit.root() / "exporters" / "expectations.toml")
        return ledger(read(path) if path else (), facts.environment())

    def variants(self) -> List[str]:
        """Names of the kit's exporters chosen for this run. Raises InputError for a pattern that chooses none."""
        known = list(kit.exporters().registry())
        for pattern in self.exporters:
            if not fnmatch.filter(known, pattern):
                raise InputError(f"--exporter {pattern} matches none of {', '.join(known)}")
        return [name for name in known if any(fnmatch.fnmatchcase(name, p) for p in self.exporters or ("*",))]

    def subjects(self) -> List[Subject]:
        """What the suites judge: the user's files, or what the kit's exporters make."""
        registry = checks.registry().values()
        if self.artifacts:
            opened = [(path, self.open(path).contract) for path in self.artifacts]
            return [
                Subject(path.name, path, contract.variant.name, tuple(c.id for c in registry if c.applies(contract)))
                for path, contract in opened
            ]
        found = []
        for name in self.variants():
            contract = contract_for(parse_variant(promised(name)), self.detector.facts, BUNDLED_SIZE)
            asked = tuple(check.id for check in registry if check.id == MADE or check.applies(contract))
            found.append(Subject(name, None, name, asked))
        return found

    def require_debts_met(self) -> None:
        """Raise InputError for a known debt that nothing in this run could meet. A choice among the kit's exporters leaves the
        debts of the others unmet, so it is not asked there."""
        if not self.exporters:
            there = [subject for subject in self.subjects() if subject.path or not missing(subject.title)]
            pairs = [(subject.title, check) for subject in there for check in subject.checks]
            self.ledger.require_met(pairs, list(checks.registry()))

    @functools.cached_property
    def oracle(self) -> Oracle:
        return make_oracle(self.detector, self.clock, self.heads, self.shared)

    def open(self, path: Path, name: Optional[str] = None) -> intake.Intake:
        """Read one artifact; name: its title where it is one of ours. Raises InputError where it cannot be used."""
        if path not in self._opened:
            variant = self.variant if name is None else promised(name)
            self._opened[path] = intake.open_artifact(
                path, self.detector.facts, variant, self.img_size, name, self.asked
            )
        return self._opened[path]

    def trial(self, path: Path, name: Optional[str] = None) -> Trial:
        if path not in self._trials:
            opened = self.open(path, name)
            self._trials[path] = make_trial(self.detector, opened, self.oracle, self.clock, self.explore, self.quick)
        return self._trials[path]


def limits() -> Dict[str, int]:
    """The newest IR version and default-domain opset: `onnx_*` what the onnx package stamps when not told, `ort_*` what its
    ONNX Runtime loads."""
    graph = importlib.import_module("detparity.graph")
    ort = importlib.import_module("detparity.engines.ort")
    return {**graph.newest(), **ort.newest(graph.smallest)}


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

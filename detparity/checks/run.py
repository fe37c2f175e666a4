"""The one runner: opens files, runs checks on them, and records what each found.

`detparity check`, `detparity.verify` and pytest all judge by `judge`, one check on one subject, so that they cannot disagree.
"""

from __future__ import annotations

import fnmatch
import functools
import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Protocol, Sequence, Tuple

from detparity import checks
from detparity.artifacts.open import DEFAULT_STRIDES, Asked, Intake, open_artifact
from detparity.checks import export
from detparity.checks.context import UNDECIDED, Context, to_blame, truth_head
from detparity.checks.follows import fold
from detparity.checks.inputs import first_case, slots_note
from detparity.checks.known_failures import KnownFailures, applying, read, settle
from detparity.checks.weights import coverage
from detparity.core import environment
from detparity.core.case import Explorer
from detparity.core.clock import Clock
from detparity.core.contract import MUST, Contract, contract_for
from detparity.core.errors import InputError, NotMade
from detparity.core.files import sha256
from detparity.core.findings import MADE, Outcome, of_the_end
from detparity.core.text import render
from detparity.core.verdict import outcome_record
from detparity.core.vocabulary import EngineDied, Size, parse_variant
from detparity.engines.eager import bytes_per_pixel
from detparity.engines.reference_runs import Oracle, make_oracle
from detparity.engines.remote import client
from detparity.inputs import box_strategies, case_strategies
from detparity.models.choice import BUNDLED_SIZE, ModelChoice, load_detector
from detparity.oracle.noise_floor import measure, split_levels

LOADS = "script.load"  # the check that a TorchScript file loads; where that ends its process, no other can be made

MEMORY_SHARE = 0.75  # of the machine's memory, that a verdict may need
COPIES = 4  # of images and outputs, that are held at one time


class OwnExports(Protocol):
    """What the exporters beside the package make: judged where no file is given."""

    @property
    def known_failures(self) -> Path:
        """The file of their known failures."""

    def names(self) -> Sequence[str]:
        """Names of the exporters."""

    def promised(self, name: str) -> str:
        """The name of the variant that this exporter makes."""

    def missing(self, name: str) -> Optional[str]:
        """Why the exporter does not exist in this environment, or None where it does."""

    def make(self, detector: Any, name: str) -> Path:
        """The exported file. Raises NotMade."""


@dataclass(frozen=True)
class Options:
    """What a run is asked to do.

    artifacts: the user's files; none means what the own exporters make, of which `exporters` (patterns) chooses. variant, img_size,
    promised: what the files promise, where that is not read from them. checks: ids and groups, separated by commas. known_failures:
    file of the known failures of the user's own exporters. strict: SHOULD findings violate as well. quick: fewer pictures, sizes
    and draws.
    """

    choice: ModelChoice = ModelChoice()
    artifacts: Tuple[Path, ...] = ()
    variant: Optional[str] = None
    img_size: Optional[Size] = None
    promised: Asked = Asked()
    checks: Optional[str] = None
    strict: bool = False
    quick: bool = False
    known_failures: Optional[Path] = None
    exporters: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """What is judged: `path` of a user's file, or None and the name of one of the own exporters; the ids of its checks; died: how the
    process that read the file ended, where it did, which is then all that is known of it."""

    title: str
    path: Optional[Path]
    name: Optional[str]
    checks: Tuple[str, ...]
    died: Optional[EngineDied] = None


@dataclass(frozen=True)
class Judged:
    """One check on one subject: its outcome after known failures, the text of each finding, and the record for the report."""

    outcome: Outcome
    texts: Tuple[str, ...]
    record: Mapping[str, Any]


def open_file(
    path: Path,
    facts: Any,
    variant: Optional[str] = None,
    img_size: Optional[Size] = None,
    name: Optional[str] = None,
    asked: Asked = Asked(),
) -> Intake:
    """`artifacts.open.open_artifact`, with the engines of this process."""
    return open_artifact(path, facts, variant, img_size, name, asked, engines=client())


def make_context(
    detector: Any,
    found: Intake,
    oracle: Oracle,
    clock: Clock,
    explore: Explorer = case_strategies.explore,
    quick: bool = False,
) -> Context:
    """The context of an opened artifact. quick: try less of everything (docs/performance.md: what that misses)."""
    return Context(
        found.artifact,
        found.file,
        found.contract,
        detector.facts,
        detector.weights,
        detector.slopes,
        oracle,
        case_strategies.glance if quick else explore,
        clock,
        checks.registry(),
        found.how,
        box_strategies.explore,
        quick,
        fold=fold,
    )


@dataclass
class Session:
    """One run: its options, the model and its oracle, and each file opened once. own: the own exporters, where they may be judged;
    detector: the model, where the caller has it; shared: a folder where the workers of one run leave truths for each other; heads:
    what the oracle will be asked for."""

    options: Options
    own: Optional[OwnExports] = None
    shared: Optional[Path] = None
    heads: Tuple[str, ...] = ("grid", "raw")
    clock: Clock = field(default_factory=Clock)
    _opened: Dict[Path, Intake] = field(default_factory=dict)
    _contexts: Dict[Path, Context] = field(default_factory=dict)
    _made: Dict[str, Any] = field(default_factory=dict)

    @property
    def choice(self) -> ModelChoice:
        return self.options.choice

    @functools.cached_property
    def detector(self) -> Any:
        return load_detector(self.options.choice)

    @functools.cached_property
    def known_failures(self) -> KnownFailures:
        """The known failures of this run. Raises InputError for a file of them that cannot be used."""
        path = self.options.known_failures
        if path is None and not self.options.artifacts and self.own is not None:
            path = self.own.known_failures
        return applying(read(path) if path else (), environment.environment())

    @functools.cached_property
    def oracle(self) -> Oracle:
        return make_oracle(self.detector, self.clock, self.heads, self.shared)

    def exporters(self) -> List[str]:
        """Names of the own exporters chosen for this run. Raises InputError for a pattern that chooses none."""
        known = list(self.own.names()) if self.own is not None else []
        for pattern in self.options.exporters:
            if not fnmatch.filter(known, pattern):
                raise InputError(f"--exporter {pattern} matches none of {', '.join(known)}")
        patterns = self.options.exporters or ("*",)
        return [name for name in known if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]

    def subjects(self, artifacts: Optional[Sequence[Path]] = None) -> List[Subject]:
        """What this run judges: the user's files (or those of them that are given), or what the own exporters make."""
        registry = checks.registry().values()
        files = self.options.artifacts if artifacts is None else artifacts
        if self.options.artifacts:
            return [self.subject(path) for path in files]
        assert self.own is not None
        subjects = []
        for name in self.exporters():
            contract = contract_for(parse_variant(self.own.promised(name)), self.detector.facts, BUNDLED_SIZE)
            asked = tuple(check.id for check in registry if check.id == MADE or check.applies(contract))
            subjects.append(Subject(name, None, name, asked))
        return subjects

    def subject(self, path: Path) -> Subject:
        """One of the user's files with the checks of its contract. Raises InputError where it cannot be used."""
        try:
            contract = self.open(path).contract
        except EngineDied as died:
            return Subject(path.name, path, None, (LOADS,), died)
        applying = tuple(check.id for check in checks.registry().values() if check.applies(contract))
        return Subject(path.name, path, None, applying)

    def chosen(self, check_ids: Sequence[str]) -> List[str]:
        """The checks that `--checks` and a quick run leave. Raises InputError for a name that is neither a check nor a group."""
        asked = self.options.checks
        if self.options.quick:
            named = [name.strip() for name in (asked or "").split(",")]  # one that is asked for by name runs
            check_ids = [check for check in check_ids if check not in checks.NOT_QUICK or check in named]
        return [check for check in check_ids if check in checks.select(asked)] if asked else list(check_ids)

    def checks_of(self, subject: Subject) -> List[str]:
        """The checks to run on a subject; of a file whose reading ended its process, that it loads, whatever was chosen."""
        return list(subject.checks) if subject.died is not None else self.chosen(subject.checks)

    def require_known_failures_met(self, subjects: Sequence[Subject]) -> None:
        """Raise InputError for a known failure that nothing in this run could meet. A choice among the own exporters leaves those of
        the others unmet, so it is not asked there."""
        if not self.options.exporters:
            there = [one for one in subjects if one.path or (self.own and not self.own.missing(one.title))]
            pairs = [(subject.title, check) for subject in there for check in subject.checks]
            self.known_failures.require_met(pairs, list(checks.registry()))

    def open(self, path: Path, name: Optional[str] = None) -> Intake:
        """Read one artifact; name: of the own exporter that made it. Raises InputError where it cannot be used."""
        if path not in self._opened:
            options = self.options
            variant = options.variant if name is None or self.own is None else self.own.promised(name)
            found = open_file(path, self.detector.facts, variant, options.img_size, name, options.promised)
            self._require_memory(path, found.contract)
            self._opened[path] = found
        return self._opened[path]

    def _require_memory(self, path: Path, contract: Contract) -> None:
        """Raise InputError, before anything is drawn, for a size or a batch that this machine has not the memory for."""
        height, width = contract.size
        total = environment.memory_bytes()
        image = COPIES * 4 * (3 * height * width + self.detector.facts.rows(contract.size) * self.detector.facts.fields)
        needed = self._bytes_per_pixel * height * width + image * contract.batch
        if total and needed > MEMORY_SHARE * total:
            raise InputError(
                f"{path}: a batch of {contract.batch} at {height}x{width} needs about {needed / 1e9:.0f} GB for the reference, "
                f"and this machine has {total / 1e9:.0f} GB"
            )

    @functools.cached_property
    def _bytes_per_pixel(self) -> float:
        return bytes_per_pixel(self.detector)

    def context(self, path: Path, name: Optional[str] = None) -> Context:
        """The context of one artifact, made at the first call."""
        if path not in self._contexts:
            opened = self.open(path, name)
            self._contexts[path] = make_context(
                self.detector, opened, self.oracle, self.clock, quick=self.options.quick
            )
        return self._contexts[path]

    def made(self, name: str) -> Path:
        """What the own exporter `name` makes. Raises NotMade, and the same again without asking the exporter twice."""
        assert self.own is not None
        if name not in self._made:
            try:
                self._made[name] = self.own.make(self.detector, name)
            except NotMade as problem:
                self._made[name] = problem
        if isinstance(self._made[name], NotMade):
            raise self._made[name]
        return Path(self._made[name])

    def release(self, subject: Subject) -> None:
        """Let go of a file's graph and engines: its last check has run."""
        path = subject.path or self._made.get(subject.title)
        if isinstance(path, Path):
            self._contexts.pop(path, None)
            self._opened.pop(path, None)


def judge(session: Session, subject: Subject, check_id: str) -> Judged:
    """Run one check on one subject. Every runner passes here."""
    measured: Optional[Dict[str, Any]] = None
    if subject.died is not None:
        return _died(session, subject, subject.died)
    if subject.path is not None:
        context: Optional[Context] = session.context(subject.path)
    else:
        assert subject.name is not None
        try:
            path, problem = session.made(subject.name), None
        except NotMade as error:
            path, problem = None, error
        context = None if check_id == MADE or path is None else session.context(path, subject.name)
        if check_id == MADE:
            outcome = export.outcome(problem)
        elif problem is not None:
            outcome = export.blocked(checks.registry()[check_id], problem)
    if context is not None:
        outcome, artifact = context.outcome(check_id), _artifact(context)
    else:
        assert session.own is not None
        artifact = {"path": subject.title, "variant": session.own.promised(subject.title)}
        if outcome.outcome != "passed":
            artifact["how"] = f"{subject.title}, not made"
    outcome = settle(outcome, session.known_failures.of(subject.title, check_id))
    if context is not None and check_id == "parity.declared" and outcome.outcome == "passed" and not context.quick:
        measured = _measured(session, context)
    repeat = repeat_command(session.options, artifact["path"], check_id)
    texts = tuple(render(subject.title, check_id, finding, repeat) for finding in outcome.findings)
    record: Dict[str, Any] = {"artifact": artifact, "check": outcome_record(outcome, texts)}
    if measured is not None:
        record["measured"] = measured
    # Through JSON, so that a worker can send it: xdist takes plain types alone, and torch's version is no plain text.
    return Judged(outcome, texts, json.loads(json.dumps(record)))


def _died(session: Session, subject: Subject, died: EngineDied) -> Judged:
    """The record of a file whose reading ended its process."""
    path = subject.path
    assert path is not None
    side = DEFAULT_STRIDES * session.detector.facts.max_stride  # what it takes is not known
    if to_blame(died, session.oracle, (side, side)):
        outcome = Outcome(LOADS, MUST, "failed", (of_the_end(died),))
    else:
        outcome = Outcome(LOADS, MUST, "skipped", reason=f"{died}; {UNDECIDED}", incomplete=True)
    texts = tuple(
        render(subject.title, LOADS, finding, repeat_command(session.options, str(path), LOADS))
        for finding in outcome.findings
    )
    artifact = {"path": str(path), "sha256": sha256(path), "how": f"not read: it {died}"}
    return Judged(outcome, texts, {"artifact": artifact, "check": outcome_record(outcome, texts)})


def judge_all(session: Session, subjects: Sequence[Subject]) -> Iterator[Judged]:
    """Every chosen check on every subject, subject by subject; each is let go of after its last."""
    for subject in subjects:
        for check_id in session.checks_of(subject):
            yield judge(session, subject, check_id)
        session.release(subject)


def heads_of(session: Session, subjects: Sequence[Subject]) -> Tuple[str, ...]:
    """The heads that these files need of the reference."""
    found = [session.open(subject.path) for subject in subjects if subject.path is not None and subject.died is None]
    return tuple({truth_head(one.contract.variant) for one in found}) or session.heads


def _artifact(context: Context) -> Dict[str, Any]:
    found: Dict[str, Any] = {
        "path": str(context.artifact.path) if context.artifact.name is None else context.artifact.name,
        "sha256": context.artifact.sha256,
        "variant": context.contract.variant.name,
        "how": context.how + slots_note(context.contract),
    }
    if context.artifact.kind == "onnx":
        opset, producer = context.onnx.opsets.get("", 0), context.onnx.producer
        found["file"] = {"opset": opset, "ir_version": context.onnx.ir_version, "producer": producer}
    return found


def _measured(session: Session, context: Context) -> Dict[str, Any]:
    from detparity.engines.power import smallest_seen

    head = context.contract.variant.head
    with context.clock.running():
        power = smallest_seen(session.detector, session.oracle, head, context.contract.size)
    compared, left = coverage(context)
    weights = {"compared": compared, "not_comparable": left}
    return {"noise": noise_of(context), "power": power, "weights": weights, "engine": dict(context.runner().facts)}


def repeat_command(options: Options, artifact: str, check_id: str) -> str:
    """The command that runs this one check on this one artifact again."""
    subject = [artifact] if options.artifacts else ["--exporter", artifact]
    arguments = ["detparity", "check", *subject, *options.choice.arguments, "--checks", check_id]
    if options.variant:
        arguments += ["--variant", options.variant]
    if options.img_size:
        arguments += ["--img-size", *map(str, options.img_size)]
    return " ".join(map(shlex.quote, [*arguments, *options.promised.arguments]))


def model_record(session: Session) -> Dict[str, Any]:
    """What the model is, for the report."""
    model = session.detector.facts
    return {
        "name": model.name,
        "digest": model.digest,
        "classes": model.classes,
        "strides": list(model.strides),
        "weights": session.choice.title if session.choice.weights else None,
        **({"note": session.detector.note} if session.detector.note else {}),
    }


def about(session: Session) -> Dict[str, Any]:
    """What a report states of its run: options, environment, model, and how the files were isolated from this process."""
    return {
        "strict": session.options.strict,
        "quick": session.options.quick,
        "environment": environment.environment(),
        "isolation": client().confinement,
        "limits": limits(),
        "subject": model_record(session),
    }


def limits() -> Dict[str, int]:
    """The newest IR version and default-domain opset: `onnx_*` what the onnx package stamps by default, `ort_*` what its
    ONNX Runtime loads."""
    from detparity.artifacts import onnx_edit

    return {**onnx_edit.newest(), **client().newest()}


def noise_of(context: Context) -> Mapping[str, Mapping[str, float]]:
    """Floor and error per unit group on the first case of parity.declared, the worst level of each, in its unit and in floors."""
    case = first_case(context)
    truth = context.truth(case.pictures[0], case.size)
    found = measure(truth.levels, split_levels(truth.head, context.facts, case.size, context.predict(case), 0))
    table: Dict[str, Dict[str, float]] = {}
    for (level, group), stats in found.items():
        floor = truth.floor[level, group]
        row = {
            "stride": float(context.facts.strides[level]),
            "floor": floor.rms,
            "error": stats.rms,
            "floors": stats.rms / floor.rms,
            "floors_max": stats.max / floor.max,
        }
        if row["floors"] >= table.get(group, {}).get("floors", -1.0):
            table[group] = row
    return table

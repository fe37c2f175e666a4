"""A run: its options, the model and its oracle, its files and what each of them is checked for."""

from __future__ import annotations

import fnmatch
import functools
import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from detparity import checks, engines
from detparity.artifacts.open import Asked, Intake
from detparity.checks import foreign
from detparity.checks.context import Context
from detparity.checks.earlier import Earlier, key_of, outside
from detparity.checks.endpoint import on_endpoint
from detparity.checks.foreign import runtime_contract
from detparity.checks.foreign.context import ForeignContext
from detparity.checks.foreign.names import names_of
from detparity.checks.foreign.open_file import ForeignSource, kind_of, open_context
from detparity.checks.known_failures import KnownFailures, applying, read
from detparity.checks.latency import Timed
from detparity.checks.opening import make_context, open_file
from detparity.checks.own_exports import OwnExports
from detparity.core import environment
from detparity.core.array_cache import ArrayCache
from detparity.core.budget import USUAL, Budget
from detparity.core.clock import Clock
from detparity.core.contract import Contract, contract_for
from detparity.core.endpoint import Endpoint
from detparity.core.errors import EngineDied, InputError, NotMade
from detparity.core.exported_files import Shard
from detparity.core.findings import MADE, CannotRun, Check
from detparity.core.precision import HALVES
from detparity.core.runtimes import runtime_files
from detparity.core.vocabulary import Size, parse_variant
from detparity.engines.reference_runs import Oracle, make_oracle
from detparity.inputs.labels import read as read_labels
from detparity.inputs.photos import Fit, Photo, PhotosAsked, as_pictures, find, placed
from detparity.models.choice import BUNDLED_SIZE, ModelChoice, load_detector
from detparity.oracle.average_precision import Objects

AnyContext = Union[Context, ForeignContext]
ENGINE_LOADS = "engine.load"
LOADS = "script.load"  # the check that a TorchScript file loads; where that ends its process, no other can be made

MEMORY_SHARE = 0.75  # of the machine's memory, that a verdict may need
COPIES = 4  # of images and outputs, that are held at one time


@dataclass(frozen=True)
class Options:
    """What a run is asked to do.

    artifacts: the user's files; none means what the own exporters make, of which `exporters` (patterns) chooses. variant, img_size,
    promised: what the files promise, where that is not read from them. checks: ids and groups, separated by commas. known_failures:
    file of the known failures of the user's own exporters. strict: SHOULD findings violate as well. quick: fewer pictures, sizes
    and draws. pictures: how many of them the report shows with the detections of model and file; images: the
    user's own, which are judged as well; endpoint: the server that runs the file, which is then judged by what it answers; cache:
    where references are stored, of earlier runs and of other workers of this one; engines: that judge ONNX files, by name, none for
    ONNX Runtime alone; target: that ONNX files are to be deployed on, of `core.targets`; share: which
    of several machines' these files are.
    """

    choice: ModelChoice = ModelChoice()
    artifacts: Tuple[Path, ...] = ()
    variant: Optional[str] = None
    img_size: Optional[Size] = None
    promised: Asked = Asked()
    budget: Budget = USUAL
    checks: Optional[str] = None
    strict: bool = False
    quick: bool = False
    known_failures: Optional[Path] = None
    exporters: Tuple[str, ...] = ()
    captured: Optional[Tuple[str, ...]] = None
    pictures: int = 0
    images: Optional[PhotosAsked] = None
    endpoint: Optional[Endpoint] = None
    cache: Optional[ArrayCache] = None
    engines: Tuple[str, ...] = ()
    target: str = ""
    locate: bool = False
    share: Optional[Shard] = None


@dataclass(frozen=True)
class Subject:
    """What is judged: `path` of a user's file, or None and the name of one of the own exporters; the ids of its checks; died: how the
    process that read the file ended, where it did, which is then all that is known of it; on: the engine that was asked for, empty
    for the one that judges such files; missing: what to install for it, where it is not there."""

    title: str
    path: Optional[Path]
    name: Optional[str]
    checks: Tuple[str, ...]
    died: Optional[EngineDied] = None
    on: str = ""
    missing: str = ""


def _judged_by(context: AnyContext) -> Tuple[str, ...]:
    """What a model of any kind gives, by digest, and the layout of its outputs: beside its weights, its code may change."""
    if not isinstance(context, ForeignContext):
        return ()
    try:
        outputs = context.exact_outputs
    except CannotRun as error:
        return (str(error),)
    total = hashlib.sha256(repr(context.given_layout).encode())
    for name, array in outputs.items():
        total.update(f"{name} {array.shape}".encode() + array.astype(np.float32).tobytes())
    return (total.hexdigest(),)


@dataclass
class Session:
    """One run: its options, the model and its oracle, and each file opened once. own: the own exporters, where they may be judged;
    foreign: what files of any detector are judged against, where the model is not of the home family; detector: the model, where the
    caller has it; progress: called with the number of each of the user's pictures and their count; heads: what the oracle will be
    asked for."""

    options: Options
    own: Optional[OwnExports] = None
    foreign: Optional[ForeignSource] = None
    heads: Tuple[str, ...] = ("grid", "raw")
    progress: Callable[[int, int], None] = lambda number, count: None
    clock: Clock = field(default_factory=Clock)
    _opened: Dict[Path, Intake] = field(default_factory=dict)
    _contexts: Dict[Tuple[Path, str], Context] = field(default_factory=dict)
    _foreign: Dict[Tuple[Path, str], ForeignContext] = field(default_factory=dict)
    _made: Dict[str, Any] = field(default_factory=dict)
    _oracles: Dict[str, Oracle] = field(default_factory=dict)
    timed: Optional[Timed] = None  # the first file whose time was measured

    @functools.cached_property
    def compares_engines(self) -> bool:
        """Whether the run compares files or engines, and any of them is another engine than the one that judges ONNX."""
        files = self.options.artifacts
        several = len(files) > 1 or len(self.options.engines) > 1
        return several and (len(self.options.engines) > 1 or any(runtime_files(path) is not None for path in files))

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
        """The oracle whose noise is that of float32."""
        assert self.foreign is None
        return make_oracle(self.detector, self.clock, self.heads, self.options.cache)

    @property
    def notes(self) -> Sequence[str]:
        """What a user should know of the references that were read or stored."""
        made = [self.__dict__["oracle"]] if "oracle" in self.__dict__ else []
        return tuple(note for one in (*made, *self._oracles.values()) for note in one.notes)

    def oracle_of(self, contract: Contract) -> Oracle:
        """The oracle whose noise a file of this contract is judged by."""
        precision = contract.precision
        if precision not in HALVES:
            return self.oracle
        if precision not in self._oracles:
            self._oracles[precision] = make_oracle(self.detector, self.clock, self.heads, self.options.cache, precision)
        return self._oracles[precision]

    @functools.cached_property
    def photos(self) -> Tuple[List[Photo], List[str]]:
        """The user's own pictures, and a line for each that cannot be used. Raises InputError where none can."""
        asked = self.options.images
        if asked is None:
            return [], []
        return find(asked)

    def fit(self, context: AnyContext) -> Fit:
        """How pictures are brought to the size of a file's input: as asked, else as its layout has it."""
        asked = self.options.images
        if asked is not None and asked.fit is not None:
            return asked.fit
        return Fit(context.preprocessing.resize) if isinstance(context, ForeignContext) else Fit()

    def _applying(self, contract: Any, known: Optional[Mapping[str, Check]] = None) -> Tuple[str, ...]:
        """Ids of the checks that a contract asks for in this run. known: the checks that there are, where an engine was asked for."""
        left: Tuple[str, ...] = () if self.options.images is not None else checks.ON_IMAGES
        left += () if self.options.endpoint is not None else checks.ON_ENDPOINT
        left += () if self.options.target else checks.ON_TARGET
        left += () if known is not None else checks.ON_ENGINES
        there = self.registry() if known is None else known
        return tuple(one.id for one in there.values() if one.applies(contract) and one.id not in left)

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
        files = self.options.artifacts if artifacts is None else artifacts
        if self.options.artifacts:
            return [subject for path in files for subject in self.subjects_of(path)]
        assert self.own is not None
        subjects = []
        for name in self.exporters():
            contract = contract_for(parse_variant(self.own.promised(name)), self.detector.facts, BUNDLED_SIZE)
            precision = self.own.precision(name)
            if precision is not None:
                contract = replace(contract, precision=precision, promised_precision=precision)
            asked = self._applying(contract)
            subjects.append(Subject(name, None, name, asked if MADE in asked else (MADE, *asked)))
        return subjects

    def subjects_of(self, path: Path) -> List[Subject]:
        """One of the user's files, once for each engine that judges it. Raises InputError where it cannot be used."""
        return [self.subject(path, on) for on in self._engines_of(path)]

    def _engines_of(self, path: Path) -> List[str]:
        """The engines that were asked for and run such a file; "" for the one that judges it by default."""
        own = engines.judging("onnx").name
        if not self.options.engines or kind_of(path) != "onnx":
            return [""]
        return ["" if name == own else name for name in self.options.engines if "onnx" in engines.ENGINES[name].runs]

    def subject(self, path: Path, on: str = "") -> Subject:
        """One of the user's files with the checks of its contract. Raises InputError where it cannot be used."""
        title = f"{path.name} on {on}" if on else path.name
        found = runtime_files(path)
        runtime, needed = found is not None, on or (found.runtime if found is not None else "")
        missing = engines.ENGINES[needed].missing if needed else ""
        if missing and (on or len(self.options.artifacts) > 1):
            return Subject(title, path, None, (ENGINE_LOADS,), on=on, missing=missing)
        try:
            if self.foreign is None and not runtime and not on:
                return Subject(title, path, None, self._applying(self.open(path).contract))
            context = self.judged(path, on=on)
        except EngineDied as died:
            return Subject(title, path, None, (ENGINE_LOADS if runtime or on else LOADS,), died, on)
        known = context.checks if runtime or on else None
        asked = self._applying(context.contract, known)
        if on and on != self._engines_of(path)[0]:  # its first engine reports what the target does not take
            asked = tuple(check for check in asked if check not in checks.ON_TARGET)
        return Subject(title, path, None, asked, on=on)

    def registry(self) -> Mapping[str, Check]:
        """The checks of this run, by id."""
        found = checks.registry() if self.foreign is None else foreign.registry()
        return found if self.options.endpoint is None else on_endpoint(found)

    def chosen(self, check_ids: Sequence[str]) -> List[str]:
        """The checks that `--checks` and a quick run leave. Raises InputError for a name that is neither a check nor a group."""
        asked = self.options.checks
        if self.options.quick:
            named = [name.strip() for name in (asked or "").split(",")]  # one that is asked for by name runs
            check_ids = [check for check in check_ids if check not in checks.NOT_QUICK or check in named]
        return (
            [check for check in check_ids if check in checks.select(asked, self.registry())]
            if asked
            else list(check_ids)
        )

    def checks_of(self, subject: Subject) -> List[str]:
        """The checks to run on a subject; of a file that could not be read, that it loads, whatever was chosen."""
        unread = subject.died is not None or bool(subject.missing)
        return list(subject.checks) if unread else self.chosen(subject.checks)

    def require_known_failures_met(self, subjects: Sequence[Subject]) -> None:
        """Raise InputError for a known failure that nothing in this run could meet. A choice among the own exporters leaves those of
        the others unmet, so it is not asked there."""
        if not self.options.exporters:
            there = [one for one in subjects if one.path or (self.own and not self.own.missing(one.title))]
            pairs = [(subject.title, check) for subject in there for check in subject.checks]
            self.known_failures.require_met(pairs, list(self.registry()))

    def open(self, path: Path, name: Optional[str] = None) -> Intake:
        """Read one artifact; name: of the own exporter that made it. Raises InputError where it cannot be used."""
        if path not in self._opened:
            options, variant, asked = self.options, self.options.variant, self.options.promised
            if name is not None and self.own is not None:
                variant, asked = (
                    self.own.promised(name),
                    replace(asked, precision=self.own.precision(name) or asked.precision),
                )
            found = open_file(path, self.detector.facts, variant, options.img_size, name, asked)
            self._require_memory(path, found.contract)
            self._opened[path] = found
        return self._opened[path]

    def _require_memory(self, path: Path, contract: Contract) -> None:
        """Raise InputError, before anything is drawn, for a size or a batch that this machine has not the memory for."""
        height, width = contract.size
        total = environment.memory_bytes()
        image = COPIES * 4 * (3 * height * width + self.detector.facts.rows(contract.size) * self.detector.facts.fields)
        needed = self.detector.activations(contract.size) + image * contract.batch
        if total and needed > MEMORY_SHARE * total:
            raise InputError(
                f"{path}: a batch of {contract.batch} at {height}x{width} needs about {needed / 1e9:.0f} GB for the reference, "
                f"and this machine has {total / 1e9:.0f} GB"
            )

    def judged(self, path: Path, name: Optional[str] = None, on: str = "") -> AnyContext:
        """The context of one artifact of either kind, on an engine that was asked for, made at the first call. Raises InputError where
        the file cannot be used."""
        source = self.foreign
        if source is None:
            if runtime_files(path) is None:
                return self.context(path, name, on)
            source = self._home_source
        if (path, on) not in self._foreign:
            options = self.options
            promised = options.promised.precision
            made = open_context(path, source, options.img_size, self.clock, options.quick, on, promised)
            self._complete(made)
            self._foreign[path, on] = made
        return self._foreign[path, on]

    @functools.cached_property
    def _home_source(self) -> ForeignSource:
        """The model of the home family as what a runtime's own files are judged against: its logits, where a file has an output for
        each level, else its predictions."""
        from detparity.engines.home_reference import HomeReference

        size = self.options.img_size or BUNDLED_SIZE
        references = [HomeReference(self.detector, size, raw) for raw in (False, True)]
        levels = len(self.detector.facts.strides)

        @functools.cache
        def reference(path: Path) -> HomeReference:
            outputs = runtime_contract.read(path, kind_of(path)).outputs
            return references[len(outputs) == levels > 1]

        return ForeignSource(reference)

    def context(self, path: Path, name: Optional[str] = None, on: str = "") -> Context:
        """The context of one artifact of the home family, made at the first call."""
        if (path, on) not in self._contexts:
            opened = self.open(path, name)
            oracle = self.oracle_of(opened.contract)
            made = make_context(self.detector, opened, oracle, self.clock, quick=self.options.quick)
            made.on, made.checks = on, checks.on_engines(checks.registry()) if on else made.checks
            self._complete(made)
            self._contexts[path, on] = made
        return self._contexts[path, on]

    def _complete(self, context: AnyContext) -> None:
        """Give a context what this run has beside the file: the user's pictures with what an earlier run found on them, and the
        server that runs it. Raises InputError where what was found cannot be known."""
        self._show_photos(context)
        context.target = self.options.target
        context.progress = self.progress
        asked = self.options.images
        if asked is not None and asked.resume is not None:
            foreign = isinstance(context, ForeignContext)
            model = (
                context.oracle.reference.facts.digest if isinstance(context, ForeignContext) else context.facts.digest
            )
            run_by = (str(self.options.endpoint), context.on, outside(context.artifact.path, context.own_engine()))
            asked_of = (context.contract, self.options.choice.arguments, foreign, *_judged_by(context))
            facts = (context.artifact.sha256, *asked_of, *run_by)
            context.earlier = Earlier(ArrayCache(asked.resume), key_of(model, *facts))
        if self.options.endpoint is not None:
            context.endpoint, context.checks = self.options.endpoint, dict(self.registry())
            context.how += f", run by {self.options.endpoint}"

    def _show_photos(self, context: AnyContext) -> None:
        """Give a context the budget, the user's pictures and their objects, where they are labelled and their classes known."""
        photos, fit, size = self.photos[0], self.fit(context), context.contract.size
        context.budget, context.photos = self.options.budget, as_pictures(photos, fit)
        asked = self.options.images
        if asked is None or asked.labels is None or not context.contract.quantised:
            return
        names = names_of(context) if isinstance(context, ForeignContext) else context.contract.facts.names
        labels, _ = read_labels(asked.labels, photos, names)
        context.objects = {
            picture: Objects(placed(found[0], photo.size, size, fit), found[1])
            for picture, photo, found in zip(context.photos, photos, labels)
            if found
        }

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

    def load(self) -> None:
        """Load the model, so that one that cannot be used is known before any file is read. Raises InputError."""
        if self.foreign is None:
            _ = self.detector
        photos, _ = self.photos
        if self.options.images is not None and self.options.images.labels is not None:
            read_labels(self.options.images.labels, photos, ())

    @property
    def asked(self) -> Tuple[int, int]:
        """How many truths were asked for, and how many of them were worked out."""
        if self.foreign is not None:
            return self.foreign.asked, self.foreign.worked_out
        every = [self.oracle, *self._oracles.values()]
        return sum(one.asked for one in every), sum(one.worked_out for one in every)

    def release(self, subject: Subject) -> None:
        """Let go of a file's graph and engines: its last check has run."""
        path = subject.path or self._made.get(subject.title)
        if isinstance(path, Path):
            self._contexts.pop((path, subject.on), None)
            self._foreign.pop((path, subject.on), None)
            self._opened.pop(path, None)

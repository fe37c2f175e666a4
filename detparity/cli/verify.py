"""`detparity.verify`: the checks inside somebody's own test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from detparity.artifacts.open import Asked
from detparity.checks.foreign.open_file import ForeignSource
from detparity.checks.foreign.sources import source_of
from detparity.checks.run import Judged, heads_of, judge_all
from detparity.checks.session import Options, Session
from detparity.cli.options import complain, endpoint_of, engines_of
from detparity.core.array_cache import ArrayCache, default_folder
from detparity.core.budget import budget_of
from detparity.core.errors import InputError
from detparity.core.findings import Finding
from detparity.core.precision import PRECISIONS
from detparity.core.text import printable
from detparity.core.verdict import CONSISTENT
from detparity.inputs.photos import PhotosAsked
from detparity.models.choice import BUNDLED, ModelChoice, of_a_package, require_named, require_one_model
from detparity.models.reference import ReferenceFacts
from detparity.reports.recorder import Recorder


@dataclass(frozen=True)
class Result:
    """What `verify` returns.

    verdict: "conforms" (or "consistent", where no model was compared), "violates" or "incomplete"; findings: (check, finding) of
    every check, those that do not decide included; floors: by unit group (`xy`, `wh`, `objectness`, `class`, or what the layout
    has), the worst level's `floor` and `error` in its unit and the error in `floors`, empty where the file was not compared number
    by number; text: the decisive findings in full, each with its Repeat line; entry: the artifact's entry of the JSON report
    (docs/report.schema.json).
    """

    verdict: str
    findings: Tuple[Tuple[str, Finding], ...]
    floors: Mapping[str, Mapping[str, float]]
    text: str
    entry: Mapping[str, Any]

    @property
    def conforms(self) -> bool:
        return self.verdict in ("conforms", CONSISTENT)


@dataclass(frozen=True)
class Request:
    """What `verify` is asked to judge against: a model, or another file; images, labels: of the user's own; engine: that judges;
    precision: that is promised; budget: limits of 8 bits, as `--budget` takes them."""

    model: Any = None
    against: Optional[str] = None
    layout: Optional[str] = None
    images: Optional[Path] = None
    labels: Optional[Path] = None
    engine: Optional[str] = None
    precision: Optional[str] = None
    budget: str = ""

    @property
    def photos(self) -> Optional[PhotosAsked]:
        return None if self.images is None else PhotosAsked(self.images, self.labels)


def verify_artifact(
    path: Path, asked: Request, contract: Optional[str], strict: bool, known_failures: Optional[Path] = None
) -> Result:
    """See `detparity.verify`. Raises InputError where nothing states what the file is an export of."""
    choice, model = _choice(asked), asked.model
    held = model is not None and not choice.named
    options = Options(
        choice,
        (path,),
        variant=contract,
        strict=strict,
        known_failures=known_failures,
        images=asked.photos,
        cache=ArrayCache(default_folder()),
        **_engine(asked.engine, path),
        promised=Asked(precision=_known(asked.precision)),
        budget=budget_of(asked.budget),
    )
    if not held:
        require_one_model(choice)
        require_named(choice, (path,))
    source = source_of(choice) if choice.foreign else _of_module(model, asked) if held else None
    session = Session(options, foreign=source)
    if held and session.foreign is None:
        session.detector = model
    session.load()
    subjects = session.subjects()
    session.heads = heads_of(session, subjects)
    session.require_known_failures_met(subjects)
    recorder = Recorder(strict)
    entry: Dict[str, Any] = {}
    red: List[str] = []
    findings: List[Tuple[str, Finding]] = []
    for judged in judge_all(session, subjects):
        entry = recorder.add(judged.record)
        findings += [(judged.outcome.check, finding) for finding in judged.outcome.findings]
        red += _decisive(judged, path.name, strict)
    for note in session.notes:
        complain(note)
    return Result(entry["verdict"], tuple(findings), entry.get("noise", {}), "\n\n".join(red), entry)


def _engine(engine: Optional[str], path: Path) -> Dict[str, Any]:
    """The fields of `Options` that state what judges the file."""
    endpoint = endpoint_of(engine, (path,))
    names = () if endpoint is not None else engines_of(engine)
    if len(names) > 1:
        raise InputError(f"verify judges on one engine, and {engine} are {len(names)}: call it for each")
    return {"endpoint": endpoint, "engines": names}


def _known(precision: Optional[str]) -> Optional[str]:
    if precision is not None and precision not in PRECISIONS:
        raise InputError(f"precision={precision!r} is none of {', '.join(PRECISIONS)}")
    return precision


def _choice(asked: Request) -> ModelChoice:
    """A model by words, or none where the caller holds it."""
    model = asked.model
    if isinstance(model, Path) or (isinstance(model, str) and model != BUNDLED and not _is_spec(model)):
        return of_a_package(ModelChoice((Path(model),), against=asked.against, layout=asked.layout))
    return ModelChoice(model=model if isinstance(model, str) else None, against=asked.against, layout=asked.layout)


def _is_spec(model: str) -> bool:
    """Whether a text names a factory or an adapter, and no file."""
    return ":" in model and not Path(model).exists()


def _of_module(model: Any, asked: Request) -> Optional[ForeignSource]:
    """A torch module that is no detector of the home family, run in this process: it is the caller's own."""
    if hasattr(model, "facts"):
        return None
    from detparity.checks.foreign.layout_file import layout_of
    from detparity.models.module_reference import Made, ModuleReference

    facts = ReferenceFacts(type(model).__name__, "", (), ())
    reference = ModuleReference(Made(model, facts))
    return ForeignSource(lambda path: reference, layout=layout_of(asked.layout) if asked.layout else None)


def _decisive(judged: Judged, title: str, strict: bool) -> List[str]:
    """The texts of what keeps the verdict from being `conforms`."""
    outcome = judged.outcome
    if outcome.outcome == "known failure":
        return []
    levels = {"MUST", "SHOULD"} if strict else {"MUST"}
    red = [text for text, finding in zip(judged.texts, outcome.findings) if finding.level in levels]
    if outcome.outcome == "error" or (outcome.outcome == "skipped" and outcome.incomplete):
        red.append(f"{outcome.check}: {title} could not be judged: {printable(outcome.reason or '')}")
    return red

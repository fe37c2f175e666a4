"""What `detparity check` does: read the files, run the kit's suites on them with pytest in this process, and report."""

from __future__ import annotations

import importlib
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from detparity import facts, kit
from detparity.checks import select
from detparity.errors import InputError
from detparity.intake import Asked
from detparity.report import build
from detparity.report.terminal import artifact_text, verdict_line
from detparity.session import ModelChoice, Session, limits
from detparity.strategies.cases import explore
from detparity.subject import Size, variant_names
from detparity.trial import truth_head


@dataclass(frozen=True)
class Request:
    """What the user asked for, option by option."""

    choice: ModelChoice
    artifacts: Tuple[Path, ...]
    variant: Optional[str]
    img_size: Optional[Size]
    checks: Optional[str]
    strict: bool
    junit: Optional[Path]
    asked: Asked = field(default_factory=Asked)
    debts: Optional[Path] = None
    exporters: Tuple[str, ...] = ()
    quick: bool = False


def run(request: Request, scratch: Path, say: Callable[[str], None]) -> Dict[str, Any]:
    """Judge every artifact, or what the kit's exporters make where none is given, and return the report.

    Raises InputError where the model or an option cannot be used.

    scratch: a folder for exports and for pytest's own files; nothing is written elsewhere.
    """
    if request.checks:
        select(request.checks)
    if request.variant is not None and request.variant not in variant_names():
        raise InputError(f"unknown variant {request.variant!r}: known are {', '.join(variant_names())}")
    for package in ("torch", "onnx", "onnxruntime", "pytest", "hypothesis"):
        importlib.import_module(package)
    start = time.perf_counter()
    if request.artifacts and request.exporters:
        raise InputError("--exporter chooses among the kit's own exporters; it does not go with files")
    session = Session(
        request.choice,
        request.artifacts,
        explore,
        request.variant,
        request.img_size,
        request.asked,
        debts=request.debts,
        exporters=request.exporters,
        command=True,
        quick=request.quick,
    )
    _ = session.detector, session.variants()
    unusable: List[Dict[str, Any]] = []
    usable: List[Path] = []
    for path in dict.fromkeys(request.artifacts):
        try:
            session.open(path)
            usable.append(path)
        except InputError as error:
            unusable.append(build.unusable(str(path), str(error)))
    session.artifacts = tuple(usable)
    if usable or not request.artifacts:
        session.require_debts_met()
    if usable:
        session.heads = tuple({truth_head(session.open(path).contract.variant) for path in usable})
    recorder = _run_suites(session, request, scratch, say) if usable or not request.artifacts else None
    engine = session.clock.engine
    timings = {
        "engine_seconds": engine,
        "total_seconds": time.perf_counter() - start,
        "truths_asked": session.oracle.asked,
        "truths_worked_out": session.oracle.worked_out,
    }
    from detparity.plugin import subject_of

    entries = list(recorder.entries.values()) if recorder else []
    judged = [*entries, *unusable]
    found = build.report(
        facts.environment(), subject_of(session), judged, timings, request.strict, limits(), request.quick
    )
    if recorder and recorder.broken:
        found["broken"] = recorder.broken
        say("\n".join(recorder.broken))
        if found["verdict"] == "conforms":
            found["verdict"] = "incomplete"
    for entry in unusable:
        say(artifact_text(entry))
    say(verdict_line(found))
    return found


def _run_suites(session: Session, request: Request, scratch: Path, say: Callable[[str], None]) -> Any:
    """Run the suites on the session's artifacts; pytest prints nothing and writes nothing outside `scratch`."""
    import pytest

    from detparity.plugin import SESSION
    from detparity.report.recorder import Recorder

    recorder = Recorder(request.strict, lambda entry: say(artifact_text(entry, request.strict)))

    class Hand:
        """Hands the session to the kit's conftest before the plugin would make its own."""

        @pytest.hookimpl(tryfirst=True)
        def pytest_configure(self, config: pytest.Config) -> None:
            config.stash[SESSION] = session

    root = kit.root()
    arguments = [
        "-c",
        str(root / "pytest.ini"),
        "--rootdir",
        str(root),
        "-p",
        "no:cacheprovider",
        "-p",
        "no:terminalreporter",
    ]
    arguments += ["--basetemp", str(scratch / "pytest"), "-p", "no:randomly"]
    arguments += ["--benchmark-storage", f"file://{scratch / 'benchmarks'}"]
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # this process has imported hypothesis already
    arguments += [str(root / "suites" / room / f"test_{room}.py") for room in ("structure", "script", "parity", "nms")]
    if request.checks:
        arguments += ["--checks", request.checks]
    if request.strict:
        arguments += ["--strict-promises"]
    if request.junit:
        arguments += ["--junitxml", str(request.junit.resolve())]
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # the kit may lie where nothing should be written
    try:
        code = pytest.main(arguments, plugins=[Hand(), recorder])
    finally:
        sys.dont_write_bytecode = before
    if code not in (0, 1, 5):
        recorder.broken.append(f"the test run itself ended with pytest's exit code {int(code)}")
    recorder.show_finished()
    return recorder


def exit_code(found: Dict[str, Any]) -> int:
    return build.exit_code(found["verdict"])

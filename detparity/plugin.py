"""pytest options, and what turns a check's outcome into a test's. Loaded by the kit's conftest."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import pytest

from detparity import facts, kit
from detparity.checks import NOT_QUICK, select
from detparity.checks.weights import coverage
from detparity.errors import InputError, clipped
from detparity.expectations import settle
from detparity.exported import promised
from detparity.failures import render
from detparity.files import write_text
from detparity.findings import Outcome, fails
from detparity.golden.judging import Place, told
from detparity.golden.judging import judge as judge_against_golden
from detparity.golden.judging import judge_ratio as judge_ratio_against_golden
from detparity.golden.pending import Pending, folder_for
from detparity.intake import Asked
from detparity.report.build import outcome_record
from detparity.report.recorder import PROPERTY, Recorder
from detparity.session import ModelChoice, Session, limits, noise_of
from detparity.strategies.cases import explore
from detparity.subject import EngineError
from detparity.trial import Trial

SESSION = pytest.StashKey[Session]()
STARTED = pytest.StashKey[float]()
GOLDEN = "detparity-golden"  # names, among a test's user properties, the golden it found changed
RECORDER = pytest.StashKey[Recorder]()
SUBJECT_IN_ID = re.compile(r"::test_\w+\[([\w.-]+):")  # `test_promise[grid:parity.sizes]`, `test_conforms[yolov7:grid]`


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("detparity", "detparity: exported detectors against their models")
    group.addoption(
        "--weights",
        type=Path,
        action="append",
        default=[],
        help="checkpoint of the model (default: the bundled detector); several make an ensemble",
    )
    group.addoption("--arch", help="build the model instead: an architecture's name")
    group.addoption("--cfg", help="the weights' architecture, or a layer table (.yaml) to build")
    group.addoption("--width", type=float, help="width of the built model (default 0.25, or the table's own)")
    group.addoption("--seed", type=int, default=0, help="seed of the built model (default 0)")
    group.addoption(
        "--artifact", type=Path, action="append", default=[], help="exported file to check; may be repeated"
    )
    group.addoption("--variant", help="what the artifacts promise to be (default: read from each file)")
    group.addoption("--img-size", type=int, nargs=2, metavar=("H", "W"), help="image size where the file declares none")
    group.addoption("--iou-thres", type=float, help="promised IoU threshold (default: read from the file)")
    group.addoption("--conf-thres", type=float, help="promised score threshold (default: read from the file)")
    group.addoption("--topk-all", type=int, help="promised cap per image (default: read from the file)")
    group.addoption("--max-wh", type=float, help="promised class offset in pixels (default: read from the file)")
    group.addoption("--opset", type=int, help="promised opset (default: from the metadata, else the variant's own)")
    group.addoption("--checks", help="run only these checks, by id or room, separated by commas")
    group.addoption(
        "--strict-promises", dest="detparity_strict", action="store_true", help="SHOULD findings fail as well"
    )
    group.addoption("--expectations", type=Path, metavar="FILE", help="known debts of the exporters of the artifacts")
    group.addoption(
        "--exporter",
        action="append",
        default=[],
        metavar="NAME",
        help="only these of the kit's exporters, by name or pattern",
    )
    group.addoption("--golden", type=Path, metavar="DIR", help="where goldens lie (default: the kit's own)")
    group.addoption("--pending", type=Path, metavar="DIR", help="where goldens that changed wait for review")
    group.addoption("--quick", action="store_true", help="fewer pictures, sizes and draws, to know sooner")
    group.addoption("--bare", action="store_true", help="switch the compatibility shims off")
    group.addoption("--json", type=Path, dest="detparity_json", help="write the report here")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STARTED] = time.perf_counter()
    if config.getoption("bare"):
        os.environ["DETPARITY_BARE"] = "all"
    if SESSION not in config.stash:
        config.stash[SESSION] = _session(config)
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        # Two workers with two busy-waiting threads each on two cores were 20 times slower than with one each.
        limit_threads = importlib.import_module("detparity.engines.eager").limit_threads
        limit_threads(max(1, (os.cpu_count() or 1) // workers))
    if config.getoption("detparity_json") and not hasattr(config, "workerinput"):
        config.stash[RECORDER] = Recorder(config.getoption("detparity_strict"))
        config.pluginmanager.register(config.stash[RECORDER], "detparity-recorder")


def _session(config: pytest.Config) -> Session:
    weights = tuple(config.getoption("weights"))
    choice = ModelChoice(weights, *(config.getoption(name) for name in ("arch", "width", "seed", "cfg")))
    size = config.getoption("img_size")
    artifacts = tuple(config.getoption("artifact"))
    asked = Asked(*(config.getoption(name) for name in ("iou_thres", "conf_thres", "topk_all", "max_wh", "opset")))
    return Session(
        choice,
        artifacts,
        explore,
        config.getoption("variant"),
        tuple(size) if size else None,
        asked,
        debts=config.getoption("expectations"),
        exporters=tuple(config.getoption("exporter")),
        quick=config.getoption("quick"),
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadgroup`, everything about one artifact goes to one worker, which exports it and works out its truths once.

    Told by the ids of the tests: the marks of pytest-xdist 3.8 travel in an attribute that pytest 9.2 no longer reads.
    """
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class BySubject(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return worker_group(nodeid)

    return BySubject(config, log)


def worker_group(nodeid: str) -> str:
    """What must stay on one worker with this test: all that is asked of one artifact or architecture, and the benchmarks."""
    if nodeid.startswith("suites/runtime/"):
        return "suites/runtime"
    found = SUBJECT_IN_ID.search(nodeid)
    return found.group(1) if found else nodeid


def pytest_report_header(config: pytest.Config) -> List[str]:
    session = config.stash[SESSION]
    versions = ", ".join(
        f"{name} {version}" for name, version in facts.environment().items() if name not in ("platform", "machine")
    )
    return [
        f"detparity: model {session.choice.title}, artifacts {len(session.artifacts) or 'bundled'}",
        f"versions: {versions}",
    ]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line for all goldens that changed: one change of an exporter may show in many."""
    failed = terminalreporter.stats.get("failed", [])
    names = [value for report in failed for key, value in report.user_properties if key == GOLDEN]
    if names:
        what = "1 golden waits" if len(names) == 1 else f"{len(names)} goldens wait"
        terminalreporter.write_line(f"{what} for review:  detparity review")


def pytest_sessionfinish(session: pytest.Session) -> None:
    recorder = session.config.stash.get(RECORDER, None)
    if recorder is not None:
        run = session.config.stash[SESSION]
        total = time.perf_counter() - session.config.stash[STARTED]
        engine = sum(entry["timings"]["engine_seconds"] for entry in recorder.entries.values())
        timings = {"engine_seconds": engine, "total_seconds": total}
        found = recorder.report(facts.environment(), subject_of(run), [], timings, limits(), run.quick)
        if recorder.broken:
            found["broken"] = recorder.broken
        target = session.config.getoption("detparity_json")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, json.dumps(found, indent=1) + "\n")


def subject_of(session: Session) -> Dict[str, Any]:
    """What the model is, for the report."""
    model = session.detector.facts
    return {
        "name": model.name,
        "digest": model.digest,
        "classes": model.classes,
        "strides": list(model.strides),
        "weights": session.choice.title if session.choice.weights else None,
    }


def judge(request: pytest.FixtureRequest, trial: Trial, check_id: str) -> None:
    """Run one check and make its outcome this test's: recorded for the report, failed or skipped with its reason."""
    artifact: Dict[str, Any] = {
        "path": str(trial.artifact.path) if trial.artifact.name is None else trial.artifact.name,
        "sha256": trial.artifact.sha256,
        "variant": trial.contract.variant.name,
        "how": trial.how,
    }
    if trial.artifact.kind == "onnx":
        opset, producer = trial.onnx.opsets.get("", 0), trial.onnx.producer
        artifact["file"] = {"opset": opset, "ir_version": trial.onnx.ir_version, "producer": producer}
    outcome = _settled(request, trial.artifact.title, trial.outcome(check_id))
    measured = None
    if check_id == "parity.declared" and outcome.outcome == "passed" and not trial.quick:
        measured = _measured(request.config.stash[SESSION], trial)
    _conclude(request, artifact, outcome, measured)


def judge_unmade(request: pytest.FixtureRequest, name: str, outcome: Outcome) -> None:
    """Make `outcome`, of the exporter called `name` or of a check on a file it did not make, this test's."""
    artifact = {"path": name, "variant": promised(name)}
    if outcome.outcome != "passed":
        artifact["how"] = f"{name}, not made"
    _conclude(request, artifact, _settled(request, name, outcome), None)


def judge_golden(request: pytest.FixtureRequest, trial: Trial, name: str, kind: str) -> None:
    """Compare a golden of what the exporter called `name` makes; red, and pending, where it is missing or has changed."""
    place, test = _place(request.config), request.node.nodeid
    repeat = f"pytest {shlex.quote(test)}"
    try:
        waiting = judge_against_golden(trial, name, kind, place, test, repeat)
    except (EngineError, InputError) as error:
        message = f"golden: {name} cannot be compared with {kind}/{name}: {clipped(error)}"
        pytest.fail(f"{message}\n\n  Repeat:  {repeat}", pytrace=False)
    _must_not_wait(request, waiting, place)


def _place(config: pytest.Config) -> Place:
    folder = config.getoption("golden") or kit.root() / "golden"
    return Place(folder, folder_for(folder, config.getoption("pending")))


def _must_not_wait(request: pytest.FixtureRequest, waiting: Optional[Pending], place: Place) -> None:
    """Red where a golden waits for review."""
    if waiting is not None:
        request.node.user_properties.append((GOLDEN, waiting.name))
        pytest.fail(told(waiting, place.pending), pytrace=False)


def judge_ratio(request: pytest.FixtureRequest, trial: Trial, name: str, now: Mapping[str, Any]) -> None:
    """Compare a measured ratio with its golden; red, and pending, where it is missing or has moved; skipped where it was recorded on
    another machine."""
    place, test = _place(request.config), request.node.nodeid
    repeat = f"pytest {shlex.quote(test)} --benchmark-enable"
    waiting, elsewhere = judge_ratio_against_golden(trial, name, now, place, test, repeat)
    if elsewhere:
        pytest.skip(f"{now['of']} takes {now['ratio']:g} times {now['to']} here; the golden is of {elsewhere}")
    _must_not_wait(request, waiting, place)


def _settled(request: pytest.FixtureRequest, title: str, outcome: Outcome) -> Outcome:
    return settle(outcome, request.config.stash[SESSION].ledger.owed(title, outcome.check))


def _conclude(
    request: pytest.FixtureRequest, artifact: Dict[str, Any], outcome: Outcome, measured: Optional[Dict[str, Any]]
) -> None:
    config = request.config
    repeat = repeat_command(config, artifact["path"], outcome.check, request.node.nodeid)
    title = Path(artifact["path"]).name
    texts = [render(title, outcome.check, finding, repeat) for finding in outcome.findings]
    record: Dict[str, Any] = {"artifact": artifact, "check": outcome_record(outcome, texts)}
    if measured is not None:
        record["measured"] = measured
    # Through JSON, so that a worker can send it: xdist takes plain types alone, and torch's version is no plain text.
    request.node.user_properties.append((PROPERTY, json.loads(json.dumps(record))))
    if fails(outcome, config.getoption("detparity_strict")):
        pytest.fail("\n\n".join(texts) or f"{outcome.check}: could not be judged: {outcome.reason}", pytrace=False)
    if outcome.outcome == "skipped":
        pytest.skip(outcome.reason or "")
    if outcome.outcome == "debt":
        pytest.xfail(f"known debt: {outcome.reason}")


def _measured(session: Session, trial: Trial) -> Dict[str, Any]:
    from detparity.engines.power import smallest_seen

    head = trial.contract.variant.head
    with trial.clock.running():
        power = smallest_seen(session.detector, session.oracle, head, trial.contract.size)
    compared, left = coverage(trial)
    weights = {"compared": compared, "not_comparable": left}
    return {"noise": noise_of(trial), "power": power, "weights": weights, "engine": dict(trial.runner().facts)}


def repeat_command(config: pytest.Config, artifact: str, check_id: str, nodeid: str) -> str:
    """The command that runs this one check on this one artifact again."""
    session = config.stash[SESSION]
    model = session.choice.arguments
    if not session.artifacts and not session.command:
        return " ".join(["pytest", shlex.quote(nodeid), *map(shlex.quote, model)])
    subject = [artifact] if session.artifacts else ["--exporter", artifact]
    arguments = ["detparity", "check", *subject, *model, "--checks", check_id]
    if session.variant:
        arguments += ["--variant", session.variant]
    if session.img_size:
        arguments += ["--img-size", *map(str, session.img_size)]
    return " ".join(map(shlex.quote, [*arguments, *session.asked.arguments]))


def chosen(config: pytest.Config, check_ids: List[str]) -> List[str]:
    """The checks `--checks` and a quick run leave. Raises InputError for a name that is neither a check nor a room."""
    wanted = config.getoption("checks")
    if config.stash[SESSION].quick:
        named = [name.strip() for name in (wanted or "").split(",")]  # who asks for one by name gets it
        check_ids = [check for check in check_ids if check not in NOT_QUICK or check in named]
    return [check for check in check_ids if check in select(wanted)] if wanted else check_ids


def usage(error: InputError) -> pytest.UsageError:
    """Unusable input ends a pytest run with its one line and exit code 4."""
    return pytest.UsageError(str(error))

"""Wiring of the suites and of the project's own tests: hands each its model, its artifacts and its checks. No asserts here."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Union

import pytest

from detparity.checks import NOT_QUICK
from detparity.checks.run import judge
from detparity.checks.session import Session, Subject
from detparity.cli import pytest_plugin as plugin
from detparity.core import garbage, resources
from detparity.core.array_cache import ArrayCache, default_folder
from detparity.core.errors import EngineError, InputError, NotMade, clipped
from detparity.core.findings import MADE
from detparity.models import choice
from detparity.models.choice import BUNDLED_SIZE, ModelChoice
from detparity.models.yolov7 import seeded
from detparity.tools.export_cache import KitExports, attempt
from detparity.tools.golden import evaluate
from detparity.tools.golden.content import asked_goldens
from detparity.tools.golden.pending import Pending, folder_for

HERE = Path(__file__).resolve().parent
SHARED_DATA = HERE.parent / "shared" / "data"
# `tox -e demo` and the lanes judge every exporter's file; the default run one of each form, and smoke whether these are right.
FORMS = (
    *("grid", "raw-dynamic", "end2end-ort-dynamic-batch", "end2end-trt", "end2end-trt-nms"),
    *("grid-dynamo", "traced", "scripted", "lite", "grid-half", "grid-int8"),
)
# Not in smoke: by torch.export one takes as long to make as all the others; a lower precision has its own noise and its own checks.
NOT_SMOKE = ("grid-dynamo", "grid-half", "grid-int8")
SMOKE = (
    "export.made",
    "structure.load",
    "structure.weights",
    "script.load",
    "script.weights",
    "parity.declared",
    "nms.detections",
)
# What selects few tests, and the marks that a file of tests has then, or is not imported.
IMPORTING = {"smoke": ("smoke",), "(smoke or lanes) and not slow and not proof": ("smoke", "lanes")}
MOST_DETECTORS = 12  # that are held at once for all tests of a process
GOLDEN = "detparity-golden"  # names, among a test's user properties, the golden it found changed
ONE_GROUP = ("tests/checks/foreign",)  # folders whose files judge the same exports
BY_TORCH_EXPORT = re.compile(
    r"\[[\w-]+-dynamo|torch_export|grid_dynamo_hold|tests/exporters/test_opsets"
)  # ten seconds of imports
SUBJECT_IN_ID = re.compile(r"::test_\w+\[([\w.-]+):")  # `test_promise[grid:parity.sizes]`, `test_conforms[yolov7:grid]`


class GoldenCase(NamedTuple):
    """One golden of what our exporter `name` makes of the bundled detector."""

    name: str
    kind: str


class Promise(NamedTuple):
    """One check on what one of the exporters makes."""

    subject: Subject
    check: str


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("detparity, in a clone")
    plugin.add_options(group, "", leave_out=("strict", "capture"))  # pytest has options of these names
    group.addoption(
        "--exporter", action="append", default=[], metavar="NAME", help="only these exporters, by name or pattern"
    )
    group.addoption("--golden", type=Path, metavar="DIR", help="where goldens are (default: golden/)")
    group.addoption("--pending", type=Path, metavar="DIR", help="where goldens that changed wait for review")
    group.addoption("--bare", action="store_true", help="switch the compatibility shims off")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("bare"):
        os.environ["DETPARITY_BARE"] = "all"
    plugin.session_of(config).own = KitExports()
    plugin.share_cores(beside="DETPARITY_WORKERS" in os.environ)  # set where lanes run side by side
    garbage.collect_less()


def pytest_collection_finish() -> None:
    garbage.freeze_imports()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> Optional[bool]:
    """With files of the user's own only their checks run, which the plugin collects. Smoke and lanes import what they run."""
    if plugin.option(config, "artifact"):
        return True
    marks = IMPORTING.get(config.getoption("markexpr"), ())
    tests = collection_path.parts[len(HERE.parts) : -1][:1] == ("tests",) and collection_path.name.startswith("test_")
    if not marks or not tests:
        return None
    text = collection_path.read_text(encoding="utf-8")
    return None if any(f"mark.{mark}" in text for mark in marks) else True


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A suite names its groups of checks in `GROUPS` and asks for `promise`: it gets every check of them on every export."""
    if "promise" in metafunc.fixturenames:
        try:
            promises = _promises(metafunc.config, metafunc.module.GROUPS)
        except InputError as error:
            raise plugin.usage(error) from None
        metafunc.parametrize("promise", promises)
    if "golden_case" in metafunc.fixturenames:
        metafunc.parametrize("golden_case", _golden_cases(metafunc.config))


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Export by export, not group by group: what one check worked out is still there for the next."""
    order: List[str] = []

    def position(item: pytest.Item) -> int:
        callspec = getattr(item, "callspec", None)
        params = callspec.params if callspec else {}
        subject = params.get("promise", params.get("golden_case"))
        if isinstance(subject, Promise):
            key = subject.subject.title
        elif isinstance(subject, GoldenCase):
            key = subject.name
        else:  # also where pytest marks an empty group by a placeholder
            return -1
        if key not in order:
            order.append(key)
        return order.index(key)

    items.sort(key=position)


def _promises(config: pytest.Config, groups: List[str]) -> List[Any]:
    session = plugin.session_of(config)
    found: List[Any] = []
    subjects = session.subjects()
    for subject in subjects:
        for check in session.chosen([check for check in subject.checks if check.split(".")[0] in groups]):
            marks = _marks(config, subject.title, check)
            found.append(pytest.param(Promise(subject, check), id=f"{subject.title}:{check}", marks=marks))
    session.require_known_failures_met(subjects)
    return found


def _marks(config: pytest.Config, exporter: str, check: str = "") -> List[pytest.MarkDecorator]:
    """Where the exporters and the model are chosen, every test is in the default run. check: empty for goldens."""
    if exporter in FORMS:
        smoke = check in SMOKE and exporter not in NOT_SMOKE
        return [pytest.mark.lanes, *([pytest.mark.smoke] if smoke else [])]
    chosen = config.getoption("exporter") or plugin.session_of(config).choice != ModelChoice()
    # Such a file differs from one of the forms in its axes or its suppression: by day a lane asks for what a quick run does.
    in_lanes = check and check not in NOT_QUICK
    return [] if chosen else [pytest.mark.more, *([pytest.mark.lanes] if in_lanes else [])]


def _golden_cases(config: pytest.Config) -> List[Any]:
    """Every kind of golden of every exporter; they are the bundled detector's, so another model has none here."""
    session = plugin.session_of(config)
    if session.choice != ModelChoice():
        return []
    return [
        pytest.param(GoldenCase(name, kind), id=f"{name}:{kind}", marks=_marks(config, name))
        for name, kind in asked_goldens(session.exporters())
    ]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadgroup`, everything about one artifact goes to one worker, which exports it and works out its truths once;
    so do the tests of one file, which share what they are made from.

    By the ids of the tests: the marks of pytest-xdist 3.8 travel in an attribute that pytest 9.2 no longer reads.
    """
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class BySubject(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return worker_group(nodeid)

    return BySubject(config, log)


def worker_group(nodeid: str) -> str:
    """What must stay on one worker with this test: all that is asked of one artifact or architecture, the benchmarks, and the tests of
    one file, or of one folder of files that judge the same exports."""
    if nodeid.startswith(("suites/runtime/", "benchmarks/")):
        return "suites/runtime"
    if BY_TORCH_EXPORT.search(nodeid):
        return "torch.export"
    found = SUBJECT_IN_ID.search(nodeid)
    if found:
        return found.group(1)
    file = nodeid.partition("::")[0]
    return next((folder for folder in ONE_GROUP if file.startswith(folder + "/")), file)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line for all goldens that changed: one change of an exporter may show in many."""
    failed = terminalreporter.stats.get("failed", [])
    names = [value for report in failed for key, value in report.user_properties if key == GOLDEN]
    if names:
        what = "1 golden waits" if len(names) == 1 else f"{len(names)} goldens wait"
        terminalreporter.write_line(f"{what} for review:  detparity review")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run see."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if folder.name.startswith("popen-") else folder


@pytest.fixture(scope="session", autouse=True)
def caches(shared_folder: Path) -> Iterator[Path]:
    """The user's caches, for commands that tests run: a folder of this run, so that no test reads or writes the real one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(shared_folder / "caches"))
        yield shared_folder / "caches"


@pytest.fixture(scope="session", autouse=True)
def detectors() -> Iterator[None]:
    """The bundled detector, and those of an architecture, made once for all tests of this process: nothing changes one, which is
    verified at the end."""
    made: Dict[Any, Any] = {}
    bundled, conditioned = choice.bundled, seeded.conditioned

    def verified(detector: Any, before: str) -> None:
        assert _state(detector) == before, f"a test changed {detector.facts.name}, which others use"

    def once(key: Any, make: Callable[[], Any]) -> Any:
        if key not in made:
            found = make()
            made[key] = found, _state(found)
            if len(made) > MOST_DETECTORS:
                verified(*made.pop(next(iter(made))))
        return made[key][0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "bundled", lambda: once("bundled", bundled))
        patch.setattr(
            seeded,
            "conditioned",
            lambda drawn, *which: once((repr(drawn), *which), lambda: conditioned(drawn, *which)),
        )
        yield
    for found, before in made.values():
        verified(found, before)


def _state(detector: Any) -> str:
    """A digest of all that a detector's two networks hold."""
    total = hashlib.sha256()
    for network in (detector.network, detector.exact):
        total.update(repr([(name, part.training) for name, part in network.named_modules()]).encode())
        for name, value in network.state_dict().items():
            total.update(name.encode() + value.numpy().tobytes())
    return total.hexdigest()


@pytest.fixture(scope="session")
def session(pytestconfig: pytest.Config, shared_folder: Path, caches: Path) -> Session:
    """The run: its model, reference and opened files."""
    found = plugin.session_of(pytestconfig)
    found.own = KitExports(shared_folder)
    if found.options.cache is not None:
        found.options = replace(found.options, cache=ArrayCache(default_folder()))
    return found


@pytest.fixture(scope="session")
def exports(session: Session, shared_folder: Path) -> Any:
    """Call with an exporter's name (and options) for the path of the bundled detector's export, made once for all workers."""
    folder = shared_folder
    return lambda name, **options: attempt(session.detector, name, BUNDLED_SIZE, folder, **options)


@pytest.fixture(scope="session")
def made(session: Session) -> Any:
    """Call with an exporter's name for its path, or for what prevented its exporter from making it: asked of the exporter once."""

    def make(name: str) -> Union[Path, NotMade]:
        try:
            return session.made(name)
        except NotMade as problem:
            return problem

    return make


@pytest.fixture(name="judge")
def judge_promise(request: pytest.FixtureRequest, session: Session) -> Any:
    """Call with a promise to run its check and make its outcome the test's."""
    return lambda promise: plugin.conclude(request.node, judge(session, promise.subject, promise.check))


def golden_folders(config: pytest.Config) -> evaluate.Folders:
    """Where goldens are, and where those that changed wait."""
    folder = config.getoption("golden") or resources.root() / "golden"
    return evaluate.Folders(folder, folder_for(folder, config.getoption("pending")))


def must_not_wait(request: pytest.FixtureRequest, waiting: Optional[Pending]) -> None:
    """Red where a golden waits for review."""
    if waiting is not None:
        request.node.user_properties.append((GOLDEN, waiting.name))
        pytest.fail(evaluate.pending_text(waiting, golden_folders(request.config).pending), pytrace=False)


@pytest.fixture
def golden(request: pytest.FixtureRequest, session: Session, made: Any) -> Any:
    """Call with a golden case: red, and pending, where the artifact is not what its golden says or has none. Blesses nothing."""

    def run(case: GoldenCase) -> None:
        file = made(case.name)
        if isinstance(file, NotMade):
            pytest.skip(f"blocked by {MADE}: {file}")
        repeat = f"pytest {shlex.quote(request.node.nodeid)}"
        context, folders = session.context(file, case.name), golden_folders(request.config)
        try:
            waiting = evaluate.judge(context, case.name, case.kind, folders, request.node.nodeid, repeat)
        except (EngineError, InputError) as error:
            message = f"golden: {case.name} cannot be compared with {case.kind}/{case.name}: {clipped(error)}"
            pytest.fail(f"{message}\n\n  Repeat:  {repeat}", pytrace=False)
        must_not_wait(request, waiting)

    return run


@pytest.fixture
def ratio_golden(request: pytest.FixtureRequest) -> Any:
    """Call with a context, a name and a measured ratio: red, and pending, where its golden is missing or it has moved;
    skipped where the golden was recorded on another machine."""

    def run(context: Any, name: str, now: Mapping[str, Any]) -> None:
        repeat = f"pytest {shlex.quote(request.node.nodeid)} --benchmark-enable"
        waiting, elsewhere = evaluate.judge_ratio(
            context, name, now, golden_folders(request.config), request.node.nodeid, repeat
        )
        if elsewhere:
            pytest.skip(f"{now['of']} takes {now['ratio']:g} times {now['to']} here; the golden is of {elsewhere}")
        must_not_wait(request, waiting)

    return run


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real checkpoints and artifacts, where the checkout has it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs ../shared/data beside the checkout: real checkpoints and exported files")
    return SHARED_DATA

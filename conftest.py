"""Wiring: hands each suite its detector, its artifacts and its checks. No asserts here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Union

import pytest

from detparity import plugin
from detparity.checks import export, registry
from detparity.errors import InputError
from detparity.exported import BUNDLED_SIZE, NotMade, attempt
from detparity.findings import MADE
from detparity.golden.recording import asked_goldens
from detparity.session import ModelChoice, Session

SHARED_DATA = Path(__file__).resolve().parent.parent / "shared" / "data"


class GoldenCase(NamedTuple):
    """One golden of what our exporter `name` makes of the bundled detector."""

    name: str
    kind: str


class Promise(NamedTuple):
    """One check on one artifact: `path` of a user's file, or None and the name of our exporter as `variant`."""

    path: Optional[Path]
    variant: str
    check: str


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A suite names its rooms in `ROOMS` and asks for `promise`: it gets every check of those rooms on every artifact."""
    if "promise" in metafunc.fixturenames:
        try:
            promises = _promises(metafunc.config, metafunc.module.ROOMS)
        except InputError as error:
            raise plugin.usage(error) from None
        metafunc.parametrize("promise", promises)
    if "golden_case" in metafunc.fixturenames:
        metafunc.parametrize("golden_case", _golden_cases(metafunc.config))


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Artifact by artifact, not room by room: what one check worked out is still there for the next."""
    order: List[str] = []

    def place(item: pytest.Item) -> int:
        callspec = getattr(item, "callspec", None)
        params = callspec.params if callspec else {}
        subject = params.get("promise", params.get("golden_case"))
        if isinstance(subject, Promise):
            key = str(subject.path or subject.variant)
        elif isinstance(subject, GoldenCase):
            key = subject.name
        else:  # also where pytest marks an empty room by a placeholder
            return -1
        if key not in order:
            order.append(key)
        return order.index(key)

    items.sort(key=place)


def _promises(config: pytest.Config, rooms: List[str]) -> List[Any]:
    session = config.stash[plugin.SESSION]
    found: List[Any] = []
    for subject in session.subjects():
        for check in plugin.chosen(config, [check for check in subject.checks if check.split(".")[0] in rooms]):
            promise = Promise(subject.path, subject.variant, check)
            found.append(pytest.param(promise, id=f"{subject.title}:{check}"))
    session.require_debts_met()
    return found


def _golden_cases(config: pytest.Config) -> List[Any]:
    """Every kind of golden of every exporter; they are the bundled detector's, so another model or file has none here."""
    session = config.stash[plugin.SESSION]
    if session.artifacts or session.choice != ModelChoice():
        return []
    return [
        pytest.param(GoldenCase(name, kind), id=f"{name}:{kind}") for name, kind in asked_goldens(session.variants())
    ]


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run see."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if folder.name.startswith("popen-") else folder


@pytest.fixture(scope="session")
def session(pytestconfig: pytest.Config, shared_folder: Path) -> Session:
    """The run's session: its detector, oracle and trials."""
    found = pytestconfig.stash[plugin.SESSION]
    if hasattr(pytestconfig, "workerinput"):
        found.shared = shared_folder / "truths"
    return found


@pytest.fixture(scope="session")
def exports(session: Session, shared_folder: Path) -> Any:
    """Call with an exporter's name (and options) for the path of the bundled detector's export, made once for all workers."""
    folder = shared_folder
    return lambda name, **options: attempt(session.detector, name, BUNDLED_SIZE, folder, **options)


@pytest.fixture(scope="session")
def made(exports: Any) -> Any:
    """Call with an exporter's name for its path, or for what kept its exporter from making it: asked of the exporter once."""
    found: Dict[str, Union[Path, NotMade]] = {}

    def make(name: str) -> Union[Path, NotMade]:
        if name not in found:
            try:
                found[name] = exports(name)
            except NotMade as problem:
                found[name] = problem
        return found[name]

    return make


@pytest.fixture
def judge(request: pytest.FixtureRequest, session: Session) -> Any:
    """Call with a promise to run its check and make its outcome the test's."""

    def run(promise: Promise) -> None:
        if promise.path:
            plugin.judge(request, session.trial(promise.path), promise.check)
            return
        name, file = promise.variant, request.getfixturevalue("made")(promise.variant)
        problem = file if isinstance(file, NotMade) else None
        if promise.check == MADE:
            plugin.judge_unmade(request, name, export.outcome(problem))
        elif problem:
            plugin.judge_unmade(request, name, export.blocked(registry()[promise.check], problem))
        else:
            plugin.judge(request, session.trial(file, name), promise.check)

    return run


@pytest.fixture
def golden(request: pytest.FixtureRequest, session: Session) -> Any:
    """Call with a golden case: red, and pending, where the artifact is not what its golden says or has none. Blesses nothing."""

    def run(case: GoldenCase) -> None:
        file = request.getfixturevalue("made")(case.name)
        if isinstance(file, NotMade):
            pytest.skip(f"blocked by {MADE}: {file}")
        plugin.judge_golden(request, session.trial(file, case.name), case.name, case.kind)

    return run


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real checkpoints and artifacts, where the checkout has it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs ../shared/data beside the checkout: real checkpoints and exported files")
    return SHARED_DATA

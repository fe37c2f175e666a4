"""Wiring: hands each suite its detector, its artifacts and its checks. No asserts here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Optional

import pytest

from detparity import kit, plugin
from detparity.checks import registry
from detparity.contract import contract_for
from detparity.errors import InputError
from detparity.exported import exported
from detparity.session import Session
from detparity.subject import parse_variant

BUNDLED_SIZE = (256, 320)  # not square, so that swapped axes show
SHARED_DATA = Path(__file__).resolve().parent.parent / "shared" / "data"


class Promise(NamedTuple):
    """One check on one artifact: `path` of a user's file, or None and the `variant` our exporter makes."""

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


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Artifact by artifact, not room by room: what one check worked out is still there for the next."""
    order: List[str] = []

    def place(item: pytest.Item) -> int:
        callspec = getattr(item, "callspec", None)
        promise = callspec.params.get("promise") if callspec else None
        if not isinstance(promise, Promise):  # pytest marks an empty room by a placeholder
            return -1
        key = str(promise.path or promise.variant)
        if key not in order:
            order.append(key)
        return order.index(key)

    items.sort(key=place)


def _promises(config: pytest.Config, rooms: List[str]) -> List[Any]:
    session = config.stash[plugin.SESSION]
    found: List[Any] = []
    for path, name, contract in _subjects(session):
        checks = [c.id for c in registry().values() if c.id.split(".")[0] in rooms and c.applies(contract)]
        title = path.name if path else name
        group = [pytest.mark.xdist_group(title)]
        for check in plugin.chosen(config, checks):
            found.append(pytest.param(Promise(path, name, check), id=f"{title}:{check}", marks=group))
    return found


def _subjects(session: Session) -> Iterator[Any]:
    for path in session.artifacts:
        contract = session.open(path).contract
        yield path, contract.variant.name, contract
    if not session.artifacts:
        for name in kit.exporters().registry():
            yield None, name, contract_for(parse_variant(name), session.detector.facts, BUNDLED_SIZE)


@pytest.fixture(scope="session")
def session(pytestconfig: pytest.Config) -> Session:
    """The run's session: its detector, oracle and trials."""
    return pytestconfig.stash[plugin.SESSION]


@pytest.fixture(scope="session")
def exports(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Call with a variant's name (and options) for the path of the bundled detector's export, made once for all workers."""
    folder = tmp_path_factory.getbasetemp()
    if folder.name.startswith("popen-"):
        folder = folder.parent
    return lambda name, **options: exported(session.detector, name, BUNDLED_SIZE, folder, **options)


@pytest.fixture
def judge(request: pytest.FixtureRequest, session: Session) -> Any:
    """Call with a promise to run its check and make its outcome the test's."""

    def run(promise: Promise) -> None:
        path = promise.path or request.getfixturevalue("exports")(promise.variant)
        name = None if promise.path else promise.variant
        plugin.judge(request, session.trial(path, name), promise.check)

    return run


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real checkpoints and artifacts, where the checkout has it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs ../shared/data beside the checkout: real checkpoints and exported files")
    return SHARED_DATA

"""The pytest plugin: collects the checks of exported files beside a user's own tests.

    pytest --detparity-artifact=best.onnx --detparity-weights=best.pt

Each check is one test, `best.onnx::parity.declared`. Without `--detparity-artifact` the plugin does nothing and imports nothing.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, Optional, Tuple

import pytest

from detparity.core.errors import InputError

if TYPE_CHECKING:
    from detparity.checks.run import Judged
    from detparity.checks.session import Options, Session, Subject
    from detparity.reports.recorder import Recorder as Records

PREFIX = "detparity-"
# The fields of `ModelChoice` after its first, in order.
CHOICE = ("arch", "width", "seed", "cfg", "model", "model-args", "against", "capture", "condition", "trust", "layout")
IMAGES = ("images", "labels", "max-images", "preprocess")
PROPERTY = "detparity"  # the user property of a test that holds its record, which xdist sends from a worker
SESSION: pytest.StashKey[Session] = pytest.StashKey()
SET: pytest.StashKey[List[str]] = pytest.StashKey()  # names of options that pyproject.toml set
STARTED: pytest.StashKey[float] = pytest.StashKey()
CUT_SHORT = (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)

# Option, without the prefix: what pytest's parser is given for it.
OPTIONS: Tuple[Tuple[str, Dict[str, Any]], ...] = (
    ("artifact", {"type": Path, "action": "append", "default": [], "help": "exported file to check; may be repeated"}),
    (
        "weights",
        {
            "type": Path,
            "action": "append",
            "default": [],
            "help": "checkpoint of the model; several make an ensemble",
        },
    ),
    ("model", {"metavar": "SPEC", "help": "any other model, as `detparity check --model` takes it, or bundled"}),
    ("model-args", {"metavar": "JSON", "help": "arguments of its factory"}),
    ("against", {"metavar": "FILE", "help": "no model: another exported file, or self"}),
    ("capture", {"type": Path, "metavar": "DIR", "help": "what `detparity capture --keep DIR` stored"}),
    ("condition", {"action": "store_true", "help": "set batch-norm on noise, for random weights"}),
    ("trust", {"action": "store_true", "help": "load a checkpoint whose loading executes what it holds"}),
    ("layout", {"help": "what the outputs mean: a preset's name or a file (.toml)"}),
    ("arch", {"help": "build the model instead: an architecture's name"}),
    ("cfg", {"help": "the weights' architecture, or a layer table (.yaml) to build"}),
    ("width", {"type": float, "help": "width of the built model (default 0.25, or the table's own)"}),
    ("seed", {"type": int, "default": 0, "help": "seed of the built model (default 0)"}),
    ("variant", {"help": "what the artifacts promise to be (default: read from each file)"}),
    (
        "img-size",
        {"type": int, "nargs": 2, "metavar": ("H", "W"), "help": "image size where the file declares none"},
    ),
    ("iou-thres", {"type": float, "help": "promised IoU threshold (default: read from the file)"}),
    ("conf-thres", {"type": float, "help": "promised score threshold (default: read from the file)"}),
    ("topk-all", {"type": int, "help": "promised cap per image (default: read from the file)"}),
    ("max-wh", {"type": float, "help": "promised class offset in pixels (default: read from the file)"}),
    ("opset", {"type": int, "help": "promised opset (default: from the metadata, else the variant's own)"}),
    ("images", {"type": Path, "metavar": "DIR", "help": "judge the files on these pictures as well"}),
    ("labels", {"type": Path, "metavar": "DIR", "help": "of them, YOLO text files or a COCO file"}),
    ("max-images", {"type": int, "metavar": "N", "help": "pictures taken at most (default: 100)"}),
    ("preprocess", {"metavar": "HOW", "help": "how a picture becomes an input (default: the layout's)"}),
    (
        "engine",
        {"metavar": "NAMES", "help": "judge ONNX files on these engines, or as a server runs them (kserve+http://...)"},
    ),
    ("checks", {"help": "run only these checks, by id or group, separated by commas"}),
    ("strict", {"action": "store_true", "help": "SHOULD findings fail as well"}),
    ("expectations", {"type": Path, "metavar": "FILE", "help": "known failures of the exporters of the artifacts"}),
    ("quick", {"action": "store_true", "help": "fewer pictures, sizes and draws, to know sooner"}),
    ("no-cache", {"action": "store_true", "help": "store no references for later runs and read none"}),
    ("json", {"type": Path, "help": "write the report here"}),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser.getgroup("detparity", "detparity: exported detectors against their models"), PREFIX)


def add_options(group: Any, prefix: str, leave_out: Iterable[str] = ()) -> None:
    """Add the options with this prefix to a parser's group; both spellings of one option have one value."""
    for name, how in OPTIONS:
        if name not in leave_out:
            group.addoption(f"--{prefix}{name}", dest=_dest(name), **how)


def _dest(name: str) -> str:
    return "detparity_" + name.replace("-", "_")


def option(config: pytest.Config, name: str) -> Any:
    """The value of an option, by its name without the prefix."""
    return config.getoption(_dest(name))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STARTED] = time.perf_counter()
    if option(config, "artifact"):
        config.stash[SET] = _configure(config)
        session_of(config)
    if hasattr(config, "workerinput"):
        return
    config.pluginmanager.register(Portable(), "detparity-portable")
    if option(config, "json"):
        config.pluginmanager.register(Recorder(config), "detparity-recorder")


def _configure(config: pytest.Config) -> List[str]:
    """Set what [tool.detparity] of the current folder's pyproject.toml has and the command line leaves out; the names of that."""
    from detparity.cli import project

    names = [name for name, _ in OPTIONS if name not in ("artifact", "json", "trust")]
    given = {name: option(config, name) for name in names}
    try:
        found = project.additions({**given, "artifacts": option(config, "artifact")})
    except InputError as error:
        raise usage(error) from None
    for name, value in found.items():
        setattr(config.option, _dest(name), value)
    return list(found)


def session_of(config: pytest.Config) -> Session:
    """The run of this pytest session, made at the first call."""
    if SESSION not in config.stash:
        from detparity.checks.foreign.sources import source_of
        from detparity.checks.session import Session
        from detparity.models.choice import of_a_package, require_named, require_one_model

        try:
            asked = _options(config)
            require_one_model(asked.choice)
            require_named(asked.choice, asked.artifacts)
            asked = replace(asked, choice=of_a_package(asked.choice))
            foreign = source_of(asked.choice, asked.img_size) if asked.choice.foreign else None
        except InputError as error:
            raise usage(error) from None
        config.stash[SESSION] = Session(asked, foreign=foreign)
    return config.stash[SESSION]


def _options(config: pytest.Config) -> Options:
    from detparity.artifacts.open import Asked
    from detparity.checks.session import Options
    from detparity.core.array_cache import ArrayCache, default_folder
    from detparity.models.choice import ModelChoice

    size = option(config, "img-size")
    return Options(
        choice=ModelChoice(tuple(option(config, "weights")), *(option(config, name) for name in CHOICE)),
        artifacts=tuple(option(config, "artifact")),
        variant=option(config, "variant"),
        img_size=tuple(size) if size else None,
        promised=Asked(*(option(config, name) for name in ("iou-thres", "conf-thres", "topk-all", "max-wh", "opset"))),
        checks=option(config, "checks"),
        strict=option(config, "strict"),
        quick=option(config, "quick"),
        known_failures=option(config, "expectations"),
        exporters=tuple(config.getoption("exporter", [])),
        cache=None if option(config, "no-cache") else ArrayCache(default_folder()),
        images=_images(config),
        **_engines(config),
    )


def _engines(config: pytest.Config) -> Dict[str, Any]:
    """What runs the files, as `detparity check` takes it."""
    from detparity.cli.options import endpoint_of, engines_of

    asked = option(config, "engine")
    endpoint = endpoint_of(asked, option(config, "artifact"))
    return {"endpoint": endpoint, "engines": () if endpoint is not None else engines_of(asked)}


def _images(config: pytest.Config) -> Any:
    """The user's pictures, as `detparity check` takes them."""
    from argparse import Namespace

    from detparity.cli.options import images_of, require_images

    asked = Namespace(**{name.replace("-", "_"): option(config, name) for name in IMAGES}, resume=None)
    require_images(asked)
    return images_of(asked)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What a user should know of stored references."""
    for note in config.stash[SESSION].notes if SESSION in config.stash else ():
        terminalreporter.write_line(f"detparity: {note}")


def pytest_report_header(config: pytest.Config) -> List[str]:
    if SESSION not in config.stash:
        return []
    from detparity.core.environment import environment

    session = config.stash[SESSION]
    versions = ", ".join(
        f"{name} {version}" for name, version in environment().items() if name not in ("platform", "machine")
    )
    names = config.stash.get(SET, [])
    return [
        *([f"detparity: pyproject.toml sets {', '.join(names)}"] if names else []),
        f"detparity: model {session.choice.title}, artifacts {len(session.options.artifacts) or 'bundled'}",
        f"versions: {versions}",
    ]


class ArtifactFile(pytest.File):
    """A user's file; its items are the checks of its contract."""

    subject: Subject

    def collect(self) -> Iterator[CheckItem]:
        for check_id in session_of(self.config).checks_of(self.subject):
            yield CheckItem.from_parent(self, name=check_id)


class CheckItem(pytest.Item):
    """One check on one file."""

    def runtest(self) -> None:
        from detparity.checks.run import judge

        subject = self.parent.subject  # type: ignore[union-attr]
        conclude(self, judge(session_of(self.config), subject, self.name))

    def reportinfo(self) -> Tuple[Path, Optional[int], str]:
        return self.path, None, self.nodeid


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: List[pytest.Item]) -> None:
    """The checks of the files stand behind the user's own tests."""
    if not option(config, "artifact"):
        return
    run = session_of(config)
    try:
        subjects = run.subjects()
        run.require_known_failures_met(subjects)
        for subject in subjects:
            assert subject.path is not None
            name = _id_of(config, subject.path) + (f"@{subject.on}" if subject.on else "")
            file = ArtifactFile.from_parent(session, path=subject.path.resolve(), nodeid=name)
            file.subject = subject
            items.extend(file.collect())
    except InputError as error:
        raise usage(error) from None


def conclude(item: pytest.Item, judged: Judged) -> None:
    """Make what was judged the outcome of this test: recorded for the report, failed or skipped with its reason."""
    from detparity.core.findings import fails

    outcome = judged.outcome
    item.user_properties.append((PROPERTY, judged.record))
    if fails(outcome, option(item.config, "strict")):
        texts = "\n\n".join(judged.texts)
        pytest.fail(texts or f"{outcome.check}: could not be judged: {outcome.reason}", pytrace=False)
    if outcome.outcome == "skipped":
        pytest.skip(outcome.reason or "")
    if outcome.outcome == "known failure":
        pytest.xfail(f"known failure: {outcome.reason}")


class Portable:
    """Leaves what other plugins write of a check, such as JUnit XML, without its record and the path of this module."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        others = [(name, value) for name, value in report.user_properties if name != PROPERTY]
        if len(others) < len(report.user_properties):
            report.user_properties = others
            if report.skipped and isinstance(report.longrepr, tuple):
                report.longrepr = (report.nodeid.split("::")[0], 1, report.longrepr[2])


class Recorder:
    """Gathers what tests record, from workers too, and writes the report at the end."""

    def __init__(self, config: pytest.Config) -> None:
        from detparity.reports.recorder import Recorder

        self._config = config
        self.records: Records = Recorder(option(config, "strict"))

    @pytest.hookimpl(tryfirst=True)  # before `Portable`, which was registered earlier
    def pytest_runtest_logreport(self, report: Any) -> None:
        for name, value in report.user_properties:
            if name == PROPERTY and report.when == "call":
                self.records.add(value)
        if report.failed and not any(name == PROPERTY for name, _ in report.user_properties):
            text = report.longreprtext.strip().splitlines()[-1] if report.longreprtext else "failed"
            self.records.broken.append(f"{report.nodeid}: {text}")
            self._unjudged(report.nodeid, text)

    def _unjudged(self, nodeid: str, text: str) -> None:
        """A check that ended without a record, such as one whose worker died, is one that could not be judged."""
        from detparity.checks import registry
        from detparity.core.findings import Outcome
        from detparity.core.verdict import outcome_record

        title, check = _asked(nodeid)
        known = {_id_of(self._config, path): str(path) for path in option(self._config, "artifact")}
        name, _, on = ("", "", title) if title in known else title.rpartition("@")
        path, on = (known[name], on) if name in known else (known.get(title, title), "")
        if check in registry():
            outcome = Outcome(check, registry()[check].level, "error", reason=text, incomplete=True)
            self.records.add(
                {"artifact": {"path": path, **({"on": on} if on else {})}, "check": outcome_record(outcome, ())}
            )

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.records.broken.append(f"{report.nodeid}: {str(report.longrepr).strip().splitlines()[-1]}")

    def pytest_internalerror(self, excrepr: Any) -> None:
        self.records.broken.append(f"the test run broke: {str(excrepr).strip().splitlines()[-1]}")

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        from detparity.checks.run import about
        from detparity.core.files import write_text
        from detparity.reports.report import report

        run = session_of(self._config)
        entries = list(self.records.entries.values())
        if session.shouldstop or session.shouldfail or exitstatus in CUT_SHORT:
            for entry in entries:  # some of its checks may not have run
                entry["verdict"] = "incomplete" if entry["verdict"] == "conforms" else entry["verdict"]
        timings = {
            "engine_seconds": sum(entry["timings"]["engine_seconds"] for entry in entries),
            "total_seconds": time.perf_counter() - self._config.stash[STARTED],
        }
        found = report(about(run), entries, timings)
        if self.records.broken:
            found["broken"] = self.records.broken
            if found["verdict"] == "conforms":  # a worker that died may have had a check that decides
                found["verdict"] = "incomplete"
        target = option(self._config, "json")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, json.dumps(found, indent=1) + "\n")


def _id_of(config: pytest.Config, path: Path) -> str:
    """A file as the ids of its tests name it: from the current folder, or by its name alone where it lies elsewhere."""
    from detparity.reports.paths import short

    shown = short(path.as_posix())
    equal = [other for other in option(config, "artifact") if short(other.as_posix()) == shown]
    return shown if len(set(equal)) == 1 else path.as_posix()


def _asked(nodeid: str) -> Tuple[str, str]:
    """Artifact and check in a test's id: `best.onnx::parity.repeat`, or `suites/parity/...::test_promise[grid:parity.repeat]`."""
    parts = nodeid[:-1].rsplit("[", 1)[-1].rpartition(":") if nodeid.endswith("]") else nodeid.rpartition("::")
    return parts[0], parts[2]


def share_cores(beside: bool) -> None:
    """Let each of several workers, and the processes that it starts, use its share of the cores. beside: whether the other cores are
    those of other runs."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1 or beside:
        # Two workers with two busy-waiting threads each on two cores were 20 times slower than with one each.
        from detparity.engines.eager import limit_threads
        from detparity.engines.remote import client

        threads = 1 if beside else max(1, (os.cpu_count() or 1) // workers)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        client().threads = threads
        limit_threads(threads)


def usage(error: InputError) -> pytest.UsageError:
    """Unusable input ends a pytest run with its one line and exit code 4."""
    return pytest.UsageError("\n".join([str(error), *error.more]))

"""The suite proves itself: every planted defect turns the checks it names red, the good export does not, controls stay green.

By default every defect is found by a quick run, or is one of the few that it misses; of each check that a defect names, and of what a
quick run misses, one is judged in full; and controls are judged in full for each variant once. `tox -e proofs` judges all in full.
"""

from __future__ import annotations

from dataclasses import replace

import detparity.kit.exporters as exporters
import pytest
from detparity.kit.tests.defects.registry import registry as planted_files
from detparity.kit.tests.examples import ALL

from detparity.checks import NOT_QUICK, ON_ENDPOINT, registry
from detparity.checks.context import applicable
from detparity.checks.opening import make_context, open_file
from detparity.core.contract import INFO, LEVELS
from detparity.core.environment import environment, holds
from detparity.core.findings import fails
from detparity.core.text import render
from detparity.models.choice import ModelChoice
from detparity.tools.export_cache import exported

pytestmark = pytest.mark.proof

SIZE = (256, 320)
PLANTED = planted_files()
DEFECTS = [name for name, found in PLANTED.items() if found.caught_by]
CONTROLS = [name for name, found in PLANTED.items() if not found.caught_by]

# Checks no planted file can turn red, and why.
UNPROVEN = {
    "parity.images": "tests/checks/test_images.py judges defects on pictures of a folder",
    "nms.images": "tests/checks/test_images.py judges defects on pictures of a folder",
    **dict.fromkeys(
        [
            f"precision.{name}"
            for name in ("promised", "casts", "scores", "scales", "calibration", "resolution", "budget", "unrounded")
        ],
        "of files of lower precision; tests/checks/test_precision.py and test_quantised.py plant defects in them",
    ),
    "precision.range": "INFO, never decides; tests/checks/test_precision.py has a tensor that leaves the range",
    **dict.fromkeys(ON_ENDPOINT, "tests/engines/test_kserve.py judges servers with such defects"),
    "export.made": "judged before there is a file; tests/checks/test_known_failures.py has an exporter that raises",
    "script.load": "an archive torch cannot load is unusable and refused before any check runs",
    "parity.evaluator": "INFO, never decides; one run of the reference evaluator takes as long as ten defects",
    "nms.tensorrt": "INFO, never decides; needs TensorRT",
    "structure.target": "of --for alone; tests/checks/test_target.py has files for every target",
    "engine.load": "of other engines alone; tests/engines/test_other_engines.py has files that they refuse",
    "engine.default": "of other engines alone; tests/engines/test_other_engines.py has a default that rounds otherwise",
    "nms.deprecated": "INFO, never decides; says the same of every good file with the plugin",
}

# What `detparity check --quick` lets pass, and why; 5 in a hundred at most.
QUICK_MISSES = {
    "black_is_nan": "a black picture alone shows it",
    "grid_clamped": "only images larger than the exported one leave the clamped grid",
}


def _in_full():
    """The planted files that are judged in full by default: of each check the first defect that names it, what a quick run misses, and
    of each variant the first control."""
    firsts = {}
    for name in DEFECTS:
        for check in PLANTED[name].caught_by:
            firsts.setdefault(check, name)
    for name in CONTROLS:
        firsts.setdefault(PLANTED[name].variant, name)
    return {*firsts.values(), *QUICK_MISSES}


IN_FULL = set(PLANTED) if ALL else _in_full()


@pytest.fixture(scope="module")
def bench(session, shared_folder, tmp_path_factory):
    """Call with a planted file for three contexts: of the good export of the same variant, of the planted file, and of the same in a
    quick run."""
    if session.choice != ModelChoice():
        pytest.skip("the suite proves itself on the bundled detector alone")
    folder = tmp_path_factory.mktemp("broken")
    detector = session.detector

    def prepare(planted):
        size, name = planted.size or SIZE, planted.variant.name
        path = exported(detector, name, size, shared_folder, head=planted.variant.head)
        target = folder / planted.name
        target.write_bytes(planted.make(detector, exporters.ExportOptions(size), path.read_bytes()))
        found = open_file(target, detector.facts, name)
        shared = (detector, found, session.oracle, session.clock)
        return (
            session.context(path, name),
            make_context(*shared),
            replace(make_context(*shared, quick=True), explore=_first),
        )

    return prepare


def _first(space, judge):
    """A quick run's explorer without its search for the smallest case: whether it fails is all that is asked."""
    return judge(space.always[0]) if space.always else ()


def _text(context, outcome):
    return "\n\n".join(render(context.artifact.title, outcome.check, finding) for finding in outcome.findings)


def _must_be_readable(outcome):
    for finding in outcome.findings:
        assert finding.message.strip() == finding.message and finding.message.endswith(".")
        assert len(finding.message) > 15 and "\n" not in finding.message
        assert all(isinstance(cell, str) for row in finding.rows for cell in row)


@pytest.mark.parametrize("name", DEFECTS)
def test_the_named_checks_turn_red(name, bench):
    planted = PLANTED[name]
    if not holds(planted.where, environment()):
        pytest.skip(f"planted into exports of {planted.where} alone: others have another form")
    good, context, quick = bench(planted)
    texts = []

    assert _killed(quick, planted) == (name not in QUICK_MISSES)
    if name not in IN_FULL:
        return
    assert {*planted.caught_by, *planted.unseen_by} <= set(applicable(context))
    for check in planted.caught_by:
        assert good.outcome(check).outcome == "passed", f"the good {planted.variant.name} fails {check} itself"
        outcome = context.outcome(check)
        assert outcome.outcome == "failed", f"{check} {outcome.outcome}: {outcome.reason}\n{planted.about}"
        worst = min((finding.level for finding in outcome.findings), key=LEVELS.index)
        assert worst == planted.level, f"{check} is {worst}"
        _must_be_readable(outcome)
        texts.append(_text(context, outcome))

    assert planted.says in " ".join(" ".join(texts).split()), "\n\n".join(texts)
    unseen = {check: context.outcome(check) for check in planted.unseen_by}
    assert {check: _text(context, o) or o.reason for check, o in unseen.items() if o.outcome != "passed"} == {}


def _killed(context, planted):
    """Whether a check that a quick run makes finds something as bad as what was planted; those that should, first."""
    asked = [check for check in applicable(context) if check not in NOT_QUICK]
    return any(
        LEVELS.index(finding.level) <= LEVELS.index(planted.level)
        for check in sorted(asked, key=lambda check: check not in planted.caught_by)
        for finding in context.outcome(check).findings
    )


@pytest.mark.parametrize("name", CONTROLS)
def test_controls_stay_green(name, bench):
    if not holds(PLANTED[name].where, environment()):
        pytest.skip(f"a good file in {PLANTED[name].where} alone")
    _, full, quick = bench(PLANTED[name])
    context = full if name in IN_FULL else quick
    judged = [context.outcome(check) for check in applicable(context) if _asked(context, check)]

    wrong = {outcome.check: _text(context, outcome) or outcome.reason for outcome in judged if fails(outcome, False)}

    assert wrong == {}
    assert {outcome.check: outcome.reason for outcome in judged if outcome.outcome == "skipped"} == {}


def _asked(context, check):
    return context.checks[check].level != INFO and not (context.quick and check in NOT_QUICK)


@pytest.mark.smoke
def test_a_quick_run_misses_few():
    assert set(QUICK_MISSES) <= set(DEFECTS)
    assert len(QUICK_MISSES) <= 0.05 * len(DEFECTS)


@pytest.mark.smoke
def test_planted_files_name_what_exists():
    known = set(registry())

    for planted in PLANTED.values():
        assert {*planted.caught_by, *planted.unseen_by} <= known, planted.name
        assert not set(planted.caught_by) & set(planted.unseen_by), planted.name
        assert planted.level in LEVELS, planted.name
        assert planted.about and planted.name not in known, planted.name
        assert bool(planted.caught_by) != planted.name.startswith("control_"), planted.name


@pytest.mark.smoke
def test_every_check_is_proven():
    proven = {check for planted in PLANTED.values() for check in planted.caught_by}

    assert set(registry()) - proven == set(UNPROVEN)

"""What tests leave behind for the report: plain data that a worker can send, and verdicts that follow from it."""

from __future__ import annotations

import pytest

from detparity.checks.run import judge
from detparity.checks.session import Options, Session
from detparity.core import resources
from detparity.core.clock import Clock
from detparity.core.findings import Finding, Outcome
from detparity.core.verdict import artifact_verdict, exit_code, outcome_record, overall
from detparity.tools.export_cache import exported


def _plain(value):
    """Whether a value is of the built-in types alone: xdist sends nothing else, subclasses of str included."""
    if type(value) is dict:
        return all(type(key) is str and _plain(item) for key, item in value.items())
    return all(map(_plain, value)) if type(value) is list else type(value) in (str, int, float, bool, type(None))


@pytest.mark.parametrize("name", ["traced", "grid"])
def test_what_a_test_records_is_plain(name, session, shared_folder):
    """The version of torch is no plain text, and once ended every run on two workers."""
    path = exported(session.detector, name, (64, 96), shared_folder)
    run = Session(Options(artifacts=(path,)))
    run.detector, run.oracle = session.detector, session.oracle
    record = judge(run, run.subject(path), "parity.declared").record

    assert set(record["measured"]) == {"noise", "power", "sees", "blind_spots", "weights", "engine"}
    assert record["measured"]["weights"] == {"compared": 58, "not_comparable": []}
    assert _plain(record)


@pytest.mark.parametrize(
    "nodeid, group",
    [
        ("suites/parity/test_parity.py::test_promise[grid-dynamo:parity.sizes]", "torch.export"),
        ("suites/golden/test_golden.py::test_golden[grid-dynamo:values]", "torch.export"),
        ("suites/golden/test_golden.py::test_golden[grid-dynamic:values]", "grid-dynamic"),
        ("suites/nms/test_nms.py::test_promise[best.onnx:nms.tail]", "best.onnx"),
        ("tests/checks/test_family.py::test_conforms[deploy-yolov7-e6e:lite]", "deploy-yolov7-e6e"),
        ("suites/runtime/test_ratios.py::test_ratio[tail]", "suites/runtime"),
        ("tests/cli/test_cli.py::test_x", "tests/cli/test_cli.py"),
        ("tests/cli/test_cli.py::test_x[a b: c]", "tests/cli/test_cli.py"),
        ("tests/checks/foreign/test_controls.py::test_x[detr-sizes]", "tests/checks/foreign"),
    ],
)
def test_all_about_one_artifact_goes_to_one_worker(nodeid, group, pytestconfig):
    wiring = pytestconfig.pluginmanager.get_plugin(str(resources.root() / "conftest.py"))

    assert wiring.worker_group(nodeid) == group


@pytest.mark.parametrize(
    "outcomes, strict, verdict",
    [
        ([("passed", "MUST", False)], False, "conforms"),
        ([("failed", "MUST", False), ("passed", "MUST", False)], False, "violates"),
        ([("failed", "SHOULD", False)], False, "conforms"),
        ([("failed", "SHOULD", False)], True, "violates"),
        ([("failed", "INFO", False)], True, "conforms"),
        ([("skipped", "MUST", True)], False, "incomplete"),
        ([("skipped", "MUST", False)], False, "conforms"),
        ([("error", "MUST", True), ("passed", "MUST", False)], False, "incomplete"),
        ([("error", "MUST", True), ("failed", "MUST", False)], False, "violates"),
        ([], False, "incomplete"),
    ],
)
def test_verdicts_follow_from_outcomes(outcomes, strict, verdict):
    records = []
    for outcome, level, incomplete in outcomes:
        findings = (Finding("is wrong.", level=level),) if outcome == "failed" else ()
        made = Outcome("structure.axes", level, outcome, findings, incomplete=incomplete)
        records.append(outcome_record(made, ["text"] * len(findings)))

    assert artifact_verdict(records, strict) == verdict


@pytest.mark.parametrize(
    "verdicts, worst, code",
    [
        (["conforms", "conforms"], "conforms", 0),
        (["conforms", "violates", "incomplete"], "violates", 1),
        (["violates", "unusable"], "unusable", 2),
        (["conforms", "incomplete"], "incomplete", 3),
    ],
)
def test_the_worst_file_decides(verdicts, worst, code):
    assert overall(verdicts) == worst
    assert exit_code(worst) == code


def test_seconds_in_engines_are_counted_once(monkeypatch):
    times = iter([0.0, 1.0, 10.0, 20.0, 25.0])
    monkeypatch.setattr("detparity.core.clock.time.perf_counter", lambda: next(times))
    clock = Clock()

    with clock.running(), clock.running():  # 0 to 10, another inside
        pass
    with pytest.raises(ValueError), clock.running():  # 20 to 25
        raise ValueError

    assert clock.engine == 15.0

"""One entry, four pages: the same level everywhere, one cause in full, what follows from it in one line."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from detparity.kit.tests.reports.samples import ABOUT

from detparity.core.findings import Finding, Outcome
from detparity.core.text import render
from detparity.core.verdict import artifact_verdict, outcome_record
from detparity.reports import html, junit, report
from detparity.reports.findings import roots
from detparity.reports.terminal import artifact_text, verdict_line


def test_what_holds_for_the_child_process_is_on_every_page():
    about = {
        **ABOUT,
        "isolation": "unconfined: no Landlock",
        "subject": {**ABOUT["subject"], "note": "fits yolov7-tiny"},
    }
    made = report.report(about, [_entry(_record("a.b"))], {"engine_seconds": 0.0, "total_seconds": 0.0})
    suite = ElementTree.fromstring(junit.page(made)).find("testsuite")

    assert "Model: m fits yolov7-tiny\nVerdict: conforms, 1 of 1 checks (" in verdict_line(made)
    assert "unconfined: docs/security.md says what holds" in verdict_line(made)
    assert [(one.get("name"), one.get("value")) for one in suite.iter("property")] == [
        ("isolation", about["isolation"])
    ]
    if _has_jinja():
        page = html.page(made)
        assert "Model m fits yolov7-tiny, 5 classes" in page and "Isolation: unconfined: no Landlock" in page


def test_a_confined_run_says_nothing_of_it_in_its_last_line():
    made = report.report(ABOUT, [_entry(_record("a.b"))], {"engine_seconds": 0.0, "total_seconds": 0.0})

    assert "confined" not in verdict_line(made)


def _record(check, *findings, outcome=None, level="MUST", **more):
    made = Outcome(check, level, outcome or ("failed" if findings else "passed"), tuple(findings), **more)
    return outcome_record(made, [render("a.onnx", check, finding) for finding in findings])


def _entry(*records, strict=False):
    verdict = artifact_verdict(records, strict)
    timings = {"engine_seconds": 0.0, "total_seconds": 0.0}
    return {
        "path": "a.onnx",
        "variant": "grid",
        "how": "grid",
        "verdict": verdict,
        "checks": list(records),
        "timings": timings,
    }


def _pages(*records):
    entry = _entry(*records)
    made = report.report(ABOUT, [entry], {"engine_seconds": 0.0, "total_seconds": 0.0})
    suite = ElementTree.fromstring(junit.page(made)).find("testsuite")
    page = html.page(made) if _has_jinja() else ""
    return entry, artifact_text(entry), page, {case.get("name"): case for case in suite.findall("testcase")}


def _has_jinja():
    try:
        import jinja2
    except ImportError:
        return False
    return bool(jinja2)


SHOULD = Finding(
    "leaves the names of outputs to the exporter: " + ", ".join(f"name_{k}" for k in range(30)) + ".", level="SHOULD"
)
MUST = Finding("has other outputs than promised.")


@pytest.mark.parametrize("findings", [(SHOULD, MUST), (MUST, SHOULD)])
def test_the_level_is_that_of_the_worst_finding(findings):
    entry, text, page, cases = _pages(_record("structure.outputs", *findings))

    assert entry["checks"][0]["level"] == "MUST"
    assert "structure.outputs  FAILED   has other outputs than promised." in text
    assert cases["structure.outputs"].find("failure").get("message") == MUST.message
    assert cases["structure.outputs"].find("failure").get("type") == "MUST"
    assert not page or "<td>MUST</td>" in page


def test_a_file_that_conforms_has_nothing_that_failed():
    entry, text, page, cases = _pages(_record("structure.outputs", SHOULD), _record("structure.load"))

    assert entry["verdict"] == "conforms"
    assert entry["checks"][0]["level"] == "SHOULD"
    assert "FAILED" not in text
    assert "structure.outputs  SHOULD" in text
    assert cases["structure.outputs"].find("failure") is None
    assert not page or "failed" not in page.partition("</style>")[2].lower().replace("<th>failed</th>", "")


def test_a_should_is_read_in_full_without_strict():
    _, text, page, cases = _pages(_record("structure.outputs", SHOULD))

    assert "name_29" in text
    assert "name_29" in cases["structure.outputs"].find("system-out").text
    assert not page or "name_29" in page


DECLARED = Finding("differs from the model at X.", (("error", "1 px"),), notes=("A note.",))
VALUES = Finding("differs from the model at Y.", (("error", "2 px"),), follows="parity.declared")
THREADS = Finding("differs from the model at Z.", (("error", "3 px"),), follows="parity.values")


def test_what_follows_is_one_line_and_still_fails():
    records = (
        _record("structure.load"),
        _record("parity.declared", DECLARED),
        _record("parity.values", VALUES),
        _record("parity.optimisation", THREADS),
    )
    entry, text, page, cases = _pages(*records)

    assert roots(records) == {"parity.values": "parity.declared", "parity.optimisation": "parity.declared"}
    assert text.count("FAILED") == 1
    lines = [line.split(maxsplit=2) for line in text.splitlines()]
    assert ["parity.values", "follows", "from parity.declared: differs from the model at Y."] in lines
    assert ["parity.optimisation", "follows", "from parity.declared: differs from the model at Z."] in lines
    assert "1 px" in text and "2 px" not in text
    assert [check["outcome"] for check in entry["checks"]] == ["passed", "failed", "failed", "failed"]
    assert entry["checks"][2]["findings"][0]["follows"] == "parity.declared"
    assert "Cause:   that of parity.declared" in entry["checks"][2]["findings"][0]["text"]
    failure = cases["parity.values"].find("failure")
    assert failure.get("message") == "follows from parity.declared: differs from the model at Y."
    assert not page or ("1 px" in page and "2 px" not in page and "follows from parity.declared" in page)


@pytest.mark.parametrize(
    "first",
    [
        _record("parity.declared"),
        _record("parity.declared", DECLARED, outcome="known failure", reason="torch cannot"),
    ],
)
def test_what_follows_from_nothing_shown_is_shown_itself(first):
    _, text, _, _ = _pages(first, _record("parity.values", VALUES))

    assert ["parity.values", "FAILED"] in [line.split()[:2] for line in text.splitlines()]
    assert "2 px" in text


def test_a_second_cause_of_a_check_is_not_folded():
    own = Finding("gives other bits.")
    _, text, _, _ = _pages(_record("parity.declared", DECLARED), _record("parity.values", VALUES, own))

    assert "gives other bits." in text and "2 px" in text


def test_the_cause_comes_first():
    axes = Finding("declares axis 2 as 9.", follows="structure.weights")
    weights = Finding("is an export of another model: it scores 4 classes where the model has 5.")
    opset = Finding("imports other operator sets than promised.")
    _, text, _, _ = _pages(
        _record("structure.opset", opset), _record("structure.axes", axes), _record("structure.weights", weights)
    )
    lines = text.splitlines()

    assert lines[4].split()[0] == "structure.weights"
    assert text.index("is an export of another model: it scores 4", text.index(lines[6])) < text.rindex("imports other")


def test_precision_that_follows_shows_what_it_costs():
    lost = Finding("has less mAP50 than the model on 16 scenes: 0.1 where it has 0.9.", follows="parity.declared")
    _, text, _, _ = _pages(_record("parity.declared", DECLARED), _record("parity.map", lost))

    assert "from parity.declared: has less mAP50 than the model on 16 scenes: 0.1 where it has 0.9." in text

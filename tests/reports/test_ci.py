"""Pages for CI services: escaped, portable, complete, with what to do."""

from __future__ import annotations

import os
from xml.etree import ElementTree

from detparity.cli.console import Console
from detparity.cli.outputs import write_reports
from detparity.core.findings import Finding, Outcome
from detparity.core.guides import guides
from detparity.core.text import render
from detparity.core.verdict import outcome_record
from detparity.reports import annotate, junit, markdown, report

HERE = os.path.join(os.getcwd(), "out", "best.onnx")


def _check(name, *findings, path=HERE, level="MUST", outcome=None, **more):
    made = Outcome(name, level, outcome or ("failed" if findings else "passed"), findings, **more)
    repeat = f"detparity check {path} --checks {name}"
    return outcome_record(made, [render("best.onnx", name, one, repeat) for one in findings])


def _report(*entries, strict=False):
    about = {"strict": strict, "subject": {"name": "m", "weights": "/elsewhere/best.pt"}, "isolation": "confined"}
    return report.report(about, list(entries), {"engine_seconds": 1.0, "total_seconds": 2.0})


def _entry(*checks, path=HERE, verdict="violates"):
    return {"path": path, "verdict": verdict, "against": "/elsewhere/best.pt", "how": "", "checks": list(checks)}


WRONG = _report(
    _entry(
        _check("structure.axes", Finding("names axis 2 'a|b<i>*c*'.\nodd, 100%", level="SHOULD")),
        _check("parity.sizes", Finding("is wrong.", notes=(f"see {HERE}",), fix="Do this: now.")),
        _check("parity.sequence", Finding("is wrong too.", follows="parity.sizes")),
        _check("parity.repeat", outcome="skipped", reason="no engine", incomplete=True),
        _check("parity.threads", Finding("x."), outcome="known failure", reason="old torch"),
        _check("parity.map", outcome="error", reason="ValueError: a\nb"),
    ),
    {"path": "/elsewhere/b,c.onnx", "verdict": "unusable", "reason": "it is empty", "checks": []},
)


def test_annotations_are_escaped_and_what_decides_comes_first():
    lines = annotate.lines(WRONG)

    assert lines[0] == "::error file=out/best.onnx,title=parity.sizes::is wrong. Fix: Do this: now."
    assert "::error file=b%2Cc.onnx,title=unusable::it is empty" in lines
    assert "::error file=out/best.onnx,title=parity.map could not be judged::ValueError: a%0Ab" in lines
    axes = next(line for line in lines if "structure.axes" in line)
    assert axes.startswith("::warning file=out/best.onnx,title=structure.axes::names axis 2 'a|b<i>*c*'.%0Aodd, 100%25")
    assert guides()["structure.axes"].fix in axes
    assert [line.split(" ")[0] for line in lines] == ["::error"] * 3 + ["::warning"] * 2 + ["::notice"]
    assert not any("\n" in line or "parity.sequence" in line for line in lines)


def test_strict_makes_errors_of_should():
    entry = _entry(_check("structure.axes", Finding("is odd.", level="SHOULD"), level="SHOULD"))

    assert [annotate.lines(_report(entry, strict=strict))[0][:7] for strict in (False, True)] == ["::warni", "::error"]


def test_markdown_says_what_failed_why_and_how_to_fix_it():
    page = markdown.page(WRONG)

    assert page.startswith("## detparity: unusable\n\nVerdict: unusable, 5 of 6 checks")
    assert "| <code>out/best.onnx</code> | **violates** | 5 of 6 | parity.sizes, parity.map |" in page
    assert page.index("parity.sizes** (MUST): is wrong.") < page.index("structure.axes** (SHOULD)")
    assert "Fix: Do this: now." in page and f"Why it matters: {guides()['parity.sizes'].why}" in page
    assert "'a\\|b&lt;i&gt;\\*c\\*'" in page  # nothing of a file is Markdown or HTML
    assert "parity.sequence follows from parity.sizes." in page and "is wrong too" not in page


def test_a_summary_has_an_end(monkeypatch):
    monkeypatch.setattr(markdown, "MOST_BYTES", 600)
    page = markdown.page(WRONG)

    assert page.rstrip().endswith("a summary holds no more.") and len(page) < 900


def test_no_page_for_another_machine_has_an_absolute_path():
    for page in (junit.page(WRONG), markdown.page(WRONG), "\n".join(annotate.lines(WRONG))):
        assert os.getcwd() not in page and "/elsewhere" not in page and "out/best.onnx" in page


def test_junit_has_no_empty_message():
    root = ElementTree.fromstring(junit.page(WRONG))
    cases = {(case.get("classname"), case.get("name")): case for case in root.iter("testcase")}

    assert all(
        child.get("message") not in ("", "None")
        for case in cases.values()
        for child in case
        if child.tag != "system-out"
    )
    assert cases["out/best.onnx", "parity.sizes"].find("failure").get("message") == "is wrong."
    assert cases["b,c.onnx", "can be read"].find("error").get("message") == "it is empty"


def test_the_summary_of_a_job_is_added_to_and_other_files_are_written_anew(tmp_path, monkeypatch, capsys):
    class Options:
        json = html = junit = None
        annotations = True

    for name, first in (("summary.md", "before\n## detparity"), ("other.md", "## detparity")):
        (tmp_path / name).write_text("before\n")
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
        Options.markdown = tmp_path / name
        write_reports(WRONG, Options)
        assert (tmp_path / name).read_text().startswith(first)
    assert capsys.readouterr().out.count("::error ") == 6


def test_what_a_file_quotes_is_no_command_of_the_service(monkeypatch, capsys):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    Console({})("a.onnx: violates\n  ::add-mask::x\n##[error]y")

    assert capsys.readouterr().out == "a.onnx: violates\n  : :add-mask::x\n# #[error]y\n"

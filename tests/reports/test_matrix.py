"""Many reports, one table: merging, what may not be lost, bad input, and pages with hostile text."""

from __future__ import annotations

import html.parser
import io
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detparity.cli import main
from detparity.reports.matrix import advice, markdown, model, read, view
from detparity.reports.matrix import html as matrix_html

DOCS = Path(__file__).resolve().parents[2] / "docs"
SCHEMA = DOCS / "matrix.schema.json"
HOSTILE = "a|b</td><script>alert(1)</script>\n\n# big `code` [3] ![x](y) **b** \u202e$x$ \ud800 --> end"
LIMITS = {"onnx_ir": 10, "onnx_opset": 21, "ort_ir": 10, "ort_opset": 21}


def check(name="structure.axes", outcome="passed", level="MUST", messages=(), **more):
    findings = [{"level": level, "message": text, "evidence": {}, "text": text} for text in messages]
    record = {"id": name, "level": level, "outcome": outcome, "reason": None, "incomplete": False, "findings": findings}
    return {**record, "seconds": 0.0, "engine_seconds": 0.0, **more}


def failed(name="structure.axes", level="MUST", text="is wrong."):
    return check(name, "failed", level, [text])


def artifact(path="grid", *checks, **more):
    return {"path": path, "variant": path, "verdict": "conforms", "checks": list(checks or [check()]), **more}


def report(lane="3.11.9 2.13.0", *artifacts, **more):
    python, torch = lane.split()
    environment = {"python": python, "torch": torch, "onnx": "1.16.2", "onnxruntime": "1.19.2", "numpy": "1.26.4"}
    known = {"schema": "detparity-report-3", "date": "2026-11-25", "verdict": "conforms", "strict": False}
    subject = {"name": "tiny", "digest": "d" * 64, "classes": 80, "strides": [8, 16, 32], "weights": None}
    found = {**known, "environment": environment, "limits": dict(LIMITS), "subject": subject}
    timings = {"engine_seconds": 1.0, "total_seconds": 2.0}
    return {**found, "artifacts": list(artifacts or [artifact()]), "timings": timings, **more}


def with_environment(made, **facts):
    return {**made, "environment": {**made["environment"], **facts}}


@pytest.fixture
def files(tmp_path):
    """Write reports to files; returns their paths."""
    count = itertools.count()

    def write(*reports):
        paths = [tmp_path / f"r{next(count)}.json" for _ in reports]
        for path, made in zip(paths, reports):
            path.write_text(json.dumps(made))
        return paths

    return write


@pytest.fixture
def merged(files):
    """Merge reports through files."""
    return lambda *reports, expected=(): model.merge(read.read(files(*reports)), expected)


@pytest.fixture
def command(capsys):
    """Run `detparity matrix`; returns (exit code, stdout, stderr)."""

    def run(*arguments):
        code = main.main(["matrix", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def kinds(table):
    """(artifact, check, lane) to the kind of cell."""
    return {(row.path, row.check, lane): cell.kind for row in table.rows for lane, cell in row.cells.items()}


def marks(table):
    """(variant, axes) to the words of its summary row."""
    return {
        (block.title, line.label): [mark.word for mark in line.marks]
        for block in view.view(table).summary
        for line in block.lines
    }


# --- merging --------------------------------------------------------------------------------------------------------


def test_split_jobs_of_a_lane_are_one_column(merged):
    table = merged(
        report("3.11.9 2.13.0", artifact("grid", check("structure.axes")), date="2026-11-24"),
        report("3.11.9 2.13.0", artifact("raw"), artifact("grid", check("parity.values")), date="2026-11-25"),
    )

    assert [lane.name for lane in table.lanes] == ["py311-torch2.13"]
    assert {(path, name) for path, name, _ in kinds(table)} == {
        ("grid", "structure.axes"),
        ("grid", "parity.values"),
        ("raw", "structure.axes"),
    }
    assert (table.verdict, table.date) == ("conforms", "2026-11-25")


BY_RANK = [
    ("conforms", check()),
    ("noted", failed(level="SHOULD")),
    ("skipped", check(outcome="skipped", reason="no engine")),
    (
        "known failure",
        check(
            outcome="known failure",
            messages=["is wrong."],
            known_failure={"reason": "known", "link": "https://example.org/1"},
        ),
    ),
    ("incomplete", check(outcome="skipped", reason="no engine", incomplete=True)),
    ("error", check(outcome="error", reason="ValueError: no", incomplete=True)),
    ("violates", failed()),
]


@pytest.mark.parametrize("better, worse", list(itertools.combinations(range(len(BY_RANK)), 2)))
def test_the_worst_of_two_outcomes_stays(merged, better, worse):
    first, second = (report("3.11.9 2.13.0", artifact("grid", BY_RANK[index][1])) for index in (better, worse))

    for pair in ((first, second), (second, first)):
        (row,) = merged(*pair).rows
        assert row.cells["py311-torch2.13"].kind == BY_RANK[worse][0]


@pytest.mark.parametrize("kind, record", BY_RANK)
def test_what_an_outcome_is_and_where_its_verdict_comes_from(merged, kind, record):
    table = merged(report("3.11.9 2.13.0", artifact("grid", record, check("structure.load"))))

    verdict = {"violates": "violates", "error": "incomplete", "incomplete": "incomplete"}.get(kind, "conforms")
    word = {"violates": "NO", "error": "open", "incomplete": "open", "known failure": "known"}.get(kind, "yes")
    assert kinds(table)["grid", "structure.axes", "py311-torch2.13"] == kind
    assert table.verdict == verdict
    assert marks(table) == {("grid", "static"): [word]}


@pytest.mark.parametrize(
    "level, strict, kind", [("SHOULD", True, "violates"), ("SHOULD", False, "noted"), ("INFO", True, "noted")]
)
def test_should_violates_in_a_strict_report_alone(merged, level, strict, kind):
    table = merged(report("3.11.9 2.13.0", artifact("grid", failed(level=level)), strict=strict))

    assert list(kinds(table).values()) == [kind]
    assert "is wrong." in markdown.page(table)


def test_two_reports_with_different_messages_of_one_failure_are_both_shown(merged):
    table = merged(*(report("3.11.9 2.13.0", artifact("grid", failed(text=text))) for text in ("one.", "two.")))

    (row,) = table.rows
    assert [detail.message for detail in row.cells["py311-torch2.13"].details] == ["one.", "two."]


def test_columns_are_ordered_by_number(merged):
    lanes = ["3.13.0 2.15.0+cu132", "3.12.3 2.9.1", "3.10.2 1.13.1", "3.9.18 2.0.1", "3.11.9 2.13.0", "3.10.2 2.0.1"]
    table = merged(*map(report, lanes), expected=["py39-torch1.7"])

    assert [lane.name for lane in table.lanes] == [
        "py39-torch1.7",
        "py310-torch1.13",
        "py39-torch2.0",
        "py310-torch2.0",
        "py312-torch2.9",
        "py311-torch2.13",
        "py313-torch2.15",
    ]


def test_rows_are_ordered_as_the_contract_lists_variants(merged):
    names = ["traced", "grid-dynamo-dynamic", "grid-dynamic", "raw", "grid-dynamic-batch", "grid", "own-dynamic"]
    blocks = view.view(merged(report("3.11.9 2.13.0", *map(artifact, names)))).summary

    assert [(block.title, [line.label for line in block.lines]) for block in blocks] == [
        ("raw", ["static"]),
        ("grid", ["static", "dynamic-batch", "dynamic"]),
        ("grid-dynamo", ["dynamic"]),
        ("traced", ["static"]),
        ("own", ["dynamic"]),
    ]


def test_files_of_a_user_are_named_by_path_and_variant(merged):
    own = {**artifact("out/best.onnx"), "variant": "grid-dynamic"}
    shown = view.view(merged(report("3.11.9 2.13.0", artifact("grid"), own)))

    assert [(line.label, line.note) for line in shown.summary[0].lines] == [
        ("static", ""),
        ("dynamic", "out/best.onnx"),
    ]
    assert [block.title for block in shown.tables] == ["grid", "out/best.onnx (grid-dynamic)"]


# --- what may not vanish --------------------------------------------------------------------------------------------


def _known(name, message, reason, link):
    return check(name, "known failure", messages=[message], known_failure={"reason": reason, "link": link})


def test_a_known_failure_has_its_reason_and_link_and_decides_nothing(files, command, tmp_path):
    link = "https://example.org/issues/50971"
    known = _known("script.devices", "has devices.", "old tracing", link)
    paths = files(report("3.9.18 1.7.1", artifact("traced", known)), report("3.11.9 2.13.0", artifact("traced", known)))

    code, out, _ = command(*paths)

    assert code == 0
    assert "| **traced** | static | known [1] | known [1] |" in out
    entry = next(line for line in out.splitlines() if 'id="finding-1"' in line)
    for part in ("`script.devices` (MUST) of traced: has devices.", "old tracing", f"<{link}>", "all 2 lanes"):
        assert part in entry
    command(*paths, "--html", tmp_path / "m.html")
    page = (tmp_path / "m.html").read_text()
    assert (
        f'<a href="{link}">' in page
        and "old tracing" in page
        and 'title="script.devices: has devices. old tracing."' in page
    )


@pytest.mark.parametrize("schema", ["detparity-report-1", "detparity-report-2"])
def test_an_old_report_and_an_old_matrix_with_debts_are_read_as_known_failures(files, merged, schema):
    """Up to report-2 and matrix-1 the outcome and the field of a known failure were called `debt`."""
    new = report("3.9.18 1.7.1", artifact("grid", BY_RANK[3][1]))
    record = {**BY_RANK[3][1], "outcome": "debt"}
    record["debt"] = record.pop("known_failure")
    table = model.to_json(merged(new))
    old = json.loads(table.replace('"known failure"', '"debt"'))

    assert model.to_json(merged({**report("3.9.18 1.7.1", artifact("grid", record)), "schema": schema})) == table
    assert '"state": "known failure"' in table and '"schema": "detparity-matrix-2"' in table
    assert model.to_json(merged({**old, "schema": "detparity-matrix-1"})) == table


def test_an_error_is_reported_at_the_top_and_leaves_the_verdict_open(files, command):
    broken = check("parity.sizes", "error", reason="MemoryError: cannot allocate", incomplete=True)

    code, out, _ = command(*files(report("3.9.18 1.7.1", artifact("grid", check(), broken)), report()))

    assert code == 3
    top = out[: out.index("## Variants")]
    assert "Verdict: **incomplete** (2 lanes: 1 incomplete, 1 conforms)" in top
    assert "- **py39-torch1.7**: a check broke before it could judge. [1]" in top
    assert "MemoryError: cannot allocate." in out
    assert "| **grid** | static | **open** [1] | part |" in out


def test_optional_engines_do_not_degrade_a_variant(merged):
    skip = check("nms.tensorrt", "skipped", "INFO", reason="the engine tensorrt is not installed")
    table = merged(report("3.11.9 2.13.0", artifact("end2end-trt", check(), skip)))

    assert marks(table) == {("end2end-trt", "static"): ["yes"]}
    (line,) = (line for line in view.view(table).tables[0].lines if line.label == "nms.tensorrt")
    assert (line.marks[0].word, line.marks[0].numbers) == (advice.NOTHING, (1,))
    assert "the engine tensorrt is not installed." in markdown.page(table)


def test_a_blocked_check_leads_to_what_blocks_it(merged):
    blocked = check("parity.values", "skipped", reason="blocked by structure.axes")
    shown = view.view(merged(report("3.11.9 2.13.0", artifact("grid", failed(), blocked))))

    assert [finding.check for finding in shown.findings] == ["structure.axes"]
    assert [(line.label, line.marks[0].word, line.marks[0].numbers) for line in shown.tables[0].lines] == [
        ("parity.values", advice.NOTHING, (1,)),
        ("structure.axes", "NO", (1,)),
    ]


@pytest.mark.parametrize("other", ["structure.axes", "structure.load"])
def test_blocked_by_a_check_without_a_finding_is_reported(merged, other):
    blocked = check("parity.values", "skipped", reason=f"blocked by {other}")
    shown = view.view(merged(report("3.11.9 2.13.0", artifact("grid", check(), blocked))))

    assert [(finding.check, finding.detail.reason) for finding in shown.findings] == [
        ("parity.values", f"blocked by {other}")
    ]


def test_a_file_that_this_version_cannot_make_is_not_run_with_one_reason(merged):
    reason = "torch 1.7.1 has no torch.export"
    unmade = [check(name, "skipped", reason=reason) for name in ("export.made", "parity.values", "structure.load")]
    made = [check(name) for name in ("export.made", "parity.values", "structure.load")]
    table = merged(
        report("3.9.18 1.7.1", artifact("raw"), artifact("grid-dynamo", *unmade)),
        report("3.11.9 2.13.0", artifact("raw"), artifact("grid-dynamo", *made)),
    )
    shown = view.view(table)

    assert marks(table)["grid-dynamo", "static"] == [advice.NOTHING, "yes"]
    assert [(finding.check, finding.detail.reason) for finding in shown.findings] == [("export.made", reason)]
    assert all(line.marks[0].numbers == (1,) for line in shown.tables[1].lines)
    assert table.verdict == "conforms"


def test_fewer_checks_than_elsewhere_are_not_a_plain_yes(merged):
    many = artifact("grid", check("parity.values"), check("structure.axes"))
    table = merged(report("3.9.18 1.7.1", artifact("grid", check("structure.axes"))), report("3.11.9 2.13.0", many))

    assert marks(table) == {("grid", "static"): ["part", "yes"]}
    assert view.view(table).absent == ("py39-torch1.7: 1 file without parity.values.",)


def test_a_variant_that_a_lane_lacks_is_not_run(merged):
    table = merged(report("3.9.18 1.7.1", artifact("raw")), report("3.11.9 2.13.0", artifact("grid"), artifact("raw")))

    assert marks(table) == {("raw", "static"): ["yes", "yes"], ("grid", "static"): [advice.NOTHING, "yes"]}


@pytest.mark.parametrize(
    "entry, reason",
    [
        ({"path": "x.onnx", "verdict": "unusable", "reason": "x.onnx is empty", "checks": []}, "x.onnx is empty"),
        ({"path": "grid", "variant": "grid", "verdict": "incomplete", "checks": []}, "no check ran"),
    ],
)
def test_a_file_without_checks_is_open(merged, entry, reason):
    table = merged(report("3.9.18 1.7.1", artifact("raw"), entry, verdict="unusable"))

    assert table.verdict == "incomplete"
    assert ["open"] in marks(table).values()
    assert reason in markdown.page(table)


def test_a_test_run_that_broke_is_reported(merged):
    table = merged(report("3.9.18 1.7.1", broken=["suites/x.py: ImportError"]))

    assert table.verdict == "incomplete"
    assert "- **py39-torch1.7**: its test run broke: suites/x.py: ImportError" in markdown.page(table)


def test_a_verdict_without_a_check_behind_it_stays_and_is_reported(merged):
    table = merged(report("3.9.18 1.7.1", verdict="violates"), report())

    assert table.verdict == "violates"
    assert "its report says that it violates, but no check in it does." in markdown.page(table)


def test_an_expected_lane_without_a_report_is_an_incomplete_column(files, command, tmp_path):
    paths = files(report("3.11.9 2.13.0"), report("3.12.1 2.9.1"))

    code, out, _ = command(*paths, "--expect", "py311-torch2.13,py39-torch1.7", "--json", tmp_path / "m.json")

    assert code == 3
    assert "Verdict: incomplete (3 lanes: 1 incomplete, 2 conform)" in out
    _, shown, _ = command(tmp_path / "m.json")
    assert "- **py39-torch1.7**: expected, but no report came." in shown
    assert f"| **grid** | static | {advice.NOTHING} | yes | yes |" in shown
    # The report comes after all: the column is complete.
    assert command(tmp_path / "m.json", *files(report("3.9.18 1.7.1")))[0] == 0


def _share(number, of=3, total=7, **more):
    return report("3.11.9 2.13.0", artifact(f"f{number}"), shard={"number": number, "of": of, "files": total}, **more)


def test_a_shard_without_a_report_leaves_the_verdict_open(files, command, tmp_path):
    one, two, three = files(*(_share(number) for number in (1, 2, 3)))

    code, out, _ = command(two, three, two)
    assert code == 3 and "- **py311-torch2.13**: shard 1/3: no report came." in out
    assert "no check in it says why" not in out
    assert command(one, two, three)[0] == 0
    # The report comes after all.
    assert command(two, three, "--json", tmp_path / "m.json")[0] == 3
    code, out, _ = command(tmp_path / "m.json")
    assert code == 3 and "shard 1/3: no report came." in out
    assert command(tmp_path / "m.json", one)[0] == 0


def test_an_open_verdict_of_a_shard_stays_when_the_others_come(files, command, tmp_path):
    """Though no check says why it is open."""
    one, two, three = files(_share(1), _share(2, verdict="incomplete"), _share(3))

    assert command(two, three, "--json", tmp_path / "m.json")[0] == 3
    assert command(tmp_path / "m.json", one)[0] == command(one, two, three)[0] == 3


def test_shards_of_folders_that_differ_leave_the_verdict_open(files, command):
    code, out, _ = command(*files(_share(1), _share(2), _share(3, total=6)))

    assert code == 3 and "its shards of 3 are of folders with 6, 7 files." in out


def test_many_shards_without_a_report_are_counted(files, command):
    _, out, _ = command(*files(_share(1, 40, 40)))

    assert out.count("no report came.") == model.MOST_NAMED and "33 more shards of 40 lack a report." in out


@pytest.mark.parametrize("wrong", [{"number": 4}, {"number": 0}, {"files": 2}, {"of": "3"}])
def test_a_shard_that_is_none_is_one_line(files, command, wrong):
    made = _share(1)
    made["shard"].update(wrong)

    code, out, error = command(*files(made))
    assert (code, out) == (2, "") and error.count("\n") == 1 and "shard" in error


def test_a_quick_run_is_stated(files, command, tmp_path):
    code = command(*files(report(quick=True), report("3.9.18 1.7.1")), "--json", tmp_path / "m.json")[0]
    command(tmp_path / "m.json", "--html", tmp_path / "m.html")
    _, shown, _ = command(tmp_path / "m.json")

    remark = "Fewer pictures, sizes and draws were tried (quick) in py311-torch2.13."
    assert code == 0 and remark in shown and remark in (tmp_path / "m.html").read_text()
    assert "(quick)" not in command(*files(report()))[1]


def test_a_report_is_not_written_over(files, command):
    (path,) = files(report())
    before = path.read_bytes()

    code, _, error = command(path, "--json", path)
    assert code == 2 and "it is one of the files that are read" in error and path.read_bytes() == before


def test_lanes_that_are_all_there_need_no_more(files, command):
    assert command(*files(report()), "--expect", " py311-torch2.13")[0] == 0


OUTCOMES = [record for _, record in BY_RANK]
CELLS = st.dictionaries(
    st.tuples(
        st.sampled_from(["3.9.18 1.7.1", "3.10.2 1.13.1", "3.11.9 2.13.0"]),
        st.sampled_from(["raw", "grid", "grid-dynamic"]),
        st.sampled_from(["structure.axes", "parity.values"]),
        st.integers(0, 1),
    ),
    st.sampled_from(range(len(OUTCOMES))),
    min_size=1,
)


def _reports(cells):
    """One report per lane and job, in the order of first mention."""
    found = {}
    for (lane, path, name, job), outcome in cells.items():
        checks = found.setdefault((lane, job), {}).setdefault(path, [])
        checks.append({**OUTCOMES[outcome], "id": name})
    return [
        report(lane, *(artifact(path, *checks) for path, checks in parts.items())) for (lane, _), parts in found.items()
    ]


def _parts(reports):
    return [read._report(read._Node(made, "", f"r{index}")) for index, made in enumerate(reports)]


@settings(max_examples=60, deadline=None)
@given(cells=CELLS, data=st.data())
def test_the_order_of_files_does_not_matter_and_no_violation_vanishes(cells, data):
    parts = _parts(_reports(cells))
    table = model.merge(parts)
    shuffled = data.draw(st.permutations(parts))

    assert model.to_json(model.merge(shuffled)) == model.to_json(table)
    assert model.to_json(model.merge([*parts, *shuffled])) == model.to_json(table)
    violating = {
        (
            path,
            f"py{'.'.join(lane.split()[0].split('.')[:2]).replace('.', '')}-torch{'.'.join(lane.split()[1].split('.')[:2])}",
        )
        for (lane, path, _, _), outcome in cells.items()
        if BY_RANK[outcome][0] == "violates"
    }
    shown = view.view(table)
    marked_no = {
        (block.title if line.label == "static" else f"{block.title}-{line.label}", lane.name)
        for block in shown.summary
        for line in block.lines
        for lane, mark in zip(table.lanes, line.marks)
        if mark.word == "NO" and mark.numbers
    }
    assert marked_no == violating
    assert (table.verdict == "violates") == bool(violating)
    page = markdown.page(table)
    assert page.count("**NO** [") == len(violating)


# --- what goes together ---------------------------------------------------------------------------------------------


def test_what_split_jobs_exported_is_added_up(merged):
    jobs = [
        {"opset": 12, "ir_version": 6, "producer": "pytorch"},
        {"opset": 13, "ir_version": 7},
        {"producer": "pytorch"},
    ]
    table = merged(*(report("3.9.18 1.7.1", artifact("grid", file=file)) for file in jobs))

    assert view.view(table).together[1][6] == "12 / 6, 13 / 7"


def _advice(table):
    return "\n".join(advice.advice(table))


def test_advice_follows_from_the_numbers(merged):
    file = {"opset": 12, "ir_version": 6, "producer": "pytorch 1.7.1"}
    newer = {"opset": 18, "ir_version": 12, "producer": "pytorch 2.13.0"}
    late = with_environment(
        report(
            "3.11.9 2.13.0",
            artifact("grid", file=newer),
            limits={"onnx_ir": 14, "onnx_opset": 27, "ort_ir": 13, "ort_opset": 26},
        ),
        **{"onnx": "1.23.2", "onnxruntime": "1.31.1", "numpy": "2.4.6"},
    )
    table = merged(report("3.9.18 1.7.1", artifact("grid", file=file)), late)

    text = _advice(table)
    assert "onnx 1.23.2 writes IR 14 by default, onnxruntime 1.31.1 reads up to 13: pass ir_version=13 or less" in text
    assert "onnx 1.23.2 writes opset 27 by default, onnxruntime 1.31.1 reads up to 26: pass opset_imports of 26" in text
    assert "within what the onnxruntime beside it reads: onnx 1.16.2 with onnxruntime 1.19.2." in text
    assert "Exports at opset 12 carry IR 6 in py39-torch1.7." in text
    assert "Exports at opset 18 carry IR 12 in py311-torch2.13." in text
    assert "The newest that every onnxruntime reads is opset 21 and IR 10 (all 2 lanes)." in text
    assert "Some exports are within that: opset 12 with IR 6." in text
    assert "Some exports are beyond that: opset 18 with IR 12." in text
    assert "Ran with numpy 1 (1.26.4): torch 1.7.1 (py39-torch1.7)." in text
    assert "Ran with numpy 2 (2.4.6): torch 2.13.0 (py311-torch2.13)." in text
    row = next(row for row in view.view(table).together if row[0] == "py39-torch1.7")
    assert row == (
        "py39-torch1.7",
        "3.9.18",
        "1.7.1",
        "1.26.4",
        "1.16.2",
        "1.19.2",
        "12 / 6",
        "21 / 10",
        "21 / 10",
        "conforms",
    )


def test_an_export_that_its_own_runtime_cannot_read_is_reported(merged):
    file = {"opset": 12, "ir_version": 11, "producer": ""}

    assert "IR 11 is newer than the onnxruntime reads that is installed in py39-torch1.7." in _advice(
        merged(report("3.9.18 1.7.1", artifact("grid", file=file)))
    )


def test_an_old_report_without_numbers_gives_no_advice_on_them(merged):
    old = report("3.9.18 1.7.1")
    del old["limits"], old["date"]
    table = merged({**old, "schema": "detparity-report-1"})

    assert not re.search(r"IR|opset", _advice(table))
    assert table.date == "" and "from the reports of 1 lane. Model" in markdown.page(table)


# --- bad input ------------------------------------------------------------------------------------------------------


def _without(key):
    made = report()
    del made[key]
    return made


CHECK0 = ("artifacts", 0, "checks", 0)


def _at(*path, value):
    made = report()
    node = made
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    return made


def _matrix_with(**changes):
    lanes = [{"name": "py39-torch1.7", "reported": False, "verdict": "incomplete"}]
    known = {
        "schema": "detparity-matrix-2",
        "subject": {"name": "tiny", "digest": "d"},
        "lanes": lanes,
        "artifacts": [],
    }
    return {**known, **changes}


def _cell_of(lane, state):
    return [{"path": "grid", "checks": [{"id": "x", "level": "MUST", "cells": [{"state": state, "lanes": [lane]}]}]}]


BAD = {
    "empty": (b"", "is empty"),
    "truncated": (json.dumps(report()).encode()[:200], "is no JSON"),
    "binary": (b"\xff\xfe\x00\x80", "is no JSON"),
    "deep": (b"[" * 200_000, "is no JSON"),
    "list": (b"[1]", "is no detparity report"),
    "other": (b'{"schema": "coverage\\n-9"}', "has schema 'coverage -9'; this version reads"),
    "schema-number": (b'{"schema": 7}', "has schema '7'"),
    "no-environment": (json.dumps(_without("environment")).encode(), "has no 'environment'"),
    "no-artifacts": (json.dumps(_without("artifacts")).encode(), "has no 'artifacts'"),
    "no-subject": (json.dumps(_without("subject")).encode(), "has no 'subject'"),
    "no-torch": (json.dumps(_at("environment", value={"python": "3.9.18"})).encode(), "environment has no 'torch'"),
    "no-version": (json.dumps(_at("environment", "torch", value="nightly")).encode(), "environment.torch is 'nightly'"),
    "python-2": (json.dumps(_at("environment", "python", value="2.7.18")).encode(), "is 2.7, no Python 3"),
    "fact": (json.dumps(_at("environment", "onnx", value=1.16)).encode(), "environment.onnx is a number, not text"),
    "artifacts": (json.dumps(_at("artifacts", value={})).encode(), "artifacts is an object, not a list"),
    "artifact": (json.dumps(_at("artifacts", 0, value=None)).encode(), "artifacts[0] is null, not an object"),
    "path": (json.dumps(_at("artifacts", 0, "path", value="")).encode(), "artifacts[0].path is empty"),
    "outcome": (json.dumps(_at(*CHECK0, "outcome", value="maybe")).encode(), "outcome is 'maybe', not one of"),
    "level": (json.dumps(_at(*CHECK0, "level", value="must")).encode(), "level is 'must', not one of"),
    "flag": (
        json.dumps(_at("artifacts", 0, "checks", value=[{**BY_RANK[2][1], "incomplete": 0}])).encode(),
        "is a number, not true",
    ),
    "strict": (json.dumps(_at("strict", value="no")).encode(), "strict is text, not true or false"),
    "finding": (json.dumps(_at(*CHECK0, "findings", value=["x"])).encode(), "findings[0] is text, not an object"),
    "limit": (json.dumps(_at("limits", "ort_ir", value=True)).encode(), "limits.ort_ir is true or false, not a number"),
    "date": (json.dumps(_at("date", value="yesterday")).encode(), "date is 'yesterday', not like 2026-11-25"),
    "verdict": (json.dumps(_at("verdict", value="fine")).encode(), "verdict is 'fine', not one of"),
    "matrix-empty": (json.dumps(_matrix_with(lanes=[])).encode(), "lanes is empty"),
    "matrix-lane": (json.dumps(_matrix_with(lanes=[{"name": "x"}])).encode(), "'x' is no lane"),
    "matrix-twice": (json.dumps(_matrix_with(lanes=_matrix_with()["lanes"] * 2)).encode(), "is py39-torch1.7 again"),
    "matrix-stray": (
        json.dumps(_matrix_with(artifacts=_cell_of("py39-torch1.7", "conforms"))).encode(),
        "is of a lane that the file does not list as reported",
    ),
    "matrix-state": (json.dumps(_matrix_with(artifacts=_cell_of("py39-torch1.7", "violates"))).encode(), "has a state"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_bad_file_is_one_line_and_leaves_nothing_behind(files, command, tmp_path, name):
    content, words = BAD[name]
    bad, out = tmp_path / f"bad-{name}.json", tmp_path / "out"
    bad.write_bytes(content)
    out.mkdir()
    outputs = ("--json", out / "m.json", "--markdown", out / "m.md", "--html", out / "m.html")

    code, printed, error = command(*files(report()), bad, *outputs)

    assert (code, printed) == (2, "")
    assert error.count("\n") == 1 and words in error
    assert bad.name in error
    assert list(out.iterdir()) == []


def test_a_huge_file_is_not_read(command, tmp_path):
    huge = tmp_path / "huge.json"
    with huge.open("wb") as stream:
        stream.truncate(read.LARGEST + 1)

    code, _, error = command(huge)

    assert code == 2 and error == f"detparity: {huge} is larger than 64 MiB: no report is\n"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["missing.json"], "no such file"),
        (["."], "holds no .json file"),
        (["REPORT", "--expect", "torch2.13"], "'torch2.13' is no lane"),
        (["REPORT", "--expect", ""], "'' is no lane"),
        (["REPORT", "--json", "no/such/folder.json"], "its folder does not exist"),
        (["REPORT", "--html", "."], "it is a directory"),
        (["REPORT", "--html", "x", "--markdown", "./x"], "two outputs of this command name it"),
        ([], "the following arguments are required"),
    ],
)
def test_unusable_options_are_one_line(files, command, tmp_path, monkeypatch, arguments, words):
    (made,) = files(report())
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")

    code, _, error = command(*(made if argument == "REPORT" else argument for argument in arguments))

    assert code == 2 and error.count("\n") == 1 and words in error
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize(
    "other, words",
    [
        (
            with_environment(report(), onnx="1.17.0"),
            ("onnx is 1.16.2 in one and 1.17.0 in the other", "py311-torch2.13"),
        ),
        (with_environment(report(), python="3.11.10"), ("python is 3.11.9 in one and 3.11.10 in the other",)),
        (report(limits={**LIMITS, "ort_ir": 9}), ("ort_ir is 10 in one and 9 in the other",)),
        (report("3.9.18 1.7.1", subject={"name": "big", "digest": "e" * 64}), ("different models", "tiny", "big")),
    ],
)
def test_reports_that_do_not_go_together_are_named(files, command, other, words):
    paths = files(report(), other)

    code, _, error = command(*paths)

    assert code == 2 and error.count("\n") == 1
    for word in (*words, *(path.name for path in paths)):
        assert word in error


def test_the_kernel_of_a_machine_may_differ_within_a_lane(merged):
    jobs = [
        with_environment(report("3.11.9 2.13.0", artifact(name)), platform=f"Linux-6.{name}")
        for name in ("raw", "grid")
    ]

    assert merged(*jobs).verdict == "conforms"


def test_html_without_jinja2_says_what_to_install_and_writes_nothing(files, command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)

    code, _, error = command(*files(report()), "--json", tmp_path / "m.json", "--html", tmp_path / "m.html")

    assert code == 2 and "pip install 'detparity[html]'" in error
    assert not (tmp_path / "m.json").exists() and not (tmp_path / "m.html").exists()


# --- folders and the round trip -------------------------------------------------------------------------------------


def _many():
    """A table with every kind of cell, a silent lane aside."""
    lanes = ["3.9.18 1.7.1", "3.10.2 1.13.1", "3.11.9 2.0.1", "3.12.3 2.9.1", "3.11.9 2.13.0"]
    made = []
    for index, lane in enumerate(lanes):
        checks = [{**OUTCOMES[(index + step) % len(OUTCOMES)], "id": f"group.c{step}"} for step in range(4)]
        file = {"opset": 12, "ir_version": 6 + (index > 1), "producer": "pytorch"}
        own = {**artifact("best.onnx", check(reason="x")), "variant": "grid-dynamic"}
        empty = {"path": "cut.onnx", "verdict": "unusable", "reason": "cut", "checks": []}
        more = {"broken": ["it broke"], "strict": True} if index == 2 else {}
        made.append(report(lane, artifact("grid", *checks, file=file), own, *([empty] if index == 3 else []), **more))
    return made


def test_a_merged_table_is_read_back_byte_by_byte(files, command, tmp_path):
    reports = files(*_many())
    pages = {}
    for name, inputs in (("a", reports), ("b", list(reversed(reports))), ("c", None)):
        folder = tmp_path / name
        folder.mkdir()
        outputs = ("--json", folder / "m.json", "--markdown", folder / "m.md", "--html", folder / "m.html")
        expect = ("--expect", "py313-torch2.15") if inputs else ()
        assert command(*(inputs or [tmp_path / "a" / "m.json"]), *outputs, *expect)[0] == 1
        pages[name] = [(folder / f"m.{end}").read_bytes() for end in ("json", "md", "html")]

    assert pages["a"] == pages["b"] == pages["c"]
    again = model.merge(read.read([tmp_path / "a" / "m.json", *reports[:2]]))
    assert model.to_json(again).encode() == pages["a"][0]


def test_the_table_follows_its_schema(merged):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is in the extra [test]")
    schema = json.loads(SCHEMA.read_text())
    found = json.loads(model.to_json(merged(*_many(), expected=["py313-torch2.15"])))

    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(found, schema)
    states = {(cell["state"], cell.get("why")) for a in found["artifacts"] for c in a["checks"] for cell in c["cells"]}
    assert len(states) == 6, "every state a cell can have was seen"
    del found["artifacts"][0]["checks"][0]["cells"][0]["state"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, schema)


def test_the_table_is_compact(merged):
    lanes = [f"3.11.9 2.{minor}.0" for minor in range(15)]
    checks = [check(f"group.c{number}") for number in range(30)]
    text = model.to_json(merged(*(report(lane, artifact("grid", *checks)) for lane in lanes)))

    assert text.count('"state": "conforms"') == 30
    assert len([line for line in text.splitlines() if re.match(r'\s*{"id": .*}\]},?$', line)]) == 30


def test_folders_are_read_except_for_what_is_being_written(command, tmp_path):
    for job, made in (("a", report("3.9.18 1.7.1")), ("b/deep", report("3.11.9 2.13.0", artifact("grid", failed())))):
        (tmp_path / job).mkdir(parents=True)
        (tmp_path / job / "report.json").write_text(json.dumps(made))
    (tmp_path / "a" / "notes.txt").write_text("no report")
    target = tmp_path / "m.json"

    assert command(tmp_path, "--json", target)[0] == 1
    # The failure is mended: the old table in the same folder must not keep it alive.
    (tmp_path / "b" / "deep" / "report.json").write_text(json.dumps(report("3.11.9 2.13.0")))
    code, out, _ = command(tmp_path, "--json", target)

    assert code == 0
    assert out == f"wrote {target}\nVerdict: conforms (2 lanes: 2 conform)\n"


def test_the_committed_table_is_made_by_the_command(lanes, command, tmp_path):
    """docs/compatibility.md, from the merged reports of every lane of tox.ini beside it."""
    data, page, again = DOCS / "compatibility.json", tmp_path / "page.md", tmp_path / "page.json"

    assert command(data, "--markdown", page, "--json", again)[0] == 0
    assert page.read_bytes() == (DOCS / "compatibility.md").read_bytes()
    assert again.read_bytes() == data.read_bytes()
    assert {lane["name"] for lane in json.loads(data.read_text())["lanes"]} == set(lanes)


def test_no_framework_is_needed():
    modules = ", ".join(f"detparity.reports.matrix.{name}" for name in ("read", "view", "markdown", "html"))
    code = f"import {modules}, sys; print(sorted({{'torch', 'onnx', 'onnxruntime', 'pytest'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"


# --- pages ----------------------------------------------------------------------------------------------------------


class _Page(html.parser.HTMLParser):
    """Counts what a page is made of."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.sources, self.text = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name == "href":
                self.links.append(value)
            if name in ("src", "onclick", "onerror"):
                self.sources.append(value)

    def handle_data(self, data):
        self.text.append(data)


def _hostile():
    known = _known(HOSTILE, HOSTILE, HOSTILE, "javascript:alert(1)")
    broken = check("structure.load", "error", reason=HOSTILE, incomplete=True)
    quoted = check("parity.values", "failed", messages=['"><img src=x onerror=alert(1)>'])
    link = _known("nms.order", "x", "y", 'https://x.org/"><script>')
    entry = {**artifact(HOSTILE, known, broken, quoted, link), "variant": HOSTILE}
    subject = {"name": HOSTILE, "digest": "d" * 64}
    return with_environment(report("3.9.18 1.7.1", entry, subject=subject, broken=[HOSTILE]), onnx=HOSTILE)


def _columns(line):
    return len(re.findall(r"(?<!\\)\|", line))


def test_hostile_text_stays_text_in_markdown(merged):
    page = markdown.page(merged(_hostile()))

    assert "alert(1)" in page
    assert not re.search(r"<(?!br>|/?details>|/?summary>|a id=\"finding-\d+\"></a>|/a>)", page)
    assert "\u202e" not in page
    page.encode()
    tables = [
        list(lines) for is_row, lines in itertools.groupby(page.splitlines(), lambda line: line[:1] == "|") if is_row
    ]
    assert len(tables) == 2
    for lines in tables:
        assert len({_columns(line) for line in lines}) == 1, lines
    prose = [line for line in page.splitlines() if "alert" in line]
    assert not any(re.search(r"(?<!\\)(`code|\*\*b|\[x|\[3\]\s!|\$x)", line) for line in prose)
    assert not any(re.match(r"\s*# big", line) for line in page.splitlines())


def test_hostile_text_stays_text_in_html(merged):
    page = _Page(matrix_html.page(merged(_hostile())))

    assert not {"script", "img", "iframe", "link"} & set(page.tags)
    assert page.sources == []
    assert all(link.startswith("#finding-") for link in page.links)
    assert any("<script>alert(1)</script>" in text for text in page.text)


def test_every_number_on_a_page_leads_somewhere(merged):
    table = merged(*_many())
    page, text = _Page(matrix_html.page(table)), markdown.page(table)

    numbers = range(1, len(view.view(table).findings) + 1)
    assert len(numbers) > 5
    assert page.ids == [f"finding-{number}" for number in numbers]
    assert {link for link in page.links if link.startswith("#")} == {f"#finding-{number}" for number in numbers}
    for number in numbers:
        assert text.count(f'<a id="finding-{number}"></a>') == 1
        assert text.count(f"\n[{number}]: #finding-{number}\n") == 1
    assert set(re.findall(r"(?<=\s)\[(\d+)\](?!:)", text)) <= {str(number) for number in numbers}


def test_the_html_page_needs_no_other_file(merged):
    text = matrix_html.page(merged(*_many()))

    assert "<script" not in text and "@import" not in text and "url(" not in text
    assert "prefers-color-scheme: dark" in text and "@media print" in text
    for word in ("yes", "NO", "open", "known"):
        assert re.search(rf'<td class="{word}"[^>]*>{word}', text), word


def test_cells_with_many_findings_show_the_first_and_count_the_rest(merged):
    checks = [failed(f"group.c{number}", text=f"fault {number}.") for number in range(9)]
    text = markdown.page(merged(report("3.9.18 1.7.1", artifact("grid", *checks))))

    assert "| **grid** | static | **NO** [1] [2] [3] [4] +5 |" in text


def test_artifacts_with_one_finding_share_an_entry_when_their_lanes_agree(merged):
    both = [artifact("grid", failed()), artifact("grid-dynamic", failed())]
    table = merged(report("3.9.18 1.7.1", *both), report("3.11.9 2.13.0", *both), report("3.12.3 2.9.1", both[0]))

    found = [(finding.artifacts, finding.lanes) for finding in view.view(table).findings]
    assert found == [
        (("grid",), ("py39-torch1.7", "py312-torch2.9", "py311-torch2.13")),
        (("grid-dynamic",), ("py39-torch1.7", "py311-torch2.13")),
    ]
    table = merged(report("3.9.18 1.7.1", *both), report("3.11.9 2.13.0", *both))
    assert [finding.artifacts for finding in view.view(table).findings] == [("grid", "grid-dynamic")]


def test_a_terminal_that_lacks_a_character_is_no_reason_to_fail(files, monkeypatch):
    paths = files(report("3.9.18 1.7.1"), report("3.11.9 2.13.0", artifact("raw")))
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii", write_through=True))

    assert main.main(["matrix", *map(str, paths)]) == 0
    assert b"| **raw** | static | ? | yes |" in shown.getvalue()

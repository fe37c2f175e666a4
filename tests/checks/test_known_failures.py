"""Known failures: a listed failure decides nothing; other failures, unexpected passes and unmatched entries fail."""

from __future__ import annotations

import json

import detparity.kit.exporters as exporters
import pytest

from detparity.checks import export, known_failures, registry
from detparity.checks.known_failures import KnownFailure, KnownFailures
from detparity.cli import main
from detparity.core import environment, resources
from detparity.core.errors import InputError, NotMade
from detparity.core.findings import Finding, Outcome

ENTRY = """format = 2
[[known_failure]]
check = "structure.axes"
artifacts = ["axes_*.onnx"]
when = { torch = ">=1.7" }
message = "declares axis 2"
reason = "the tool marks every axis as free"
link = "https://example.org/1"
"""
LOCATION = "known.toml, known failure 1"
KNOWN = KnownFailure("parity.values", ("grid*",), {"torch": ">=1.7"}, "differs from the model", "because", "", LOCATION)


@pytest.fixture
def known_file(tmp_path):
    """Call with the text of a file of known failures for its path."""

    def write(text=ENTRY):
        path = tmp_path / "known.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def _outcome(*messages, result="failed", level="MUST"):
    return Outcome("parity.values", "MUST", result, tuple(Finding(message, level=level) for message in messages))


def test_an_entry_reads_as_it_is_written(known_file):
    (known,) = known_failures.read(known_file())

    assert (known.check, known.artifacts, known.when) == ("structure.axes", ("axes_*.onnx",), {"torch": ">=1.7"})
    assert (known.message, known.location) == ("declares axis 2", LOCATION)


OLD = ENTRY.replace("format = 2", "format = 1").replace("[[known_failure]]", "[[debt]]").replace("message =", "says =")


def test_a_file_of_format_1_reads_the_same(known_file):
    assert known_failures.read(known_file(OLD)) == known_failures.read(known_file())


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda text: text.replace("format = 2", "format = 3"), "must hold `format = 2`"),
        (lambda text: text.replace("format = 2", "format = 1"), "must hold `format = 2`"),
        (lambda text: OLD.replace("format = 1", "format = 2"), "must hold `format = 2`"),
        (lambda text: OLD.replace("says =", "message ="), "exactly the keys check, artifacts, when, says"),
        (lambda text: text.replace("[[known_failure]]", "[known_failure"), "is not TOML"),
        (lambda text: text.replace("check =", "chekc ="), "exactly the keys"),
        (
            lambda text: text.replace('"because"', '""').replace('"the tool marks every axis as free"', '""'),
            "reason is empty",
        ),
        (lambda text: text.replace(">=1.7", "1.7 or so"), "'1.7 or so' is no version range"),
        (lambda text: text.replace("torch =", "torhc ="), "'torhc' is no fact"),
        (lambda text: text.replace("declares axis 2", "declares (axis"), "known failure 1: missing )"),
        (lambda text: text.replace("https://example.org/1", "javascript:alert(1)"), "link is no web address"),
        (lambda text: text.replace('["axes_*.onnx"]', "[1]"), "artifacts is not a list of names"),
        (lambda text: text + "\nextra = 1\n", "exactly the keys"),
        (lambda text: "", "is empty"),
        (lambda text: text + "a = " + "[" * 100_000, "is not TOML"),
        (lambda text: text + "a = " + "{a=" * 100_000, "is not TOML"),
        (lambda text: text + "a = " + "9" * 5000, "no"),
        (lambda text: text + "a = 2024-13-45", "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(change, words, known_file):
    with pytest.raises(InputError) as caught:
        known_failures.read(known_file(change(ENTRY)))

    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_listed_failure_is_known_and_decides_nothing():
    settled = known_failures.settle(_outcome("differs from the model at noise 0."), KNOWN)

    assert settled.outcome == "known failure"
    assert settled.known_failure["reason"] == settled.reason == "because"


def test_a_known_failure_hides_no_other_failure():
    settled = known_failures.settle(_outcome("differs from the model.", "does not run."), KNOWN)

    assert settled.outcome == "failed"
    assert [finding.message for finding in settled.findings] == ["does not run."]


@pytest.mark.parametrize("outcome", [_outcome(result="passed"), _outcome("is slow.", level="INFO", result="failed")])
def test_an_unexpected_pass_fails(outcome):
    settled = known_failures.settle(outcome, KNOWN)

    assert settled.outcome == "failed"
    assert settled.findings[0].level == "MUST"
    assert "passes parity.values, which is a known failure here" in settled.findings[0].message


@pytest.mark.parametrize("result", ["skipped", "error"])
def test_what_did_not_run_stays_as_it_is(result):
    assert known_failures.settle(_outcome(result=result), KNOWN).outcome == result


def test_no_known_failure_changes_nothing():
    outcome = _outcome("differs from the model.")

    assert known_failures.settle(outcome, None) is outcome


def test_conditions_are_versions_and_missing_packages_meet_none():
    found = {"torch": "2.13.0+cpu", "python": "3.11.7"}

    assert environment.holds({"torch": ">=2.9,<2.15", "python": "==3.11.*"}, found)
    assert not environment.holds({"torch": "<2.13"}, found)
    assert not environment.holds({"onnxscript": ">=0"}, found)
    assert environment.lane(found) == "py311-torch2.13"


@pytest.mark.parametrize("versions, met", [(("<2", ">=2"), 1), (("<2", "<3"), 2), ((">2", ">=3"), 0)])
def test_a_table_by_version_has_one_answer(versions, met):
    cases = [({"torch": version}, index) for index, version in enumerate(versions)]
    if met == 1:
        assert environment.settled(cases, {"torch": "1.12.1"}) == 0
    else:
        with pytest.raises(ValueError, match=f"^{met} conditions of "):
            environment.settled(cases, {"torch": "1.12.1"})


@pytest.mark.parametrize(
    "known, words",
    [
        (KNOWN, "parity.values on grid* matches nothing in this run"),
        (KnownFailure("parity.valeus", ("raw",), {}, "x", "r", "", LOCATION), "there is no check 'parity.valeus'"),
    ],
)
def test_an_entry_that_nothing_can_match_fails(known, words):
    with pytest.raises(InputError, match=words.replace("*", r"\*")):
        KnownFailures((known,)).require_met([("raw", "parity.values"), ("grid", "structure.axes")], list(registry()))


def test_two_entries_for_one_check_are_refused():
    with pytest.raises(InputError, match="already has an entry, known"):
        KnownFailures((KNOWN, KNOWN)).of("grid", "parity.values")


def test_every_entry_of_the_kit_names_what_exists(lanes):
    """Checks, exporters and lanes; each lane shows that its message is the right one."""
    entries = known_failures.read(resources.root() / "exporters" / "expectations.toml")
    names = list(exporters.registry())
    pairs = [(name, check) for name in names for check in registry()]

    KnownFailures(entries).require_met(pairs, list(registry()))
    assert known_failures.idle(entries, lanes.values()) == []


def test_exporters_that_fail_differ_from_missing_ones():
    failed = export.outcome(NotMade("RuntimeError: no symbolic", missing=False))
    missing = export.outcome(NotMade("torch 1.7.1 has no such exporter", missing=True))
    check = registry()["parity.values"]

    assert (failed.outcome, failed.findings[0].notes) == ("failed", ("RuntimeError: no symbolic",))
    assert (missing.outcome, missing.incomplete) == ("skipped", False)
    assert export.blocked(check, NotMade("x", missing=False)).reason == "blocked by export.made"
    assert export.blocked(check, NotMade("not there", missing=True)).reason == "not there"


@pytest.fixture
def sick(monkeypatch):
    """The exporter of `raw` raises, and the one of `grid` does not exist here."""

    class Raises:
        VARIANTS = ("raw",)

        def export(self, detector, variant, options):
            raise RuntimeError("no symbolic\nfor silu")

    class Missing(Raises):
        def unavailable(self):
            return "this version has no such exporter"

    monkeypatch.setattr(exporters, "registry", lambda: {"raw": Raises(), "grid": Missing()})


@pytest.mark.parametrize("known", [False, True])
def test_an_exporter_that_raises_violates_unless_it_is_a_known_failure(
    known, sick, known_file, tmp_path, capsys, monkeypatch
):
    text = ENTRY.replace("structure.axes", "export.made").replace("axes_*.onnx", "raw")
    text = text.replace("declares axis 2", "no symbolic for silu")
    report = tmp_path / "report.json"
    listed = known_file(text if known else "format = 2\n")  # the kit's own file lists exporters that are not here

    code = main.main(["check", "--json", str(report), "--expectations", str(listed)])

    out, found = capsys.readouterr().out, json.loads(report.read_text(encoding="utf-8"))
    entries = {entry["path"]: entry for entry in found["artifacts"]}
    made = {name: entry["checks"][0] for name, entry in entries.items()}
    assert code == (0 if known else 1), out
    assert made["raw"]["id"] == "export.made" and made["raw"]["outcome"] == ("known failure" if known else "failed")
    assert {check["reason"] for check in entries["raw"]["checks"][1:]} == {"blocked by export.made"}
    assert {check["reason"] for check in entries["grid"]["checks"]} == {"this version has no such exporter"}
    assert entries["grid"]["verdict"] == "not made" and "grid: not made\n  this version has no such exporter\n" in out
    assert ("RuntimeError: no symbolic for silu" in out) == (not known)
    assert known or "Repeat:  detparity check --exporter raw --checks export.made" in out


def test_known_failures_of_ones_own_exporter(known_file, exports, tmp_path, capsys):
    """The same file format for files given to `check`: a failure that is listed, a pass that is, and an entry without a file."""
    import onnx

    good = onnx.load(str(exports("grid")))
    paths = {"good": tmp_path / "axes_good.onnx", "bad": tmp_path / "axes_bad.onnx"}
    onnx.save(good, str(paths["good"]))
    good.graph.output[0].type.tensor_type.shape.dim[2].dim_param = "y"
    onnx.save(good, str(paths["bad"]))
    entry = str(known_file())

    def check(path, *more):
        code = main.main(["check", str(path), "--model", "bundled", "--checks", "structure.axes", *more])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    assert check(paths["bad"])[0] == 1
    code, text = check(paths["bad"], "--expectations", entry)
    assert code == 0 and ", 1 known failure;" in text
    code, text = check(paths["good"], "--expectations", entry)
    assert code == 1 and "axes_good.onnx passes structure.axes, which is a known failure here" in text
    paths["bad"].rename(tmp_path / "other.onnx")
    code, text = check(tmp_path / "other.onnx", "--expectations", entry)
    assert code == 2 and f"{LOCATION}: structure.axes on axes_*.onnx matches nothing in this run" in text


def test_a_pattern_warns_of_nothing():
    """Python warns of sets in sets, which one day may mean something else."""
    assert known_failures.pattern("a[[b]").search("a[")

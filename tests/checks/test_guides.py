"""Every check says why it matters, what causes its finding and how to fix it, in options that exist."""

from __future__ import annotations

import re

from detparity.checks import foreign, registry
from detparity.cli import export, main
from detparity.cli.options import Parser
from detparity.core.findings import Finding
from detparity.core.guides import EXPORTERS, guides
from detparity.core.text import render


def _texts():
    for name, guide in guides().items():
        for text in (guide.why, *guide.causes, guide.fix, *guide.fixes.values()):
            yield name, text


def test_every_check_of_both_registries_has_a_guide_and_no_guide_is_of_another():
    assert set(guides()) == {*registry(), *foreign.registry()}
    for name, guide in guides().items():
        assert guide.why.endswith(".") and guide.causes and guide.fix.endswith("."), name
        assert set(guide.fixes) <= set(EXPORTERS) and len(guide.fix) < 150, name


def test_options_of_our_own_command_exist():
    parser = Parser()
    export.add(parser)
    missing = [
        (name, option)
        for name, guide in guides().items()
        for option in re.findall(r"--[a-z0-9-]+", guide.fixes.get("ours", ""))
        if option not in parser.option_names()
    ]

    assert missing == []


def test_checks_that_a_guide_refers_to_exist():
    found = {word for _, text in _texts() for word in re.findall(r"\b(?:structure|script|parity|nms)\.[a-z-]+\b", text)}

    assert found - set(guides()) == set()


def test_a_failure_shows_its_fix_once_and_a_finding_that_follows_shows_none():
    found = Finding("is wrong.")
    fix = guides()["parity.sizes"].fix

    shown = " ".join(render("a.onnx", "parity.sizes", found, "again").split())
    assert f"Fix: {fix} More: detparity explain parity.sizes Repeat: again" in shown
    assert "Fix: Do this." in render("a", "parity.sizes", Finding("is wrong.", fix="Do this."), "x").replace(
        "     ", " "
    )
    for other in (Finding("is wrong.", follows="structure.baked-size"), Finding("is wrong.", fix="")):
        assert "Fix:" not in render("a", "parity.sizes", other, "again")
    assert "Fix:" not in render("a", "parity.sizes", found)


def test_explain_prints_all_of_a_guide_and_knows_near_names(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert main.main(["explain", "structure.baked-size", "nms"]) == 0
    out = capsys.readouterr().out
    guide = guides()["structure.baked-size"]
    flat = " ".join(out.replace("    - ", " ").split())
    for text in (guide.why, *guide.causes, guide.fix, *guide.fixes.values()):
        assert text in flat
    assert "nms.tail" in out and max(map(len, out.splitlines())) <= 60

    assert main.main(["explain", "parity.size"]) == 2
    assert "did you mean parity.sizes?" in capsys.readouterr().err

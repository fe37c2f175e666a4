"""`detparity mutate`: what is drawn, what becomes of it, and how a run goes on."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import onnx
import pytest

from detparity.artifacts.onnx_file_mutations import GROUPS, drawn
from detparity.artifacts.onnx_graph import all_nodes
from detparity.artifacts.open import Asked
from detparity.checks.session import Options
from detparity.cli import main
from detparity.core.vocabulary import parse_variant
from detparity.engines.remote import client
from detparity.tools.export_cache import export_bytes
from detparity.tools.mutate.judging import Bench
from detparity.tools.mutate.results import score, table

SIZE = (64, 96)


@pytest.fixture(scope="module")
def folder(session, tmp_path_factory):
    """Good files of the bundled detector, by variant."""
    made = tmp_path_factory.mktemp("mutate")
    for name, suffix in (("grid", "onnx"), ("end2end-ort", "onnx"), ("traced", "pt")):
        (made / f"{name}.{suffix}").write_bytes(export_bytes(session.detector, parse_variant(name), SIZE))
    return made


@pytest.fixture(scope="module")
def mutants(folder):
    """Two rounds of every group, of a file that suppresses."""
    path = folder / "end2end-ort.onnx"
    return list(islice(drawn(onnx.load(str(path)), client().inferred(path), 3), 16))


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        code = main.main(["mutate", *map(str, words)])
        return (code, *capsys.readouterr())

    return run


def test_every_group_that_applies_is_drawn_in_rotation(mutants):
    groups = [one.group for one in mutants]

    assert groups[:8] == groups[8:] == [name for name in GROUPS if name != "quantisation"]
    assert [one.number for one in mutants] == list(range(16))
    assert len({(one.kind, one.where, one.about) for one in mutants}) == 16


def test_a_mutant_differs_and_leaves_nothing_behind_that_was_not_there(folder, mutants):
    good = (folder / "end2end-ort.onnx").read_bytes()
    for one in mutants:
        graph = one.model.graph
        read = {name for node in all_nodes(graph.node) for name in node.input} | {out.name for out in graph.output}
        assert one.model.SerializeToString() != good
        assert {tensor.name for tensor in graph.initializer} <= read, one.kind
        assert not graph.value_info


def test_the_same_seed_draws_the_same(folder, mutants):
    path = folder / "end2end-ort.onnx"
    again = islice(drawn(onnx.load(str(path)), client().inferred(path), 3), 4)

    assert [one.model.SerializeToString() for one in again] == [one.model.SerializeToString() for one in mutants[:4]]


@pytest.fixture(scope="module")
def bench(folder):
    """Of a file whose promises hold for its mutants."""
    return Bench(Options(artifacts=(folder / "grid.onnx",)))


def test_the_promises_of_the_file_hold_for_its_mutants(bench):
    assert bench.full.options.variant == "grid"
    assert bench.full.options.promised == Asked(opset=12)
    assert bench.quick.oracle is bench.full.oracle and bench.quick.detector is bench.full.detector


@pytest.mark.parametrize("kind", ["weights", "operators", "io"])
def test_a_mutant_is_killed_by_the_check_that_sees_it(kind, bench, tmp_path):
    path = bench.path
    (mutant,) = islice(drawn(onnx.load(str(path)), client().inferred(path), 0, [kind]), 1)
    found = bench.judged(mutant, tmp_path / path.name)

    assert (found["outcome"], found["quick"]) == ("killed", True)
    assert found["by"].startswith(("structure.", "parity."))


def test_equal_numbers_are_equivalent_and_others_are_not(bench, tmp_path):
    pytest.importorskip("torch", minversion="1.13")
    model = onnx.load(str(bench.path))
    node = next(one for one in model.graph.node if one.op_type == "Mul")
    node.input[:] = list(node.input)[::-1]
    (tmp_path / "same.onnx").write_bytes(model.SerializeToString())
    other = onnx.load(str(bench.path))
    slope = next(one for one in other.graph.node if one.op_type == "LeakyRelu").attribute[0]
    slope.f *= 1 + 1e-6
    (tmp_path / "other.onnx").write_bytes(other.SerializeToString())

    assert bench.equivalence.of(tmp_path / "same.onnx") == {"outcome": "equivalent", "moved": 0.0}
    assert 0 < bench.equivalence.of(tmp_path / "other.onnx")["moved"] < 1e-3


def _begun(path, results, command):
    """Results of a run that has seen the file conform."""
    code, out, err = command(
        path, "--model", "bundled", "--limit", 1, "--jobs", 1, "--kinds", "io", "--results", results
    )
    assert code == 0, out + err


def test_a_run_goes_on_where_another_ended(folder, command, monkeypatch):
    monkeypatch.setattr(Bench, "problem", lambda self: "")
    results = Path("r.jsonl").absolute()
    _begun(folder / "grid.onnx", results, command)
    first = results.read_text()
    results.write_text(first + '{"mutant": 1, "outc')  # as a run leaves it that is ended while it writes
    code, out, _ = command(
        folder / "grid.onnx", "--model", "bundled", "--limit", 3, "--jobs", 1, "--kinds", "io", "--results", results
    )
    lines = results.read_text()

    assert code == 0 and "killed 3 of 3 mutants (100.0 %)" in out
    assert lines.startswith(first) and len(lines.splitlines()) == 4
    records = [json.loads(line) for line in lines.splitlines()[1:]]
    assert [one["mutant"] for one in records] == [0, 1, 2]
    code, _, err = command(
        folder / "grid.onnx", "--model", "bundled", "--mutant-seed", 5, "--kinds", "io", "--results", results
    )
    assert code == 2 and "results of another seed" in err
    code, _, err = command(
        folder / "grid.onnx", "--model", "bundled", "--strict", "--kinds", "io", "--results", results
    )
    assert code == 2 and "results of another promise" in err


def test_what_cannot_be_mutated_is_one_line(folder, command, tmp_path):
    model = onnx.load(str(folder / "grid.onnx"))
    model.graph.output[0].name = "other"
    for node in model.graph.node:
        node.output[:] = ["other" if name == "output" else name for name in node.output]
    (tmp_path / "bad.onnx").write_bytes(model.SerializeToString())

    for words, says in (
        ((folder / "traced.pt", "--model", "bundled"), "mutants are made of ONNX files alone"),
        ((tmp_path / "bad.onnx", "--model", "bundled"), "does not conform, and mutants are made of a file that does"),
        ((folder / "grid.onnx", "--model", "bundled", "--kinds", "weight"), "--kinds weight is none of weights"),
        ((folder / "grid.onnx", "--model", "bundled", "--limit", "0"), "numbers from 1 on"),
    ):
        code, _, err = command(*words)
        assert code == 2 and says in err and len(err.strip().splitlines()) == 1, err
    assert not list(Path().glob("*.mutants.jsonl"))


def test_the_table_counts_and_names_what_survived():
    facts = {"kind": "cap", "where": "n", "about": "cap is 3"}
    records = [
        {"mutant": 0, "group": "nms", "outcome": "killed", "by": "nms.tail", **facts},
        {"mutant": 1, "group": "nms", "outcome": "survived", "moved": 2e-9, **facts},
        {"mutant": 2, "group": "weights", "outcome": "equivalent", **facts},
    ]
    text = "\n".join(table(records))

    assert "survived: mutant 1, cap: at n cap is 3, which moves its numbers by 2.0e-09" in text
    assert score(records) == "killed 1 of 2 mutants (50.0 %), 1 more are equivalent"

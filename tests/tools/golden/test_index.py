"""The golden folder and its index: disagreements are reported, and nothing is half written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import detparity.kit.exporters as exporters
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detparity.core import resources
from detparity.core.errors import InputError
from detparity.tools.golden import index
from detparity.tools.golden import ratio as ratio_pairs
from detparity.tools.golden.content import asked_goldens
from detparity.tools.golden.index import Entry, canonical, content_of, discard, find, problems, read_index, store

GRID = Entry(
    "graph/grid.json", "graph", "suites/x.py::test[grid]", "py311-torch2.13", "first", "2026-11-26", {"torch": "2.13.0"}
)
TRACED = replace(GRID, file="values/traced.json", kind="values")


@pytest.fixture
def folder(tmp_path):
    """Two recorded goldens and an authored one, in order."""
    store(tmp_path, GRID, {"opset": 12, "ops": {"Conv": 58}})
    store(tmp_path, TRACED, {"outputs": []})
    (tmp_path / "nms").mkdir()
    (tmp_path / "nms/chain.json").write_text('{"title": "by hand"}\n')
    authored = replace(GRID, file="nms/chain.json", kind="nms", lane=None, versions={})
    index.write_index(tmp_path, [*read_index(tmp_path), authored])
    assert problems(tmp_path, {"graph/grid", "values/traced"}) == []
    return tmp_path


def test_the_kits_own_folder_and_index_belong_together():
    asked = {f"{kind}/{name}" for name, kind in asked_goldens(list(exporters.registry()))} | set(ratio_pairs.names())
    there = {entry.asked for entry in read_index(resources.root() / "golden") if entry.kind in index.RECORDED}

    assert problems(resources.root() / "golden", asked) == []
    assert there == asked


def edited(folder, change):
    path = folder / index.INDEX
    found = json.loads(path.read_text())
    change(found["goldens"])
    path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda f: (f / "graph/grid.json").unlink(), "grid.json is listed in INDEX.json, and there is no such file"),
        (lambda f: (f / "graph/other.json").write_text("{}"), "graph/other.json is not listed in INDEX.json"),
        (lambda f: (f / "graph/notes.txt").write_text("x"), "graph/notes.txt is not listed in INDEX.json"),
        (lambda f: (f / "graph/grid.json").write_text('{"opset": 13}\n'), "changed by hand"),
        (lambda f: edited(f, lambda all_: all_.append(all_[0])), "graph/grid.json is listed 2 times"),
        (lambda f: edited(f, lambda all_: all_[0].update(sha256="0" * 64)), "changed by hand"),
        (lambda f: edited(f, lambda all_: all_[0].pop("sha256")), "lacks the digest or the lane of graph/grid.json"),
        (lambda f: edited(f, lambda all_: all_[1].update(sha256="0" * 64)), "nms/chain.json is authored"),
        (lambda f: (f / "nms/chain.json").write_text("x" * (index.CAP + 1)), "a golden has 50000 at most"),
    ],
)
def test_what_does_not_belong_together_is_reported(folder, spoil, words):
    spoil(folder)

    found = problems(folder, {"graph/grid", "values/traced"})

    assert len(found) == 1 and words in found[0], found


def test_a_golden_no_test_asks_for_is_unused(folder):
    found = problems(folder, {"graph/grid"})

    assert found == [
        "values/traced.json is unused: no test asks for it (`detparity golden remove values/traced` removes it)"
    ]
    discard(folder, "values/traced")
    assert problems(folder, {"graph/grid"}) == []


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda e: e.update(file="../../etc/passwd.json"), "is no name of a golden"),
        (lambda e: e.update(file="graph/../../x.json"), "is no name of a golden"),
        (lambda e: e.update(file="graph/grid.txt"), "is no name of a golden"),
        (lambda e: e.update(kind="values"), "`kind` is values, and the folder says graph"),
        (lambda e: e.update(why=" "), "why must be given"),
        (lambda e: e.update(date="yesterday"), "`date` is yesterday"),
        (lambda e: e.update(versions=[]), "versions must be given"),
        (lambda e: e.update(blessed=True), "unknown ['blessed']"),
        (lambda e: e.pop("test"), "lacks ['test']"),
        (lambda e: e.update(why="half \ud800 of a letter"), "a text that is not Unicode"),
        (lambda e: e["versions"].update({"\ud800": "1"}), "a text that is not Unicode"),
    ],
)
def test_a_tampered_entry_is_refused_in_one_line(folder, spoil, words):
    edited(folder, lambda all_: spoil(all_[0]))

    with pytest.raises(InputError) as error:
        read_index(folder)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"schema": 2, "goldens": []}', '{"schema": 1}', "\x00", "[" * 100_000, "[NaN]", "[1e999]"]
)
def test_an_index_that_is_none_is_refused_in_one_line(folder, text):
    (folder / index.INDEX).write_text(text)

    with pytest.raises(InputError) as error:
        problems(folder)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


def test_a_lane_has_its_own_golden_before_the_one_for_all(folder):
    own = replace(GRID, file="graph/grid@py39-torch1.7.json", lane="py39-torch1.7")
    store(folder, own, {"opset": 12})
    entries = read_index(folder)

    assert find(entries, "graph/grid", "py39-torch1.7").lane == "py39-torch1.7"
    assert find(entries, "graph/grid", "py313-torch2.15").file == "graph/grid.json"
    assert find(entries, "graph/raw", "py39-torch1.7") is None
    assert problems(folder, {"graph/grid", "values/traced"}) == []


def test_a_tool_writes_no_authored_golden_and_none_over_the_cap(folder):
    authored = replace(GRID, file="nms/chain.json", kind="nms")
    before = (folder / "nms/chain.json").read_text(), (folder / index.INDEX).read_text()

    with pytest.raises(InputError, match="written by hand, never by a tool"):
        store(folder, authored, {})
    with pytest.raises(InputError, match="by hand"):
        discard(folder, "nms/chain")
    with pytest.raises(InputError, match="a golden has 50000 at most"):
        store(folder, GRID, {"text": "x" * index.CAP})
    assert ((folder / "nms/chain.json").read_text(), (folder / index.INDEX).read_text()) == before
    assert problems(folder) == []


def test_a_golden_that_is_not_what_the_index_says_is_not_used(folder):
    (folder / "graph/grid.json").write_text("{}\n")

    with pytest.raises(InputError, match="changed by hand"):
        content_of(folder, read_index(folder)[0])


STORES = """
import sys
from dataclasses import replace
from pathlib import Path
from detparity.tools.golden.index import Entry, store

folder, mine = Path(sys.argv[1]), sys.argv[2]
sys.stdin.readline()
entry = Entry("graph/x.json", "graph", "t", "py311-torch2.13", "first", "2026-11-26", {})
for k in range(20):
    store(folder, replace(entry, file=f"graph/{mine}{k}.json"), {"opset": k})
"""


def test_two_processes_that_store_lose_nothing(tmp_path):
    words = [sys.executable, "-c", STORES, str(tmp_path)]
    places = {**os.environ, "PYTHONPATH": str(resources.root())}
    both = [subprocess.Popen([*words, mine], stdin=subprocess.PIPE, env=places) for mine in "ab"]
    for one in both:
        assert one.stdin is not None
        one.stdin.close()  # both have begun

    assert [one.wait(60) for one in both] == [0, 0]
    assert len(read_index(tmp_path)) == 40 and problems(tmp_path) == []


def test_an_entry_without_its_file_is_removed(folder):
    (folder / "graph/grid.json").unlink()

    discard(folder, "graph/grid")

    assert [entry.name for entry in read_index(folder)] == ["nms/chain", "values/traced"]
    assert problems(folder) == []


CONTENT = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=30,
)


@given(CONTENT)
def test_canonical_text_holds_the_content_and_is_stable(content):
    text = canonical(content)

    assert json.loads(text) == content
    assert canonical(json.loads(text)) == text and text.endswith("\n")

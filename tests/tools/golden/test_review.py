"""A golden that changed: pending, shown, accepted with a reason or rejected; here, in CI, and on users' files."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from detparity.cli import main
from detparity.core import resources
from detparity.core.errors import InputError
from detparity.core.vocabulary import parse_variant
from detparity.tools.export_cache import export_bytes, missing, promised
from detparity.tools.golden import pending, picture, review
from detparity.tools.golden.evaluate import Folders
from detparity.tools.golden.index import INDEX, Entry, problems, read_index, store
from detparity.tools.golden.pending import Pending

SIZE = (128, 160)
NAME = "car-detector"


@pytest.fixture(scope="module")
def releases(session, tmp_path_factory):
    """One model's exports: as released, at another opset, with one weight tensor 1 % too large, and under other inner names."""
    folder = tmp_path_factory.mktemp("releases")

    def write(name, content):
        (folder / name).mkdir()
        (folder / name / "my.onnx").write_bytes(content)
        return folder / name / "my.onnx"

    grid = export_bytes(session.detector, parse_variant("grid"), SIZE)
    scaled, renamed = onnx.load_from_string(grid), onnx.load_from_string(grid)
    tensor = max(scaled.graph.initializer, key=lambda one: len(one.raw_data))
    tensor.CopyFrom(
        numpy_helper.from_array(
            numpy_helper.to_array(tensor) * numpy_helper.to_array(tensor).dtype.type(1.01), tensor.name
        )
    )
    for number, node in enumerate(renamed.graph.node):
        node.name = f"n{number}"
    return {
        "released": write("released", grid),
        "opset11": write("opset11", export_bytes(session.detector, parse_variant("grid"), SIZE, opset=11)),
        "scaled": write("scaled", scaled.SerializeToString()),
        "renamed": write("renamed", renamed.SerializeToString()),
        "tensor": tensor.name,
    }


@pytest.fixture(scope="module")
def recorded(releases, tmp_path_factory):
    """A user's repository whose release is recorded."""
    folder, patch = tmp_path_factory.mktemp("recorded"), pytest.MonkeyPatch()
    with patch.context() as within, contextlib.redirect_stdout(io.StringIO()) as printed:
        within.chdir(folder)
        assert main.main(["golden", "record", str(releases["released"]), "--name", NAME, "--model", "bundled"]) == 0
    assert printed.getvalue().count("recorded golden/") == 3, printed.getvalue()
    return folder


@pytest.fixture
def home(recorded, tmp_path, monkeypatch, capsys):
    """A copy of that repository; call with arguments of the command for its exit code and what it printed."""
    shutil.copytree(recorded / "golden", tmp_path / "golden")
    monkeypatch.chdir(tmp_path)
    for variable in ("CI", pending.VARIABLE):
        monkeypatch.delenv(variable, raising=False)

    def run(*arguments):
        model = ("--model", "bundled") if arguments[:2] in (("golden", "record"), ("golden", "check")) else ()
        code = main.main([str(one) for one in (*arguments, *model)])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def kinds_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.json"))


def test_the_same_release_and_another_naming_are_as_recorded(home, releases):
    assert problems(Path("golden")) == []
    for name in ("released", "renamed"):
        code, printed = home("golden", "check", releases[name], "--name", NAME)
        assert code == 0, printed
        assert printed.count(f"/{NAME}") == 3 and not Path(".pending").exists()
    code, printed = home("review")
    assert code == 0 and printed.startswith("No golden waits for review")


def test_a_change_without_loss_of_parity_is_shown_and_accepted_with_a_reason(home, releases):
    code, printed = home("golden", "check", releases["opset11"], "--name", NAME, "--opset", "11")
    assert code == 1 and "opset 12 -> 11" in printed and "parity" in printed and "LOST" not in printed, printed
    assert kinds_in(".pending") == [f"graph/{NAME}.json"]

    code, printed = home("review", "show", f"graph/{NAME}")
    assert (
        code == 1
        and "opset 12 -> 11" in printed
        and "parity       holds: " in printed
        and f"accept graph/{NAME}" in printed
    )

    code, printed = home("review", "accept", f"graph/{NAME}")
    assert code == 2 and "wants a reason" in printed and "Traceback" not in printed

    code, printed = home("review", "accept", f"graph/{NAME}", "--why", "the fleet went back to opset 11")
    assert (code, printed) == (0, f"accepted graph/{NAME}\n")
    entry = {entry.name: entry for entry in read_index(Path("golden"))}[f"graph/{NAME}"]
    assert entry.why == "the fleet went back to opset 11" and "golden check" in entry.test and entry.versions["torch"]
    assert problems(Path("golden")) == [] and kinds_in(".pending") == []
    assert home("golden", "check", releases["opset11"], "--name", NAME, "--opset", "11")[0] == 0


def test_a_change_that_loses_parity_is_not_accepted_without_the_option(home, releases):
    code, printed = home("golden", "check", releases["scaled"], "--name", NAME)
    assert code == 1 and "multiplied by 1.01" in printed and "LOST: structure.weights" in printed, printed
    assert f"graph/{NAME}.json" in kinds_in(".pending")
    before = Path("golden", INDEX).read_text()

    code, printed = home("review", "accept", f"graph/{NAME}", "--why", "retrained")
    assert code == 2 and "parity with the model is lost" in printed and "--parity-lost" in printed
    assert Path("golden", INDEX).read_text() == before

    code, printed = home("review", "accept", f"graph/{NAME}", "--same", "--why", "retrained", "--parity-lost")
    assert code == 0
    entry = {entry.name: entry for entry in read_index(Path("golden"))}[f"graph/{NAME}"]
    assert entry.why == "retrained (parity with the model lost)"


def test_a_rejected_change_leaves_the_golden_and_stays_red(home, releases):
    before = {path: path.read_bytes() for path in Path("golden").rglob("*.json")}
    assert home("golden", "check", releases["opset11"], "--name", NAME, "--opset", "11")[0] == 1

    code, printed = home("review", "reject", f"graph/{NAME}")

    assert (code, printed) == (0, f"rejected graph/{NAME}: the golden stays\n")
    assert {path: path.read_bytes() for path in Path("golden").rglob("*.json")} == before
    assert kinds_in(".pending") == []
    assert home("golden", "check", releases["opset11"], "--name", NAME, "--opset", "11")[0] == 1


def test_what_ci_found_is_reviewed_from_its_artifact(home, releases, tmp_path, monkeypatch):
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "runner"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "runner"))
    (tmp_path / "runner").mkdir()
    assert home("golden", "check", releases["opset11"], "--name", NAME, "--opset", "11")[0] == 1
    assert not Path(".pending").exists(), "CI writes nothing to the tree"
    monkeypatch.delenv("CI")
    shutil.move(str(tmp_path / "runner" / "detparity-pending"), str(tmp_path / "artifact"))

    code, printed = home("review", "--from", "artifact")
    assert code == 1 and "1 golden waits" in printed and "These commands show and decide" in printed
    assert f'detparity review accept graph/{NAME} --why ".." --from artifact' in printed
    code, printed = home("review", "list", "--from", "artifact")
    assert code == 1 and "1 golden waits" in printed
    code, printed = home("review", "accept", f"graph/{NAME}", "--why", "opset 11", "--from", "artifact")
    assert code == 0 and kinds_in("artifact") == []


def test_a_golden_that_changed_since_is_not_overwritten(home, releases):
    home("golden", "check", releases["opset11"], "--name", NAME, "--opset", "11")
    entry = {entry.name: entry for entry in read_index(Path("golden"))}[f"graph/{NAME}"]
    store(Path("golden"), entry, {"opset": "another"})

    code, printed = home("review", "accept", f"graph/{NAME}", "--why", "x")

    assert code == 2 and "has another golden by now" in printed and "golden check" in printed


def test_a_golden_of_another_form_is_one_line(home, releases):
    (entry,) = [entry for entry in read_index(Path("golden")) if entry.name == f"detections/{NAME}"]
    content = json.loads((Path("golden") / entry.file).read_text())
    del content["size"], content["tolerance"]
    content["detections"] = [[0, 0]]
    store(Path("golden"), entry, content)

    code, printed = home("golden", "check", releases["released"], "--name", NAME)

    assert code == 2 and "does not hold what a golden of kind detections holds" in printed
    assert printed.strip().count("\n") == 0


def test_a_file_that_no_longer_differs_waits_no_longer(home, releases):
    assert home("golden", "check", releases["opset11"], "--name", NAME, "--opset", "11")[0] == 1
    assert home("golden", "check", releases["released"], "--name", NAME)[0] == 0
    assert kinds_in(".pending") == []


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("golden", "record", "{released}", "--name", NAME), "already"),
        (("golden", "record", "{scaled}", "--name", "other"), "does not do what the model does"),
        (("golden", "record", "{released}", "--name", "../other"), "make a name"),
        (("golden", "check", "{released}", "--name", "other"), "holds no golden of other"),
        (("golden", "check", "missing.onnx", "--name", NAME), "no such file"),
        (("golden", "remove", "graph/other"), "holds no golden called graph/other"),
        (("review", "show", "graph/other"), "no golden called graph/other waits for review: nothing waits"),
        (("review", "accept", "graph/other", "--why", "x"), "waits for review"),
        (("review", "--from", "nowhere"), "no such folder"),
        (("review", "bless"), "invalid choice"),
    ],
)
def test_unusable_input_is_one_line(home, releases, arguments, words):
    before = {path: path.read_bytes() for path in Path("golden").rglob("*") if path.is_file()}

    code, text = home(*(argument.format(**releases) for argument in arguments))

    assert code == 2 and words in text and text.count("\n") == 1, text
    assert {path: path.read_bytes() for path in Path("golden").rglob("*") if path.is_file()} == before


def test_a_file_of_8_bits_has_no_golden_but_a_budget(home, session, tmp_path):
    reason = missing("grid-int8")
    if reason:
        pytest.skip(reason)
    path = tmp_path / "my_int8.onnx"
    path.write_bytes(export_bytes(session.detector, parse_variant(promised("grid-int8")), SIZE, exporter="grid-int8"))
    before = kinds_in("golden")

    for verb in ("record", "check"):
        code, text = home("golden", verb, path, "--name", NAME if verb == "check" else "other")

        assert code == 2 and text.count("\n") == 1, text
        assert "computes in 8 bits" in text and "my_int8.onnx --model bundled` judges" in text
    assert kinds_in("golden") == before


def test_an_installed_kit_is_not_written_to(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resources, "installed", lambda: True)

    assert main.main(["review", "--from", str(tmp_path)]) == 2
    assert "name it with --golden DIR" in capsys.readouterr().err


def waiting(name="graph/grid", **changes):
    """A pending golden as another machine may send it."""
    kind = name.split("/")[0]
    plain = Pending(
        *(name, kind, "grid", "suites/x.py::test", "pytest suites/x.py", "py311-torch2.13", {"torch": "2.13.0"}, None),
        *({"opset": 13}, ("opset 12 -> 13",), "opset", {"parity.declared": "passed"}),
    )
    return replace(plain, **changes)


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda p: p.update(name="../../etc/cron"), "is no name of a golden"),
        (lambda p: p.update(name="graph/../x"), "is no name of a golden"),
        (lambda p: p.update(kind="values"), "is no name of a golden of kind values"),
        (lambda p: p.update(name="nms/chain", kind="nms"), "are written by hand"),
        (lambda p: p.update(words="all"), "words cannot be used"),
        (lambda p: p.update(content=[]), "content cannot be used"),
        (lambda p: p.update(extra=1), "missing or unknown"),
        (lambda p: p.pop("was"), "missing or unknown"),
        (lambda p: p.update(schema=9), "it wants `schema` 1"),
        (lambda p: p.update(parity={"a": {}}), "parity cannot be used"),
        (lambda p: p.update(versions={"torch": 2}), "versions cannot be used"),
        (lambda p: p.update(lost="half \ud800 of a letter"), "a text that is not Unicode"),
    ],
)
def test_a_pending_file_may_come_from_anywhere(tmp_path, spoil, words):
    path = pending.write(tmp_path, waiting())
    found = json.loads(path.read_text())
    spoil(found)
    path.write_text(json.dumps(found))

    with pytest.raises(InputError) as error:
        pending.read(tmp_path)
    assert words in str(error.value) and "\n" not in str(error.value)


def opened(tmp_path, *all_):
    for one in all_:
        pending.write(tmp_path / "waits", one)
    return review.open_review(Folders(tmp_path / "golden", tmp_path / "waits"), [])


FIVE = (
    waiting("graph/grid"),
    waiting("graph/grid-dynamic"),
    waiting("graph/raw"),
    waiting(
        "values/raw",
        words=("output[0, 1] 1 -> 2",),
        same="values",
        parity={"parity.declared": "failed"},
        lost="it moved",
    ),
    waiting("detections/grid", words=("scene 1: a star is missing",), same="missing"),
)


def test_five_goldens_with_three_changes_are_three_decisions(tmp_path):
    found = opened(tmp_path, *FIVE)
    (tmp_path / "golden").mkdir()
    answers = iter(["a", "opset 13 from now on", "", "x", "s", "a", "no", "r"])
    asked, printed = [], []

    def ask(prompt):
        asked.append(prompt)
        return next(answers)

    left = review.walk(found, lambda one, target: None, ask, printed.append)

    # The largest group first: accepted with one reason. Then one is skipped after two answers that mean nothing, one is not accepted
    # since the words were not typed.
    assert left == 2
    assert sorted(entry.name for entry in read_index(tmp_path / "golden")) == [
        "graph/grid",
        "graph/grid-dynamic",
        "graph/raw",
    ]
    assert {entry.why for entry in read_index(tmp_path / "golden")} == {"opset 13 from now on"}
    assert kinds_in(tmp_path / "waits") == ["detections/grid.json", "values/raw.json"]
    assert asked[0].startswith("[a]ccept all 3") and "parity lost" in asked[6]


def test_quitting_leaves_everything_that_was_not_decided(tmp_path):
    assert review.walk(opened(tmp_path, *FIVE), lambda one, target: None, lambda prompt: "q", lambda text: None) == 5
    assert len(kinds_in(tmp_path / "waits")) == 5


def test_lost_parity_of_one_stops_accepting_all_of_them(tmp_path):
    found = opened(tmp_path, *FIVE)

    with pytest.raises(InputError, match="--parity-lost"):
        review.accept(found, found.waiting, "all of it", False)
    assert len(kinds_in(tmp_path / "waits")) == 5 and not (tmp_path / "golden").exists()


def test_showing_names_what_has_the_same_change(tmp_path):
    found = opened(tmp_path, *FIVE)

    text = review.showing(found, review.named(found, "graph/raw"), lambda one, target: None)

    assert "same change  graph/grid, graph/grid-dynamic" in text
    assert "accept graph/raw --same --why" in text
    assert all(len(line) < 160 for line in text.splitlines())


@pytest.mark.parametrize(
    "parity, holds",
    [
        ({"parity.declared": "passed", "parity.sizes": "passed"}, True),
        ({"parity.declared": "passed", "parity.sizes": "failed"}, False),
        ({"parity.declared": "skipped"}, False),  # blocked: the file does not load
        ({"parity.declared": "error"}, False),
        ({}, False),
    ],
)
def test_parity_holds_only_where_it_was_shown(parity, holds):
    assert waiting(parity=parity).holds is holds


def test_a_file_that_does_not_load_has_not_shown_that_parity_holds(home, releases, tmp_path):
    model = onnx.load(str(releases["released"]))
    next(node for node in model.graph.node if node.op_type == "Conv").op_type = "NoSuchOperator"
    onnx.save(model, str(tmp_path / "my.onnx"))

    code, printed = home("golden", "check", tmp_path / "my.onnx", "--name", NAME)

    assert (
        code == 1 and "Conv 58 -> 57" in printed and "LOST: " in printed and "blocked by structure.load" in printed
    ), printed
    code, printed = home("review", "accept", f"graph/{NAME}", "--why", "x")
    assert code == 2 and "--parity-lost" in printed


def test_a_closed_terminal_leaves_what_was_not_decided(tmp_path, monkeypatch, capsys):
    opened(tmp_path, *FIVE)
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: (_ for _ in ()).throw(EOFError))

    code = main.main(["review", "--golden", str(tmp_path / "golden"), "--from", str(tmp_path / "waits")])

    assert code == 2 and "still waits" in capsys.readouterr().err
    assert len(kinds_in(tmp_path / "waits")) == 5


def test_what_a_pending_file_says_cannot_move_the_cursor(tmp_path, capsys):
    opened(tmp_path, waiting(words=("\x1b[2Jall is well",)))

    assert main.main(["review", "list", "--golden", str(tmp_path / "golden"), "--from", str(tmp_path / "waits")]) == 1
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and "\\x1b[2Jall is well" in printed


def test_the_picture_shows_both_sides(tmp_path):
    image = pytest.importorskip("PIL.Image")
    before = {
        "pictures": [["natural", 1]],
        "size": [64, 96],
        "detections": [[0, "star", 0.9, 10, 10, 40, 40]],
        "tolerance": {"box": 0.01, "score": 1e-5},
    }
    now = {**before, "detections": [[0, "star", 0.9, 10, 10, 40, 40], [0, "disc", 0.5, -20, 30, 60, 500]]}
    one = waiting("detections/grid", seen={"before": before, "now": now}, drawn="golden")

    assert picture.draw(one, tmp_path / "seen.png") is None
    with image.open(tmp_path / "seen.png") as found:
        assert found.size == (2 * 96 + picture.GAP, picture.TITLE + 64 + picture.GAP)
        colours = {found.getpixel((x, y)) for x in range(96 + picture.GAP, found.width) for y in range(found.height)}
    assert picture.OTHER in colours and picture.SAME in colours


@pytest.mark.parametrize(
    "seen",
    [
        {"before": {}, "now": {}},
        {
            "before": {"pictures": [["nothing", 1]], "size": [64, 96]},
            "now": {"pictures": [["nothing", 1]], "size": [64, 96]},
        },
        {"before": {"pictures": [], "size": [1e9, 1e9]}, "now": {"pictures": [], "size": [1e9, 1e9]}},
        {"before": 1, "now": None},
    ],
)
def test_a_picture_that_cannot_be_drawn_is_reported(tmp_path, seen):
    pytest.importorskip("PIL.Image")

    assert str(picture.draw(waiting(seen=seen), tmp_path / "seen.png")).startswith("not drawn")
    assert not (tmp_path / "seen.png").exists()


def test_pytest_blesses_nothing(tmp_path, monkeypatch, capsys):
    """A golden that is missing, and one that differs, fail their tests and wait outside the golden folder."""
    golden, root = tmp_path / "golden", resources.root()
    shutil.copytree(root / "golden" / "graph", golden / "graph")
    shutil.copytree(root / "golden" / "values", golden / "values")
    for entry in read_index(root / "golden"):
        if entry.name == "graph/grid":
            content = json.loads((golden / entry.file).read_text())
            store(golden, entry, {**content, "opsets": {"ai.onnx": 11}})
    before = {path: path.read_bytes() for path in golden.rglob("*") if path.is_file()}
    options = ["-q", "-p", "no:cacheprovider", "-c", str(root / "pytest.ini"), "--rootdir", str(root)]
    options += ["--golden", str(golden), "--pending", str(tmp_path / "waits")]
    options += [str(root / "suites/golden/test_golden.py"), "-k", "grid:graph or grid:values and not dyn"]
    monkeypatch.chdir(tmp_path)
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        monkeypatch.delenv(name, raising=False)

    code, printed = pytest.main(options), capsys.readouterr().out

    assert code == 1, printed
    assert "golden: grid is not what its golden says (graph/grid)." in printed and "opset 11 -> 12" in printed
    assert "golden: grid has no golden (values/grid)." in printed
    assert kinds_in(tmp_path / "waits") == ["graph/grid.json", "values/grid.json"]
    assert {path: path.read_bytes() for path in golden.rglob("*") if path.is_file()} == before
    assert "2 goldens wait for review:  detparity review" in printed

    (golden / "graph" / "grid.json").write_text("{}")  # by hand
    code, printed = pytest.main([*options[:-1], "grid:graph and not dyn"]), capsys.readouterr().out

    assert code == 1 and "Traceback" not in printed
    assert "golden: grid cannot be compared with graph/grid" in printed and "changed by hand" in printed
    assert "Repeat:  pytest" in printed


def test_the_index_of_a_users_folder_says_who_asks(home):
    entries = read_index(Path("golden"))

    assert {entry.kind for entry in entries} == {"graph", "values", "detections"}
    assert all(isinstance(entry, Entry) and entry.why == "first recorded" and NAME in entry.test for entry in entries)


def test_all_that_waits_is_one_page_with_pictures_and_commands(home, releases):
    pytest.importorskip("jinja2")
    assert home("golden", "check", releases["scaled"], "--name", NAME)[0] == 1
    code, printed = home("review", "--html", "review.html")
    page = Path("review.html").read_text()

    assert code == 1 and "wait" in printed
    assert "parity lost in" in page and "multiplied by 1.01" in page and "structure.weights" in page
    assert (
        f"<code>detparity review accept graph/{NAME}" in page and f"<code>detparity review reject graph/{NAME}" in page
    )
    assert page.count('<image id="image-scene-') == 3 and '<span class="key model">golden</span>' in page
    assert "The golden detects " in page and "The pictures are those of " in page

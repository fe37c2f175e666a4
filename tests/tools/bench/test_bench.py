"""Benchmarks: the order of calls is fair, intervals hold, a wrong file is refused, ratios are judged by their noise."""

from __future__ import annotations

import gc
import importlib
import json
import math
import os
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from detparity.cli import main
from detparity.core.errors import EngineError, NotMade
from detparity.core.statistics import CONFIDENCE, RESOLUTION, median_interval
from detparity.models.choice import BUNDLED_SIZE
from detparity.tools.bench import cold_start, ratio_pairs, scaling, svg
from detparity.tools.bench import run as command
from detparity.tools.bench.candidates import Recipe, of_file, prepare
from detparity.tools.bench.interleave import order, take_turns
from detparity.tools.bench.run import WrongFile, require_right
from detparity.tools.bench.statistics import ratio, summary
from detparity.tools.golden import ratio as golden_ratio
from detparity.tools.golden.compare import compare
from detparity.tools.golden.evaluate import Folders, judge_ratio
from detparity.tools.golden.index import content_of, read_index

# --- interleaving ---------------------------------------------------------------------------------------------------

BENCH = ("bench", "--model", "bundled")


def test_each_contender_runs_once_a_round_on_the_feed_of_the_round():
    ran = []
    calls = {name: lambda feed, name=name: ran.append((name, feed)) for name in "abc"}

    seconds = take_turns(calls, 7, 3, 4)

    assert {name: len(values) for name, values in seconds.items()} == {"a": 7, "b": 7, "c": 7}
    rounds = [ran[k : k + 3] for k in range(0, len(ran), 3)]
    assert len(rounds) == 10
    assert all({name for name, _ in one} == set("abc") and len({feed for _, feed in one}) == 1 for one in rounds)
    assert [one[0][1] for one in rounds[3:]] == [0, 1, 2, 3, 0, 1, 2]


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_the_order_favours_no_contender(count):
    names = "abcdefg"[:count]
    rounds = [order(names, number) for number in range(60)]

    assert all(sorted(one) == list(names) for one in rounds)
    assert rounds == [order(names, number) for number in range(60)]
    for first, second in zip(rounds[::2], rounds[1::2]):
        assert first == second[::-1]  # what was early is late in the next round
    for name in names:
        assert {one.index(name) for one in rounds} == set(range(count))
    if count == 3:  # with six pictures in rotation, each is run in more than one order
        assert all(len({tuple(one) for one in rounds[feed::6]}) > 1 for feed in range(6))


def test_the_garbage_collector_is_off_and_on_again_even_after_an_error():
    def fails(feed):
        assert not gc.isenabled()
        raise EngineError("it does not run")

    with pytest.raises(EngineError):
        take_turns({"a": fails}, 1, 0, 1)

    assert gc.isenabled()


# --- statistics -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [6, 7, 10, 15, 30, 50, 51, 200])
def test_the_interval_holds_the_median_as_often_as_it_says_and_no_narrower_one_would(count):
    low, high = median_interval(np.arange(1.0, count + 1))
    below = lambda rank: sum(math.comb(count, k) for k in range(rank)) / 2.0**count  # noqa: E731

    assert high == count + 1 - low
    assert 1 - 2 * below(int(low)) >= CONFIDENCE
    assert 1 - 2 * below(int(low) + 1) < CONFIDENCE


def test_too_few_rounds_give_no_interval():
    with pytest.raises(ValueError, match="5 values give no interval of 95%; six do"):
        median_interval(np.ones(5))
    with pytest.raises(ValueError, match="are not of one interleaved run"):
        ratio(np.ones(6), np.ones(7))
    with pytest.raises(ValueError, match="no runs"):
        summary(np.ones(0))


def test_what_slows_a_round_down_leaves_the_ratio_as_it_is():
    machine = np.random.default_rng(1).uniform(1, 20, 40)  # a noisy neighbour, the same for both in a round

    found = ratio(0.003 * machine, 0.002 * machine)

    assert found.middle == pytest.approx(1.5) and found.low == pytest.approx(1.5) and found.high == pytest.approx(1.5)
    assert found.differs and not ratio(machine, machine[::-1]).differs


@pytest.mark.parametrize(
    "factor, differs", [(1.0, False), (1.03, False), (1 / 1.03, False), (1.06, True), (1 / 1.06, True)]
)
def test_no_closer_than_two_copies_of_one_file_are_two_called_different(factor, differs):
    assert ratio(np.full(50, factor), np.ones(50)).differs is differs


def test_quantiles_are_runs_that_were_measured():
    found = summary(np.arange(200, 0, -1.0))

    assert (found.runs, found.min, found.median, found.p90, found.p99) == (200, 1.0, 100.5, 180.0, 198.0)
    assert summary(np.array([3.0, 1.0, 2.0])).p99 == 3.0


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def exported_grid(exports):
    return exports("grid")


@pytest.fixture
def not_started(monkeypatch):
    """Cold starts are not measured, which takes a process that imports torch."""
    monkeypatch.setattr(cold_start.Processes, "measure", lambda *_: cold_start.ColdStart(0.1, 0.1, None))


def test_a_run_is_reported_as_text_and_data(exports, tmp_path, capsys):
    pytest.importorskip("jinja2")
    files = [exports("end2end-ort"), exports("end2end-trt"), exports("lite")]
    json_file, html = tmp_path / "run.json", tmp_path / "run.html"

    code = main.main([*BENCH, *map(str, files), "--rounds", "6", "--json", str(json_file), "--html", str(html)])

    printed = capsys.readouterr().out
    assert code == 0, printed
    found = json.loads(json_file.read_text())
    assert [one["nms"] for one in found["contenders"]].count("with NMS") == 1
    assert found["baseline"] == "eager" and found["contenders"][0]["ratio"] is None
    assert found["repeat"].startswith("detparity bench ") and found["machine"]["cores"]
    for one in found["contenders"]:
        times, latency = one["seconds"], one["latency_seconds"]
        assert len(times) == 6 and min(times) > 0
        assert latency["min"] <= latency["median"] <= latency["p90"] <= latency["p99"]
        assert one["load_seconds"] > 0 and one["first_call_seconds"] > 0
        assert one["title"] in printed and one["nms"] in ("with NMS", "without NMS")
        assert one["ratio"] is None or one["ratio"]["low"] <= one["ratio"]["median"] <= one["ratio"]["high"]
    assert len(found["profiles"]) == 2
    for profile in found["profiles"]:
        parts = sum(part["seconds"] for part in profile["stages"]) + profile["overhead_seconds"]
        assert parts == pytest.approx(profile["total_seconds"])
    page = html.read_text()
    assert page.count("<svg") == 2 and page.count("<script>") == 1
    assert all(Path(file).name in page for file in files)


def test_a_wrong_file_is_not_timed(session, exported_grid, tmp_path, capsys):
    planted = importlib.import_module("detparity.kit.tests.defects.registry").registry()["weight_error_head"]
    options = importlib.import_module("detparity.kit.exporters").ExportOptions(BUNDLED_SIZE)
    wrong, target = tmp_path / "wrong.onnx", tmp_path / "run.json"
    wrong.write_bytes(planted.make(session.detector, options, exported_grid.read_bytes()))

    code = main.main([*BENCH, str(wrong), "--json", str(target)])

    printed = capsys.readouterr().out
    assert code == 1
    assert printed.startswith(
        "wrong.onnx is not timed, since it does not do what the model does.\n\nparity.declared: wrong"
    )
    assert "images/s" not in printed and not target.exists()


def test_what_freezing_makes_wrong_is_not_timed(exports, monkeypatch, capsys):
    from detparity.models.compat import jit

    class Shifted(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, images):
            return self.inner(images) + 1.0

    monkeypatch.setattr(jit, "for_inference", Shifted)

    assert main.main([*BENCH, str(exports("traced")), "--rounds", "6"]) == 1

    printed = capsys.readouterr().out
    assert ", frozen is not timed, since it does not do what the model does." in printed and "images/s" not in printed


@pytest.mark.parametrize(
    "name",
    ["end2end-ort", "traced", *(pytest.param(n, marks=pytest.mark.more) for n in ("raw", "grid", "scripted", "lite"))],
)
def test_what_is_timed_is_what_is_verified(name, session, exports):
    """Every contender of a file, the cut one and the frozen one too, is right, and refused where its own numbers move."""
    for one in of_file(session.context(exports(name), name), 1):
        runner = prepare(one.recipe)
        require_right(one, runner, 1, BUNDLED_SIZE)
        moved = replace(
            runner, call=lambda feed, call=runner.call: {key: value + 0.5 for key, value in call(feed).items()}
        )
        with pytest.raises(WrongFile, match="is not timed"):
            require_right(one, moved, 1, BUNDLED_SIZE)


def test_a_file_with_the_plugin_is_verified_completely(session, exports, monkeypatch):
    context = session.context(exports("end2end-trt"), "end2end-trt")
    (one,) = of_file(context, 1)
    require_right(one, prepare(one.recipe), 1, BUNDLED_SIZE)
    run = context.run
    monkeypatch.setattr(context, "run", lambda images: {key: value[..., ::-1] for key, value in run(images).items()})

    with pytest.raises(WrongFile, match="is not timed"):
        require_right(one, prepare(one.recipe), 1, BUNDLED_SIZE)


def test_a_file_that_stops_on_a_later_picture_ends_the_run_in_a_sentence(
    not_started, exported_grid, monkeypatch, tmp_path, capsys
):
    made = command.prepare

    def prepares(recipe, detector=None):
        runner, calls = made(recipe, detector), []

        def call(feed):
            calls.append(feed)
            if recipe.engine == "onnxruntime" and len(calls) > 3:
                raise EngineError("no box is left")
            return runner.call(feed)

        return replace(runner, call=call)

    monkeypatch.setattr(command, "prepare", prepares)

    assert main.main([*BENCH, str(exported_grid), "--rounds", "6", "--json", str(tmp_path / "run.json")]) == 1

    assert capsys.readouterr().out == f"{exported_grid.name} stopped while it was timed: no box is left\n"
    assert not (tmp_path / "run.json").exists()


def test_what_was_measured_is_not_lost_over_a_profile(not_started, exported_grid, monkeypatch, capsys):
    def fails(*given):
        raise EngineError("the runtime's profile holds 1 of 23 runs")

    monkeypatch.setattr(command, "profile", fails)

    assert main.main([*BENCH, str(exported_grid), "--rounds", "6"]) == 0

    captured = capsys.readouterr()
    assert "images/s" in captured.out and "no profile of" in captured.err and "1 of 23 runs" in captured.err


def test_files_of_one_name_get_their_paths_and_one_given_twice_is_timed_once(
    not_started, exported_grid, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.onnx").write_bytes(exported_grid.read_bytes())

    options = ["--rounds", "6", "--iou-thres", "0.5", "--json", "run.json"]
    assert main.main([*BENCH, "a/x.onnx", "b/x.onnx", str(tmp_path / "a" / "x.onnx"), *options]) == 0

    found = json.loads((tmp_path / "run.json").read_text())
    titles = [one["title"] for one in found["contenders"]]
    assert len(titles) == 3 and titles[0] == "eager" and titles[2] == "b/x.onnx"
    assert [one["title"] for one in found["profiles"]] == titles[1:]
    assert "--iou-thres 0.5 --rounds 6" in found["repeat"]


@pytest.mark.parametrize(
    "options, says",
    [
        (["--rounds", "5"], "--rounds 5 is outside 6 to 100000"),
        (["--baseline", "other.onnx"], "--baseline other.onnx is not among the files that are timed"),
        (["--threads", "-1"], "--threads -1 is outside 0 to 1024"),
        (["--json", "nowhere/run.json"], "cannot write nowhere/run.json: its folder does not exist"),
        (["--json", "run.x", "--html", "run.x"], "cannot write run.x: two outputs of this command name it"),
        (["--batch-size", "8"], "--batch-size 8: {file} takes batches of 1 alone"),
        (["--img-size", "64", "96"], "--img-size 64x96: {file} takes 256x320 alone"),
    ],
)
def test_what_cannot_be_used_is_one_line(options, says, exported_grid, capsys):
    code = main.main([*BENCH, str(exported_grid), *options])

    assert code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"detparity: {says.format(file=exported_grid.name)}"


@pytest.mark.parametrize("verb", ["bench", "check"])
@pytest.mark.parametrize("option", ["--json", "--html"])
def test_no_output_is_written_over_what_is_read(verb, option, exported_grid, tmp_path, capsys):
    victim = tmp_path / "victim.onnx"
    victim.write_bytes(exported_grid.read_bytes())

    assert main.main([verb, str(victim), option, str(tmp_path / "." / "victim.onnx")]) == 2

    assert "it is one of the files that are read" in capsys.readouterr().err
    assert victim.read_bytes() == exported_grid.read_bytes()


def test_without_jinja2_nothing_is_measured_first(exported_grid, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jinja2", None)

    assert (
        main.main([*BENCH, str(exported_grid), "--json", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")])
        == 2
    )

    assert "--html needs jinja2" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_files_of_other_inputs_are_not_compared(exports, session, exported_grid, tmp_path, capsys):
    other = tmp_path / "small.onnx"
    made = importlib.import_module("detparity.tools.export_cache").export_bytes
    other.write_bytes(
        made(session.detector, importlib.import_module("detparity.core.vocabulary").parse_variant("raw"), (64, 96))
    )

    code = main.main([*BENCH, str(exported_grid), str(other)])

    assert code == 2
    printed = capsys.readouterr().err.splitlines()[-1]
    assert printed.startswith("detparity: one run compares files that take the same input: ") and "1x3x64x96" in printed


def test_what_fails_in_its_own_process_raises(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")

    with cold_start.Processes() as processes:
        for _ in range(2):  # the process that forked it goes on
            with pytest.raises(EngineError, match=r"Protobuf parsing failed|INVALID_PROTOBUF"):
                processes.measure(Recipe("onnxruntime", 1, str(broken)), 1, (32, 32))


@pytest.mark.skipif(not hasattr(os, "fork") or not Path("/proc/self/status").exists(), reason="the peak is read there")
def test_a_cold_start_has_a_peak(exported_grid):
    with cold_start.Processes() as processes:
        found = [processes.measure(Recipe("onnxruntime", 1, str(exported_grid)), 1, BUNDLED_SIZE) for _ in range(2)]
    assert all(one.peak is not None and 100_000 < one.peak < 2**30 for one in found)


def test_a_process_that_is_killed_is_one_error_and_the_next_is_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "sitecustomize.py").write_text(KILLED_AT_FIRST)
    with cold_start.Processes() as processes:
        with pytest.raises(EngineError, match="ended without an answer"):
            processes.measure(Recipe("onnxruntime", 1, "x.onnx"), 1, (32, 32))
        with pytest.raises(EngineError, match=r"x\.onnx"):
            processes.measure(Recipe("onnxruntime", 1, "x.onnx"), 1, (32, 32))


# The first fork of a process ends by a signal.
KILLED_AT_FIRST = """
import os
own, forks = os.fork, []
def fork():
    child = own()
    forks.append(child)
    if not child and len(forks) == 1:
        os.kill(os.getpid(), 9)
    return child
os.fork = fork
"""


def test_the_highest_memory_is_counted_from_the_mark_on():
    spent = np.ones(60_000_000 // 8)
    del spent
    before = cold_start._mark()
    if before is None:
        pytest.skip("this system cannot reset its peak counter")

    assert cold_start._bytes("VmHWM") - before < 10_000_000
    held = np.ones(60_000_000 // 8)
    assert cold_start._bytes("VmHWM") - before > 50_000_000 and held[0] == 1


# --- charts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "drawn",
    [
        svg.distributions(
            {"a<b": [1.0, 2.0, 3.0], "a very long name, longer than there is space for": [2.0] * 3}, "ms"
        ),
        svg.curves({"a<b": [(1, 2.0), (10, 20.0)], "c": [(1, 2.1), (10, 20.1)]}, "pixels", "ms"),
    ],
)
def test_charts_are_sound_svg(drawn):
    root = ElementTree.fromstring(drawn)

    assert root.tag.endswith("svg") and "a<b" in root.attrib["aria-label"]
    assert len(list(root.iter())) > 10 and "nan" not in drawn


@pytest.mark.parametrize("low, high", [(1.01, 1.02), (0.3, 7.0), (1e-4, 1e5), (5.0, 5.1)])
def test_ticks_lie_between_the_ends(low, high):
    found = svg.ticks(low, high)

    assert len(found) >= 2 and low <= min(found) and max(found) <= high


# --- ratios as goldens ----------------------------------------------------------------------------------------------

HERE = {"processor": "a", "threads": "2"}


def _measured(middle, spread, seed=0, where=HERE):
    values = middle * np.exp(np.random.default_rng(seed).normal(0, spread, (ratio_pairs.BLOCKS, ratio_pairs.ROUNDS)))
    return golden_ratio.content(golden_ratio.PAIRS["decode"], values, (1, (256, 320)), where)


@pytest.mark.parametrize("spread", [0.002, 0.02, 0.1])
def test_the_same_ratio_measured_again_raises_no_alarm(spread):
    recorded = _measured(1.2, spread)

    assert not [seed for seed in range(1, 200) if golden_ratio.moved(recorded, _measured(1.2, spread, seed))]


@pytest.mark.parametrize("factor, words", [(1.3, "30.0% more"), (1 / 1.3, "23.1% less")])
def test_a_ratio_that_moved_is_reported(factor, words):
    old, new = _measured(1.2, 0.0), _measured(1.2 * factor, 0.0)

    found = compare("runtime", old, new, True)

    assert golden_ratio.moved(old, new) and len(found.words) == 1
    assert found.words[0].startswith("grid takes ") and words in found.words[0]
    assert not compare("runtime", old, old, True).words


def test_noise_permits_more():
    quiet, noisy = _measured(1.0, 0.001), _measured(1.0, 0.3)

    assert (
        golden_ratio.allowed(quiet, quiet)
        == RESOLUTION
        < golden_ratio.allowed(quiet, noisy)
        == golden_ratio.allowed(noisy, quiet)
    )


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path / "golden", tmp_path / "pending")


def test_a_ratio_waits_for_review_and_is_judged_where_it_was_recorded_alone(session, exported_grid, folders, capsys):
    context = session.context(exported_grid, "grid")
    first, _ = judge_ratio(context, "decode", _measured(1.2, 0.01), folders, "a test", "again")
    assert first is not None and first.was is None and first.holds

    where = ["--golden", str(folders.golden), "--from", str(folders.pending)]
    assert main.main(["review", "accept", "runtime/decode", "--why", "first", *where]) == 0
    (entry,) = read_index(folders.golden)
    assert content_of(folders.golden, entry)["ratio"] == first.content["ratio"]

    assert judge_ratio(context, "decode", _measured(1.2, 0.01, 1), folders, "a test", "again") == (None, "")
    slower = _measured(1.6, 0.01)
    waiting, _ = judge_ratio(context, "decode", slower, folders, "a test", "again")
    assert waiting is not None and "more, where noise explains" in waiting.words[0]
    assert main.main(["review", "show", "runtime/decode", *where]) == 1
    assert "parity       holds" in capsys.readouterr().out

    elsewhere = _measured(1.6, 0.01, where={**HERE, "processor": "b"})
    assert judge_ratio(context, "decode", elsewhere, folders, "a test", "again") == (None, "processor a, and here b")


def test_what_cannot_be_made_faster_is_left_out_and_the_rest_is_timed(not_started, exports, monkeypatch, capsys):
    from detparity.engines import torchscript

    def refuses(path, threads=0):
        raise EngineError("it cannot be optimised for inference: no")

    monkeypatch.setattr(torchscript, "prepare_frozen", refuses)

    assert main.main([*BENCH, str(exports("traced")), "--rounds", "6"]) == 0

    captured = capsys.readouterr()
    assert "frozen is left out: it cannot be optimised for inference: no" in captured.err
    assert "frozen" not in captured.out and "images/s" in captured.out


# --- scaling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0, -1.0])
def test_the_order_of_a_power_law_is_its_power(power):
    points = tuple(scaling.Point(x, 0.01 * x**power, 0.0, 0.0) for x in (1.0, 3.0, 10.0))
    curve = scaling.Curve("law", points, "what it is")
    figure = scaling.Figure("key", "Title", "things", "About it.", (curve,))
    found = scaling.Scaling(
        (figure,), "a model", {"python": "3", "torch": "2", "onnxruntime": "1", "numpy": "2"}, {"cores": "2"}
    )

    assert curve.order == pytest.approx(power)
    page = scaling.page(found, "charts")
    assert f"| {power:.2f} | what it is |" in page and "![Title: milliseconds against things](charts/key.svg)" in page
    assert ElementTree.fromstring(scaling.drawings(found)["key"]).tag.endswith("svg") or power == 0.0


def test_cells_state_their_x_where_curves_differ():
    def curve(title, *xs):
        return scaling.Curve(title, tuple(scaling.Point(x, 0.001 * x, 0.0, 0.0) for x in xs), "1")

    found = list(scaling._table(scaling.Figure("key", "T", "things", "", (curve("a", 1, 2), curve("b", 3, 4, 5)))))

    assert found[0] == "| ms (at) things |  |  |  | order | expected |"
    assert found[2:] == ["| a | 1 (1) | 2 (2) |  | 1.00 | 1 |", "| b | 3 (3) | 4 (4) | 5 (5) | 1.00 | 1 |"]
    assert {line.count("|") for line in found} == {7}
    same = list(scaling._table(scaling.Figure("key", "T", "things", "", (curve("a", 1, 2000), curve("b", 1, 2000)))))
    assert same[0] == "| ms at things | 1 | 2,000 | order | expected |" and same[2].startswith("| a | 1 | 2e+03 |")


def test_scaling_says_in_one_line_what_it_cannot_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main.main(["scaling", "--markdown", "growth"]) == 2
    assert "give the page an ending" in capsys.readouterr().err and not list(tmp_path.iterdir())

    def makes_nothing(*given):
        raise NotMade("RuntimeError: no", missing=False)

    monkeypatch.setattr(scaling, "attempt", makes_nothing)
    assert main.main(["scaling"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "detparity: sizes cannot be measured: RuntimeError: no"


@pytest.mark.slow
def test_scaling_writes_its_page_and_its_charts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scaling, "ROUNDS", 6)

    assert main.main(["scaling", "--markdown", str(tmp_path / "growth.md")]) == 0

    page = (tmp_path / "growth.md").read_text()
    drawn = sorted(path.stem for path in (tmp_path / "growth").iterdir())
    assert drawn == ["batch", "candidates", "classes", "size", "threads"]
    assert all(f"(growth/{name}.svg)" in page for name in drawn) and "6 rounds" in page


@pytest.mark.parametrize("words", [("bench",), ("golden", "record", "--name", "x"), ("golden", "check", "--name", "x")])
def test_a_file_without_its_model_is_refused(words, exported_grid, capsys):
    assert main.main([*words, str(exported_grid)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "nothing states which model it is an export of" in lines[0] and "--model bundled" in lines[-1]
